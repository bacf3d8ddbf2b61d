"""A service on a demo storage, on a real port; tests that write get a copy of the storage."""

import shutil
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import httpx
import pytest
import uvicorn

from api.app import create_app
from api.config import ServiceSettings
from tests.api import demo
from tuner.settings import Settings
from tuner.storage.storage import Storage


def settings_in(folder: Path, token: str | None = None) -> Settings:
    """Return the places of a test."""
    environment = {"TUNER_API_TOKEN": token} if token else {}
    return Settings.resolve(
        environment,
        storage=f"sqlite:///{folder / 'tuner.db'}",
        artifacts=folder / "artifacts",
        cache=folder / "cache",
        data_root=folder / "data",
    )


@contextmanager
def served(config: ServiceSettings) -> Iterator[str]:
    """Serve in a thread on a free port; yields the address."""
    with Storage.open(config.settings.storage, create=True, retry_timeout_s=2) as store:
        server = uvicorn.Server(
            uvicorn.Config(
                create_app(store, config),
                host="127.0.0.1",
                port=0,
                log_level="critical",
                lifespan="off",
                proxy_headers=False,
            )
        )
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.01)
        try:
            yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(10)


@pytest.fixture(scope="session")
def demo_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo storage; nobody changes it."""
    folder = tmp_path_factory.mktemp("demo")
    demo.build(f"sqlite:///{folder / 'tuner.db'}", folder)
    return folder


WRITING = threading.Lock()
"""Held while the demo is written or copied: a copy of a database in the middle of a write is none."""


def give_life_signs(folder: Path) -> None:
    """Let the demo's workers be heard of: they are rows only, and would be lost after a minute of tests."""
    path = folder / "tuner.db"
    with closing(sqlite3.connect(path)) as database:
        workers = [row[0] for row in database.execute("SELECT worker_id FROM tuner_workers WHERE left_at IS NULL")]
    with Storage.open(f"sqlite:///{path}") as store:
        for worker in workers:
            store.workers.heartbeat(worker)


@pytest.fixture(scope="session")
def address(demo_folder: Path) -> Iterator[str]:
    """Address of a service on the demo; tests that use it change nothing."""
    over = threading.Event()

    def beat() -> None:
        while not over.wait(10):
            with WRITING:
                give_life_signs(demo_folder)

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    with served(ServiceSettings(settings_in(demo_folder))) as url:
        yield url
    over.set()
    thread.join(30)


@pytest.fixture(scope="session")
def reader(address: str) -> Iterator[httpx.Client]:
    """A client that reads, or asks for what is refused."""
    with httpx.Client(base_url=address, timeout=60) as client:
        yield client


@pytest.fixture
def folder(demo_folder: Path, tmp_path: Path) -> Path:
    """A copy of the demo that may be changed."""
    target = tmp_path / "copy"
    with WRITING:
        shutil.copytree(demo_folder, target, ignore=shutil.ignore_patterns("cache"))
    (target / "cache").symlink_to(demo_folder / "cache")
    give_life_signs(target)
    return target


@pytest.fixture
def writer(folder: Path) -> Iterator[httpx.Client]:
    """A client that may write."""
    with served(ServiceSettings(settings_in(folder))) as url, httpx.Client(base_url=url, timeout=60) as client:
        yield client

"""The process: refusals before anything is created, restarts that change nothing, readers that hold nobody up."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.api.test_contract import STUDY
from tests.cli.shell import run_here
from tests.storage.examples import claimed, epoch, new_study
from tuner.storage.storage import Storage


def serve(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run `tuner serve` to its end."""
    return subprocess.run(
        [sys.executable, "-m", "tuner", "serve", *words],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        pytest.param(("--host", "0.0.0.0"), "TUNER_API_TOKEN", id="open without a token"),
        pytest.param(("--workers", "-1"), "--workers", id="workers below zero"),
        pytest.param(("--devices", "tpu", "--workers", "1"), "--devices", id="unknown device"),
        pytest.param(("--port", "99999"), "--port", id="no such port"),
    ],
)
def test_wrong_requests_create_nothing(
    tmp_path: Path,
    words: tuple[str, ...],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Exit code 2, one explanation, an empty folder."""
    monkeypatch.chdir(tmp_path)
    done = run_here(capfd, "serve", *words)

    assert done.code == 2
    assert said in done.err
    assert "Traceback" not in done.err
    assert list(tmp_path.iterdir()) == []


def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    """The most common failure of all servers."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        done = serve(tmp_path, "--port", str(other.getsockname()[1]))

    assert done.returncode == 1
    assert "cannot listen" in done.stderr
    assert list(tmp_path.iterdir()) == []


@contextmanager
def started(folder: Path) -> Iterator[tuple[subprocess.Popen[str], httpx.Client]]:
    """`tuner serve` as a process, and a client of it; the process is killed at the end where it still lives."""
    command = [sys.executable, "-m", "tuner", "serve", "--port", "0"]
    process = subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    with process.stderr as stream:
        address = stream.readline().split("http://")[1].split("/")[0]
        try:
            with httpx.Client(base_url=f"http://{address}", timeout=60) as client:
                yield process, client
        finally:
            process.kill()
            process.wait(20)


def test_killed_and_started_again_it_says_the_same(folder: Path) -> None:
    """It holds no state, hundreds of requests of a scanner do not make it grow, and a signal ends it in order."""
    page = {"Accept": "text/html"}
    with started(folder) as (process, client):
        paths = ("/losses", f"{STUDY}/best", f"{STUDY}/trials?state=COMPLETE", f"{STUDY}/figures/history")
        before = {path: client.get(path, headers=page) for path in paths}
        held = _resident_mib(process.pid)
        statuses = {client.get(_BAD[turn % len(_BAD)] + str(turn)).status_code for turn in range(300)}
        grown = _resident_mib(process.pid) - held
        process.send_signal(signal.SIGKILL)
        process.wait(20)
    with started(folder) as (process, client):
        after = {path: client.get(path, headers=page) for path in before}
        process.send_signal(signal.SIGTERM)
        ended = process.wait(20)

    assert all(400 <= status < 500 for status in statuses)
    assert grown < 60
    assert ended in (0, -signal.SIGTERM)
    for path, answer in before.items():
        assert after[path].status_code == answer.status_code == 200
        assert after[path].headers["ETag"] == answer.headers["ETag"]
        assert after[path].text == answer.text


_BAD = (
    "/.env",
    "/api/v1/studies/" + "x" * 300,
    "/api/v1/studies/organs/trials?limit=-5",
    "/%ff%fe",
    "/static/..%2f..%2fetc",
    "/?sort=" + "y" * 50_000,
)


def _resident_mib(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def test_two_services_say_the_same(writer: httpx.Client, folder: Path) -> None:
    """The service holds no state: a second one, or a restarted one, gives the same answers and ETags."""
    from api.config import ServiceSettings
    from tests.api.conftest import served, settings_in

    with served(ServiceSettings(settings_in(folder))) as url:
        again = httpx.get(url + STUDY)

    first = writer.get(STUDY)
    assert again.headers["ETag"] == first.headers["ETag"]
    assert again.json()["trials"] == first.json()["trials"]


def test_readers_hold_no_writer_up(writer: httpx.Client, folder: Path) -> None:
    """Ten pages that poll while a worker reports: no error on either side, every epoch stored."""
    stop = threading.Event()
    statuses: list[int] = []

    def poll() -> None:
        with httpx.Client(base_url=writer.base_url, timeout=60) as client:
            while not stop.is_set():
                statuses.append(client.get("/studies/busy", headers={"Accept": "text/html"}).status_code)
                statuses.append(client.get("/api/v1/studies/busy/figures/curves").status_code)

    with Storage.open(f"sqlite:///{folder / 'tuner.db'}") as store:
        record = store.studies.create(new_study("busy", trials=4))
        readers = [threading.Thread(target=poll) for _ in range(5)]
        for reader in readers:
            reader.start()
        begin = time.monotonic()
        while not statuses and time.monotonic() < begin + 60:
            time.sleep(0.01)
        for _ in range(4):
            claim = claimed(store, record.study_id)
            for number in range(1, 11):
                store.epochs.report(claim, epoch(number))
        spent = time.monotonic() - begin
        stop.set()
        for reader in readers:
            reader.join()
        stored = [len(store.queries.epochs("busy", number)) for number in range(4)]

    assert stored == [10] * 4
    assert set(statuses) == {200}
    assert spent < 60


def test_it_can_run_beside_a_launch(tmp_path: Path) -> None:
    """`tuner launch --serve` shows the study that it runs, and takes the service down when it returns."""
    from api.config import ServiceSettings
    from api.server import served_beside
    from tests.api.conftest import settings_in

    with served_beside(ServiceSettings(settings_in(tmp_path)), port=0) as address:
        assert httpx.get(f"{address}api/v1/studies").json() == []
    with pytest.raises(httpx.TransportError):
        httpx.get(f"{address}healthz", timeout=2)

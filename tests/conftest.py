"""What every test may ask for: the real samples, and nothing left over in the environment."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.postgres import Server, running_server
from tests.slow import SLOW

# Children of the tests import torch: where no bytecode may be written, each of them compiles it again.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what stands in the table of slow tests."""
    for item in items:
        if item.nodeid.removeprefix("tests/") in SLOW:
            item.add_marker(pytest.mark.slow)


def find_test_data() -> Path | None:
    """Return the folder of real samples: TUNER_TEST_DATA, else `../shared/data` beside the repository."""
    folder = Path(os.environ.get("TUNER_TEST_DATA") or REPOSITORY.parent / "shared" / "data")
    return folder if (folder / "synapse").is_dir() else None


@pytest.fixture(scope="session")
def test_data() -> Path:
    """Real data in its real layouts; skipped in one line where it is absent, an error where CI demands it."""
    folder = find_test_data()
    if folder is not None:
        return folder
    message = "no real samples: set TUNER_TEST_DATA to the folder that holds `synapse/`"
    if os.environ.get("CI") == "true":
        pytest.fail(message)
    pytest.skip(message)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """A PostgreSQL server for all tests: starting one takes longer than most of them."""
    with running_server() as server:
        yield server


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test never writes into the user's storage, artifacts or cache."""
    for name in (
        "TUNER_STORAGE",
        "TUNER_ARTIFACTS",
        "TUNER_DATA_ROOT",
        "TUNER_CACHE",
        "TUNER_API_TOKEN",
        "TUNER_TOKENS",
        "TUNER_AUTH_HEADER",
        "TUNER_TRUSTED_PROXIES",
        "TUNER_ALLOW_ENTRY",
        "TUNER_LOG_FORMAT",
        "TUNER_WEBHOOK",
        "TUNER_WEBHOOK_SECRET",
    ):
        monkeypatch.delenv(name, raising=False)

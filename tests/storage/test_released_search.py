"""A storage that 0.1.0 wrote, with a search half done: opened, upgraded, and finished by workers of today."""

import sqlite3
from pathlib import Path

import pytest

from tests.cli.shell import Result, environment, start
from tests.worker.studies import settings
from tuner.errors import StorageError
from tuner.storage.storage import Storage, check, upgrade
from tuner.worker.worker import Worker

WRITTEN = Path(__file__).parent / "released" / "0.1.0-search.sql"


@pytest.fixture
def url(tmp_path: Path) -> str:
    """The storage as 0.1.0 left it: two trials complete, two waiting."""
    path = tmp_path / "tuner.db"
    with sqlite3.connect(path) as connection:
        connection.executescript(WRITTEN.read_text(encoding="utf-8"))
    connection.close()
    return f"sqlite:///{path}"


def test_it_is_refused_until_it_is_upgraded(url: str) -> None:
    """Both versions, and the command that helps."""
    with pytest.raises(StorageError, match="db upgrade"):
        Storage.open(url)
    assert check(url)["ok"] is False


def test_a_worker_of_today_goes_on_with_it(url: str, tmp_path: Path) -> None:
    """The two trials stay as they are, the other two are trained, on the same data, by the stored specification."""
    upgrade(url)
    with Storage.open(url) as store:
        before = store.queries.trials("tiny", state="COMPLETE")
        assert len(before) == 2

        Worker(store, settings(tmp_path, url), study="tiny", device="cpu", poll_s=0.05).run()

        status = store.queries.status("tiny")
        after = store.queries.trials("tiny")
    assert status["phase"] == "done"
    assert [row["state"] for row in after] == ["COMPLETE"] * 4
    assert after[:2] == before


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_as_a_user_would(url: str, tmp_path: Path) -> None:
    """`tuner db upgrade`, `tuner resume`, with processes for workers; then a report of old and new trials."""

    def tuner(*words: str) -> Result:
        process = start(tmp_path, *words)
        out, err = process.communicate(timeout=400)
        return Result(process.returncode, out, err)

    assert environment(tmp_path)["TUNER_CACHE"]
    refused = tuner("status", "tiny")
    assert (refused.code, "tuner db upgrade" in refused.err) == (1, True), refused

    assert tuner("db", "upgrade").code == 0
    resumed = tuner("resume", "tiny", "--workers", "2", "--devices", "cpu", "--json")

    assert resumed.code == 0, resumed.err
    assert resumed.json()["trials"]["complete"] == 4
    assert tuner("export", "tiny", "-o", "best.yaml").code == 0
    assert tuner("report", "tiny", "-o", "tiny.md").code == 0

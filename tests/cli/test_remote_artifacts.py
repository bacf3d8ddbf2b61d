"""Commands on trials whose files lie at an address: refused in words, shown, exported, swept, deleted."""

from pathlib import Path

import pytest

from tests.cli.shell import Shell
from tests.cli.test_garbage import store  # noqa: F401 (a fixture)
from tuner.settings import Settings
from tuner.storage.storage import Storage


@pytest.fixture
def far(here: Path, store: Storage, monkeypatch: pytest.MonkeyPatch) -> Path:  # noqa: F811
    """The shared folder behind `file://`, with what the attempts of a study have published, and one too many."""
    monkeypatch.setenv("TUNER_ARTIFACTS", f"file://{here / 'far'}")
    numbers = [row["number"] for row in store.queries.trials("organs", all_attempts=True)]
    for number in (*numbers, 77):
        folder = here / "far" / "organs" / str(number)
        folder.mkdir(parents=True)
        for name in ("last.ckpt", "config.yaml", "log.txt", ".last.ckpt.1.part"):
            (folder / name).write_text(f"{name} of {number}\n")
    return here / "far" / "organs"


def test_gc_sweeps_there_and_here(tuner: Shell, far: Path, here: Path) -> None:
    """Buckets cost money; what a trial may continue from stays, and what this machine holds twice goes."""
    before = {int(path.parent.name) for path in far.glob("*/last.ckpt")}
    working = Settings.resolve(
        {"TUNER_CACHE": str(here.parent / "cache")}, artifacts=f"file://{here / 'far'}"
    ).artifacts
    for number in (0, 5):  # complete; still running
        (working / "organs" / str(number)).mkdir(parents=True)
        (working / "organs" / str(number) / "config.yaml").write_text("x")

    dry = tuner("gc", "--dry-run", "--json").json()
    document = tuner("gc", "--json").json()

    assert dry["items"] == document["items"]
    kinds = [item["kind"] for item in document["items"]]
    assert kinds == ["checkpoint", "checkpoint", "checkpoint", "attempt", "working folder"]
    assert document["items"][0]["path"] == f"file://{here}/far/organs/0/last.ckpt"
    assert {int(path.parent.name) for path in far.glob("*/last.ckpt")} == before - {0, 1, 2, 77}
    assert not (far / "77").exists()
    assert not (working / "organs" / "0").exists()
    assert (working / "organs" / "5").is_dir()


def test_logs_are_read_there(tuner: Shell, far: Path) -> None:
    """Workers ran on machines that are gone."""
    assert tuner("logs", "organs", "0").out == "log.txt of 0\n"


def test_delete_names_the_address_and_takes_the_files_along(tuner: Shell, far: Path, store: Storage) -> None:  # noqa: F811
    """And says so before."""
    store.studies.stop("organs")

    result = tuner("delete", "organs", "--artifacts", "--yes")

    assert f"all files in file://{far}" in result.err
    assert not far.exists()


@pytest.mark.parametrize(
    "words", [["launch", "--dataset", "phantom"], ["report", "x", "-o", "x.md"]], ids=["launch", "report"]
)
def test_a_missing_package_is_named_with_the_line_to_type(
    tuner: Shell, here: Path, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody knows by heart what s3:// needs."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)

    result = tuner(*words, "--artifacts", "s3://bucket/lab")

    assert result.code == 2
    assert "s3:// needs the package s3fs, which is not installed\n  Type: pip install s3fs" in result.err
    assert list(here.iterdir()) == []

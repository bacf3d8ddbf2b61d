"""Steering a study from another terminal."""

from pathlib import Path

import pytest

from tests.cli.shell import Shell


@pytest.fixture
def queued(tuner: Shell, study_file: Path) -> Shell:
    """A study whose budget waits for standing workers."""
    assert tuner("launch", str(study_file), "--launcher", "none", "--devices", "cpu").code == 0
    return tuner


def test_launcher_none_fills_the_queue_and_says_how_to_work_on_it(tuner: Shell, study_file: Path) -> None:
    """Standing workers find the budget there."""
    result = tuner("launch", str(study_file), "--launcher", "none", "--devices", "cpu", "--json")

    document = result.json()
    assert document["phase"] == "queued"
    assert document["trials"]["waiting"] == document["trials"]["total"] == 6
    assert "tuner worker --study tiny" in result.err


def test_pause_and_stop_are_seen_in_the_status(queued: Shell) -> None:
    """What other terminals and workers go by."""
    assert queued("pause", "tiny", "--json").json()["phase"] == "paused"
    document = queued("stop", "tiny", "--json").json()

    assert (document["phase"], document["phase_reason"]) == ("stopped", "user")
    assert "tuner resume tiny" in queued("stop", "tiny").err


def test_a_worker_of_a_stopped_study_ends_at_once(queued: Shell) -> None:
    """Standing workers must not claim what the user has stopped."""
    queued("stop", "tiny")

    assert queued("worker", "--study", "tiny", "--device", "cpu").code == 0
    assert queued("status", "tiny", "--json").json()["trials"]["waiting"] == 6


def test_only_a_running_trial_can_be_pruned(queued: Shell) -> None:
    """With its state in the answer."""
    result = queued("prune", "tiny", "0")

    assert result.code == 2
    assert "WAITING" in result.err


def test_delete_asks_unless_it_is_told_not_to(queued: Shell, here: Path) -> None:
    """Nobody is there to be asked in a script: refused, and nothing deleted."""
    assert queued("delete", "tiny").code == 2
    assert queued("status", "tiny").code == 0
    folder = here / "artifacts" / "tiny"
    assert folder.is_dir()

    document = queued("delete", "tiny", "--yes", "--artifacts", "--json").json()
    assert document == {"deleted": "tiny", "artifacts": True, "stays": None}
    assert not folder.exists()
    assert queued("status", "tiny").code == 2


def test_delete_says_what_stays(queued: Shell, study_file: Path, here: Path) -> None:
    """Files that nobody asked to remove are named, and are not taken for those of the next study of the name."""
    (here / "artifacts" / "tiny" / "0").mkdir()
    result = queued("delete", "tiny", "--yes")
    assert f"Files of its trials stay in {here / 'artifacts' / 'tiny'}" in result.err
    assert "tuner gc --unknown-studies" in result.err

    again = queued("launch", str(study_file), "--launcher", "none", "--devices", "cpu")

    assert "note: files of an earlier study tiny were put into" in again.err
    assert not (here / "artifacts" / "tiny" / "0").exists()
    assert len(list((here / "artifacts").glob("tiny.deleted-*"))) == 1


def test_delete_is_refused_while_the_study_runs(queued: Shell, here: Path) -> None:
    """The trials of a live worker are not pulled from under it."""
    import os

    from tuner.storage.storage import Storage

    with Storage.open(f"sqlite:///{here / 'tuner.db'}") as store:
        store.workers.register(pid=os.getpid(), device="cpu", study="tiny", version="test")
        result = queued("delete", "tiny", "--yes")

    assert result.code == 2
    assert "tuner stop tiny" in result.err


def test_database_commands(queued: Shell, here: Path) -> None:
    """An old schema is found and brought up to date by name."""
    assert queued("db", "check", "--json").json()["ok"] is True
    new = f"sqlite:///{here / 'new.db'}"

    assert queued("db", "upgrade", "--storage", new, "--json").json()["from"] is None
    assert queued("db", "check", "--storage", new).code == 0


def test_a_new_name_must_be_one(queued: Shell) -> None:
    """Said of the argument that it was, and in words."""
    refused = queued("rename", "tiny", "a b")

    assert refused.code == 2
    assert "NEW: 'a b' is no name of a study: 1 to 80 letters" in refused.err


def test_a_study_is_renamed_archived_and_taken_back(queued: Shell, study_file: Path) -> None:
    """What is archived is neither listed nor begun; who did what is in the log."""
    assert queued("archive", "tiny").code == 2, "it has trials left"
    queued("stop", "tiny")
    assert queued("rename", "tiny", "small", "--json").json()["name"] == "small"
    assert queued("archive", "small").code == 0

    listed = queued("studies")
    assert ("small" in listed.out, "--all" in listed.err) == (False, True)
    assert [s["name"] for s in queued("studies", "--all", "--json").json()] == ["small"]
    refused = queued("resume", "small", "--launcher", "none", "--devices", "cpu")
    assert (refused.code, "--undo" in refused.err) == (2, True)
    assert queued("archive", "small", "--undo").code == 0
    assert queued("resume", "small", "--launcher", "none", "--devices", "cpu", "--json").json()["phase"] == "queued"
    entries = queued("activity", "small", "--json").json()["items"]
    assert [e["action"] for e in entries] == ["resume", "unarchive", "archive", "rename", "stop", "create"]
    assert all(e["actor"].startswith("cli:") and "@" in e["actor"] for e in entries)
    assert "it was tiny" in queued("activity").out

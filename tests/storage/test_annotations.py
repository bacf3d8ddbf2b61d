"""Notes, tags, stars, archive, rename and the log of activity, on both kinds of storage."""

import threading
from pathlib import Path

import optuna
import pytest

from tests.storage.examples import claimed, failed, new_study
from tests.storage.test_confirmations import confirm
from tuner.artifacts.local import Artifacts
from tuner.errors import ConflictError, NotFoundError, RunError, SpecError
from tuner.launch.rename import rename_study
from tuner.storage.annotations import MAX_NOTES, AnnotationChange
from tuner.storage.base import StorageBase
from tuner.storage.storage import Storage
from tuner.storage.trial_selection import STARRED, TAG, TEXT, TrialFilter


def test_two_who_write_at_once_lose_nothing(store: Storage) -> None:
    """Tags of both are there; of two notes on the same revision one is refused, and named as such."""
    store.studies.create(new_study())
    refused: list[str] = []
    started = threading.Barrier(8)

    def write(i: int) -> None:
        started.wait()
        store.annotations.change_study("organs", AnnotationChange(add_tags=(f"tag {i}",), starred=True))
        try:
            store.annotations.change_study("organs", AnnotationChange(notes=f"note {i}", notes_revision=0))
        except ConflictError as error:
            refused.append(str(error))

    threads = [threading.Thread(target=write, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    document = store.queries.status("organs")
    assert document["tags"] == [f"tag {i}" for i in range(8)]
    assert (document["starred"], document["notes_revision"], len(refused)) == (True, 1, 7)
    assert "revision 1 now; yours follow 0" in refused[0]


def test_an_attempt_that_is_tried_again_keeps_them(store: Storage) -> None:
    """They belong to the place in the budget; the table shows its newest attempt only."""
    study = store.studies.create(new_study())
    claim = claimed(store, study.study_id)
    store.annotations.change_trials("organs", [claim.number], AnnotationChange(add_tags=("odd",), starred=True))
    store.trials.finish(claim, failed())
    (again,) = store.studies.retry("organs", [claim.number]).values()
    notes = AnnotationChange(notes="Look at **case 3**", notes_revision=0)
    store.annotations.change_trials("organs", [again], notes)

    found = store.queries.trials("organs", filters=[TrialFilter(TAG, choices=("odd", "other"))])
    assert [(row["number"], row["tags"], row["starred"]) for row in found] == [(again, ["odd"], True)]
    assert store.queries.trial("organs", claim.number)["notes"] == "Look at **case 3**"
    for name, choice in ((TEXT, "CASE 3"), (TEXT, "od"), (STARRED, True)):
        assert _numbers(store, name, choice) == [again]
    assert _numbers(store, TEXT, "100%") == []
    assert again not in _numbers(store, STARRED, False)
    assert store.annotations.tags(study.study_id) == ["odd"]
    store.annotations.change_trials("organs", [again], AnnotationChange(remove_tags=("odd",), starred=False))
    assert store.queries.trial("organs", again)["tags"] == []


def _numbers(store: Storage, name: str, choice: str | bool) -> list[int]:
    return [row["number"] for row in store.queries.trials("organs", filters=[TrialFilter(name, choices=(choice,))])]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (AnnotationChange(notes="x"), "notes_revision"),
        (AnnotationChange(notes="x" * (MAX_NOTES + 1), notes_revision=0), "at most"),
        (AnnotationChange(notes="\x00", notes_revision=0), "null character"),
        (AnnotationChange(notes="\ud800", notes_revision=0), "surrogate"),
        *((AnnotationChange(add_tags=(tag,)), "no tag") for tag in ("", " a", "a,b", "a\nb", "x" * 51)),
    ],
)
def test_what_cannot_be_stored_is_refused(store: Storage, change: AnnotationChange, words: str) -> None:
    """Before anything is changed."""
    store.studies.create(new_study())

    with pytest.raises(SpecError, match=words):
        store.annotations.change_study("organs", change)


def test_of_some_trials_all_are_tagged_or_none(store: Storage) -> None:
    """A number that is not there refuses the whole; tags are bounded."""
    store.studies.create(new_study())

    with pytest.raises(NotFoundError, match="no trial 99"):
        store.annotations.change_trials("organs", [0, 99], AnnotationChange(add_tags=("a",)))
    with pytest.raises(ConflictError, match="51 tags"):
        store.annotations.change_trials("organs", [0], AnnotationChange(add_tags=tuple(f"t{i}" for i in range(51))))
    assert store.queries.trial("organs", 0)["tags"] == []


def test_an_archived_study_is_read_and_not_begun(store: Storage) -> None:
    """What is left to train has to be stopped first: workers of `--any` would go on with it unseen."""
    study = store.studies.create(new_study())
    with pytest.raises(ConflictError, match="tuner stop organs"):
        store.studies.archive("organs")
    confirm(store)
    store.studies.stop("organs")
    tagged = AnnotationChange(add_tags=("old",))
    store.annotations.change_study("organs", tagged, archived=True)
    store.studies.archive("organs")

    assert store.queries.status("organs")["archived"] is True
    assert store.queries.studies_with_work() == []
    assert store.trials.claim(study.study_id, "w") is None
    for write in (
        lambda: store.studies.resume("organs"),
        lambda: store.studies.enqueue("organs", {"loss": "dice"}),
        lambda: store.studies.raise_budget("organs", 50),
        lambda: store.studies.retry("organs"),
        lambda: store.studies.retry("organs/confirmation"),
        lambda: store.confirmations.add("organs", [], None),
    ):
        with pytest.raises(ConflictError, match="archived") as caught:
            write()
        assert "--undo" in (caught.value.hint or "")
    store.studies.archive("organs", archived=False)
    store.studies.resume("organs")
    assert store.queries.phase("organs")[0] == "queued"


def test_a_renamed_study_is_the_same_study(store: Storage, tmp_path: Path) -> None:
    """For Optuna, its confirmation, its files and its log; workers that may be at it refuse."""
    study = store.studies.create(new_study())
    store.studies.create(new_study("taken"))
    confirm(store)
    files = Artifacts(tmp_path / "artifacts", store.studies.folder_mark)
    (files.create("organs", 0) / "log.txt").write_text("a line")
    old = files.root / "renamed"
    old.mkdir()
    (old / "left.txt").write_text("of an earlier study")
    claim = claimed(store, study.study_id)
    store.annotations.change_trials("organs", [claim.number], AnnotationChange(add_tags=("keep",)))
    worker = store.workers.register(pid=1, device="cpu", study="organs", version="test")

    with pytest.raises(ConflictError, match="live worker"):
        rename_study(store, files, "organs", "renamed")
    store.workers.unregister(worker)
    for wrong, kind in (("taken", ConflictError), ("no/name", SpecError), ("organs", ConflictError)):
        with pytest.raises(kind):
            rename_study(store, files, "organs", wrong)
    record = rename_study(store, files, "organs", "renamed")

    assert (record.identity, record.study_id) == (study.identity, study.study_id)
    assert store.confirmations.names("renamed") == ["renamed/confirmation"]
    with files.open("renamed", 0, "log.txt") as handle:
        assert handle.read() == b"a line"
    assert not (files.root / "organs").exists()
    assert len(list(files.root.glob("renamed.deleted-*/left.txt"))) == 1
    assert store.queries.trial("renamed", claim.number)["tags"] == ["keep"]
    theirs = optuna.storages.RDBStorage(store.context.database.url.render_as_string(hide_password=False))
    names = optuna.get_all_study_names(theirs)
    theirs.remove_session()
    theirs.engine.dispose()
    assert sorted(names) == ["renamed", "renamed/confirmation", "taken"]
    with pytest.raises(NotFoundError):
        store.studies.get("organs")


def test_files_that_cannot_be_moved_leave_the_name(store: Storage, tmp_path: Path) -> None:
    """And a rename that was interrupted between rows and files is finished when it is asked for again."""
    store.studies.create(new_study())
    files = Artifacts(tmp_path / "artifacts", store.studies.folder_mark)
    (files.create("organs", 0) / "log.txt").write_text("a line")
    (files.root / "other").write_text("no folder")
    with pytest.raises(RunError):
        rename_study(store, files, "organs", "other")
    assert store.studies.get("organs").name == "organs"

    store.studies.rename("organs", "second")
    assert files.listing("second", 0) == []
    rename_study(store, files, "organs", "second")
    assert [file.name for file in files.listing("second", 0)] == ["log.txt"]
    with pytest.raises(NotFoundError):
        rename_study(store, files, "organs", "second")


def test_deleting_removes_what_was_written_and_keeps_who_deleted(store: Storage) -> None:
    """The entry of the deletion outlives the study; SQLite gives its id to the next one, which begins empty."""
    store.studies.create(new_study())
    store.annotations.change_study("organs", AnnotationChange(notes="n", notes_revision=0, add_tags=("a",)))
    store.annotations.change_trials("organs", [0], AnnotationChange(starred=True))
    store.activity.record("organs", "create", actor="ada")
    store.studies.delete("organs")
    store.activity.record("organs", "delete", actor="ada")
    store.studies.create(new_study())

    assert store.queries.status("organs")["notes"] == ""
    assert store.queries.trials("organs", filters=[TrialFilter(STARRED, choices=(True,))]) == []
    assert store.activity.page("organs") == {"items": [], "total": 0}
    (entry,) = store.activity.page()["items"]
    assert (entry["actor"], entry["study"], entry["action"]) == ("ada", "organs", "delete")


def test_the_log_is_bounded_and_never_in_the_way(store: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    """The newest entries of each study are kept; an entry that cannot be written is left out with a warning."""
    monkeypatch.setattr("tuner.storage.activity.KEPT", 3)
    store.studies.create(new_study())
    store.studies.create(new_study("other"))
    store.activity.record("other", "create", actor="bo")
    for i in range(6):
        store.activity.record("organs", "pause", actor="a\nda" * 100, detail=f"{i}\x00 " + "x" * 5000)

    page = store.activity.page("organs", limit=2, offset=1)
    assert page["total"] == 3
    assert [entry["detail"][0] for entry in page["items"]] == ["4", "3"]
    assert len(page["items"][0]["detail"]) <= 500
    assert store.activity.page("other")["total"] == 1
    assert store.activity.newest("organs") > store.activity.newest("other") > 0

    with Storage.open(store.context.database.url.render_as_string(hide_password=False), read_only=True) as reader:
        assert isinstance(reader.activity, StorageBase)
        reader.activity.record("organs", "pause", actor="ada")
    assert store.activity.page("organs")["total"] == 3

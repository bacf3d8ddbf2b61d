"""Renaming a study: its rows and those of its confirmations in one transaction, then the folder of its files."""

from tuner.artifacts.local import Artifacts
from tuner.errors import NotFoundError, TunerError
from tuner.storage.records import StudyRecord
from tuner.storage.storage import Storage


def rename_study(store: Storage, artifacts: Artifacts, name: str, new: str) -> StudyRecord:
    """Give a study another name, and move its files. `artifacts` must know the studies of the store.

    Asked again after it was interrupted between the two, it moves the files that were left behind.

    Raises:
        SpecError: `new` is no name of a study.
        NotFoundError: There is no such study.
        ConflictError: There is a study of the new name, or workers serve this one.
        RunError: The files could not be moved; then the study keeps its name.
    """
    try:
        are_its_own = artifacts.is_owned(name)
        store.studies.rename(name, new)
    except NotFoundError:
        if not _is_left_behind(store, artifacts, name, new):
            raise
        are_its_own = True
    if are_its_own:
        try:
            artifacts.rename(name, new)
        except TunerError:
            store.studies.rename(new, name)
            raise
    return store.studies.get(new)


def _is_left_behind(store: Storage, artifacts: Artifacts, name: str, new: str) -> bool:
    """Tell whether the folder of the old name belongs to the study that has the new one already."""
    identity = store.studies.folder_mark(new)
    return identity is not None and artifacts.mark_of(name) == identity

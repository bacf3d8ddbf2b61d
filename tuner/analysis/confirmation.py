"""Verdict of a study from its confirmation: the finalists trained again with fresh seeds."""

from tuner.analysis.score_table import ScoreTable
from tuner.analysis.verdict import Verdict
from tuner.artifacts.local import Artifacts
from tuner.errors import NotFoundError
from tuner.storage.storage import Storage


def verdict_of(storage: Storage, artifacts: Artifacts, name: str) -> Verdict | None:
    """Return the newest verdict of a study; None before its confirmation has one."""
    return None


def load_scores(storage: Storage, artifacts: Artifacts, name: str) -> ScoreTable:
    """Return the scores of the runs of a confirmation. Raises NotFoundError where there are none."""
    raise NotFoundError(f"study {name!r} has no confirmation.", hint=f"`tuner confirm {name}` makes one.")

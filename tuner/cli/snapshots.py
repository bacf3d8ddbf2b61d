"""What a running study looks like at one moment, read from the store; cheap enough for every second."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tuner.analysis.leaderboard import remaining_seconds
from tuner.storage.storage import Store

Row = Mapping[str, Any]
_FINISHED = ("complete", "pruned", "failed")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One moment of a study."""

    document: Mapping[str, Any]
    """The contract's `status` document."""
    running: Sequence[Row]
    ended: Sequence[Row]
    """Trials that have ended since the last snapshot, in order."""
    left_s: float | None
    """Estimated seconds until the budget is used up."""
    wanted: int = 0
    """Workers that are meant to be there."""

    @property
    def missing(self) -> str:
        """How many workers are up, in words, when they are not as many as are wanted."""
        up = len(self.document["workers"])
        return f"{up} of {self.wanted} workers" if up < self.wanted else ""

    @property
    def counts(self) -> Mapping[str, int]:
        """Trials by state."""
        counts: Mapping[str, int] = self.document["trials"]
        return counts

    @property
    def finished(self) -> int:
        """Trials that will not run again."""
        return sum(self.counts[key] for key in _FINISHED)

    @property
    def phase(self) -> str:
        """The study's phase."""
        return str(self.document["phase"])


class Observer:
    """Reads snapshots of one study; what has ended already is read once."""

    def __init__(self, store: Store, name: str) -> None:
        self._store = store
        self._name = name
        self._ended: dict[int, Row] = {row["number"]: row for row in store.trials(name) if row["finished"]}
        self._counted: int | None = None

    def look(self, workers: int) -> Snapshot:
        """Read the study as it is now; `workers` share what is left."""
        document = self._store.status(self._name)
        counts = document["trials"]
        running = self._store.trials(self._name, state="RUNNING") if counts["running"] else []
        ended = self._newly_ended(sum(counts[key] for key in _FINISHED))
        left = counts["waiting"] + counts["running"]
        left_s = remaining_seconds([*self._ended.values(), *running], left=left, workers=workers)
        return Snapshot(document, running, ended, left_s, workers)

    def phase(self) -> str:
        """Return the study's phase now."""
        return self._store.study_phase(self._name)[0]

    def _newly_ended(self, finished: int) -> list[Row]:
        if self._counted is None:
            self._counted = len(self._ended)
        missing = finished - self._counted
        self._counted = finished
        if missing <= 0:
            return []
        rows = self._store.trials(self._name, sort="finished", order="desc", limit=missing + 10)
        fresh = [row for row in reversed(rows) if row["finished"] and row["number"] not in self._ended]
        self._ended |= {row["number"]: row for row in fresh}
        return fresh

"""Live progress of a launch: snapshots read from the storage, a view for terminals and one in lines, and Ctrl-C."""

import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING, Any, Protocol

from tuner.analysis.leaderboard import remaining_seconds
from tuner.cli.failures import INTERRUPTED, tell
from tuner.cli.output import duration, number
from tuner.errors import TunerError
from tuner.launch.supervisor import Supervisor
from tuner.storage.storage import Storage

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table


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
    def progress(self) -> tuple[float, float]:
        """How much is done of how much: trials, or hours where each loss gets a training time."""
        time = self.document.get("loss_time")
        if time is None:
            return self.finished, max(self.counts["total"], 1)
        most = time["hours_per_loss"]
        return sum(min(had, most) for had in time["hours"].values()), most * len(time["hours"])

    @property
    def phase(self) -> str:
        """The study's phase."""
        return str(self.document["phase"])


class Observer:
    """Reads snapshots of one study; what has ended already is read once."""

    def __init__(self, store: Storage, name: str) -> None:
        self._store = store
        self._name = name
        self._ended: dict[int, Row] = {row["number"]: row for row in store.queries.trials(name) if row["finished"]}
        self._counted: int | None = None

    def look(self, workers: int) -> Snapshot:
        """Read the study as it is now; `workers` share what is left."""
        document = self._store.queries.status(self._name)
        counts = document["trials"]
        running = self._store.queries.trials(self._name, state="RUNNING") if counts["running"] else []
        ended = self._newly_ended(sum(counts[key] for key in _FINISHED))
        left = counts["waiting"] + counts["running"]
        rows = [*self._ended.values(), *running]
        left_s = remaining_seconds(rows, left=left, workers=workers, loss_time=document.get("loss_time"))
        return Snapshot(document, running, ended, left_s, workers)

    def phase(self) -> str:
        """Return the study's phase now."""
        return self._store.queries.phase(self._name)[0]

    def give_back(self) -> None:
        """Requeue the trials of workers of this machine that no longer exist; a storage that is away is left alone."""
        with suppress(TunerError):
            self._store.workers.requeue_lost(self._store.studies.get(self._name).study_id)

    def _newly_ended(self, finished: int) -> list[Row]:
        if self._counted is None:
            self._counted = len(self._ended)
        missing = finished - self._counted
        self._counted = finished
        if missing <= 0:
            return []
        rows = self._store.queries.trials(self._name, sort="finished", order="desc", limit=missing + 10)
        fresh = [row for row in reversed(rows) if row["finished"] and row["number"] not in self._ended]
        self._ended |= {row["number"]: row for row in fresh}
        return fresh


TRIAL = "trial"
EVENTS = 6
"""Events that the live view keeps in sight."""
PLAIN_EVERY_S = 30.0
"""Seconds between two lines about the whole study where there is no terminal."""


class View(Protocol):
    """Shows snapshots and notes."""

    def show(self, snapshot: Snapshot) -> None:
        """Show the study as it is now."""

    def note(self, text: str) -> None:
        """Show something that has happened."""

    def close(self) -> None:
        """Leave the screen tidy."""


def make_view(metric: str, epochs: int, *, noun: str = TRIAL) -> View:
    """Return the view that suits stderr.

    Args:
        metric: The first objective.
        epochs: Of a trial.
        noun: `run` for those of a confirmation: they compete for nothing, and no best one is shown.
    """
    return LiveView(metric, epochs, noun) if sys.stderr.isatty() else PlainView(metric, epochs, noun)


class PlainView:
    """A line for each trial that ends, and one about the whole study every half minute."""

    def __init__(self, metric: str, epochs: int, noun: str = TRIAL) -> None:
        self._metric = metric
        self._noun = noun
        self._epochs = epochs
        self._last = 0.0
        self._best: int | None = None

    def show(self, snapshot: Snapshot) -> None:
        """Write what is new."""
        for row in snapshot.ended:
            self.note(event(row, self._metric, self._noun))
        best = snapshot.document["best"] if self._noun == TRIAL else None
        if best and best["number"] != self._best:
            self._best = best["number"]
            loss = f", {best['loss']}" if best["loss"] else ""
            self.note(f"best so far: {self._metric} {number(best['value'])}{loss}, trial {best['number']}")
        if time.monotonic() - self._last >= PLAIN_EVERY_S:
            self._last = time.monotonic()
            self.note(overview(snapshot, self._metric, self._epochs, self._noun))

    def note(self, text: str) -> None:
        """Write a line with the time before it."""
        tell(f"{time.strftime('%H:%M:%S')}  {text}")

    def close(self) -> None:
        """Nothing is left open."""


class LiveView:
    """One picture that is drawn again and again."""

    def __init__(self, metric: str, epochs: int, noun: str = TRIAL) -> None:
        from rich.console import Console
        from rich.live import Live

        self._metric = metric
        self._noun = noun
        self._epochs = epochs
        self._events: deque[str] = deque(maxlen=EVENTS)
        self._live = Live(console=Console(stderr=True), auto_refresh=False, vertical_overflow="crop")
        self._live.start()

    def show(self, snapshot: Snapshot) -> None:
        """Draw the study as it is now."""
        for row in snapshot.ended:
            self.note(event(row, self._metric, self._noun))
        self._live.update(self._picture(snapshot), refresh=True)

    def note(self, text: str) -> None:
        """Add an event to the picture."""
        self._events.append(f"{time.strftime('%H:%M:%S')}  {text}")

    def close(self) -> None:
        """Leave the last picture where it is."""
        self._live.stop()

    def _picture(self, snapshot: Snapshot) -> "RenderableType":
        from rich.console import Group
        from rich.padding import Padding
        from rich.text import Text

        parts: list[RenderableType] = [self._head(snapshot), self._bar(snapshot)]
        if self._noun == TRIAL:
            parts.append(self._best(snapshot))
        if snapshot.running:
            parts.append(Padding(self._running(snapshot), (1, 0, 0, 2)))
        if self._events:
            lines = Text("\n".join(self._events), style="dim", no_wrap=True, overflow="ellipsis")
            parts.append(Padding(lines, (1, 0, 0, 2)))
        return Padding(Group(*parts), (1, 0))

    def _head(self, snapshot: Snapshot) -> "RenderableType":
        from rich.text import Text

        document = snapshot.document
        text = Text.assemble((f"  {document['name']}", "bold cyan"), f"  {document['dataset']}, {document['model']}")
        if snapshot.phase != "running":
            reason = f" ({document['phase_reason']})" if document["phase_reason"] else ""
            text.append(f"  {snapshot.phase}{reason}", style="bold yellow")
        if snapshot.missing:
            text.append(f"  {snapshot.missing}", style="yellow")
        return text

    def _bar(self, snapshot: Snapshot) -> "RenderableType":
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        total, counts = max(snapshot.counts["total"], 1), snapshot.counts
        done, whole = snapshot.progress
        row = Table.grid(padding=(0, 2))
        words = Text.assemble(
            (f"{counts['complete']} complete", "green"),
            "  ",
            (f"{counts['pruned']} pruned", "yellow" if counts["pruned"] else "dim"),
            "  ",
            (f"{counts['failed']} failed", "red" if counts["failed"] else "dim"),
        )
        left = (
            f"about {duration(snapshot.left_s)} left"
            if snapshot.left_s
            else f"the first {self._noun} says how long it takes"
        )
        row.add_row(
            Text(f"  {self._noun}s"),
            ProgressBar(total=whole, completed=done, width=32),
            Text(f"{snapshot.finished}/{total}", style="bold"),
            words,
            Text(left if snapshot.counts["waiting"] + snapshot.counts["running"] else "", style="dim"),
        )
        return row

    def _best(self, snapshot: Snapshot) -> "RenderableType":
        from rich.text import Text

        best = snapshot.document["best"]
        if not best:
            return Text("  best    none yet", style="dim")
        options = {key: value for key, value in best["params"].items() if key != "loss"}
        return Text.assemble(
            "  best    ",
            (f"{self._metric} {number(best['value'])}", "bold green"),
            (f"  {best['loss']}", "bold"),
            (f"  trial {best['number']}  " + _options(options), "dim"),
            no_wrap=True,
            overflow="ellipsis",
        )

    def _running(self, snapshot: Snapshot) -> "Table":
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        table = Table.grid(padding=(0, 2))
        held = TRIAL if self._noun == TRIAL else "run"
        devices = {worker[held]: worker["device"] for worker in snapshot.document["workers"]}
        for row in snapshot.running:
            table.add_row(
                Text(_title(row, self._noun), style="cyan"),
                Text(row["loss"] or "…"),
                ProgressBar(total=self._epochs, completed=row["epochs"], width=16),
                Text(f"epoch {row['epochs']}/{self._epochs}"),
                Text(f"{self._metric} {number(row['last_value'])}" if row["last_value"] is not None else ""),
                Text(duration(row["duration_s"]), style="dim"),
                Text(devices.get(row["number"], ""), style="dim"),
            )
        return table


def _title(row: Row, noun: str) -> str:
    """Name a trial by its number, a run of a confirmation by its number and fold."""
    if noun == TRIAL:
        return f"{noun} {row['number']}"
    fold = row["params"].get("fold")
    return f"{noun} {row['params']['run']}" + ("" if fold is None else f", fold {fold}")


def event(row: Row, metric: str, noun: str = TRIAL) -> str:
    """Say how a trial ended."""
    head = _title(row, noun)
    loss = f" ({row['loss']})" if row["loss"] else ""
    if row["state"] == "COMPLETE":
        return f"{head} complete: {metric} {number(row['value'])}{loss}, {duration(row['duration_s'])}"
    word = row["reason"] or row["state"].lower()
    message = f": {row['message'].splitlines()[0]}" if row["message"] else ""
    at = f" at epoch {row['epochs']}" if row["epochs"] else ""
    return f"{head} {word}{at}{loss}{message}"


def overview(snapshot: Snapshot, metric: str, epochs: int, noun: str = TRIAL) -> str:
    """Say in a line how the study stands."""
    counts, best = snapshot.counts, snapshot.document["best"] if noun == TRIAL else None
    parts = [f"{snapshot.finished} of {counts['total']} {noun}s"]
    parts += [f"{counts[key]} {key}" for key in ("pruned", "failed") if counts[key]]
    if best:
        loss = f" ({best['loss']})" if best["loss"] else ""
        parts.append(f"best {metric} {number(best['value'])}{loss}")
    for row in snapshot.running:
        value = f", {number(row['last_value'])}" if row["last_value"] is not None else ""
        parts.append(f"{_title(row, noun)} {row['loss'] or ''} epoch {row['epochs']}/{epochs}{value}")
    if snapshot.phase != "running":
        parts.append(snapshot.phase)
    if snapshot.missing:
        parts.append(snapshot.missing)
    if snapshot.left_s:
        parts.append(f"about {duration(snapshot.left_s)} left")
    return "; ".join(parts)


def _options(params: Mapping[str, Any]) -> str:
    return "  ".join(f"{key} {number(v) if isinstance(v, float) else v}" for key, v in params.items())


POLL_S = 1.0
DRAIN_S = 60.0
"""Workers that have not given their trials back so long after Ctrl-C are ended hard."""
GIVE_BACK_S = 5.0
"""Seconds that the end at once waits for the storage."""
SAME_S = 0.5
"""Signals that come so soon after the first are the same wish: `timeout`, for one, signals a process and its group."""
OVER = ("done", "stopped")


class Interruptions:
    """Counts Ctrl-C and SIGTERM: the first one drains, the second ends everything at once."""

    def __init__(self, crew: Supervisor, give_back: Callable[[], None]) -> None:
        self.count = 0
        self._crew = crew
        self._give_back = give_back
        self._first = 0.0

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Take a signal."""
        if self.count and time.monotonic() - self._first < SAME_S:
            return
        self.count += 1
        self._first = self._first or time.monotonic()
        if self.count > 1:
            self._crew.kill()
            giving = threading.Thread(target=self._give_back, daemon=True)
            giving.start()  # in a thread, for the storage may be in use where this signal came in
            giving.join(GIVE_BACK_S)
            os.write(2, b"\nended at once; `tuner resume` goes on from the last finished epochs\n")
            os._exit(INTERRUPTED)


@contextmanager
def listening(crew: Supervisor, give_back: Callable[[], None]) -> Iterator[Interruptions]:
    """Take Ctrl-C and SIGTERM while the body runs; whatever ends it, no worker stays behind, and no trial with one.

    `give_back` requeues the trials of workers that had to be killed.
    """
    interruptions = Interruptions(crew, give_back)
    signals = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, interruptions) for number in signals}
    try:
        yield interruptions
    finally:
        crew.drain()
        if not crew.wait(DRAIN_S):
            crew.kill()
        give_back()
        for number, handler in before.items():
            signal.signal(number, handler)


def watch(observer: Observer, crew: Supervisor, view: View, workers: int) -> tuple[Snapshot, bool]:
    """Watch until the study is over or the user interrupts; return the last snapshot, and whether he did."""
    with listening(crew, observer.give_back) as interruptions:
        while True:
            snapshot = observer.look(workers)
            view.show(snapshot)
            if interruptions.count:
                return _drain(observer, crew, view, workers), True
            if snapshot.phase in OVER:
                crew.release_waiting()
                if not crew.alive:
                    return snapshot, False
            crew.ensure_running(lambda: observer.phase() not in OVER)
            _sleep(interruptions)


def _drain(observer: Observer, crew: Supervisor, view: View, workers: int) -> Snapshot:
    view.note("interrupted: running trials are returned to the queue with their checkpoints; Ctrl-C again ends at once")
    crew.drain()
    until = time.monotonic() + DRAIN_S
    while crew.alive and time.monotonic() < until:
        view.show(observer.look(workers))
        time.sleep(POLL_S / 4)
    return observer.look(workers)


def _sleep(interruptions: Interruptions) -> None:
    until = time.monotonic() + POLL_S
    while time.monotonic() < until and not interruptions.count:
        time.sleep(0.05)

"""Two views of a running study on stderr: a live picture on a terminal, plain lines elsewhere."""

import sys
import time
from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from tuner.cli.failures import tell
from tuner.cli.output import duration, number
from tuner.cli.snapshots import Row, Snapshot

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table


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


def make_view(metric: str, epochs: int) -> View:
    """Return the view that suits stderr. `metric`: the first objective; `epochs`: of a trial."""
    return LiveView(metric, epochs) if sys.stderr.isatty() else PlainView(metric, epochs)


class PlainView:
    """A line for each trial that ends, and one about the whole study every half minute."""

    def __init__(self, metric: str, epochs: int) -> None:
        self._metric = metric
        self._epochs = epochs
        self._last = 0.0
        self._best: int | None = None

    def show(self, snapshot: Snapshot) -> None:
        """Write what is new."""
        for row in snapshot.ended:
            self.note(event(row, self._metric))
        best = snapshot.document["best"]
        if best and best["number"] != self._best:
            self._best = best["number"]
            self.note(f"best so far: {self._metric} {number(best['value'])}, {best['loss']}, trial {best['number']}")
        if time.monotonic() - self._last >= PLAIN_EVERY_S:
            self._last = time.monotonic()
            self.note(overview(snapshot, self._metric, self._epochs))

    def note(self, text: str) -> None:
        """Write a line with the time before it."""
        tell(f"{time.strftime('%H:%M:%S')}  {text}")

    def close(self) -> None:
        """Nothing is left open."""


class LiveView:
    """One picture that is drawn again and again."""

    def __init__(self, metric: str, epochs: int) -> None:
        from rich.console import Console
        from rich.live import Live

        self._metric = metric
        self._epochs = epochs
        self._events: deque[str] = deque(maxlen=EVENTS)
        self._live = Live(console=Console(stderr=True), auto_refresh=False, vertical_overflow="crop")
        self._live.start()

    def show(self, snapshot: Snapshot) -> None:
        """Draw the study as it is now."""
        for row in snapshot.ended:
            self.note(event(row, self._metric))
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

        parts: list[RenderableType] = [self._head(snapshot), self._bar(snapshot), self._best(snapshot)]
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
        row = Table.grid(padding=(0, 2))
        words = Text.assemble(
            (f"{counts['complete']} complete", "green"),
            "  ",
            (f"{counts['pruned']} pruned", "yellow" if counts["pruned"] else "dim"),
            "  ",
            (f"{counts['failed']} failed", "red" if counts["failed"] else "dim"),
        )
        left = (
            f"about {duration(snapshot.left_s)} left" if snapshot.left_s else "the first trial says how long it takes"
        )
        row.add_row(
            Text("  trials"),
            ProgressBar(total=total, completed=snapshot.finished, width=32),
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
        devices = {worker["trial"]: worker["device"] for worker in snapshot.document["workers"]}
        for row in snapshot.running:
            table.add_row(
                Text(f"trial {row['number']}", style="cyan"),
                Text(row["loss"] or "…"),
                ProgressBar(total=self._epochs, completed=row["epochs"], width=16),
                Text(f"epoch {row['epochs']}/{self._epochs}"),
                Text(f"{self._metric} {number(row['last_value'])}" if row["last_value"] is not None else ""),
                Text(duration(row["duration_s"]), style="dim"),
                Text(devices.get(row["number"], ""), style="dim"),
            )
        return table


def event(row: Row, metric: str) -> str:
    """Say how a trial ended."""
    head = f"trial {row['number']}"
    loss = f" ({row['loss']})" if row["loss"] else ""
    if row["state"] == "COMPLETE":
        return f"{head} complete: {metric} {number(row['value'])}{loss}, {duration(row['duration_s'])}"
    word = row["reason"] or row["state"].lower()
    message = f": {row['message'].splitlines()[0]}" if row["message"] else ""
    at = f" at epoch {row['epochs']}" if row["epochs"] else ""
    return f"{head} {word}{at}{loss}{message}"


def overview(snapshot: Snapshot, metric: str, epochs: int) -> str:
    """Say in a line how the study stands."""
    counts, best = snapshot.counts, snapshot.document["best"]
    parts = [f"{snapshot.finished} of {counts['total']} trials"]
    parts += [f"{counts[key]} {key}" for key in ("pruned", "failed") if counts[key]]
    if best:
        parts.append(f"best {metric} {number(best['value'])} ({best['loss']})")
    for row in snapshot.running:
        value = f", {number(row['last_value'])}" if row["last_value"] is not None else ""
        parts.append(f"trial {row['number']} {row['loss'] or ''} epoch {row['epochs']}/{epochs}{value}")
    if snapshot.phase != "running":
        parts.append(snapshot.phase)
    if snapshot.missing:
        parts.append(snapshot.missing)
    if snapshot.left_s:
        parts.append(f"about {duration(snapshot.left_s)} left")
    return "; ".join(parts)


def _options(params: Mapping[str, Any]) -> str:
    return "  ".join(f"{key} {number(v) if isinstance(v, float) else v}" for key, v in params.items())

"""The numbers of every figure as plain lists, from rows that the store has thinned already. No plotly here.

Symbols: N points of a parameter, K grid lines of a contour.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from statistics import median
from typing import Any

import numpy as np

from tuner.analysis.leaderboard import family_of
from tuner.registry import Scalar
from tuner.search.space import Dimension, SearchSpace

GRID = 24
"""Lines of a contour's grid along each axis."""
MIN_CONTOUR_POINTS = 6


@dataclass(frozen=True, slots=True)
class Point:
    """A complete trial."""

    number: int
    value: float
    loss: str | None
    params: Mapping[str, Scalar]
    values: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class History:
    """Values in the order of the trials, and the best so far."""

    points: list[tuple[int, float, str | None]]
    best: list[tuple[int, float]]
    total: int
    times: Mapping[int, str] = field(default_factory=dict)
    """When each trial ended, as Plotly reads dates."""


@dataclass(frozen=True, slots=True)
class Curve:
    """One trial's first objective by epoch."""

    number: int
    loss: str | None
    state: str
    epochs: list[int]
    values: list[float]
    elapsed: Sequence[float] = ()
    """Seconds of training at the end of each epoch."""


@dataclass(frozen=True, slots=True)
class LossNumbers:
    """How one loss did."""

    loss: str
    family: str
    complete: int
    pruned: int
    failed: int
    running: int
    seconds: float
    best: float | None
    best_trial: int | None
    median: float | None
    values: list[tuple[int, float]]
    """Trial and value, best first, thinned."""

    @property
    def tried(self) -> int:
        """Trials that have ended."""
        return self.complete + self.pruned + self.failed


@dataclass(frozen=True, slots=True)
class Axis:
    """A parameter as an axis: positions are numbers, choices stand at 0, 1, 2."""

    name: str
    log: bool
    choices: tuple[str, ...]
    low: float
    high: float

    def place(self, value: Scalar) -> float | None:
        """Return where a value stands, None when it is not on the axis."""
        if self.choices:
            text = label(value)
            return float(self.choices.index(text)) if text in self.choices else None
        if isinstance(value, (int, float)) and not isinstance(value, bool) and not (self.log and value <= 0):
            return float(value)
        return None

    def share(self, place: float) -> float:
        """Return a position as a share of the axis, 0 to 1."""
        if self.choices:
            return (place + 0.5) / len(self.choices)
        if self.high <= self.low:
            return 0.5
        if self.log:
            return math.log(place / self.low) / math.log(self.high / self.low)
        return (place - self.low) / (self.high - self.low)


@dataclass(frozen=True, slots=True)
class Panel:
    """A parameter against the value."""

    axis: Axis
    xs: list[float]
    points: list[Point]


@dataclass(frozen=True, slots=True)
class Contour:
    """Two parameters against the value, and a smooth guess between the trials."""

    x: Axis
    y: Axis
    points: list[tuple[float, float, Point]]
    grid_x: list[float]
    grid_y: list[float]
    heights: list[list[float]]
    """[K, K], rows along y."""


@dataclass(frozen=True, slots=True)
class Bar:
    """One attempt on the timeline; times are seconds since 1970."""

    number: int
    loss: str | None
    state: str
    reason: str | None
    lane: str
    start: float
    end: float


def label(value: Scalar) -> str:
    """Write a parameter's value for people, short."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:.4g}"
    return "none" if value is None else str(value)


def to_datetime(seconds: float) -> str:
    """Write a moment (seconds since 1970) as Plotly reads dates."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def history(rows: Sequence[Any], total: int) -> History:
    """Arrange rows of `FigureReading.history`."""
    return History(
        points=[(row.number, row.value, row.branch) for row in rows],
        best=[(row.number, row.value) for row in rows if row.record],
        total=total,
        times={row.number: to_datetime(row.finished_at) for row in rows if row.finished_at is not None},
    )


def curves(trials: Sequence[Any], epochs: Sequence[Any]) -> list[Curve]:
    """Arrange the epochs of the chosen trials; trials without an epoch have no curve."""
    by_trial: dict[int, list[Any]] = {}
    for row in epochs:
        by_trial.setdefault(row.trial_id, []).append(row)
    return [
        Curve(
            trial.number,
            trial.branch,
            trial.state,
            [row.epoch for row in by_trial[trial.trial_id]],
            [row.value for row in by_trial[trial.trial_id]],
            [row.elapsed or 0.0 for row in by_trial[trial.trial_id]],
        )
        for trial in sorted(trials, key=lambda trial: trial.number)
        if trial.trial_id in by_trial
    ]


def losses(values: Sequence[Any], states: Sequence[Any], direction: str) -> list[LossNumbers]:
    """Return every loss that was tried, best first."""
    found: dict[str, list[tuple[int, float]]] = {}
    for row in values:
        if row.branch is not None:
            found.setdefault(row.branch, []).append((row.number, row.value))
    counts: dict[str, dict[str, int]] = {}
    seconds: dict[str, float] = {}
    for row in states:
        if row.branch is not None:
            own_counts = counts.setdefault(row.branch, {})
            own_counts[row.state] = own_counts.get(row.state, 0) + row.many
            seconds[row.branch] = seconds.get(row.branch, 0.0) + (row.seconds or 0.0)
    numbers = []
    for loss, of in counts.items():
        own = found.get(loss, [])
        if not own and set(of) == {"WAITING"}:
            continue
        numbers.append(
            LossNumbers(
                loss=loss,
                family=family_of(loss),
                complete=of.get("COMPLETE", 0),
                pruned=of.get("PRUNED", 0),
                failed=of.get("FAIL", 0),
                running=of.get("RUNNING", 0),
                seconds=seconds.get(loss, 0.0),
                best=own[0][1] if own else None,
                best_trial=own[0][0] if own else None,
                median=median(value for _, value in own) if own else None,
                values=own,
            )
        )
    sign = -1 if direction == "maximize" else 1
    return sorted(numbers, key=lambda n: (n.best is None, sign * (n.best or 0.0), n.loss))


def axis_of(dimension: Dimension) -> Axis:
    """Return a searched parameter as an axis."""
    if dimension.kind == "categorical":
        return Axis(dimension.name, False, tuple(map(label, dimension.choices)), 0.0, 1.0)
    return Axis(dimension.name, dimension.log, (), float(dimension.low), float(dimension.high))


def panels(space: SearchSpace, points: Sequence[Point], names: Sequence[str]) -> list[Panel]:
    """Return one panel for each named parameter that has points."""
    found = []
    for name in names:
        dimension = space.find(name)
        if dimension is None:
            continue
        axis = axis_of(dimension)
        placed = [(axis.place(p.params[name]), p) for p in points if name in p.params]
        kept = [(x, p) for x, p in placed if x is not None]
        if kept:
            found.append(Panel(axis, [x for x, _ in kept], [p for _, p in kept]))
    return found


def contour(x: Axis, y: Axis, points: Sequence[Point]) -> Contour | None:
    """Smooth the values between the trials (Gaussian weights, a tenth of each axis wide); None for too few trials."""
    placed = [
        (px, py, point)
        for point in points
        if (px := x.place(point.params.get(x.name))) is not None
        and (py := y.place(point.params.get(y.name))) is not None
    ]
    if len(placed) < MIN_CONTOUR_POINTS:
        return None
    grid_x, grid_y = _grid(x), _grid(y)
    at = np.array([(x.share(px), y.share(py)) for px, py, _ in placed])
    value = np.array([point.value for _, _, point in placed])
    sx = np.array([x.share(g) for g in grid_x])
    sy = np.array([y.share(g) for g in grid_y])
    distance = (sx[None, :, None] - at[:, 0]) ** 2 + (sy[:, None, None] - at[:, 1]) ** 2
    weight = np.exp(-distance / (2 * 0.1**2)) + 1e-9
    heights = (weight * value).sum(-1) / weight.sum(-1)
    return Contour(x, y, placed, grid_x, grid_y, heights.tolist())


def bars(rows: Sequence[Any]) -> list[Bar]:
    """Arrange rows of `FigureReading.occupation`; a lane is a worker with its host and device."""
    return [
        Bar(
            number=row.number,
            loss=row.branch,
            state=row.state,
            reason=row.reason,
            lane=lane_of(row.host, row.device, row.worker_id),
            start=row.claimed_at,
            end=row.until,
        )
        for row in rows
    ]


def lane_of(host: str | None, device: str | None, worker: str | None) -> str:
    """Name a worker for people."""
    place = " ".join(part for part in (host, device) if part) or "gone"
    return f"{place} · {(worker or '?')[:6]}"


def busy_share(found: Sequence[Bar]) -> dict[str, float]:
    """Return for each lane the share of the time between its first start and last end in which it held a trial."""
    shares = {}
    for lane in dict.fromkeys(bar.lane for bar in found):
        own = [bar for bar in found if bar.lane == lane]
        span = max(bar.end for bar in own) - min(bar.start for bar in own)
        shares[lane] = min(1.0, sum(bar.end - bar.start for bar in own) / span) if span > 0 else 1.0
    return shares


def _grid(axis: Axis) -> list[float]:
    if axis.choices:
        return [float(i) for i in range(len(axis.choices))]
    if axis.log:
        return [float(v) for v in np.geomspace(axis.low, axis.high, GRID)]
    return [float(v) for v in np.linspace(axis.low, axis.high, GRID)]

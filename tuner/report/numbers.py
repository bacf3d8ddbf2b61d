"""The survey's table in numbers: for each model and loss its published defaults, its best tuned options, its cost."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from tuner.analysis.leaderboard import family_of
from tuner.report.collect import Entry, Material, Spent
from tuner.search.initial_points import FAMILY_ORDER


@dataclass(frozen=True)
class Group:
    """Trials of one configuration that differ in seed or fold only."""

    entries: tuple[Entry, ...]

    @property
    def mean(self) -> float:
        """Mean of the values."""
        return fmean(entry.value for entry in self.entries)

    @property
    def deviation(self) -> float | None:
        """Sample standard deviation of the values; None of a single one."""
        return stdev(entry.value for entry in self.entries) if len(self.entries) > 1 else None

    def metric(self, name: str) -> float | None:
        """Return the mean of a further metric over the trials that have it."""
        return mean_of(entry.metrics.get(name) for entry in self.entries)

    def of_class(self, metric: str, name: str) -> float | None:
        """Return the mean of a class's metric over the trials that have it."""
        return mean_of(entry.per_class.get(metric, {}).get(name) for entry in self.entries)


@dataclass(frozen=True)
class Line:
    """One loss with one model."""

    loss: str
    family: str
    model: str
    default: Group | None
    """Its published defaults."""
    tuned: Group | None
    """The best configuration that is not the published one."""
    best: Group | None
    """The better of the two."""
    spent: Spent


def lines_of(material: Material, model: str) -> list[Line]:
    """Return a line for each loss that was tried with a model: families in the survey's order, best losses first."""
    by_loss: dict[str, list[Entry]] = {}
    for entry in material.entries:
        if entry.model == model:
            by_loss.setdefault(entry.loss, []).append(entry)
    lines = [
        _line(loss, model, by_loss.get(loss, []), spent, material.direction)
        for (of_model, loss), spent in material.spent.items()
        if of_model == model
    ]
    order = {family: place for place, family in enumerate((*FAMILY_ORDER, "sum"))}
    return sorted(lines, key=lambda line: (order[line.family], rank(mean_in(line), material.direction)))


def mean_in(line: Line) -> float | None:
    """Return the better mean of a loss's defaults and tuned options."""
    return line.best.mean if line.best else None


def ranked(lines: Sequence[Line], direction: str) -> list[Line]:
    """Return the losses with a value, best first, whatever their family."""
    return sorted((line for line in lines if line.best), key=lambda line: rank(mean_in(line), direction))


def rank(value: float | None, direction: str) -> float:
    """Return what sorts the best value first and a missing one last."""
    if value is None:
        return float("inf")
    return -value if direction == "maximize" else value


def classes_of(lines: Sequence[Line], metric: str) -> list[str]:
    """Return the classes for which some trial has a metric, in the data set's order."""
    names: dict[str, None] = {}
    for line in lines:
        for group in (line.default, line.tuned):
            for entry in group.entries if group else ():
                names |= dict.fromkeys(n for n, v in entry.per_class.get(metric, {}).items() if v is not None)
    return list(names)


def mean_of(values: Iterable[float | None]) -> float | None:
    """Return the mean of the values that are there."""
    found = [value for value in values if value is not None]
    return fmean(found) if found else None


def _line(loss: str, model: str, entries: Sequence[Entry], spent: Spent, direction: str) -> Line:
    default, tuned = _default(entries), _tuned(entries, direction)
    found = [group for group in (default, tuned) if group]
    best = min(found, key=lambda group: rank(group.mean, direction), default=None)
    return Line(loss, family_of(loss), model, default, tuned, best, spent)


def _default(entries: Sequence[Entry]) -> Group | None:
    """Return the published defaults; of several sets of them (two studies) the one with most repeats."""
    groups = _repeats([entry for entry in entries if entry.default])
    return max(groups, key=lambda group: len(group.entries), default=None)


def _tuned(entries: Sequence[Entry], direction: str) -> Group | None:
    """Return the best tuned configuration: among those repeated most often, so that no lucky seed beats a mean."""
    groups = _repeats([entry for entry in entries if not entry.default])
    if not groups:
        return None
    most = max(len(group.entries) for group in groups)
    return min((g for g in groups if len(g.entries) == most), key=lambda group: rank(group.mean, direction))


def _repeats(entries: Sequence[Entry]) -> list[Group]:
    groups: dict[tuple[str, str], list[Entry]] = {}
    for entry in entries:
        groups.setdefault((entry.study, entry.repeat), []).append(entry)
    return [Group(tuple(found)) for found in groups.values()]

"""Data of a report: trials of one study, or of several on the same data; the survey's table in numbers."""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean, stdev
from typing import Any

from tuner.analysis.leaderboard import Row, family_of
from tuner.analysis.seed_spread import SEED
from tuner.artifacts.local import Artifacts
from tuner.config.study import StudySpec, load_spec
from tuner.config.yaml_reader import YamlDocument
from tuner.data.splits import FOLD
from tuner.errors import ConflictError, NotFoundError
from tuner.registry import Scalar
from tuner.search.initial_points import FAMILY_ORDER, default_point
from tuner.storage.records import StudyRecord
from tuner.storage.storage import Storage

REPEATS = (SEED, FOLD)
"""Parameters whose values are repetitions of one configuration."""
MODEL = "model.name"
MAX_ENVIRONMENT = 1 << 20


@dataclass(frozen=True, slots=True)
class Entry:
    """A complete trial."""

    study: str
    number: int
    loss: str
    family: str
    model: str
    default: bool
    """Whether everything but the model, seed and fold is as published."""
    repeat: str
    """The same for all trials that differ in seed or fold only."""
    drawn: tuple[Scalar | None, ...]
    """Effective training seed and fold: equal for copies of one training, of which a mean takes one."""
    value: float
    metrics: Mapping[str, float | None]
    per_class: Mapping[str, Mapping[str, float | None]]
    params: Mapping[str, Scalar]


@dataclass(frozen=True, slots=True)
class Cost:
    """What one loss took, with one model."""

    complete: int = 0
    pruned: int = 0
    failed: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class StudyData:
    """One study."""

    record: StudyRecord
    spec: StudySpec
    rows: Sequence[Row]
    """The newest attempt of every trial."""
    attempts: Sequence[Row]
    """Every attempt."""
    best_epochs: Mapping[int, Mapping[str, Any]]
    environment: Mapping[str, Any]

    @cached_property
    def entries(self) -> list[Entry]:
        """The complete trials."""
        points = {c.name: default_point(self.spec.space, c, self.spec.base.parameters()) for c in self.spec.candidates}
        return [
            self._entry(row, points) for row in self.rows if row["state"] == "COMPLETE" and row["value"] is not None
        ]

    def model_of(self, params: Mapping[str, Scalar]) -> str:
        """Return the model that a trial trains."""
        return str(params.get(MODEL) or self.spec.base.model.get("name", "a network of your own"))

    def loss_of(self, row: Row) -> str:
        """Return the loss that a trial trains with; fixed in a study that does not search it."""
        return str(row["loss"] or self.spec.base.loss.get("name"))

    def _entry(self, row: Row, points: Mapping[str, Mapping[str, Scalar]]) -> Entry:
        params, loss, model = row["params"], self.loss_of(row), self.model_of(row["params"])
        fixed = {key: value for key, value in params.items() if key not in REPEATS}
        at_best = self.best_epochs.get(row["number"], {})
        return Entry(
            study=self.record.name,
            number=row["number"],
            loss=loss,
            family=family_of(loss),
            model=model,
            default=_published(fixed, points.get(loss, {}), model, self.spec.chosen_for_defaults),
            repeat=json.dumps(fixed, sort_keys=True),
            params=params,
            drawn=(self._seed(params), params.get(FOLD)),
            value=row["value"],
            metrics=at_best.get("metrics", {}),
            per_class=at_best.get("per_class", {}),
        )

    def _seed(self, params: Mapping[str, Scalar]) -> Scalar:
        seed = params.get(SEED)
        return self.spec.seed if seed is None else seed


@dataclass(frozen=True)
class ReportData:
    """Everything that a report says something about."""

    chapters: tuple[StudyData, ...]

    @property
    def first(self) -> StudyData:
        """The study that was named first."""
        return self.chapters[0]

    @property
    def is_about_losses(self) -> bool:
        """Whether the studies name losses; those of trainings of the user's own need not."""
        return any(chapter.spec.candidates for chapter in self.chapters)

    @property
    def metric(self) -> str:
        """The first objective."""
        return str(self.first.record.objectives[0]["metric"])

    @property
    def direction(self) -> str:
        """`maximize` or `minimize`."""
        return str(self.first.record.objectives[0]["direction"])

    @cached_property
    def entries(self) -> list[Entry]:
        """All complete trials."""
        return [entry for chapter in self.chapters for entry in chapter.entries]

    @cached_property
    def models(self) -> list[str]:
        """The models that were trained, in the order of their first trials."""
        return list(
            dict.fromkeys(
                c.model_of(row["params"]) for c in self.chapters for row in c.attempts if row["loss"] or row["params"]
            )
        )

    @cached_property
    def spent(self) -> dict[tuple[str, str], Cost]:
        """What every pair of model and loss took."""
        found: dict[tuple[str, str], list[Row]] = {}
        seconds: dict[tuple[str, str], float] = {}
        for chapter in self.chapters:
            for row in chapter.rows:
                if row["state"] in ("COMPLETE", "PRUNED", "FAIL"):
                    found.setdefault((chapter.model_of(row["params"]), chapter.loss_of(row)), []).append(row)
            for row in chapter.attempts:
                key = (chapter.model_of(row["params"]), chapter.loss_of(row))
                seconds[key] = seconds.get(key, 0.0) + (row["duration_s"] or 0.0)
        return {key: _cost(rows, seconds.get(key, 0.0)) for key, rows in found.items()}


def collect(store: Storage, names: Sequence[str], artifacts: Artifacts) -> ReportData:
    """Read the studies of a report.

    Raises:
        NotFoundError: There is no such study.
        ConflictError: A study has no complete trial, or the studies cannot be compared: other data, other metric.
    """
    chapters = tuple(_study_data(store, name, artifacts) for name in dict.fromkeys(names))
    material = ReportData(chapters)
    if not material.entries:
        raise ConflictError(
            f"no trial of {', '.join(map(repr, names))} is complete yet; there is nothing to report.",
            hint=f"`tuner status {names[0]}` says how it stands.",
        )
    first = chapters[0].record
    for other in (chapter.record for chapter in chapters[1:]):
        for what, ours, theirs in (
            ("first objective", first.objectives[0], other.objectives[0]),
            ("data", first.resources.get("fingerprint"), other.resources.get("fingerprint")),
        ):
            if ours != theirs:
                raise ConflictError(
                    f"{other.name!r} cannot stand in one table with {first.name!r}: its {what} is {_short(theirs)}, "
                    f"the other's {_short(ours)}.",
                    hint="Report them one by one.",
                )
    return material


def _study_data(store: Storage, name: str, artifacts: Artifacts) -> StudyData:
    record = store.studies.get(name)
    rows = store.queries.trials(name)
    return StudyData(
        record=record,
        spec=load_spec(YamlDocument(record.spec, {}, f"study {name}")),
        rows=rows,
        attempts=store.queries.trials(name, all_attempts=True),
        best_epochs=store.queries.best_epochs(name),
        environment=_environment(artifacts, name, rows),
    )


def _environment(artifacts: Artifacts, name: str, rows: Sequence[Row]) -> dict[str, Any]:
    """Return what the first trial with a readable `environment.json` says about versions and device."""
    for row in rows[:50]:
        try:
            with artifacts.open(name, row["number"], "environment.json") as handle:
                found = json.loads(handle.read(MAX_ENVIRONMENT))
        except (NotFoundError, ValueError):
            continue
        if isinstance(found, dict):
            return found
    return {}


def _published(params: Mapping[str, Scalar], point: Mapping[str, Scalar], model: str, chosen: Collection[str]) -> bool:
    """Whether a trial is its loss's published default; options of another model than the study's say nothing.

    Nor does what the sampler chooses for the defaults.
    """
    foreign = f"model.{model}."
    compared = {k: v for k, v in params.items() if k not in (MODEL, *chosen) and not k.startswith(foreign)}
    return all(point.get(key) == value for key, value in compared.items())


def _cost(rows: Sequence[Row], seconds: float) -> Cost:
    states = [row["state"] for row in rows]
    return Cost(states.count("COMPLETE"), states.count("PRUNED"), states.count("FAIL"), seconds)


def _short(value: object) -> str:
    if isinstance(value, Mapping):
        return f"{value.get('metric')} ({value.get('direction')})"
    return str(value)[:16] if value else "unknown"


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
    spent: Cost


def lines_of(material: ReportData, model: str) -> list[Line]:
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


def _line(loss: str, model: str, entries: Sequence[Entry], spent: Cost, direction: str) -> Line:
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
    groups: dict[tuple[str, str], dict[tuple[Scalar | None, ...], Entry]] = {}
    for entry in entries:
        groups.setdefault((entry.study, entry.repeat), {}).setdefault(entry.drawn, entry)
    return [Group(tuple(found.values())) for found in groups.values()]

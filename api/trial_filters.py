"""Filters of trials and the metric that ranks them, as addresses carry them.

`where=train.lr:0.001:0.01` is a closed interval, `where=loss=dice` a choice (several of one parameter: any of them),
`where=value:0.7:0.8` the value itself. `where=tag=keep`, `where=starred=yes` and `where=text=odd` are about what people
have written beside trials. `metric` and `class` rank by a metric that was stored beside the objective.
"""

from collections.abc import Sequence
from typing import Annotated, Literal

from fastapi import Depends, Query

from api.schemas import FigureAxis
from tuner.errors import Problem, SpecError, UnknownNameError
from tuner.figures.data import label
from tuner.metrics.catalog import METRICS
from tuner.registry import Scalar
from tuner.search.space import Dimension
from tuner.storage.dashboard_queries import FigureQueries
from tuner.storage.records import StudyRecord
from tuner.storage.trial_selection import STARRED, TAG, TEXT, VALUE, Measure, Selection, TrialFilter

MAX_FILTERS = 40

WhereQuery = Annotated[
    list[str] | None,
    Query(
        description="Only trials with `NAME:LOW:HIGH` or `NAME=CHOICE`.",
        max_length=MAX_FILTERS,
        examples=[["loss=dice"]],
    ),
]
MetricQuery = Annotated[
    str | None, Query(description="Rank by this stored metric, at each trial's best epoch.", max_length=100)
]
ClassQuery = Annotated[str | None, Query(alias="class", description="The metric of this class.", max_length=200)]


class FigureWords:
    """What the figures of a page are about, as its address says it; scripts of the page read it there as well."""

    def __init__(
        self,
        loss: Annotated[str | None, Query(max_length=200, pattern=r"^[^\x00]*$")] = None,
        where: WhereQuery = None,
        metric: MetricQuery = None,
        label: ClassQuery = None,
        axis: Annotated[FigureAxis | None, Query()] = None,
        scale: Annotated[Literal["linear", "log"] | None, Query()] = None,
        smooth: Annotated[float | None, Query(ge=0, lt=1)] = None,
    ) -> None:
        self.loss, self.where, self.metric, self.label = loss, where, metric, label
        self.axis, self.scale, self.smooth = axis, scale, smooth


FigureWordsDep = Annotated[FigureWords, Depends()]


def read_filters(study: StudyRecord, where: Sequence[str]) -> tuple[TrialFilter, ...]:
    """Return the filters that an address names. Raises SpecError or UnknownNameError (422) for one that is none."""
    chosen: dict[str, list[Scalar]] = {}
    found = []
    for text in where:
        name, equals, choice = text.partition("=")
        if equals and name in (TAG, STARRED, TEXT):
            chosen.setdefault(name, []).append(_written(name, choice))
            continue
        if equals:
            chosen.setdefault(name, []).append(_choice(_dimension(study, name), choice))
            continue
        name, low, high = _interval(text)
        if name != VALUE and _dimension(study, name).kind == "categorical":
            raise _refusal(text, f"{name} has choices: {name}=CHOICE")
        found.append(TrialFilter(name, low, high))
    return (*found, *(TrialFilter(name, choices=tuple(choices)) for name, choices in chosen.items()))


def read_measure(study: StudyRecord, figures: FigureQueries, metric: str | None, label: str | None) -> Measure | None:
    """Return the metric that ranks, None for the first objective. Raises UnknownNameError for what was not stored."""
    objective = study.objectives[0]
    name = metric or objective["metric"]
    if label is None and name == objective["metric"]:
        return None
    metrics, classes = figures.measures(study)
    if name not in metrics:
        raise UnknownNameError(kind="metric", name=name, known=metrics, where="query.metric")
    if label is not None and label not in classes:
        raise UnknownNameError(kind="class", name=label, known=classes, where="query.class")
    declared = METRICS[name].direction if name in METRICS else "maximize"
    stated = {o["metric"]: o["direction"] for o in study.objectives}
    return Measure(name, stated.get(name, declared), label)


def read_selection(
    study: StudyRecord, figures: FigureQueries, where: Sequence[str] | None, metric: str | None, label: str | None
) -> Selection:
    """Return which trials are meant and what ranks them. Raises as the two above."""
    return Selection(read_filters(study, where or ()), read_measure(study, figures, metric or None, label or None))


def _interval(text: str) -> tuple[str, float, float]:
    name, _, ends = text.partition(":")
    low, _, high = ends.partition(":")
    try:
        return name, float(low), float(high)
    except ValueError:
        raise _refusal(text, "NAME:LOW:HIGH or NAME=CHOICE") from None


def _dimension(study: StudyRecord, name: str) -> Dimension:
    found = study.space.find(name)
    if found is None:
        known = [VALUE, TAG, STARRED, TEXT, *(d.name for d in study.space)]
        raise UnknownNameError(kind="parameter", name=name[:200], known=known, where="query.where")
    return found


def _choice(dimension: Dimension, text: str) -> Scalar:
    for choice in dimension.choices:
        if label(choice) == text:
            return choice
    known = ", ".join(map(label, dimension.choices)) or f"an interval, {dimension.name}:LOW:HIGH"
    raise _refusal(f"{dimension.name}={text}", known)


def _written(name: str, text: str) -> Scalar:
    """Return a choice of what people have written beside a trial."""
    if name == STARRED and text not in ("yes", "no"):
        raise _refusal(f"{name}={text}", "starred=yes or starred=no")
    if not text or "\x00" in text:
        raise _refusal(f"{name}={text}", f"{name}=WORDS")
    return text == "yes" if name == STARRED else text


def _refusal(text: str, right: str) -> SpecError:
    return SpecError([Problem("where", f"{text[:200]!r} is no filter; right would be {right}", text[:200])])

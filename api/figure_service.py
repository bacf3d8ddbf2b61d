"""Figures of a study: bounded queries, drawn as Plotly JSON."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from api.config import Service
from api.study_files import stored_spec
from tuner.analysis.ablation import MIN_TRIALS, ablation_path
from tuner.analysis.importance import importances, interactions
from tuner.errors import RequestError, UnknownNameError
from tuner.figures import (
    AblationPath,
    Figure,
    draw_ablation,
    draw_contour,
    draw_curves,
    draw_edf,
    draw_history,
    draw_importance,
    draw_interactions,
    draw_losses,
    draw_parallel,
    draw_pareto,
    draw_rank,
    draw_slice,
    draw_timeline,
    empty_figure,
)
from tuner.figures.data import Axis, LossNumbers, Point, axis_of, bars, contour, curves, history, losses, panels
from tuner.search.initial_points import default_point
from tuner.search.space import Dimension
from tuner.storage.dashboard_queries import FigureQueries, Sample
from tuner.storage.records import StudyRecord
from tuner.storage.trial_selection import ALL, Selection

MAX_POINTS = 500
"""Dots of a scatter plot: more cover each other."""
MAX_LINES = 200
MAX_CURVES = 60
MAX_AXES = 12
"""Parameters beside each other: of more, the first ones, and the figure says so."""
MAX_EPOCHS = 120
MAX_BARS = 600
MAX_POINTS_OF_LOSS = 40
FOR_IMPORTANCE = 1000


@dataclass(frozen=True, slots=True)
class FigureRequest:
    """What a figure is asked to show."""

    loss: str | None = None
    params: tuple[str, ...] = ()
    x: str | None = None
    y: str | None = None
    axis: str = ""
    """What is along x of `history` and `curves`: `trial`, `time`, `epoch`; empty: what is usual."""
    selection: Selection = ALL


class FigureService:
    """Draws the figures of one study."""

    def __init__(self, service: Service, reading: FigureQueries, name: str) -> None:
        self.service = service
        self.reading = reading
        self.study: StudyRecord = service.store.studies.get(name)
        self.direction = self.study.directions[0]
        self.metric = self.study.objectives[0]["metric"]

    def draw(self, figure: str, wish: FigureRequest) -> Figure:
        """Draw a figure. Raises UnknownNameError for a parameter or loss that the study does not have."""
        self._check(wish)
        selection = wish.selection
        self.direction = selection.direction(self.study.directions[0])
        self.metric = selection.measure.title if selection.measure else self.study.objectives[0]["metric"]
        return _DRAWERS[figure](self, wish)

    def losses(self, selection: Selection = ALL) -> list[LossNumbers]:
        """Return the numbers of every loss, best first; nobody may change them."""
        study, most = self.study, MAX_POINTS_OF_LOSS

        def count() -> list[LossNumbers]:
            states = self.reading.states_by_loss(study)
            rows = self.reading.values_by_loss(study, most=most, selection=selection)
            return losses(rows, states, selection.direction(study.directions[0]))

        if selection == ALL:
            return self.service.leaderboards.get(study.identity, study.revision, count)
        return self.service.selected_leaderboards.get(self.key_of(selection), study.revision, count)

    def key_of(self, selection: Selection) -> str:
        """Return under which key what is computed of a selection is remembered."""
        return f"{self.study.identity} {selection!r}"

    def history(self, wish: FigureRequest) -> Figure:
        """Values by trial."""
        found = self.reading.history(self.study, most=MAX_POINTS, selection=wish.selection)
        numbers = history(found.rows, found.total)
        return draw_history(numbers, self.metric, self.direction, by_time=wish.axis == "time")

    def curves(self, wish: FigureRequest) -> Figure:
        """Learning curves."""
        selection = wish.selection
        chosen = self.reading.curve_trials(self.study, most=MAX_CURVES, loss=wish.loss, selection=selection)
        ids = [row.trial_id for row in chosen.rows]
        epochs = self.reading.curves(ids, most=MAX_EPOCHS, measure=selection.measure)
        best = next((row.number for row in chosen.rows if row.value is not None), None)
        found = curves(chosen.rows, epochs)
        return draw_curves(found, chosen.total, self.metric, best, MAX_EPOCHS, axis=wish.axis or "epoch")

    def loss_figure(self, wish: FigureRequest) -> Figure:
        """Spread of the values of every loss."""
        return draw_losses(self.losses(wish.selection), self.metric)

    def edf(self, wish: FigureRequest) -> Figure:
        """Empirical distribution of the values of each loss."""
        found = self.losses(wish.selection)
        chosen = [n for n in found if wish.loss in (None, n.loss)]
        return draw_edf(chosen, self.metric, self.direction)

    def importance(self, wish: FigureRequest) -> Figure:
        """What explains the values, over all trials or within one loss."""
        points, total = self._points(wish, FOR_IMPORTANCE)
        found = importances([p.params for p in points], [p.value for p in points])
        return draw_importance(found, total, len(points))

    def interactions(self, wish: FigureRequest) -> Figure:
        """What pairs of parameters explain together."""
        names = {d.name for d in self._dimensions(wish.loss)}
        points, total = self._points(wish, FOR_IMPORTANCE)
        params = [{key: value for key, value in p.params.items() if key in names} for p in points]
        return draw_interactions(interactions(params, [p.value for p in points]), total, len(points))

    def ablation(self, wish: FigureRequest) -> Figure:
        """From the published defaults of a loss, the best one unless another is named, to its best trial."""
        tried = [n.loss for n in self.losses(wish.selection) if len(n.values) >= MIN_TRIALS]
        loss = wish.loss or next(iter(tried), None)
        spec = stored_spec(self.study)
        candidate = next((c for c in spec.candidates if loss in (None, c.name)), None)
        points, _ = self._points(FigureRequest(loss=loss, selection=wish.selection), FOR_IMPORTANCE)
        if candidate is None or len(points) < MIN_TRIALS or (loss is None and self.study.space.find("loss")):
            return empty_figure(f"An ablation path needs {MIN_TRIALS} complete trials of a loss.")
        start = default_point(self.study.space, candidate, spec.base.parameters())
        found = ablation_path(
            self._dimensions(candidate.name),
            start,
            points[0].params,
            [p.params for p in points],
            [p.value for p in points],
            maximizes=self.direction == "maximize",
        )
        first, steps = found
        if not steps:
            return empty_figure(f"The best trial of {candidate.name} has its published defaults.")
        measured = next((p.value for p in points if dict(p.params) == start), None)
        path = AblationPath(candidate.name, len(points), first, steps, measured, points[0].value)
        return draw_ablation(path, self.metric)

    def rank(self, wish: FigureRequest) -> Figure:
        """Two parameters, trials coloured by their rank."""
        axes = self._pair(wish)
        if axes is None:
            return empty_figure("Ranks over two parameters need two different ones that are searched.")
        points, total = self._points(wish, MAX_POINTS)
        return draw_rank(axes[0], axes[1], points, self.direction, self.metric, total)

    def slice(self, wish: FigureRequest) -> Figure:
        """Each parameter against the value."""
        names = wish.params or tuple(d.name for d in self._dimensions(wish.loss) if d.name != "loss")
        points, total = self._points(wish, MAX_POINTS)
        return draw_slice(panels(self.study.space, points, names[:MAX_AXES]), total, self.metric, len(names) - MAX_AXES)

    def parallel(self, wish: FigureRequest) -> Figure:
        """Parallel coordinates over the parameters that all the trials have."""
        names = wish.params or tuple(d.name for d in self._dimensions(wish.loss))
        points, total = self._points(wish, MAX_LINES)
        axes = [axis_of(d) for name in names[:MAX_AXES] if (d := self.study.space.find(name)) is not None]
        return draw_parallel(axes, points, self.direction, self.metric, total, len(names) - MAX_AXES)

    def contour(self, wish: FigureRequest) -> Figure:
        """Two parameters against the value."""
        axes = self._pair(wish)
        if axes is None:
            return empty_figure("A contour needs two different parameters that are searched.")
        points, total = self._points(wish, MAX_POINTS)
        return draw_contour(contour(axes[0], axes[1], points), self.metric, total)

    def _pair(self, wish: FigureRequest) -> tuple[Axis, Axis] | None:
        """Return the two parameters that are named, else the first ones that are searched."""
        names = [d.name for d in self._dimensions(wish.loss) if d.name != "loss"]
        chosen = [name for name in (wish.x, wish.y) if name is not None]
        chosen += [name for name in names if name not in chosen][: 2 - len(chosen)]
        if len(chosen) < 2 or chosen[0] == chosen[1]:
            return None
        first, second = (axis_of(d) for name in chosen if (d := self.study.space.find(name)) is not None)
        return first, second

    def pareto(self, wish: FigureRequest) -> Figure:
        """First against second objective."""
        if len(self.study.objectives) < 2:
            raise RequestError(
                "a Pareto front needs several objectives; this study has one.",
                hint="`history` and `losses` show a study with one objective.",
                where="figure",
            )
        points, total = self._points(wish, MAX_POINTS)
        best = self.service.store.queries.best(self.study.name) or {}
        front = [
            Point(row["number"], row["value"], row["loss"], row["params"], tuple(row["values"]))
            for row in best.get("front", [])
        ]
        shown = {p.number: p for p in [*points, *front[:MAX_POINTS]]}
        metrics = [o["metric"] for o in self.study.objectives]
        return draw_pareto(list(shown.values()), [p.number for p in front], metrics, total)

    def timeline(self, wish: FigureRequest) -> Figure:
        """What every worker did when."""
        found = self.reading.occupation(self.study, most=MAX_BARS)
        return draw_timeline(bars(found.rows), found.total)

    def _points(self, wish: FigureRequest, most: int) -> tuple[list[Point], int]:
        found: Sample = self.reading.points(self.study, most=most, loss=wish.loss, selection=wish.selection)
        points = [
            Point(row.number, row.value, row.branch, row.params, tuple(row.objective_values or ()))
            for row in found.rows
        ]
        return points, found.total

    def _dimensions(self, loss: str | None) -> tuple[Dimension, ...]:
        """Parameters that every trial has; with a loss, its own as well, and not `loss`."""
        space = self.study.space
        if loss is None:
            return space.shared
        return tuple(d for d in space if d.name != "loss" and d.when in (None, ("loss", loss)))

    def _check(self, wish: FigureRequest) -> None:
        space = self.study.space
        known = [d.name for d in space]
        for where, names in (("param", wish.params), ("x", (wish.x,)), ("y", (wish.y,))):
            for name in names:
                if name is not None and name not in known:
                    raise UnknownNameError(kind="parameter", name=name, known=known, where=f"query.{where}")
        if wish.loss is not None:
            dimension = space.find("loss")
            competing = [str(c) for c in dimension.choices] if dimension else []
            if wish.loss not in competing:
                raise UnknownNameError(kind="loss", name=wish.loss, known=competing, where="query.loss")


_DRAWERS: Mapping[str, Callable[[FigureService, FigureRequest], Figure]] = {
    "history": FigureService.history,
    "curves": FigureService.curves,
    "losses": FigureService.loss_figure,
    "edf": FigureService.edf,
    "importance": FigureService.importance,
    "interactions": FigureService.interactions,
    "ablation": FigureService.ablation,
    "rank": FigureService.rank,
    "slice": FigureService.slice,
    "parallel": FigureService.parallel,
    "contour": FigureService.contour,
    "pareto": FigureService.pareto,
    "timeline": FigureService.timeline,
}

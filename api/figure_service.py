"""Figures of a study: bounded queries, drawn as Plotly JSON."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from api.config import Service
from tuner.analysis.importance import importances
from tuner.errors import RequestError, UnknownNameError
from tuner.figures.data import Axis, LossNumbers, Point, axis_of, bars, contour, curves, history, losses, panels
from tuner.figures.parameter_plots import draw_contour, draw_importance, draw_parallel, draw_slice
from tuner.figures.plots import Figure, draw_curves, draw_history, draw_losses, draw_pareto, draw_timeline, empty_figure
from tuner.search.space import Dimension
from tuner.storage.dashboard_queries import FigureQueries, Sample
from tuner.storage.records import StudyRecord

MAX_POINTS = 500
"""Dots of a scatter plot: more cover each other."""
MAX_LINES = 200
MAX_CURVES = 60
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
        return _DRAWERS[figure](self, wish)

    def losses(self) -> list[LossNumbers]:
        """Return the numbers of every loss, best first; nobody may change them."""
        study, most = self.study, MAX_POINTS_OF_LOSS

        def count() -> list[LossNumbers]:
            states = self.reading.states_by_loss(study)
            return losses(self.reading.values_by_loss(study, most=most), states, self.direction)

        return self.service.leaderboards.get(study.identity, study.revision, count)

    def history(self, wish: FigureRequest) -> Figure:
        """Values by trial."""
        found = self.reading.history(self.study, most=MAX_POINTS)
        return draw_history(history(found.rows, found.total), self.metric)

    def curves(self, wish: FigureRequest) -> Figure:
        """Learning curves."""
        chosen = self.reading.curve_trials(self.study, most=MAX_CURVES)
        epochs = self.reading.curves([row.trial_id for row in chosen.rows], most=MAX_EPOCHS)
        best = next((row.number for row in chosen.rows if row.value is not None), None)
        return draw_curves(curves(chosen.rows, epochs), chosen.total, self.metric, best, MAX_EPOCHS)

    def loss_figure(self, wish: FigureRequest) -> Figure:
        """Spread of the values of every loss."""
        return draw_losses(self.losses(), self.metric)

    def importance(self, wish: FigureRequest) -> Figure:
        """What explains the values, over all trials or within one loss."""
        points, total = self._points(wish, FOR_IMPORTANCE)
        found = importances([p.params for p in points], [p.value for p in points])
        return draw_importance(found, total, len(points))

    def slice(self, wish: FigureRequest) -> Figure:
        """Each parameter against the value."""
        names = wish.params or tuple(d.name for d in self._dimensions(wish.loss) if d.name != "loss")
        points, total = self._points(wish, MAX_POINTS)
        return draw_slice(panels(self.study.space, points, names[:12]), total, self.metric)

    def parallel(self, wish: FigureRequest) -> Figure:
        """Parallel coordinates over the parameters that all the trials have."""
        names = wish.params or tuple(d.name for d in self._dimensions(wish.loss))
        points, total = self._points(wish, MAX_LINES)
        axes = [axis_of(d) for name in names[:12] if (d := self.study.space.find(name)) is not None]
        return draw_parallel(axes, points, self.direction, self.metric, total)

    def contour(self, wish: FigureRequest) -> Figure:
        """Two parameters against the value."""
        names = [d.name for d in self._dimensions(wish.loss) if d.name != "loss"]
        chosen = [name for name in (wish.x, wish.y) if name is not None]
        chosen += [name for name in names if name not in chosen][: 2 - len(chosen)]
        if len(chosen) < 2 or chosen[0] == chosen[1]:
            return empty_figure("A contour needs two different parameters that are searched.")
        points, total = self._points(wish, MAX_POINTS)
        axes: list[Axis] = [axis_of(d) for name in chosen if (d := self.study.space.find(name)) is not None]
        return draw_contour(contour(axes[0], axes[1], points), self.metric, total)

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
        found: Sample = self.reading.points(self.study, most=most, loss=wish.loss)
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
    "importance": FigureService.importance,
    "slice": FigureService.slice,
    "parallel": FigureService.parallel,
    "contour": FigureService.contour,
    "pareto": FigureService.pareto,
    "timeline": FigureService.timeline,
}

"""Page of one study: progress, leaderboard, figures, trials, controls."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response

from api.config import Service
from api.dependencies import FiguresDep, Offset, ServiceDep, StudyName
from api.figure_service import FigureService
from api.leaderboard_view import LeaderboardView, Standing, standing_of
from api.routes.figures import written_csv
from api.schemas import Order, Sort, State
from api.study_files import spec_yaml, stored_spec
from api.templating import page, render
from tuner.analysis.confirmation import verdict_of
from tuner.analysis.seed_spread import SEED, confirm_command
from tuner.errors import ConflictError, DataError, TunerError
from tuner.figures.data import LossNumbers, label
from tuner.storage.base import AnyRow
from tuner.storage.dashboard_queries import FigureQueries
from tuner.storage.records import StudyRecord

router = APIRouter()

ON_A_PAGE = 50
MAX_CSV_ROWS = 100_000
SPARK = 60
FOR_SPREAD = 300

StateQuery = Annotated[State | Literal[""] | None, Query()]
"""A form without a choice sends an empty one."""
LossQuery = Annotated[str | None, Query(max_length=200, pattern=r"^[^\x00]*$")]


@router.get("/studies/{name}")
def show_study(
    name: StudyName,
    request: Request,
    service: ServiceDep,
    figures: FiguresDep,
    state: StateQuery = None,
    loss: LossQuery = None,
    sort: Annotated[Sort, Query()] = "value",
    order: Annotated[Order | None, Query()] = None,
    offset: Offset = 0,
) -> Response:
    """Show a study; a study of another Optuna program is shown as far as it can be."""

    def context() -> dict[str, Any]:
        view = StudyView(service, figures, name)
        chosen = order or ("desc" if sort == "value" and view.maximizes else "asc")
        trials = service.store.queries.page(
            name, state=state or None, loss=loss or None, sort=sort, order=chosen, limit=ON_A_PAGE, offset=offset
        )
        table = {"state": state, "loss": loss, "sort": sort, "order": chosen, "offset": offset, "step": ON_A_PAGE}
        return view.context() | {"page": trials, "table": table}

    try:
        return page(request, "study.html", lambda: figures.pulse(name), context)
    except ConflictError:
        found = next(s for s in service.store.queries.studies() if s["name"] == name)
        body = render("foreign.html", request, study=found).encode("utf-8", "replace")
        return Response(body, media_type="text/html; charset=utf-8")


@router.get("/studies/{name}/trials.csv")
def download_trials(name: StudyName, service: ServiceDep, state: StateQuery = None, loss: LossQuery = None) -> Response:
    """Return the trials as CSV, one column a parameter."""
    space = service.store.studies.get(name).space
    rows = service.store.queries.trials(name, state=state or None, loss=loss or None, limit=MAX_CSV_ROWS)
    plain = ("number", "state", "value", "loss", "reason", "epochs", "duration_s", "worker", "started", "finished")
    names = [d.name for d in space if d.name != "loss"]
    lines = ([*(row[key] for key in plain), *(row["params"].get(key) for key in names)] for row in rows)
    headers = {"Content-Disposition": f'attachment; filename="{name}.csv"'}
    return Response(written_csv([*plain, *names], lines), headers=headers, media_type="text/csv; charset=utf-8")


class StudyView:
    """Everything that the page of a study says."""

    def __init__(self, service: Service, figures: FigureQueries, name: str) -> None:
        self.service = service
        self.figures = figures
        self.drawing = FigureService(service, figures, name)
        self.study: StudyRecord = self.drawing.study
        self.maximizes = self.study.directions[0] == "maximize"

    def context(self) -> dict[str, Any]:
        """Return what the template needs."""
        status = self.service.store.queries.status(self.study.name)
        standing = self.service.standings.get(self.study.identity, self.study.revision, self._standing)
        return {
            "study": status,
            "record": self.study,
            "metric": self.study.objectives[0]["metric"],
            "maximizes": self.maximizes,
            "losses": standing.losses,
            "about_losses": self.study.space.find("loss") is not None,
            "options": standing.options,
            "families": standing.families,
            "standing": standing.standing,
            "confirm_command": confirm_command(self.study.name),
            "scale": standing.scale(self.maximizes),
            "dots_shown": standing.dots_shown,
            "running": self._running(),
            "epochs": self._epochs(),
            "eta": time_left(self.figures, self.study.study_id, status),
            "failures": standing.failures,
            "dimensions": list(self.study.space),
            "shared": [d.name for d in self.study.space.shared],
            "best_params": best_options(status["best"]),
            "spec": standing.spec,
            "any_worker": any(w["study_id"] is None for w in self.service.store.workers.live()),
            "several": len(self.study.objectives) > 1,
        }

    def _standing(self) -> LeaderboardView:
        losses = self.drawing.losses()
        return LeaderboardView(
            losses,
            self._best_options(losses),
            self._what_is_known(losses),
            self.figures.failures(self.study),
            spec_yaml(self.study),
        )

    def _what_is_known(self, losses: list[LossNumbers]) -> Standing:
        sample: list[dict[str, Any]] = []
        if self.study.space.find(SEED):
            rows = self.figures.points(self.study, most=FOR_SPREAD).rows
            sample = [{"state": "COMPLETE", "value": row.value, "params": row.params} for row in rows]
        try:
            verdict = verdict_of(self.service.store, self.service.artifacts, self.study.name)
        except DataError as error:
            return Standing(error.message)
        return standing_of(losses, sample, study_seed=self.study.seed, verdict=verdict)

    def _best_options(self, losses: list[LossNumbers]) -> dict[str, list[tuple[str, str]]]:
        """Return the options of each loss in its best trial, by their short names."""
        params = self.figures.params_of(self.study, [n.best_trial for n in losses if n.best_trial is not None])
        return {
            n.loss: [
                (name.removeprefix(f"loss.{n.loss}."), label(value))
                for name, value in params.get(n.best_trial if n.best_trial is not None else -1, {}).items()
                if name.startswith(f"loss.{n.loss}.")
            ]
            for n in losses
        }

    def _running(self) -> list[dict[str, Any]]:
        running = self.figures.running(self.study)
        curves: dict[int, list[AnyRow]] = {}
        for point in self.figures.curves([row["trial_id"] for row in running], most=SPARK):
            curves.setdefault(point.trial_id, []).append(point)
        values = [point.value for curve in curves.values() for point in curve]
        low, high = (min(values), max(values)) if values else (0.0, 1.0)
        for row in running:
            curve = curves.get(row["trial_id"], [])
            row["curve"] = [point.value for point in curve]
            row["epoch"] = curve[-1].epoch if curve else 0
            row["last"] = curve[-1].value if curve else None
            row["low"], row["high"] = low, high
        return running

    def _epochs(self) -> int:
        train = self.study.spec.get("train")
        epochs = train.get("epochs") if isinstance(train, Mapping) else None
        return int(epochs) if isinstance(epochs, int) else SPARK


def time_left(figures: FigureQueries, study_id: int, status: Mapping[str, Any]) -> float | None:
    """Guess the seconds until the budget is used up; None when the study does not run or nothing has ended."""
    workers = len(status["workers"])
    if status["phase"] != "running" or not workers:
        return None
    mean = figures.mean_seconds(study_id)
    left = status["trials"]["waiting"] + status["trials"]["running"] / 2
    return None if mean is None else left * mean / workers


def best_options(best: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    """Return the parameters of the best trial, those of its loss first."""
    if best is None:
        return []
    pairs = [(name, label(value)) for name, value in best["params"].items() if name != "loss"]
    return sorted(pairs, key=lambda pair: (not pair[0].startswith("loss."), pair[0]))


def full_configuration(record: StudyRecord, params: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the configuration of a trial; None while its parameters are not all chosen."""
    try:
        return stored_spec(record).config(params).as_dict()
    except TunerError:
        return None

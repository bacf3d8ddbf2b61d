"""Pages of one study: overview, leaderboard, figures, workers, settings."""

from collections.abc import Mapping
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Query, Request, Response

from api.dependencies import FiguresDep, Offset, ServiceDep, StudyName
from api.pages.study_frame import StudyView, figure_controls, study_page
from api.pages.trial_table import LossQuery, StateQuery
from api.schemas import Order, Sort
from api.study_files import stored_spec
from api.templating import query
from api.trial_filters import FigureWords, FigureWordsDep, read_selection
from tuner.analysis.leaderboard import remaining_seconds
from tuner.analysis.seed_spread import confirm_command
from tuner.errors import TunerError
from tuner.figures.data import label
from tuner.storage.base import AnyRow
from tuner.storage.dashboard_queries import FigureQueries
from tuner.storage.records import StudyRecord
from tuner.storage.trial_selection import ALL

router = APIRouter()

SPARK = 60
RECENT = 8
LEADERS = 5
ENTRIES = 20
"""Of the log of activity on a page."""


@router.get("/studies/{name}")
def show_study(
    name: StudyName,
    request: Request,
    service: ServiceDep,
    figures: FiguresDep,
    state: StateQuery = None,
    loss: LossQuery = None,
    sort: Annotated[Sort | None, Query()] = None,
    order: Annotated[Order | None, Query()] = None,
    offset: Offset | None = None,
) -> Response:
    """Show the overview of a study. Words of the table of trials lead to its page, which they once were part of."""
    words = query({"state": state, "loss": loss, "sort": sort, "order": order, "offset": offset})
    if words:
        return Response(status_code=308, headers={"Location": f"/studies/{quote(name, safe='')}/trials?{words}"})
    return study_page(request, service, figures, name, "", overview)


@router.get("/studies/{name}/leaderboard")
def show_leaderboard(
    name: StudyName, request: Request, service: ServiceDep, figures: FiguresDep, words: FigureWordsDep
) -> Response:
    """Show the losses of a study, those with the best values first; by another stored metric, or of some trials."""
    return study_page(request, service, figures, name, "leaderboard", lambda view: leaderboard(view, words))


@router.get("/studies/{name}/curves")
def show_curves(
    name: StudyName, request: Request, service: ServiceDep, figures: FiguresDep, words: FigureWordsDep
) -> Response:
    """Show values by trial and metrics by epoch."""
    return study_page(request, service, figures, name, "curves", figure_controls)


@router.get("/studies/{name}/parameters")
def show_parameters(
    name: StudyName, request: Request, service: ServiceDep, figures: FiguresDep, words: FigureWordsDep
) -> Response:
    """Show what the searched parameters do."""
    return study_page(request, service, figures, name, "parameters", figure_controls)


@router.get("/studies/{name}/workers")
def show_workers(name: StudyName, request: Request, service: ServiceDep, figures: FiguresDep) -> Response:
    """Show who works on a study, and what did not complete."""
    return study_page(request, service, figures, name, "workers", workers)


@router.get("/studies/{name}/settings")
def show_settings(
    name: StudyName, request: Request, service: ServiceDep, figures: FiguresDep, activity: Offset = 0
) -> Response:
    """Show the specification of a study, what can be done with it, and what was done; `activity`: from which entry."""
    log = service.store.activity

    def parts(view: StudyView) -> dict[str, Any]:
        entries = log.page(name, limit=ENTRIES, offset=activity) | {"offset": activity, "step": ENTRIES}
        return {"spec": view.standing.spec, "activity": entries}

    return study_page(request, service, figures, name, "settings", parts, lambda: str(log.newest(name)))


def overview(view: StudyView) -> dict[str, Any]:
    """Return what is best, how far the study is, what runs, and what needs a look."""
    standing, status = view.standing, view.status
    return {
        "alerts": alerts(view),
        "leaders": [n for n in standing.losses if n.best is not None][:LEADERS],
        "losses_tried": len(standing.losses),
        "options": standing.options,
        "standing": standing.standing,
        "confirm_command": confirm_command(view.study.name),
        "scale": standing.scale(view.maximizes),
        "running": running(view),
        "epochs": epochs_of(view.study),
        "eta": time_left(view.figures, view.study.study_id, status),
        "best_params": best_options(status["best"]),
        "recent": view.figures.newest_ended(view.study, most=RECENT),
    }


def leaderboard(view: StudyView, words: FigureWords) -> dict[str, Any]:
    """Return how every loss stands, by the first objective or what the address names."""
    selection = read_selection(view.study, view.figures, words.where, words.metric, words.label)
    standing = view.standing if selection == ALL else view.standing_by(selection)
    maximizes = selection.direction(view.study.directions[0]) == "maximize"
    return figure_controls(view) | {
        "losses": standing.losses,
        "options": standing.options,
        "families": standing.families,
        "standing": standing.standing,
        "maximizes": maximizes,
        "ranked_by": selection.measure.title if selection.measure else None,
        "shown": selection.measure.title if selection.measure else view.study.objectives[0]["metric"],
        "scale": standing.scale(maximizes),
        "dots_shown": standing.dots_shown,
    }


def workers(view: StudyView) -> dict[str, Any]:
    """Return what runs where, and what went wrong."""
    return {
        "failures": view.standing.failures,
        "running": running(view),
        "epochs": epochs_of(view.study),
    }


def alerts(view: StudyView) -> list[dict[str, str | None]]:
    """Return what somebody should look at, the most urgent first: `{"text", "command", "tab"}`."""
    status = view.status
    found: list[dict[str, str | None]] = []

    def add(text: str, *, command: str | None = None, tab: str | None = None) -> None:
        found.append({"text": text, "command": command, "tab": tab})

    if status["message"]:
        add(status["message"])
    if status["phase"] in ("queued", "stalled") and not status["workers"]:
        text = "Stalled: no active workers." if status["phase"] == "stalled" else "Queued: no active workers yet."
        if any(w["study_id"] is None for w in view.service.store.workers.live()):
            add(f"{text} A worker of --any will take it.")
        else:
            start = f"tuner worker --study {view.study.name}"
            add(f"{text} Start one on any machine that reaches the storage:", command=start)
    for device in status["put_aside"]:
        add(f"{device['device']} of {device['host']} is quarantined: {device['why']}", tab="workers")
    failed = status["trials"]["failed"]
    if failed:
        what = "1 trial has failed and is" if failed == 1 else f"{failed} trials have failed and are"
        add(f"{what} not tried again by itself.", tab="workers")
    return found


def running(view: StudyView) -> list[dict[str, Any]]:
    """Return the trials that run, each with its curve so far."""
    found = view.figures.running(view.study)
    curves: dict[int, list[AnyRow]] = {}
    for point in view.figures.curves([row["trial_id"] for row in found], most=SPARK):
        curves.setdefault(point.trial_id, []).append(point)
    values = [point.value for curve in curves.values() for point in curve]
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    for row in found:
        curve = curves.get(row["trial_id"], [])
        row["curve"] = [point.value for point in curve]
        row["epoch"] = curve[-1].epoch if curve else 0
        row["last"] = curve[-1].value if curve else None
        row["low"], row["high"] = low, high
    return found


def epochs_of(study: StudyRecord) -> int:
    """Return the epochs of a training of a study."""
    train = study.spec.get("train")
    epochs = train.get("epochs") if isinstance(train, Mapping) else None
    return int(epochs) if isinstance(epochs, int) else SPARK


def time_left(figures: FigureQueries, study_id: int, status: Mapping[str, Any]) -> float | None:
    """Guess the seconds until the budget is used up; None when the study does not run or nothing has ended."""
    at_work = len(status["workers"])
    if status["phase"] != "running" or not at_work:
        return None
    if status["loss_time"] is not None:
        left = status["trials"]["waiting"] + status["trials"]["running"]
        return remaining_seconds([], left=left, workers=at_work, loss_time=status["loss_time"])
    mean = figures.mean_seconds(study_id)
    left = status["trials"]["waiting"] + status["trials"]["running"] / 2
    return None if mean is None else left * mean / at_work


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

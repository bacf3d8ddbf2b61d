"""Page of one trial: parameters against the defaults, curves, predictions slice by slice, environment, reproduction."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Request, Response
from markupsafe import Markup

from api.config import Service
from api.dependencies import MAX_NUMBER, FiguresDep, ServiceDep, StudyName, TrialNumber
from api.http_cache import tag_of, unless_matches
from api.pages.study import full_configuration
from api.prediction_service import PredictionService, confusion, tail, worst_cases
from api.routes.figures import csv_answer
from api.routes.trials import artifact_url
from api.study_files import stored_spec
from api.templating import page
from tuner.analysis.calibration import CALIBRATION, read_calibration
from tuner.config.yaml_reader import dump_yaml
from tuner.errors import NotFoundError, TunerError
from tuner.figures.data import axis_of, label
from tuner.registry import Scalar
from tuner.report.calibration_figure import CAPTION, draw_reliability, panel_of
from tuner.storage.dashboard_queries import FigureQueries
from tuner.storage.records import StudyRecord

router = APIRouter()


@router.get("/studies/{name}/trials/{number}/pictures/{case}")
def show_picture(
    name: StudyName,
    number: TrialNumber,
    case: Annotated[str, Path(max_length=200)],
    request: Request,
    service: ServiceDep,
    view: Annotated[Literal["image", "truth", "prediction", "difference"], Query()] = "difference",
    slice: Annotated[int, Query(ge=0, le=MAX_NUMBER)] = 0,
) -> Response:
    """Return a PNG of one slice of one case."""
    tag = tag_of(service.store.queries.revision(name))
    unless_matches(request, tag)
    record = service.store.studies.get(name)

    def make() -> bytes:
        return PredictionService(service, record, number).picture(case, slice, view)

    content = request.app.state.remembered.get((tag, name, str(number), case, view, str(slice)), make)
    return Response(content, media_type="image/png", headers={"ETag": tag, "Cache-Control": "no-cache"})


@router.get("/studies/{name}/trials/{number}/pictures/{case}/against/{first}")
def show_picture_against(
    name: StudyName,
    number: TrialNumber,
    case: Annotated[str, Path(max_length=200)],
    first: Annotated[int, Path(ge=0, le=MAX_NUMBER)],
    request: Request,
    service: ServiceDep,
    study: Annotated[str | None, Query(max_length=200, pattern=r"^[^\x00-\x1f\x7f/\\]+$")] = None,
    slice: Annotated[int, Query(ge=0, le=MAX_NUMBER)] = 0,
) -> Response:
    """Return a PNG of one slice: where a trial differs from another one (of `study`), and which of the two is right."""
    other = study or name
    tag = tag_of("-".join(service.store.queries.revision(own) for own in dict.fromkeys((name, other))))
    unless_matches(request, tag)

    def make() -> bytes:
        of_first = PredictionService(service, service.store.studies.get(other), first)
        return PredictionService(service, service.store.studies.get(name), number).picture_against(
            of_first, case, slice
        )

    key = (tag, name, str(number), case, other, str(first), str(slice))
    content = request.app.state.remembered.get(key, make)
    return Response(content, media_type="image/png", headers={"ETag": tag, "Cache-Control": "no-cache"})


@router.get("/studies/{name}/trials/{number}/thumbnail")
def show_thumbnail(name: StudyName, number: TrialNumber, request: Request, service: ServiceDep) -> Response:
    """Return a PNG of a trial's first case at the slice that shows most. Raises NotFoundError where there is none."""
    tag = tag_of(service.store.queries.revision(name))
    unless_matches(request, tag)
    record = service.store.studies.get(name)

    def make() -> bytes:
        predictions = PredictionService(service, record, number)
        cases, _ = predictions.cases()
        if not cases:
            raise NotFoundError(f"trial {number} of {name!r} has no predictions on this machine.")
        first = cases[0]
        return predictions.picture(first["case"], first["slice"], "difference" if predictions.truth else "prediction")

    content = request.app.state.remembered.get((tag, name, str(number), "thumbnail"), make)
    return Response(content, media_type="image/png", headers={"ETag": tag, "Cache-Control": "no-cache"})


@router.get("/studies/{name}/trials/{number}")
def show_trial(
    name: StudyName, number: TrialNumber, request: Request, service: ServiceDep, figures: FiguresDep
) -> Response:
    """Show a trial."""
    return page(
        request,
        "trial.html",
        lambda: service.store.queries.revision(name),
        lambda: trial_context(service, figures, name, number),
    )


@router.get("/studies/{name}/trials/{number}/curves.csv")
def download_curves(name: StudyName, number: TrialNumber, service: ServiceDep) -> Response:
    """Return every epoch of a trial as CSV: a column a metric, and `metric class` for each class."""
    rows = service.store.queries.epochs(name, number)
    metrics = list(dict.fromkeys(key for row in rows for key in row["metrics"]))
    pairs = list(dict.fromkeys((key, own) for row in rows for key, of in row["per_class"].items() for own in of or ()))
    plain = ("epoch", "value", "best", "train_loss", "lr", "seconds")
    lines = [
        [
            *(row[key] for key in plain),
            *(row["metrics"].get(key) for key in metrics),
            *((row["per_class"].get(key) or {}).get(own) for key, own in pairs),
        ]
        for row in rows
    ]
    columns = [*plain, *metrics, *(f"{key} {own}" for key, own in pairs)]
    return csv_answer(f"{name}-trial-{number}.csv", columns, lines)


def trial_context(service: Service, figures: FigureQueries, name: str, number: int) -> dict[str, Any]:
    """Return what the template needs."""
    record = service.store.studies.get(name)
    shown = column_context(service, record, number)
    trial, names = shown["trial"], {file["name"] for file in shown["files"]}
    config = full_configuration(record, trial["params"])
    table, damage = confusion(service, name, number) if "confusion.npy" in names else (None, None)
    calibration, unread = reliability(service, name, number) if CALIBRATION in names else (None, None)
    return shown | {
        "metric": record.objectives[0]["metric"],
        "parameters": parameter_rows(record, trial["params"]),
        "attempts": figures.attempts_at(record, trial["slot"]),
        "confusion": table,
        "calibration": calibration,
        "damages": [*shown["damages"], *(words for words in (damage, unread) if words)],
        "log": tail(service, name, number) if "log.txt" in names else None,
        "config": dump_yaml(config) if config else None,
    }


def reliability(service: Service, name: str, number: int) -> tuple[dict[str, Any] | None, str | None]:
    """Return the reliability diagram of a trial and its numbers, and why there is none to show."""
    try:
        found = read_calibration(service.artifacts, name, number)
    except TunerError as error:
        return None, str(error)
    panel = panel_of(f"Epoch {found.epoch}", found)
    rows = [("all", found.total), *found.per_class.items()]
    return (
        {
            "svg": Markup(draw_reliability([panel]).to_svg().decode()),  # noqa: S704 - our drawing, its texts escaped
            "caption": CAPTION,
            "of_regions": found.of_regions,
            "rows": [
                {
                    "name": title,
                    "ece": of.ece,
                    "count": sum(of.count),
                    "confidence": of.mean_confidence,
                    "accuracy": of.mean_accuracy,
                }
                for title, of in rows
            ],
            "bins": [
                {"low": low, "high": high, "count": count, "confidence": confidence, "accuracy": accuracy}
                for low, high, count, confidence, accuracy in zip(
                    found.total.edges,
                    found.total.edges[1:],
                    found.total.count,
                    found.total.confidence,
                    found.total.accuracy,
                    strict=False,
                )
            ],
        },
        None,
    )


def column_context(service: Service, record: StudyRecord, number: int) -> dict[str, Any]:
    """Return what a trial shows wherever it is shown: its row, epochs, files, cases and pictures."""
    name = record.name
    trial = service.store.queries.trial(name, number)
    history = service.store.queries.epochs(name, number)
    best_epoch = trial["best_epoch"] or _best_epoch(history, record.directions[0])
    files = service.artifacts.listing(name, number)
    names = {file.name for file in files}
    predictions = PredictionService(service, record, number)
    pictures, damages = predictions.cases() if "predictions.npz" in names else ([], [])
    cases, damage = (
        worst_cases(service, name, number, best_epoch, record.objectives[0]) if "cases.jsonl" in names else ([], None)
    )
    return {
        "study": name,
        "record": record,
        "trial": trial,
        "history": history,
        "best_epoch": best_epoch,
        "at_best": next((row for row in history if row["epoch"] == best_epoch), None),
        "files": [{"name": f.name, "size": f.size, "url": artifact_url(name, number, f.name)} for f in files],
        "cases": cases,
        "pictures": pictures,
        "damages": [*damages, *([damage] if damage else [])],
        "has_truth": predictions.truth is not None,
    }


def parameter_rows(record: StudyRecord, params: Mapping[str, Scalar]) -> list[dict[str, Any]]:
    """Return each parameter beside its published default, with both as shares of the searched range."""
    published: dict[str, Scalar] = {}
    for candidate in stored_spec(record).candidates:
        if candidate.name == params.get("loss"):
            published |= candidate.defaults
    rows = []
    for name, value in params.items():
        dimension = record.space.find(name)
        axis = axis_of(dimension) if dimension else None
        numeric = axis is not None and not axis.choices
        default = published.get(name)
        rows.append(
            {
                "name": name,
                "value": label(value),
                "default": label(default) if name in published else None,
                "differs": name in published and default != value,
                "range": f"{label(axis.low)} – {label(axis.high)}{' log' if axis.log else ''}"
                if axis and numeric
                else ", ".join(axis.choices)
                if axis and len(axis.choices) <= 6
                else "",
                "place": axis.share(float(value))  # type: ignore[arg-type]
                if axis and numeric and axis.place(value) is not None
                else None,
                "default_place": min(1.0, max(0.0, axis.share(float(default))))  # type: ignore[arg-type]
                if axis and numeric and axis.place(default) is not None
                else None,
            }
        )
    return rows


def _best_epoch(history: list[dict[str, Any]], direction: str) -> int | None:
    found = [(row["value"], -row["epoch"]) for row in history if row["value"] is not None]
    if not found:
        return None
    chosen = max(found) if direction == "maximize" else min(found, key=lambda pair: (pair[0], -pair[1]))
    return -int(chosen[1])

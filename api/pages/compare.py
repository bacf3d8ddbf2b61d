"""Page that compares trials: parameters, curves, classes, predictions."""

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from api.config import Service
from api.dependencies import FiguresDep, Offset, ServiceDep, StudyName
from api.pages.prediction_wall import (
    MAX_TRIALS,
    ByQuery,
    ComparedQuery,
    WallView,
    best_of_each,
    ordered_cases,
    trials_in,
)
from api.pages.trial import column_context
from api.routes.figures import csv_answer
from api.templating import page
from tuner.figures.data import label
from tuner.storage.base import AnyRow
from tuner.storage.dashboard_queries import FigureQueries

router = APIRouter()

MAX_EPOCHS = 200
WALL_CASES = 6


@router.get("/studies/{name}/compare")
def show_comparison(
    name: StudyName,
    request: Request,
    service: ServiceDep,
    figures: FiguresDep,
    trials: ComparedQuery = "",
    by: ByQuery = None,
    offset: Offset = 0,
    view: Annotated[WallView, Query()] = "difference",
) -> Response:
    """Compare the named trials, of other studies too; none named: the best of a few losses, of every loss or family.

    As many as fit beside each other are on a page; the others are on the pages after it. `view`: pictures against the
    truth, or against the first trial.
    """
    chosen = trials_in(trials, name)

    def context() -> dict[str, Any]:
        wanted = chosen or [(name, number) for number in best_of_each(service, figures, name, by)]
        words = {
            "by": None if chosen else by or "leaders",
            "asked": trials if chosen else "",
            "total": len(wanted),
            "offset": offset,
            "step": MAX_TRIALS,
            "view": view,
        }
        return comparison(service, figures, name, wanted[offset : offset + MAX_TRIALS]) | words

    def revision() -> str:
        return "-".join(
            service.store.queries.revision(study) for study in dict.fromkeys([name, *(s for s, _ in chosen)])
        )

    return page(request, "compare.html", revision, context)


@router.get("/studies/{name}/compare.csv")
def download_comparison(
    name: StudyName, service: ServiceDep, figures: FiguresDep, trials: ComparedQuery = ""
) -> Response:
    """Return the curves of a comparison as CSV, a row an epoch of a trial."""
    wanted = trials_in(trials, name) or [(name, number) for number in best_of_each(service, figures, name, None)]
    losses = {(study, number): service.store.queries.trial(study, number)["loss"] for study, number in wanted}
    curves = curves_of(service, figures, wanted)
    rows = [
        [number, losses[study, number], row.epoch, row.value, study]
        for study, number in wanted
        for row in curves[study, number]
    ]
    metric = service.store.studies.get(name).objectives[0]["metric"]
    return csv_answer(f"{name}-curves.csv", ["trial", "loss", "epoch", metric, "study"], rows)


def curves_of(
    service: Service, figures: FigureQueries, wanted: Sequence[tuple[str, int]]
) -> dict[tuple[str, int], list[AnyRow]]:
    """Return the curves of trials of several studies."""
    found: dict[tuple[str, int], list[AnyRow]] = {key: [] for key in wanted}
    for study in dict.fromkeys(study for study, _ in wanted):
        record = service.store.studies.get(study)
        numbers = [number for own, number in wanted if own == study]
        for number, rows in figures.curves_of(record, numbers, most=MAX_EPOCHS).items():
            found[study, number] = rows
    return found


def comparison(
    service: Service, figures: FigureQueries, name: str, wanted: Sequence[tuple[str, int]]
) -> dict[str, Any]:
    """Return what the template needs."""
    record = service.store.studies.get(name)
    records = {study: service.store.studies.get(study) for study in dict.fromkeys(study for study, _ in wanted)}
    columns = [column_context(service, records[study], number) for study, number in wanted]
    names = dict.fromkeys(key for column in columns for key in column["trial"]["params"])
    parameters = []
    for key in names:
        values = [label(p[key]) if key in (p := c["trial"]["params"]) else "" for c in columns]
        parameters.append({"name": key, "values": values, "differs": len(set(values)) > 1})
    metric = record.objectives[0]["metric"]
    classes = dict.fromkeys(
        key for c in columns if c["at_best"] for key in (c["at_best"]["per_class"].get(metric) or {})
    )
    curves = curves_of(service, figures, wanted)
    others = [r.name for r in records.values() if r.spec.get("dataset") != record.spec.get("dataset")]
    return {
        "study": name,
        "other_data": others,
        "several": len(records) > 1,
        "record": record,
        "metric": metric,
        "maximizes": record.directions[0] == "maximize",
        "columns": columns,
        "parameters": sorted(parameters, key=lambda row: not row["differs"]),
        "classes": [
            {
                "name": key,
                "values": [
                    (c["at_best"]["per_class"].get(metric) or {}).get(key) if c["at_best"] else None for c in columns
                ],
            }
            for key in classes
        ],
        "curves": [
            {
                "number": number,
                "name": f"trial {number}" if len(records) < 2 else f"{study} {number}",
                "epochs": [r.epoch for r in curves[study, number]],
                "values": [r.value for r in curves[study, number]],
            }
            for study, number in wanted
        ],
        "thinned": max((c["history"][-1]["epoch"] for c in columns if c["history"]), default=0) > MAX_EPOCHS,
        "wall": ordered_cases(columns, "hardest", maximizes=record.directions[0] == "maximize")[:WALL_CASES],
    }

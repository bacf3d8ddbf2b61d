"""Page that compares trials: parameters, curves, classes, predictions."""

from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter, Request, Response

from api.config import Service
from api.dependencies import FiguresDep, Offset, ServiceDep, StudyName
from api.pages.prediction_wall import (
    MAX_TRIALS,
    ByQuery,
    TrialsQuery,
    best_of_each,
    numbers_in,
    ordered_cases,
)
from api.pages.trial import column_context
from api.routes.figures import csv_answer
from api.templating import page
from tuner.figures.data import label
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
    trials: TrialsQuery = "",
    by: ByQuery = None,
    offset: Offset = 0,
) -> Response:
    """Compare the named trials; none named: the best of a few losses, of every loss, or of each family.

    As many as fit beside each other are on a page; the others are on the pages after it.
    """

    def context() -> dict[str, Any]:
        chosen = numbers_in(trials)
        numbers = chosen or best_of_each(service, figures, name, by)
        words = {
            "by": None if chosen else by or "leaders",
            "asked": trials if chosen else "",
            "total": len(numbers),
            "offset": offset,
            "step": MAX_TRIALS,
        }
        return comparison(service, figures, name, numbers[offset : offset + MAX_TRIALS]) | words

    return page(request, "compare.html", lambda: service.store.queries.revision(name), context)


@router.get("/studies/{name}/compare.csv")
def download_comparison(
    name: StudyName, service: ServiceDep, figures: FiguresDep, trials: TrialsQuery = ""
) -> Response:
    """Return the curves of a comparison as CSV, a row an epoch of a trial."""
    numbers = numbers_in(trials) or best_of_each(service, figures, name, None)
    record = service.store.studies.get(name)
    losses = {number: service.store.queries.trial(name, number)["loss"] for number in numbers}
    curves = figures.curves_of(record, numbers, most=MAX_EPOCHS)
    rows = [[number, losses[number], row.epoch, row.value] for number in numbers for row in curves.get(number, [])]
    return csv_answer(f"{name}-curves.csv", ["trial", "loss", "epoch", record.objectives[0]["metric"]], rows)


def comparison(service: Service, figures: FigureQueries, name: str, numbers: Sequence[int]) -> dict[str, Any]:
    """Return what the template needs."""
    record = service.store.studies.get(name)
    columns = [column_context(service, record, number) for number in numbers]
    names = dict.fromkeys(key for column in columns for key in column["trial"]["params"])
    parameters = []
    for key in names:
        values = [label(p[key]) if key in (p := c["trial"]["params"]) else "" for c in columns]
        parameters.append({"name": key, "values": values, "differs": len(set(values)) > 1})
    metric = record.objectives[0]["metric"]
    classes = dict.fromkeys(
        key for c in columns if c["at_best"] for key in (c["at_best"]["per_class"].get(metric) or {})
    )
    curves = figures.curves_of(record, numbers, most=MAX_EPOCHS)
    return {
        "study": name,
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
            {"number": number, "epochs": [r.epoch for r in rows], "values": [r.value for r in rows]}
            for number in numbers
            for rows in (curves.get(number, []),)
        ],
        "thinned": max((c["history"][-1]["epoch"] for c in columns if c["history"]), default=0) > MAX_EPOCHS,
        "wall": ordered_cases(columns, "hardest", maximizes=record.directions[0] == "maximize")[:WALL_CASES],
    }

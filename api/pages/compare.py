"""Page that compares trials: parameters, curves, classes, predictions."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response

from api.config import Service
from api.dependencies import FiguresDep, Offset, ServiceDep, StudyName
from api.figure_service import FigureService
from api.pages.trial import column_context
from api.routes.figures import csv_answer
from api.templating import page
from tuner.errors import Problem, SpecError
from tuner.figures.data import label
from tuner.storage.dashboard_queries import FigureQueries

router = APIRouter()

TrialsQuery = Annotated[str, Query(max_length=2000, pattern=r"^[0-9, ]*$")]
ByQuery = Annotated[Literal["loss", "family"] | None, Query()]

MAX_TRIALS = 8
MAX_EPOCHS = 200
WALL_CASES = 6
LEADERS = 4


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
        chosen = _numbers(trials)
        numbers = chosen or _best_of_each(service, figures, name, by)
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
    numbers = _numbers(trials) or _best_of_each(service, figures, name, None)
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
        "wall": _wall(columns),
    }


def _wall(columns: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the cases that the trials share, worst first by their mean over the trials."""
    pictured = [c for c in columns if c["pictures"]]
    if not pictured:
        return []
    cases = {p["case"]: p for p in pictured[0]["pictures"]}
    scores: dict[str, list[float]] = {}
    for column in columns:
        for row in column["cases"]:
            if row["value"] is not None:
                scores.setdefault(row["case"], []).append(row["value"])
    flipped = -1 if columns[0]["record"].directions[0] == "minimize" else 1
    means = {case: sum(values) / len(values) for case, values in scores.items()}
    ordered = sorted(cases.values(), key=lambda p: flipped * means.get(p["case"], 0.0))
    return [picture | {"mean": means.get(picture["case"])} for picture in ordered[:WALL_CASES]]


def _numbers(text: str) -> list[int]:
    found = list(dict.fromkeys(int(part) for part in text.replace(",", " ").split()))
    if any(number > 2**31 - 1 for number in found):
        raise SpecError([Problem("trials", "there is no trial with such a number", text)])
    return found


def _best_of_each(service: Service, figures: FigureQueries, name: str, by: str | None) -> list[int]:
    ranked = [n for n in FigureService(service, figures, name).losses() if n.best_trial is not None]
    if by == "family":
        ranked = list({n.family: n for n in reversed(ranked)}.values())[::-1]
    return [n.best_trial for n in ranked if n.best_trial is not None][: None if by else LEADERS]

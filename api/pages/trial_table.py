"""Page with the table of a study's trials, and the same as a file."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response

from api.dependencies import FiguresDep, Offset, ServiceDep, StudyName
from api.pages.study_frame import StudyView, figure_controls, study_page
from api.routes.figures import csv_answer
from api.schemas import Order, Sort, State
from api.trial_filters import ClassQuery, MetricQuery, WhereQuery, read_filters

router = APIRouter()

ON_A_PAGE = 50
MAX_CSV_ROWS = 100_000

StateQuery = Annotated[State | Literal[""] | None, Query()]
"""A form without a choice sends an empty one."""
LossQuery = Annotated[str | None, Query(max_length=200, pattern=r"^[^\x00]*$")]


@router.get("/studies/{name}/trials")
def show_trials(
    name: StudyName,
    request: Request,
    service: ServiceDep,
    figures: FiguresDep,
    state: StateQuery = None,
    loss: LossQuery = None,
    sort: Annotated[Sort, Query()] = "value",
    order: Annotated[Order | None, Query()] = None,
    offset: Offset = 0,
    where: WhereQuery = None,
    metric: MetricQuery = None,
    label: ClassQuery = None,
) -> Response:
    """Show the trials of a study: filtered, sorted, paged by the address."""

    def parts(view: StudyView) -> dict[str, Any]:
        chosen = order or ("desc" if sort == "value" and view.maximizes else "asc")
        filters = read_filters(view.study, where or ())
        found = service.store.queries.page(
            name,
            state=state or None,
            loss=loss or None,
            sort=sort,
            order=chosen,
            limit=ON_A_PAGE,
            offset=offset,
            filters=filters,
        )
        return figure_controls(view) | {
            "page": found,
            "table": {"state": state, "loss": loss, "sort": sort, "order": chosen, "offset": offset, "step": ON_A_PAGE},
        }

    return study_page(request, service, figures, name, "trials", parts)


@router.get("/studies/{name}/trials.csv")
def download_trials(name: StudyName, service: ServiceDep, state: StateQuery = None, loss: LossQuery = None) -> Response:
    """Return the trials as CSV, one column a parameter."""
    space = service.store.studies.get(name).space
    rows = service.store.queries.trials(name, state=state or None, loss=loss or None, limit=MAX_CSV_ROWS)
    plain = ("number", "state", "value", "loss", "reason", "epochs", "duration_s", "worker", "started", "finished")
    names = [d.name for d in space if d.name != "loss"]
    lines = ([*(row[key] for key in plain), *(row["params"].get(key) for key in names)] for row in rows)
    return csv_answer(f"{name}.csv", [*plain, *names], lines)

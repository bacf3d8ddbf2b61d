"""Page with the table of a study's trials: columns, filters and order in its address; its rows alone, and as files."""

from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request, Response

from api.config import Service
from api.dependencies import FiguresDep, Offset, ServiceDep, StudyName
from api.pages.prediction_wall import TrialsQuery, numbers_in
from api.pages.study_frame import StudyView, figure_controls, study_page
from api.routes.figures import csv_answer
from api.schemas import Order, Sort, State
from api.templating import page
from api.trial_filters import ClassQuery, MetricQuery, WhereQuery, read_filters
from tuner.errors import RequestError
from tuner.storage.dashboard_queries import FigureQueries
from tuner.storage.records import StudyRecord

router = APIRouter()

ON_A_PAGE = 100
MAX_FILE_ROWS = 100_000
MAX_COLUMNS = 40
PLAIN = ("number", "state", "value", "loss", "reason", "epochs", "duration_s", "worker", "started", "finished")
"""Columns of a file before those of metrics and parameters."""
TAGS, NOTES = "tags", "notes"
"""Columns with what people have written beside trials."""
OPTIONS = "options"
"""Column with the parameters that only some trials have."""

StateQuery = Annotated[State | Literal[""] | None, Query()]
"""A form without a choice sends an empty one."""
LossQuery = Annotated[str | None, Query(max_length=200, pattern=r"^[^\x00]*$")]
ColumnsQuery = Annotated[str, Query(max_length=4000, pattern=r"^[^\x00]*$")]


class TableWords:
    """What a table of trials shows, as its address says it."""

    def __init__(
        self,
        state: StateQuery = None,
        loss: LossQuery = None,
        sort: Annotated[Sort, Query()] = "value",
        order: Annotated[Order | None, Query()] = None,
        offset: Offset = 0,
        where: WhereQuery = None,
        columns: ColumnsQuery = "",
        metric: MetricQuery = None,
        label: ClassQuery = None,
    ) -> None:
        self.state, self.loss, self.sort, self.order = state or None, loss or None, sort, order
        self.offset, self.where, self.columns = offset, where or [], columns
        self.metric, self.label = metric, label  # of the pages beside it: they go along

    def chosen_order(self, *, maximizes: bool) -> Order:
        """Return the order: the best value first unless another one is asked for."""
        return self.order or ("desc" if self.sort == "value" and maximizes else "asc")


TableWordsDep = Annotated[TableWords, Depends()]


@router.get("/studies/{name}/trials")
def show_trials(
    name: StudyName, request: Request, service: ServiceDep, figures: FiguresDep, words: TableWordsDep
) -> Response:
    """Show the trials of a study."""
    return study_page(
        request, service, figures, name, "trials", lambda view: figure_controls(view) | table_context(view, words)
    )


@router.get("/studies/{name}/trials/rows")
def show_rows(
    name: StudyName, request: Request, service: ServiceDep, figures: FiguresDep, words: TableWordsDep
) -> Response:
    """Return some rows of the table; pages ask for those that come into sight."""
    return page(
        request,
        "trial_rows.html",
        lambda: figures.pulse(name),
        lambda: table_context(StudyView(service, figures, name), words),
    )


def table_context(view: StudyView, words: TableWords) -> dict[str, Any]:
    """Return rows and columns of a page of the table."""
    order = words.chosen_order(maximizes=view.maximizes)
    found = view.service.store.queries.page(
        view.study.name,
        state=words.state,
        loss=words.loss,
        sort=words.sort,
        order=order,
        limit=ON_A_PAGE,
        offset=words.offset,
        filters=read_filters(view.study, words.where),
    )
    metrics, _ = view.figures.measures(view.study)
    known = columns_of(view.study, metrics)
    default = [
        *([TAGS] if view.trial_tags else []),
        *(d.name for d in view.study.space.shared if d.name != "loss"),
        OPTIONS,
    ]
    shown = [name for name in words.columns.split(",") if name in known] if words.columns else default
    measured = [name for name in shown if name in metrics]
    numbers = [row["number"] for row in found["items"]] if measured else []
    return {
        "study_name": view.study.name,
        "page": found,
        "columns": {"known": known, "shown": shown, "metrics": metrics},
        "measured": view.figures.metrics_of(view.study, numbers),
        "shared": [d.name for d in view.study.space.shared],
        "table": {
            "state": words.state,
            "loss": words.loss,
            "sort": words.sort,
            "order": order,
            "offset": words.offset,
            "step": ON_A_PAGE,
            "where": words.where,
            "columns": words.columns,
        },
    }


def columns_of(study: StudyRecord, metrics: Sequence[str]) -> list[str]:
    """Return what can be a column: stored metrics, shared parameters, options of all losses, and all of them as one."""
    objective = study.objectives[0]["metric"]
    names = [d.name for d in study.space.shared if d.name != "loss"]
    own = [d.name for d in study.space if d.name not in names and d.name != "loss"]
    measured = [name for name in metrics if name != objective]
    return [TAGS, NOTES, *measured, *names, OPTIONS, *own][: MAX_COLUMNS + len(own)]


@router.get("/studies/{name}/trials.csv")
def download_trials(
    name: StudyName, service: ServiceDep, figures: FiguresDep, words: TableWordsDep, trials: TrialsQuery = ""
) -> Response:
    """Return the trials as CSV, a column for each metric at the best epoch and for each parameter."""
    columns, rows = trial_file(service, figures, name, words, numbers_in(trials))
    return csv_answer(f"{name}.csv", columns, rows)


@router.get("/studies/{name}/trials.parquet")
def download_parquet(
    name: StudyName, service: ServiceDep, figures: FiguresDep, words: TableWordsDep, trials: TrialsQuery = ""
) -> Response:
    """Return the same as Parquet, where the extra is installed. Raises RequestError where it is not."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise RequestError(
            "Parquet needs the package pyarrow, which this service does not have.",
            hint="pip install 'tuner[parquet]' there, or take the CSV.",
        ) from None
    columns, rows = trial_file(service, figures, name, words, numbers_in(trials))
    lines = [list(row) for row in rows]
    table = {column: _one_type([line[index] for line in lines]) for index, column in enumerate(columns)}
    sink = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(pyarrow.table(table), sink)
    headers = {"Content-Disposition": f'attachment; filename="{name}.parquet"'}
    return Response(sink.getvalue().to_pybytes(), headers=headers, media_type="application/vnd.apache.parquet")


def trial_file(
    service: Service, figures: FigureQueries, name: str, words: TableWords, numbers: Sequence[int]
) -> tuple[list[str], Iterable[list[Any]]]:
    """Return columns and rows of the trials that are filtered or named; all of them, not those that are on a page."""
    record = service.store.studies.get(name)
    rows = service.store.queries.trials(
        name,
        state=words.state,
        loss=words.loss,
        limit=MAX_FILE_ROWS,
        filters=read_filters(record, words.where),
        numbers=numbers or None,
    )
    metrics, _ = figures.measures(record)
    measured = figures.metrics_of(record, numbers or None) if metrics else {}
    names = [d.name for d in record.space if d.name != "loss"]
    lines = (
        [
            *(row[key] for key in PLAIN),
            *((measured.get(row["number"]) or {}).get(metric) for metric in metrics),
            *(row["params"].get(key) for key in names),
            *_written(row),
        ]
        for row in rows
    )
    return [*PLAIN, *metrics, *names, "tags", "starred", "notes"], lines


def _written(row: dict[str, Any]) -> list[Any]:
    return [", ".join(row["tags"]), row["starred"], row["notes"]]


def _one_type(values: list[Any]) -> list[Any]:
    """Return a column whose values have one type: text where choices have several."""
    kinds = {type(value) for value in values if value is not None}
    if kinds <= {int, float} or len(kinds) <= 1:
        return [float(value) if float in kinds and isinstance(value, int) else value for value in values]
    return [None if value is None else str(value) for value in values]

"""Figures as Plotly JSON, as a table, as CSV."""

import csv
import io
import json
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Path, Query, Request, Response

from api.dependencies import FiguresDep, ServiceDep, StudyName, StudyTag
from api.errors import READ, content
from api.figure_service import FigureRequest, FigureService
from api.http_cache import ResponseCache, tagged
from api.schemas import Figure, FigureAxis, FigureFormat, FigureName, Table
from api.trial_filters import ClassQuery, MetricQuery, WhereQuery, read_selection
from tuner import figures as drawings

router = APIRouter(tags=["figures"])

Parameter = Annotated[str | None, Query(description="A searched parameter.", max_length=200)]


@router.get(
    "/studies/{name}/figures/{figure}",
    summary="Draw a figure",
    response_model=Figure | Table,
    responses=READ | content("text/csv"),
)
def read_figure(
    name: StudyName,
    figure: Annotated[FigureName, Path(description="Which figure.")],
    request: Request,
    service: ServiceDep,
    figures: FiguresDep,
    tag: StudyTag,
    loss: Annotated[str | None, Query(description="Only trials of this loss.", max_length=200)] = None,
    param: Annotated[list[str] | None, Query(description="Parameters that are shown.", max_length=12)] = None,
    x: Parameter = None,
    y: Parameter = None,
    axis: Annotated[FigureAxis | None, Query(description="Along x of `history` and `curves`.")] = None,
    where: WhereQuery = None,
    metric: MetricQuery = None,
    label: ClassQuery = None,
    format: Annotated[FigureFormat, Query(description="Plotly JSON, a table as JSON, or CSV.")] = "plotly",
) -> Response:
    """Return a figure as Plotly JSON, thinned to what a screen can show; `reason` says why there is nothing to draw."""
    remembered: ResponseCache = request.app.state.remembered
    words = (loss, param, x, y, axis, where, metric, label)

    def make() -> bytes:
        drawing = FigureService(service, figures, name)
        selection = read_selection(drawing.study, figures, where, metric, label)
        wish = FigureRequest(loss, tuple(param or ()), x, y, axis or "", selection)
        return _write(drawing.draw(figure, wish), format)

    content = remembered.get((tag, name, figure, repr(words), format), make)
    answer = tagged(content, tag, "text/csv" if format == "csv" else "application/json")
    if format == "csv":
        answer.headers["Content-Disposition"] = f'attachment; filename="{figure}.csv"'
    return answer


def _write(drawn: drawings.Figure, format: str) -> bytes:
    if format == "plotly":
        return json.dumps(drawn.as_dict(), separators=(",", ":")).encode()
    if format == "table":
        table: dict[str, Any] = {"columns": drawn.columns, "rows": drawn.rows, "reason": drawn.reason}
        return json.dumps(table | {"note": drawn.note}, separators=(",", ":")).encode()
    return written_csv(drawn.columns, drawn.rows)


def written_csv(columns: tuple[str, ...] | list[str], rows: Any) -> bytes:
    """Write rows as CSV; a text that a spreadsheet would run as a formula gets an apostrophe."""
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    writer.writerow(columns)
    writer.writerows([_cell(value) for value in row] for row in rows)
    return buffer.getvalue().encode("utf-8", "replace")


def csv_answer(filename: str, columns: list[str], rows: Any) -> Response:
    """Answer with rows as a file to save."""
    headers = {"Content-Disposition": f"attachment; filename*=UTF-8''{quote(filename, safe='')}"}
    return Response(written_csv(columns, rows), headers=headers, media_type="text/csv; charset=utf-8")


def _cell(value: Any) -> Any:
    if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r"):
        return f"'{value}"
    return value

"""Page with the predictions of a study: the same cases by several trials, ordered by how hard they are."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from api.dependencies import FiguresDep, Offset, ServiceDep, StudyName
from api.pages.prediction_wall import (
    MAX_TRIALS,
    ByQuery,
    CaseOrder,
    TrialsQuery,
    WallView,
    best_of_each,
    numbers_in,
    ordered_cases,
)
from api.pages.study_frame import StudyView, study_page
from api.pages.trial import column_context

router = APIRouter()

MAX_CASES = 4
"""Cases on a page: with their pictures they fill two screens."""


@router.get("/studies/{name}/predictions")
def show_predictions(
    name: StudyName,
    request: Request,
    service: ServiceDep,
    figures: FiguresDep,
    trials: TrialsQuery = "",
    by: ByQuery = None,
    offset: Offset = 0,
    order: Annotated[CaseOrder, Query()] = "hardest",
    view: Annotated[WallView, Query()] = "difference",
    case: Offset = 0,
) -> Response:
    """Show what the named trials predict; none named: the best of a few losses, of every loss, or of each family.

    `offset` is the first trial that is shown, `case` the first case.
    """

    def parts(study: StudyView) -> dict[str, Any]:
        chosen = numbers_in(trials)
        numbers = chosen or best_of_each(service, figures, name, by)
        columns = [column_context(service, study.study, n) for n in numbers[offset : offset + MAX_TRIALS]]
        cases = ordered_cases(columns, order, maximizes=study.maximizes)
        return {
            "columns": columns,
            "wall": cases[case : case + MAX_CASES],
            "cases_total": len(cases),
            "total": len(numbers),
            "step": MAX_TRIALS,
            "case_step": MAX_CASES,
            "asked": {"trials": trials if chosen else "", "by": by or "", "order": order, "view": view},
            "offset": offset,
            "case": case,
            "by": None if chosen else by or "leaders",
        }

    return study_page(request, service, figures, name, "predictions", parts)

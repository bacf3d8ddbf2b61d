"""Page: the list of studies."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response

from api.dependencies import FiguresDep, Offset, ServiceDep
from api.pages.study import time_left
from api.schemas import Archived
from api.study_filter import StudyFilter
from api.templating import page

router = APIRouter()


SORTS = ("newest", "name", "progress", "best")
ON_A_PAGE = 50
ARCHIVED: dict[str, Archived] = {"archived": "only", "all": "include"}


@router.get("/")
def show_studies(
    request: Request,
    service: ServiceDep,
    figures: FiguresDep,
    search: Annotated[str, Query(max_length=200)] = "",
    sort: Annotated[Literal["newest", "name", "progress", "best"], Query()] = "newest",
    show: Annotated[Literal["active", "starred", "archived", "all"], Query()] = "active",
    tag: Annotated[str, Query(max_length=200)] = "",
    offset: Offset = 0,
) -> Response:
    """List studies: newest first unless asked otherwise, those that are archived only when they are asked for."""
    archived = ARCHIVED.get(show, "exclude")
    chosen = StudyFilter(archived, tag or None, True if show == "starred" else None, search)

    def context() -> dict[str, Any]:
        everything = service.store.queries.studies()[::-1]
        found = [s for s in everything if chosen.holds(s)]
        by_name = {s["name"]: s for s in found}
        if sort == "name":
            found.sort(key=lambda s: s["name"].lower())
        elif sort == "progress":
            found.sort(key=lambda s: -_done(s) / max(1, s["trials"]["total"]))
        elif sort == "best":
            found.sort(key=lambda s: (s["best"] is None, -(s["best"] or {"value": 0})["value"]))
        shown = found[offset : offset + ON_A_PAGE]
        running = [s["name"] for s in shown if s["phase"] == "running" and not s["foreign"]]
        return {
            "studies": shown,
            "left": {s: time_left(figures, service.store.studies.get(s).study_id, by_name[s]) for s in running},
            "total": len(found),
            "any": bool(everything),
            "search": search,
            "sort": sort,
            "sorts": SORTS,
            "words": {"search": search, "sort": sort, "show": show if show != "active" else "", "tag": tag},
            "show": show,
            "tag": tag,
            "archived": sum(s["archived"] for s in everything),
            "offset": offset,
            "step": ON_A_PAGE,
            "live": figures.live_count(),
        }

    return page(request, "studies.html", lambda: f"{figures.overview_revision()}-{figures.live_count()}", context)


def _done(study: dict[str, Any]) -> int:
    trials = study["trials"]
    return int(trials["complete"] + trials["pruned"] + trials["failed"])

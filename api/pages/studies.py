"""Page: the list of studies."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response

from api.dependencies import FiguresDep, Offset, ServiceDep
from api.pages.study import time_left
from api.templating import page

router = APIRouter()


SORTS = ("newest", "name", "progress", "best")
ON_A_PAGE = 50


@router.get("/")
def show_studies(
    request: Request,
    service: ServiceDep,
    figures: FiguresDep,
    search: Annotated[str, Query(max_length=200)] = "",
    sort: Annotated[Literal["newest", "name", "progress", "best"], Query()] = "newest",
    offset: Offset = 0,
) -> Response:
    """List studies: newest first unless asked otherwise."""

    def context() -> dict[str, Any]:
        everything = service.store.queries.studies()[::-1]
        found = [s for s in everything if search.lower() in f"{s['name']} {s['dataset']} {s['phase']}".lower()]
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
            "offset": offset,
            "step": ON_A_PAGE,
            "live": figures.live_count(),
        }

    return page(request, "studies.html", lambda: f"{figures.overview_revision()}-{figures.live_count()}", context)


def _done(study: dict[str, Any]) -> int:
    trials = study["trials"]
    return int(trials["complete"] + trials["pruned"] + trials["failed"])

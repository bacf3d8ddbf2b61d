"""Pictures of predictions, one slice at a time."""

from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query, Request, Response

from api.dependencies import LARGEST, ServiceDep, StudyName, TrialNumber, tag_of, unless_matches
from api.prediction_service import Predictions

router = APIRouter()


@router.get("/studies/{name}/trials/{number}/pictures/{case}")
def show_picture(
    name: StudyName,
    number: TrialNumber,
    case: Annotated[str, Path(max_length=200)],
    request: Request,
    service: ServiceDep,
    view: Annotated[Literal["image", "truth", "prediction", "difference"], Query()] = "difference",
    slice: Annotated[int, Query(ge=0, le=LARGEST)] = 0,
) -> Response:
    """Return a PNG of one slice of one case."""
    tag = tag_of(service.store.revision(name))
    unless_matches(request, tag)
    record = service.store.study(name)

    def make() -> bytes:
        return Predictions(service, record, number).picture(case, slice, view)

    content = request.app.state.remembered.get((tag, name, str(number), case, view, str(slice)), make)
    return Response(content, media_type="image/png", headers={"ETag": tag, "Cache-Control": "no-cache"})

"""Pages of losses, data sets and workers."""

import json
from functools import cache
from importlib.resources import files
from typing import Any

from fastapi import APIRouter, Request, Response
from markupsafe import Markup

from api.dependencies import FiguresDep, ServiceDep
from api.prediction_service import CLASSES_BY_FILES, dataset_view, sample_picture
from api.templating import answer, page
from tuner.data.catalog import DATASETS
from tuner.losses.catalog.registry import FAMILIES, LOSSES
from tuner.models.catalog import MODELS

router = APIRouter()

_WORDS = {
    "pixel": "judge every pixel by itself",
    "region": "judge the overlap of whole objects",
    "boundary": "judge where objects end",
    "combination": "judge in several ways at once",
}


@router.get("/losses")
def show_losses(request: Request, figures: FiguresDep) -> Response:
    """Show the catalogue of losses by family."""

    def context() -> dict[str, Any]:
        return {
            "groups": [
                (family, _WORDS.get(family, ""), [entry for entry in LOSSES.values() if entry.family == family])
                for family in FAMILIES
            ],
            "tried": figures.studies_with_loss(),
            "behaviour": _behaviour(),
        }

    return page(request, "losses.html", figures.overview_revision, context)


@cache
def _behaviour() -> dict[str, Markup]:
    """Draw once how each loss answers to growing errors, as `tuner losses --probe` has computed it."""
    stored = json.loads((files("tuner.losses") / "behaviour.json").read_text(encoding="utf-8"))
    return {
        name: Markup("").join(
            answer(
                f"{drift['name']}: {drift['unit']}",
                drift["amounts"],
                curves[f"{drift['name']}.large"],
                curves[f"{drift['name']}.small"],
            )
            for drift in stored["drifts"]
        )
        for name, curves in stored["losses"].items()
    }


@router.get("/datasets")
def show_datasets(request: Request, service: ServiceDep, figures: FiguresDep) -> Response:
    """Show the data sets, and what is known of those that were prepared on this machine."""

    def context() -> dict[str, Any]:
        return {
            "datasets": [(entry, dataset_view(service, entry)) for entry in DATASETS.values()],
            "by_files": CLASSES_BY_FILES,
            "used": figures.studies_with_dataset(),
            "models": list(MODELS.values()),
            "data_root": service.config.settings.data_root,
        }

    return page(request, "datasets.html", figures.overview_revision, context)


@router.get("/datasets/{folder}/samples/{index}.png")
def show_sample(folder: str, index: int, service: ServiceDep) -> Response:
    """Return one prepared validation sample with its labels over it."""
    picture = sample_picture(service, folder, index)
    return Response(picture, media_type="image/png", headers={"Cache-Control": "private, max-age=3600"})


@router.get("/workers")
def show_workers(request: Request, service: ServiceDep, figures: FiguresDep) -> Response:
    """Show who works, where and on what."""
    workers, aside = service.store.workers.live(), service.store.workers.quarantined()

    def revision() -> str:
        return f"{figures.overview_revision()}-{'-'.join(str(worker['last_seen']) for worker in workers)}"

    return page(request, "workers.html", revision, lambda: {"workers": workers, "aside": aside})

"""What a study can name, and who works."""

import json
from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter, Request, Response

from api.config import Service
from api.dependencies import FiguresDep, ServiceDep
from api.errors import errors
from api.prediction_service import CLASSES_BY_FILES, dataset_view
from api.schemas import DatasetRow, LossRow, ModelRow, Worker
from tuner.data.catalog import DATASETS, DatasetSpec
from tuner.losses.catalog.registry import LOSSES
from tuner.losses.spec import LossSpec
from tuner.models.catalog import MODELS

router = APIRouter(tags=["catalogue"], responses=errors())


def loss_document(entry: LossSpec) -> dict[str, Any]:
    """Return the contract's form of a loss, with what its page says beside."""
    return {
        "name": entry.name,
        "family": entry.family,
        "survey": entry.survey,
        "options": [option.as_dict() for option in entry.options],
        "paper": entry.paper,
        "needs": list(entry.needs),
        "formula": entry.formula,
        "summary": entry.summary,
        "good_for": entry.good_for,
        "bad_for": entry.bad_for,
        "alone": entry.standalone,
    }


@router.get("/losses", summary="List losses", response_model=list[LossRow])
def list_losses() -> Response:
    """Return the document of `tuner losses --json`."""
    return _json([loss_document(entry) for entry in LOSSES.values()])


@router.get("/datasets", summary="List data sets", response_model=list[DatasetRow])
def list_datasets(service: ServiceDep, figures: FiguresDep) -> Response:
    """Return every data set that a study can name, with its options and what was prepared of it on this machine."""
    used = figures.studies_with_dataset()
    return _json([dataset_document(service, entry, used.get(entry.name, [])) for entry in DATASETS.values()])


def dataset_document(service: Service, entry: DatasetSpec, studies: Sequence[str]) -> dict[str, Any]:
    """Return a data set with what this machine knows of it."""
    prepared = dataset_view(service, entry)
    return {
        "name": entry.name,
        "summary": entry.summary,
        "classes": list(entry.class_names) or None,
        "classes_note": None if entry.class_names else CLASSES_BY_FILES,
        "options": [option.as_dict() for option in entry.options],
        "layout": entry.layout,
        "how_to_get": entry.how_to_get,
        "prepared": [
            {key: p[key] for key in ("fingerprint", "cases", "samples", "validation", "size")}
            | {"classes": [name for name, _ in p["frequencies"]], "frequencies": [s for _, s in p["frequencies"]]}
            for p in prepared
        ],
        "studies": list(studies),
    }


@router.get("/models", summary="List models", response_model=list[ModelRow])
def list_models() -> Response:
    """Return every network that a study can name, with its options."""
    return _json([entry.as_dict() for entry in MODELS.values()])


@router.get("/workers", summary="List live workers", response_model=list[Worker])
def list_workers(request: Request, service: ServiceDep) -> Response:
    """Return the workers of all studies that were heard of lately."""
    return _json([{k: v for k, v in w.items() if k != "study_id"} for w in service.store.workers.live()])


def _json(content: Any) -> Response:
    return Response(json.dumps(content), media_type="application/json", headers={"Cache-Control": "no-cache"})

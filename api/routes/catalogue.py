"""What a study can name, and who works."""

import json
from typing import Any

from fastapi import APIRouter, Request, Response

from api.deps import ServiceDep
from api.routes.errors import errors
from api.schemas import Document, Worker
from tuner.data.catalogue import DATASETS
from tuner.losses.catalogue import LOSSES
from tuner.losses.entry import LossEntry
from tuner.models.catalogue import MODELS

router = APIRouter(tags=["catalogue"], responses=errors())


def loss_document(entry: LossEntry) -> dict[str, Any]:
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
        "alone": entry.alone,
    }


@router.get("/losses", summary="List losses", response_model=list[Document])
def list_losses() -> Response:
    """Return the document of `tuner losses --json`."""
    return _json([loss_document(entry) for entry in LOSSES.values()])


@router.get("/datasets", summary="List data sets", response_model=list[Document])
def list_datasets() -> Response:
    """Return every data set that a study can name, with its options."""
    return _json(
        [
            {
                "name": entry.name,
                "summary": entry.summary,
                "classes": list(entry.class_names),
                "options": [option.as_dict() for option in entry.options],
                "layout": entry.layout,
                "how_to_get": entry.how_to_get,
            }
            for entry in DATASETS.values()
        ]
    )


@router.get("/models", summary="List models", response_model=list[Document])
def list_models() -> Response:
    """Return every network that a study can name, with its options."""
    return _json(
        [
            {
                "name": entry.name,
                "summary": entry.summary,
                "paper": entry.paper,
                "options": [option.as_dict() for option in entry.options],
            }
            for entry in MODELS.values()
        ]
    )


@router.get("/workers", summary="List live workers", response_model=list[Worker])
def list_workers(request: Request, service: ServiceDep) -> Response:
    """Return the workers of all studies that were heard of lately."""
    return _json([{k: v for k, v in w.items() if k != "study_id"} for w in service.store.workers()])


def _json(content: Any) -> Response:
    return Response(json.dumps(content), media_type="application/json", headers={"Cache-Control": "no-cache"})

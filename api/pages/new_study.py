"""Page that creates a study: a form made from the declarations, its YAML, and refusals while one types."""

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Body, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from api.dependencies import FiguresDep, ServiceDep
from api.study_files import check_size, read_posted_text, store_study
from api.templating import page
from tuner.config.study import StudySpec
from tuner.config.trial import TrainConfig
from tuner.config.yaml_reader import dump_yaml
from tuner.data.catalog import DATASETS
from tuner.errors import SpecError, TunerError
from tuner.losses.catalog.registry import FAMILIES, LOSSES, competing_name
from tuner.metrics.catalog import METRICS
from tuner.models.catalog import MODELS
from tuner.search.catalog import DEFAULT_PRUNER, DEFAULT_SAMPLER, PRUNERS, SAMPLERS

router = APIRouter()

SEARCHED = {"train.lr": (1e-4, 1e-2), "train.weight_decay": (1e-6, 1e-2)}
"""Shared parameters that the form offers to search, with the range that it proposes."""
DEFAULTS = {"epochs": 20, "batch_size": 8, "trials": 40}


class Form(BaseModel):
    """What the form holds."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field("", max_length=200)
    dataset: str = Field("phantom", max_length=100)
    dataset_options: dict[str, Any] = Field(default_factory=dict, max_length=50)
    model: str = Field("unet", max_length=100)
    model_options: dict[str, Any] = Field(default_factory=dict, max_length=50)
    losses: list[str] = Field(default_factory=list, max_length=200)
    loss_options: str = Field("search", max_length=20)
    train: dict[str, Any] = Field(default_factory=dict, max_length=50)
    ranges: dict[str, tuple[float, float]] = Field(default_factory=dict, max_length=50)
    objectives: list[str] = Field(default_factory=lambda: ["dice"], max_length=10)
    sampler: str = Field(DEFAULT_SAMPLER, max_length=50)
    pruner: str = Field(DEFAULT_PRUNER, max_length=50)
    trials: int = 40
    timeout: str = Field("", max_length=20)
    seed: int = 0


class Draft(BaseModel):
    """A study file as text."""

    model_config = ConfigDict(extra="forbid")

    yaml: str = Field(max_length=200_000)


@router.get("/new")
def show_form(request: Request, figures: FiguresDep) -> Response:
    """Show the form."""
    return page(request, "new.html", figures.overview_revision, declarations)


@router.post("/new/draft")
def write_draft(form: Annotated[Form, Body()], service: ServiceDep) -> dict[str, Any]:
    """Turn the form into the study file that it stands for, and say what is wrong with it."""
    content = content_of(form)
    check_size(content)
    text = dump_yaml(content)
    return {"yaml": text} | checked(text, service)


@router.post("/new/check")
def check_draft(draft: Annotated[Draft, Body()], service: ServiceDep) -> dict[str, Any]:
    """Say what is wrong with a study file."""
    return checked(draft.yaml, service)


@router.post("/new", status_code=201)
def submit_draft(draft: Annotated[Draft, Body()], service: ServiceDep) -> dict[str, str]:
    """Store the study. Raises as `POST /api/v1/studies`."""
    spec = read_posted_text(draft.yaml, service.config.settings.data_root)
    return {"name": store_study(service, spec).name}


def checked(text: str, service: ServiceDep) -> dict[str, Any]:
    """Return `{"problems", "says"}`: what is wrong, or what the study would be."""
    try:
        spec = read_posted_text(text, service.config.settings.data_root)
    except SpecError as error:
        return {"problems": list(map(str, error.problems)), "says": None}
    except TunerError as error:
        return {"problems": [str(error)], "says": None}
    return {"problems": [], "says": _says(spec)}


def content_of(form: Form) -> dict[str, Any]:
    """Return the study file that a form stands for, without what is the default anyway."""
    search: dict[str, Any] = {"loss": _short(form.losses)}
    if form.loss_options != "search":
        search["options"] = form.loss_options
    for name, (low, high) in form.ranges.items():
        search[name] = {"low": low, "high": high, "log": True}
    budget: dict[str, Any] = {"trials": form.trials}
    if form.timeout.strip():
        budget["timeout"] = form.timeout.strip()
    fixed = {key: value for key, value in form.train.items() if f"train.{key}" not in form.ranges}
    return {
        "name": form.name.strip() or form.dataset,
        "dataset": {"name": form.dataset, **form.dataset_options},
        "model": {"name": form.model, **form.model_options},
        "train": fixed,
        "search": search,
        "objectives": [{"metric": metric} for metric in form.objectives],
        "sampler": {"name": form.sampler},
        "pruner": {"name": form.pruner},
        "budget": budget,
        "seed": form.seed,
    }


def declarations() -> Mapping[str, Any]:
    """Return what the form is made of."""
    trained = ("epochs", "batch_size", "lr", "weight_decay", "optimizer", "schedule", "augment")
    fields = TrainConfig.model_fields
    return {
        "datasets": list(DATASETS.values()),
        "models": list(MODELS.values()),
        "groups": [(family, [e for e in LOSSES.values() if e.family == family]) for family in FAMILIES],
        "metrics": list(METRICS.values()),
        "samplers": list(SAMPLERS.values()),
        "pruners": list(PRUNERS.values()),
        "train": [
            {
                "name": name,
                "default": DEFAULTS.get(name, fields[name].default),
                "summary": fields[name].description or "",
                "choices": _choices(fields[name].annotation),
                "range": SEARCHED.get(f"train.{name}"),
            }
            for name in trained
        ],
        "trials": DEFAULTS["trials"],
    }


def _short(losses: list[str]) -> list[str]:
    """Name whole families where all their losses compete."""
    found: list[str] = []
    for family in FAMILIES:
        members = [name for name, entry in LOSSES.items() if entry.family == family]
        chosen = [name for name in members if name in losses]
        found += [family] if members and chosen == members else [competing_name(name) for name in chosen]
    return ["all"] if found == [f for f in FAMILIES if any(e.family == f for e in LOSSES.values())] else found


def _choices(annotation: Any) -> list[str]:
    return [str(choice) for choice in getattr(annotation, "__args__", ()) if isinstance(choice, str)]


def _says(spec: StudySpec) -> str:
    conditional = len(spec.space) - len(spec.space.shared)
    text = (
        f"{spec.total} trials, {len(spec.candidates)} losses, {len(spec.space)} parameters "
        f"({conditional} of them belong to one loss each)."
    )
    missing, needed = spec.left_out()
    if missing:
        text += f" Published defaults of {len(missing)} losses do not fit; {needed} trials would hold all."
    return text

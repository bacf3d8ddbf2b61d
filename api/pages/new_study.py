"""Page that creates a study: a form and its YAML, in step both ways; refusals at the field while one types."""

from typing import Annotated, Any

from fastapi import APIRouter, Body, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from api.activity_log import RecorderDep
from api.dependencies import FiguresDep, ServiceDep
from api.study_draft import MAX_CHANGES, changed, copied_draft, field_text, fields_of, new_draft, shipped_draft
from api.study_files import check_size, read_posted, read_posted_text, repeats_of, store_study
from api.templating import duration, page
from tuner.config.study import StudySpec, shipped_studies
from tuner.config.trial import TrainConfig
from tuner.config.yaml_reader import dump_yaml, parse_yaml
from tuner.data.catalog import DATASETS
from tuner.errors import SpecError, TunerError
from tuner.losses.catalog.registry import FAMILIES, LOSSES
from tuner.metrics.catalog import METRICS
from tuner.models.catalog import MODELS
from tuner.search.catalog import PRUNERS, SAMPLERS
from tuner.storage.base import CONFIRMATION
from tuner.storage.dashboard_queries import FigureQueries

router = APIRouter()

SEARCHED = {"lr": (1e-4, 1e-2), "weight_decay": (1e-6, 1e-2)}
"""Keys of `train` that the form offers to search in an interval, with the one that it proposes."""
TRAINED = ("epochs", "batch_size", "lr", "weight_decay", "optimizer", "schedule", "augment")
TEMPLATES = 100
"""Earlier studies that are offered as templates, the newest ones."""


class Draft(BaseModel):
    """A study file as text, and keys of it that fields of the form have changed."""

    model_config = ConfigDict(extra="forbid")

    yaml: str = Field(max_length=200_000)
    changes: dict[Annotated[str, Field(max_length=200)], Any] = Field(default_factory=dict, max_length=MAX_CHANGES)


TemplateQuery = Annotated[str | None, Query(max_length=200, pattern=r"^[^\x00-\x1f\x7f/\\]*$")]


@router.get("/new")
def show_form(
    request: Request,
    service: ServiceDep,
    figures: FiguresDep,
    template: TemplateQuery = None,
    study: TemplateQuery = None,
) -> Response:
    """Show the form: empty, filled in from a study file of the package, or from a study of the storage."""

    def context() -> dict[str, Any]:
        stored = [s["name"] for s in service.store.queries.studies()[::-1] if not s["foreign"]]
        if study:
            text = copied_draft(service.store.studies.get(study), free_name(f"{study}-copy", set(stored)))
        else:
            text = shipped_draft(template) if template else new_draft()
        fields = fields_of(parse_yaml(text, source="the study file").content)
        return declarations() | {
            "yaml": text,
            "fields": fields,
            "field_text": field_text,
            "confirmed": any(key.startswith("confirm.") for key in fields),
            "from_file": template or "",
            "from_study": study or "",
            "shipped": shipped_studies(),
            "stored": stored[:TEMPLATES],
        }

    return page(request, "new.html", figures.overview_revision, context)


@router.post("/new/draft")
def write_draft(draft: Annotated[Draft, Body()], service: ServiceDep, figures: FiguresDep) -> dict[str, Any]:
    """Change keys of a study file; return it, what its fields hold, and what is wrong with it.

    `{"yaml", "fields", "problems": [{"path", "text"}], "says", "note"}`. A text that is no YAML stays as it is;
    `yaml` is null where nothing was changed.
    """
    try:
        content = parse_yaml(draft.yaml, source="the study file").content
        if draft.changes:
            check_size(draft.changes)
            content = changed(content, draft.changes)
    except SpecError as error:
        kept = draft.yaml if draft.changes else None
        return {"yaml": kept, "fields": None, "says": None, "note": None} | refused(error)
    text = dump_yaml(content) if draft.changes else None
    return {"yaml": text, "fields": fields_of(content)} | checked(content, service, figures)


@router.post("/new", status_code=201)
def submit_draft(draft: Annotated[Draft, Body()], service: ServiceDep, record_activity: RecorderDep) -> dict[str, str]:
    """Store the study. Raises as `POST /api/v1/studies`."""
    spec = read_posted_text(draft.yaml, service.config.settings.data_root)
    record = store_study(service, spec)
    record_activity(record.name, "create", f"{record.total} trials")
    return {"name": record.name}


def checked(content: Any, service: ServiceDep, figures: FigureQueries) -> dict[str, Any]:
    """Return `{"problems", "says", "note"}`: what is wrong, or what the study would be and would take."""
    try:
        spec = read_posted(content, service.config.settings.data_root)
    except TunerError as error:
        return {"says": None, "note": None} | refused(error)
    problems = []
    if any(study["name"] == spec.name for study in service.store.queries.studies()):
        problems.append({"path": "name", "text": f"name: there is a study {spec.name!r} already; choose another name"})
    return {
        "problems": problems,
        "says": f"{_says(spec)} {cost(spec, figures)}".strip(),
        "note": " ".join(filter(None, (missing_data(spec, service), _sentence(repeats_of(spec))))) or None,
    }


def _sentence(text: str | None) -> str | None:
    return None if text is None else text[0].upper() + text[1:]


def refused(error: TunerError) -> dict[str, Any]:
    """Return the problems of a study file, each with the dotted key that it is about."""
    if isinstance(error, SpecError) and error.problems:
        return {"problems": [{"path": problem.path, "text": str(problem)} for problem in error.problems]}
    return {"problems": [{"path": "", "text": str(error)}]}


def missing_data(spec: StudySpec, service: ServiceDep) -> str | None:
    """Say that the machine of the service has no data for the study; workers of others may."""
    name = str(spec.base.dataset.get("name"))
    root = service.config.settings.data_root
    if name not in DATASETS or DATASETS[name].check is None:
        return None
    if root is None:
        return f"This service was started without --data-root. Workers look for {name} in theirs (TUNER_DATA_ROOT)."
    folder = root / str(spec.base.dataset.get("path") or name)
    return (
        None if folder.exists() else f"There is no {folder.name} in the data root of this service; workers may have it."
    )


def cost(spec: StudySpec, figures: FigureQueries) -> str:
    """Estimate what a study takes from earlier ones on the same data with the same model; empty without any."""
    names = [section.get("name") for section in (spec.base.dataset, spec.base.model)]
    found = figures.seconds_per_epoch(str(names[0]), str(names[1]))
    if found is None:
        return ""
    seconds, study = found
    total = seconds * spec.base.train.epochs * spec.total
    searched, confirmation, _ = study.partition(CONFIRMATION)
    source = f"the confirmation of {searched}" if confirmation else study
    live = figures.live_count()
    shared = f", {duration(total / live)} with the {live} that are active" if live > 1 else ""
    return f"At most {duration(total)} with one worker{shared}, at {seconds:.1f} s an epoch as in {source}."


def free_name(wanted: str, taken: set[str]) -> str:
    """Return a name that no study has, made of at most 80 characters."""
    base = wanted[:76]
    return next(name for name in (base, *(f"{base}-{i}" for i in range(2, len(taken) + 3))) if name not in taken)


def declarations() -> dict[str, Any]:
    """Return what the form is made of."""
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
                "default": fields[name].default,
                "summary": fields[name].description or "",
                "choices": _choices(fields[name].annotation),
                "range": SEARCHED.get(name),
            }
            for name in TRAINED
        ],
    }


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

"""Studies: listed, created, steered, deleted."""

import hashlib
import json
from typing import Annotated, Any

from fastapi import APIRouter, Body, Query, Request, Response

from api.activity_log import RecorderDep
from api.annotation_change import annotation_change
from api.config import Service
from api.dependencies import MAX_NUMBER, FiguresDep, Limit, Offset, ServiceDep, StudyName, StudyTag
from api.errors import READ, WRITE, content, errors
from api.http_cache import ResponseCache, tag_of, tagged, unless_matches
from api.schemas import (
    Archived,
    BestDetail,
    Confirm,
    ExportFormat,
    NewBudget,
    Rename,
    Resume,
    Study,
    StudyChange,
    StudyFile,
    VerdictDetail,
)
from api.study_files import MAX_TRIALS, configuration, read_posted, repeats_of, store_study
from api.study_filter import StudyFilter
from tuner.analysis.confirmation import verdict_document
from tuner.analysis.export import export_trial, render
from tuner.config.confirm_section import confirm_section
from tuner.errors import ConflictError, NotFoundError, Problem, Problems, SpecError
from tuner.launch.confirmation import advance
from tuner.launch.rename import rename_study

router = APIRouter(tags=["studies"])

_FORMS = {
    "yaml": ("yaml", "text/plain"),
    "json": ("json", "application/json"),
    "python": ("py", "text/plain"),
    "command": ("sh", "text/plain"),
}


@router.get("/studies", summary="List studies", response_model=list[Study], responses=errors(304, 422))
def list_studies(
    request: Request,
    service: ServiceDep,
    figures: FiguresDep,
    limit: Limit = 100,
    offset: Offset = 0,
    archived: Annotated[Archived, Query(description="What of the studies that are archived.")] = "exclude",
    tag: Annotated[str | None, Query(description="Only studies with this tag.", max_length=200)] = None,
    starred: Annotated[bool | None, Query(description="Only studies with a star, or without one.")] = None,
    text: Annotated[
        str | None, Query(description="Only with this text in name, notes or tags.", max_length=200)
    ] = None,
) -> Response:
    """Return the studies of the storage, newest first; `X-Total-Count` says how many there are."""
    etag = tag_of(f"{figures.overview_revision()}-{figures.live_count()}")
    unless_matches(request, etag)
    chosen = StudyFilter(archived, tag, starred, text or "")
    found = [study for study in service.store.queries.studies()[::-1] if chosen.holds(study)]
    answer = tagged(json.dumps(found[offset : offset + limit]), etag)
    answer.headers["X-Total-Count"] = str(len(found))
    return answer


@router.post("/studies", summary="Create a study", status_code=201, response_model=Study, responses=WRITE)
def create_study(
    body: Annotated[StudyFile, Body()], service: ServiceDep, response: Response, record_activity: RecorderDep
) -> dict[str, Any]:
    """Check a study file and store it with its whole budget. Workers take it from the queue.

    `note` says when the space has fewer points than the budget, else it is null; `next` names the command that serves
    the study where no worker for any study is there.
    """
    spec = read_posted(body.content(), service.config.settings.data_root)
    record = store_study(service, spec)
    record_activity(record.name, "create", f"{record.total} trials")
    response.headers["Location"] = f"/api/v1/studies/{record.name}"
    status = service.store.queries.status(record.name)
    served = any(worker["study_id"] is None for worker in service.store.workers.live())
    served_by = None if served else f"tuner worker --study {record.name}"
    return status | {"next": served_by, "note": repeats_of(spec)}


@router.get("/studies/{name}", summary="Read a study", response_model=Study, responses=READ)
def read_study(name: StudyName, request: Request, service: ServiceDep, figures: FiguresDep) -> Response:
    """Return the document of `tuner status --json`; a study of another Optuna program carries `foreign: true`."""
    try:
        tag = tag_of(figures.pulse(name))
    except ConflictError:
        foreign = next((s for s in service.store.queries.studies() if s["name"] == name and s["foreign"]), None)
        if foreign is None:
            raise
        content = json.dumps(foreign)
        return tagged(content, tag_of(hashlib.sha256(content.encode()).hexdigest()[:32]))
    unless_matches(request, tag)
    return tagged(json.dumps(service.store.queries.status(name)), tag)


@router.patch("/studies/{name}", summary="Change notes, tags, star", response_model=Study, responses=WRITE)
def change_study(
    name: StudyName, body: Annotated[StudyChange, Body()], service: ServiceDep, record_activity: RecorderDep
) -> dict[str, Any]:
    """Change what people have written beside a study, or archive it; what is left out stays as it is.

    Tags are added and removed one by one, so two who write at once lose nothing. Notes need the `notes_revision` that
    was read: where they were changed meanwhile the answer is 409.
    """
    change, words = annotation_change(body)
    if words or body.archived is not None:
        service.store.annotations.change_study(name, change, archived=body.archived)
    if words:
        record_activity(name, "annotate", words)
    if body.archived is not None:
        record_activity(name, "archive" if body.archived else "unarchive")
    return service.store.queries.status(name)


@router.post("/studies/{name}/rename", summary="Rename a study", response_model=Study, responses=WRITE)
def rename(
    name: StudyName,
    body: Annotated[Rename, Body()],
    service: ServiceDep,
    response: Response,
    record_activity: RecorderDep,
) -> dict[str, Any]:
    """Give a study another name and move its files; refused while a worker is alive for it."""
    record = rename_study(service.store, service.artifacts, name, body.name)
    record_activity(record.name, "rename", f"it was {name}")
    response.headers["Location"] = f"/api/v1/studies/{record.name}"
    return service.store.queries.status(record.name)


@router.delete("/studies/{name}", summary="Delete a study", status_code=204, responses=WRITE)
def delete_study(
    name: StudyName,
    service: ServiceDep,
    record_activity: RecorderDep,
    artifacts: Annotated[bool, Query(description="Remove the files of its trials as well.")] = False,
) -> None:
    """Delete a study with its trials; refused while a worker is alive for it."""
    identity, are_its_own = service.store.studies.get(name).identity, service.artifacts.is_owned(name)
    service.store.studies.delete(name)
    record_activity(name, "delete", "with its files" if artifacts and are_its_own else "")
    if artifacts and are_its_own:
        service.artifacts.delete(name)
    elif are_its_own:
        service.artifacts.sign(name, identity)  # the next study of that name must not show them


@router.post("/studies/{name}/pause", summary="Pause a study", response_model=Study, responses=WRITE)
def pause_study(name: StudyName, service: ServiceDep, record_activity: RecorderDep) -> dict[str, Any]:
    """Let running trials finish; nothing new starts."""
    service.store.studies.pause(name)
    record_activity(name, "pause")
    return service.store.queries.status(name)


@router.post("/studies/{name}/stop", summary="Stop a study", response_model=Study, responses=WRITE)
def stop_study(name: StudyName, service: ServiceDep, record_activity: RecorderDep) -> dict[str, Any]:
    """Have running trials checkpointed and returned to the queue."""
    service.store.studies.stop(name)
    record_activity(name, "stop")
    return service.store.queries.status(name)


@router.post("/studies/{name}/resume", summary="Resume a study", response_model=Study, responses=WRITE)
def resume_study(
    name: StudyName,
    service: ServiceDep,
    record_activity: RecorderDep,
    body: Annotated[Resume | None, Body()] = None,
) -> dict[str, Any]:
    """Take back a pause or stop; with `trials`, raise the total of the budget."""
    if body is not None and body.trials is not None:
        _raise_budget(service, name, body.trials)
    service.store.studies.resume(name)
    record_activity(name, "resume", f"{body.trials} trials" if body is not None and body.trials is not None else "")
    return service.store.queries.status(name)


@router.post("/studies/{name}/budget", summary="Raise the budget", response_model=Study, responses=WRITE)
def raise_budget(
    name: StudyName, service: ServiceDep, record_activity: RecorderDep, body: Annotated[NewBudget, Body()]
) -> dict[str, Any]:
    """Raise the total of the budget, and leave a study that is paused or stopped as it is."""
    _raise_budget(service, name, body.trials)
    record_activity(name, "raise budget", f"{body.trials} trials")
    return service.store.queries.status(name)


def _raise_budget(service: Service, name: str, trials: int) -> None:
    total = service.store.studies.get(name).total
    if trials < total:
        raise SpecError(
            [Problem("trials", f"{trials} is below the total of {total}; a budget can only be raised", trials)]
        )
    if trials - total > MAX_TRIALS:
        raise SpecError([Problem("trials", f"adds {trials - total}; at most {MAX_TRIALS} at a time", trials)])
    service.store.studies.raise_budget(name, trials)


@router.get(
    "/studies/{name}/verdict", summary="Read the verdict", response_model=VerdictDetail, responses=READ | errors(422)
)
def read_verdict(name: StudyName, request: Request, service: ServiceDep, tag: StudyTag) -> Response:
    """Return the document of `tuner verdict --json`: what may be said now, before or after a confirmation."""
    remembered: ResponseCache = request.app.state.remembered

    def make() -> bytes:
        return json.dumps(verdict_document(service.store, service.artifacts, name)).encode()

    return tagged(remembered.get((tag, name, "verdict"), make), tag)


@router.post("/studies/{name}/confirm", summary="Confirm the best trials", response_model=Study, responses=WRITE)
def confirm_study(
    name: StudyName,
    service: ServiceDep,
    record_activity: RecorderDep,
    body: Annotated[Confirm | None, Body()] = None,
    renew: Annotated[bool, Query(description="Choose the finalists anew; earlier looks count.")] = False,
) -> dict[str, Any]:
    """Queue what the next look needs: the finalists of a search that is over, trained again with fresh seeds.

    Workers of the study, and those that serve any, take the runs. Asked again it adds what is missing; with
    `until: sure` it has to be asked again after each look.
    """
    problems = Problems()
    section = confirm_section({} if body is None else body.model_dump(exclude_unset=True), problems)
    if problems or section is None:
        raise SpecError(problems)
    if advance(service.store, service.artifacts, name, section, renew=renew):
        asked = section.model_dump(exclude_unset=True) | ({"renew": True} if renew else {})
        record_activity(name, "confirm", ", ".join(f"{key} {value}" for key, value in asked.items()))
    return service.store.queries.status(name)


@router.get("/studies/{name}/best", summary="Read the best trial", response_model=BestDetail, responses=READ)
def read_best(name: StudyName, service: ServiceDep, tag: StudyTag) -> Response:
    """Return the document of `tuner best --json`: the best complete trial and its configuration."""
    best = service.store.queries.best(name)
    if best is None:
        raise NotFoundError(f"study {name!r} has no complete trial yet.", hint="Wait for the first one to finish.")
    front = {"front": best.pop("front")} if "front" in best else {}
    config = configuration(service.store.studies.get(name), best["params"])
    return tagged(json.dumps(best | {"config": config} | front), tag)


@router.get(
    "/studies/{name}/export",
    summary="Export a configuration",
    response_class=Response,
    responses=READ | content("text/plain", "application/json"),
)
def export_study(
    name: StudyName,
    request: Request,
    service: ServiceDep,
    tag: StudyTag,
    trial: Annotated[
        int | None, Query(description="Number of a trial; the best one else.", ge=0, le=MAX_NUMBER)
    ] = None,
    format: Annotated[ExportFormat, Query(description="What is written.")] = "yaml",
) -> Response:
    """Return the best (or the named) trial as a configuration that stands alone: what `tuner train` takes."""
    remembered: ResponseCache = request.app.state.remembered

    def make() -> bytes:
        config = export_trial(service.store, name, number=trial, artifacts=service.artifacts)
        return render(config, format).encode()

    suffix, media_type = _FORMS[format]
    answer = tagged(remembered.get((tag, name, "export", str(trial), format), make), tag, media_type)
    filename = f"{name}-{'best' if trial is None else trial}.{suffix}"
    answer.headers["Content-Disposition"] = f'attachment; filename="{filename}"'
    return answer

"""Health, readiness and metrics, for machines that watch this one; outside `/api/v1`."""

from fastapi import APIRouter, Response

from api.dependencies import ServiceDep
from api.errors import content, errors
from api.schemas import Health

router = APIRouter(tags=["operations"], responses=errors())


@router.get("/healthz", summary="Is the service alive?")
def healthz() -> Health:
    """Answer as long as the process does."""
    return Health()


@router.get("/readyz", summary="Can the service work?")
def readyz(service: ServiceDep) -> Health:
    """Answer when the storage can be read; 503 else."""
    service.store.workers.live()
    return Health()


@router.get("/metrics", summary="Numbers for Prometheus", response_class=Response, responses=content("text/plain"))
def metrics(service: ServiceDep) -> Response:
    """Return counts of trials, phases, workers and best values in Prometheus' text format."""
    lines = []
    studies = service.store.queries.studies()
    lines += _head("tuner_trials", "gauge", "Trials of the budget by state.")
    for study in studies:
        for state in ("waiting", "running", "complete", "pruned", "failed"):
            labels = {"study": study["name"], "state": state}
            lines.append(_sample("tuner_trials", labels, study["trials"][state]))
    lines += _head("tuner_study_phase", "gauge", "1 for the phase that a study is in.")
    lines += [_sample("tuner_study_phase", {"study": s["name"], "phase": s["phase"]}, 1) for s in studies]
    lines += _head("tuner_best_value", "gauge", "First objective of the best trial.")
    for study in studies:
        if study["best"] is not None:
            labels = {"study": study["name"], "metric": study["objectives"][0]["metric"]}
            lines.append(_sample("tuner_best_value", labels, study["best"]["value"]))
    lines += _head("tuner_workers", "gauge", "Workers that were heard of lately, by device.")
    devices: dict[tuple[str, str], int] = {}
    for worker in service.store.workers.live():
        key = (worker["host"], worker["device"])
        devices[key] = devices.get(key, 0) + 1
    lines += [_sample("tuner_workers", {"host": h, "device": d}, n) for (h, d), n in devices.items()]
    return Response("\n".join(lines) + "\n", media_type="text/plain; version=0.0.4; charset=utf-8")


def _head(name: str, kind: str, words: str) -> list[str]:
    return [f"# HELP {name} {words}", f"# TYPE {name} {kind}"]


def _sample(name: str, labels: dict[str, str], value: float) -> str:
    inside = ",".join(f'{key}="{_escape(text)}"' for key, text in labels.items())
    return f"{name}{{{inside}}} {value}"


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")

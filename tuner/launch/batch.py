"""Batch scripts for Slurm and manifests for Kubernetes that run workers there."""

import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from tuner import __version__
from tuner.artifacts.remote import redact_address
from tuner.settings import Settings

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._,-]*")
_IMAGE = re.compile(r"[a-z0-9][A-Za-z0-9._/:@-]*")
_MEMORY = re.compile(r"([1-9][0-9]*)([MG])")
_TIME = re.compile(r"([0-9]+-)?[0-9]{1,3}(:[0-9]{2}){1,2}|[0-9]+")


@dataclass(frozen=True, slots=True)
class Job:
    """A worker that is to run on a cluster, and what it needs there."""

    study: str | None
    """None: any."""
    device: str
    count: int
    gpus: int | None
    cpus: int
    memory: str
    time_limit: str
    partition: str | None
    image: str | None
    json_logs: bool
    until_idle: str | None = None

    @property
    def gpus_each(self) -> int:
        """GPUs of one worker."""
        return (0 if self.device == "cpu" else 1) if self.gpus is None else self.gpus

    @property
    def name(self) -> str:
        """What the job is called: `tuner-any`, `tuner-organs`."""
        return f"tuner-{self.study or 'any'}"

    def words(self) -> list[str]:
        """Return what stands after `tuner` to start the worker."""
        which = ["--any"] if self.study is None else ["--study", self.study]
        device = [] if self.device == "auto" else ["--device", self.device]
        idle = ["--until-idle", self.until_idle] if self.until_idle else []
        return ["worker", *which, *device, *idle, *(["--log-format", "json"] if self.json_logs else [])]


def program() -> list[str]:
    """Return the words that start `tuner` on machines that see this one's files."""
    beside = Path(sys.executable).with_name("tuner")
    found = str(beside) if beside.is_file() else shutil.which("tuner")
    from tuner.launch.launcher import python_command

    return [found] if found else python_command("tuner")


def check_job(job: Job) -> None:
    """Refuse what Slurm or Kubernetes would refuse, or a shell would take for something else. Raises SpecError."""
    from tuner.errors import Problem, Problems

    rules = (
        ("--study", job.study, _NAME, "the name of a study"),
        ("--memory", job.memory, _MEMORY, "an amount of memory like 16G or 500M"),
        ("--time", job.time_limit, _TIME, "a time like 24:00:00 or 2-12:00:00"),
        ("--partition", job.partition, _WORD, "the name of a partition"),
        ("--image", job.image, _IMAGE, "the name of an image"),
    )
    Problems(
        Problem(flag, f"{value!r} is not {what}", value)
        for flag, value, rule, what in rules
        if value and not rule.fullmatch(value)
    ).refuse()


GRACE_S = 90
"""Seconds from SIGTERM to SIGKILL; a worker takes sixty at most to give its trial back."""
USER = 10001
"""The image's user."""
SECRET, ARTIFACTS, DATA = "tuner", "tuner-artifacts", "tuner-data"

_KUBERNETES_HEAD = """\
# {what}. Made by: tuner worker … --print-k8s; then: kubectl apply -f FILE
# The URL of the storage holds a password, so it comes from a secret:
#   kubectl create secret generic {secret} --from-literal=storage='postgresql://tuner:PASSWORD@HOST/tuner'
# {claims} {data} (one folder a data set; only read). Studies on `phantom` need no data: leave that volume out.
"""
_ON_A_VOLUME = """\
Two claims must be there: {artifacts} (ReadWriteMany: a trial goes on elsewhere with the checkpoint that lies
# there) and"""
_AT_AN_ADDRESS = """\
Files of trials go to {address}: give the pods the credentials and the image the package for it.
# A claim must be there:"""
_ARTIFACTS_VOLUME = {"name": "artifacts", "persistentVolumeClaim": {"claimName": ARTIFACTS}}
_ARTIFACTS_MOUNT = {"name": "artifacts", "mountPath": "/artifacts"}
_UNTIL_THE_STUDY_IS_OVER = """\
trap 'told=1; kill -TERM "$worker" 2>/dev/null' TERM
{command} &
worker=$!
while kill -0 "$worker" 2>/dev/null; do wait "$worker"; done
wait "$worker"
code=$?
if [ -n "${{told:-}}" ]; then exit 143; fi
exit "$code"
"""
"""A pod that is evicted must not count as one that has found the study finished, though its worker ends well."""


def manifest(job: Job, settings: Settings) -> str:
    """Return the manifest as YAML. No secret stands in it."""
    document = _deployment(job, settings) if job.study is None else _study_job(job, settings)
    plural = "workers" if job.count > 1 else "worker"
    what = f"{job.count} standing {plural}" if job.study is None else f"{job.count} {plural} of the study {job.study}"
    claims = _ON_A_VOLUME.format(artifacts=ARTIFACTS)
    if settings.artifacts_url:
        claims = _AT_AN_ADDRESS.format(address=redact_address(settings.artifacts_url))
    head = _KUBERNETES_HEAD.format(what=what, secret=SECRET, claims=claims, data=DATA)
    return head + yaml.dump(document, Dumper=_Readable, sort_keys=False, width=110).rstrip("\n")


class _Readable(yaml.SafeDumper):
    """Writes scripts line by line, and nothing as a reference to something above."""

    def ignore_aliases(self, data: Any) -> bool:
        """Write everything out."""
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Readable.add_representer(str, _text)


def _deployment(job: Job, settings: Settings) -> dict[str, Any]:
    container = _container(job, settings) | {"args": job.words()}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": _name(job), "labels": _labels(job)},
        "spec": {
            "replicas": job.count,
            "selector": {"matchLabels": _labels(job)},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": "100%"}},
            "template": _template(job, container, restart="Always"),
        },
    }


def _study_job(job: Job, settings: Settings) -> dict[str, Any]:
    script = _UNTIL_THE_STUDY_IS_OVER.format(command=shlex.join(["tuner", *job.words()]))
    container = _container(job, settings) | {"command": ["/bin/bash", "-c", script]}
    evicted = {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": _name(job), "labels": _labels(job)},
        "spec": {
            "parallelism": job.count,
            "backoffLimit": 20,
            "podFailurePolicy": {"rules": [evicted]},
            "template": _template(job, container, restart="Never"),
        },
    }


def _template(job: Job, container: dict[str, Any], *, restart: str) -> dict[str, Any]:
    return {
        "metadata": {"labels": _labels(job)},
        "spec": {
            "restartPolicy": restart,
            "terminationGracePeriodSeconds": GRACE_S,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": USER,
                "runAsGroup": USER,
                "fsGroup": USER,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "automountServiceAccountToken": False,
            "containers": [container],
            "volumes": [
                *([_ARTIFACTS_VOLUME] if _ARTIFACTS_MOUNT in container["volumeMounts"] else []),
                {"name": "data", "persistentVolumeClaim": {"claimName": DATA, "readOnly": True}},
                {"name": "cache", "emptyDir": {}},
                {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": "2Gi"}},
            ],
        },
    }


def _container(job: Job, settings: Settings) -> dict[str, Any]:
    needed = {"cpu": str(job.cpus), "memory": f"{job.memory}i"}
    gpu = {"nvidia.com/gpu": job.gpus_each} if job.gpus_each else {}
    return {
        "name": "worker",
        "image": job.image or f"segmentation-tuner:{__version__}",
        "env": [
            {"name": "TUNER_STORAGE", "valueFrom": {"secretKeyRef": {"name": SECRET, "key": "storage"}}},
            {"name": "TUNER_WEBHOOK", "valueFrom": {"secretKeyRef": _optional("webhook")}},
            {"name": "TUNER_ARTIFACTS", "value": settings.artifacts_url or "/artifacts"},
            {"name": "TUNER_DATA_ROOT", "value": "/data"},
            {"name": "TUNER_CACHE", "value": "/cache"},
        ],
        "resources": {"requests": needed, "limits": {"memory": needed["memory"], **gpu}},
        "startupProbe": _probe("ready", period=10, failures=60),
        "readinessProbe": _probe("ready", period=30, failures=2),
        "livenessProbe": _probe("alive", period=60, failures=5),
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        "volumeMounts": [
            *([] if settings.artifacts_url else [_ARTIFACTS_MOUNT]),
            {"name": "data", "mountPath": "/data", "readOnly": True},
            {"name": "cache", "mountPath": "/cache"},
            {"name": "shm", "mountPath": "/dev/shm"},  # noqa: S108 (what torch's processes share, in the pod)
        ],
    }


def _optional(key: str) -> dict[str, Any]:
    return {"name": SECRET, "key": key, "optional": True}


def _probe(kind: str, *, period: int, failures: int) -> dict[str, Any]:
    return {
        "exec": {"command": ["tuner", "worker", "--probe", kind]},
        "periodSeconds": period,
        "timeoutSeconds": 30,
        "failureThreshold": failures,
    }


def _labels(job: Job) -> dict[str, str]:
    return {"app.kubernetes.io/name": "tuner", "app.kubernetes.io/component": _name(job)}


def _name(job: Job) -> str:
    """Return the job's name as Kubernetes spells names: lower case, no dots or underscores, at most 63 characters."""
    kept = "".join(sign if sign.isalnum() else "-" for sign in job.name.lower())
    return kept[:63].strip("-")


WARNED_S = 120
"""Seconds before the time limit at which the worker is told; it takes sixty at most."""
IDLE = "15m"
"""A worker for any study that finds no work for so long hands its GPU back to the queue."""

_SLURM_HEAD = """\
#!/bin/bash
# {what}, as Slurm runs {it}. Made by: tuner worker … --print-sbatch
# The URL of the storage holds a password, so it is not written here. Once, on the machine where you call sbatch:
#   (umask 077; echo "TUNER_STORAGE='{url}'" > ~/.tuner.env)
# Then: sbatch FILE
"""
_BODY = """\
set -u
if [ -r "${{TUNER_ENV:=$HOME/.tuner.env}}" ]; then set -a; . "$TUNER_ENV"; set +a; fi
: "${{TUNER_STORAGE:?is not set: put TUNER_STORAGE=postgresql://… into $TUNER_ENV, with mode 0600}}"
{exports}
# Slurm warns {warned} s before the time limit: the worker gives its trial back with its checkpoint, and this job is
# queued again. A SIGTERM (pre-emption, scancel) is passed on as well; then Slurm decides what becomes of the job.
worker="" again=""
trap 'again=1; [ -z "$worker" ] || kill -USR1 "$worker" 2>/dev/null' USR1
trap '[ -z "$worker" ] || kill -USR1 "$worker" 2>/dev/null' TERM
{command} &
worker=$!
while kill -0 "$worker" 2>/dev/null; do wait "$worker"; done
wait "$worker"
code=$?
if [ -n "$again" ] && [ "$code" -eq 0 ]; then scontrol requeue "$SLURM_JOB_ID"; fi
exit "$code"
"""


def script(job: Job, settings: Settings, *, program: list[str]) -> str:
    """Return the script. No secret stands in it.

    Args:
        job: The worker.
        settings: Places; what was named for this machine is taken for shared, the storage comes from the environment.
        program: The words that start `tuner`.
    """
    from tuner.storage.url import read_url, redact_url

    if job.study is None and job.until_idle is None:
        job = replace(job, until_idle=IDLE)
    plural = job.count > 1
    head = _SLURM_HEAD.format(
        what=f"{job.count} workers" if plural else "A worker",
        it="them" if plural else "it",
        url=redact_url(read_url(settings.storage)).replace("+psycopg", "").replace("***", "PASSWORD"),
    )
    directives = "".join(f"#SBATCH --{line}\n" for line in _directives(job))
    body = _BODY.format(
        exports="\n".join(_exports(settings)),
        command=shlex.join([*program, *job.words()]),
        warned=WARNED_S,
    )
    return f"{head}{directives}\n{body}".rstrip("\n")


def _directives(job: Job) -> Iterator[str]:
    yield f"job-name={job.name}"
    if job.count > 1:
        yield f"array=1-{job.count}"
    if job.partition:
        yield f"partition={job.partition}"
    yield "nodes=1"
    yield "ntasks=1"
    yield f"cpus-per-task={job.cpus}"
    yield f"mem={job.memory}"
    if job.gpus_each:
        yield f"gres=gpu:{job.gpus_each}"
    yield f"time={job.time_limit}"
    yield f"signal=B:USR1@{WARNED_S}"
    yield "requeue"
    yield "open-mode=append"
    yield f"output=%x-{'%A_%a' if job.count > 1 else '%j'}.log"


def _exports(settings: Settings) -> Iterator[str]:
    """Yield the places of this machine, unless the environment there names others."""
    places = {
        "TUNER_ARTIFACTS": settings.artifacts_place,
        "TUNER_DATA_ROOT": settings.data_root,
        "TUNER_CACHE": settings.cache,
    }
    for name, place in places.items():
        if place is not None:
            yield f"export {name}=${{{name}:-{shlex.quote(str(place))}}}"

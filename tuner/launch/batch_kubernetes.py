"""A Kubernetes manifest that runs workers: standing ones as a Deployment, those of one study as a Job."""

import shlex
from typing import Any

import yaml

from tuner import __version__
from tuner.artifacts.remote import shown
from tuner.launch.batch import Job
from tuner.settings import Settings

GRACE_S = 90
"""Seconds from SIGTERM to SIGKILL; a worker takes sixty at most to give its trial back."""
USER = 10001
"""The image's user."""
SECRET, ARTIFACTS, DATA = "tuner", "tuner-artifacts", "tuner-data"

_HEAD = """\
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
        claims = _AT_AN_ADDRESS.format(address=shown(settings.artifacts_url))
    head = _HEAD.format(what=what, secret=SECRET, claims=claims, data=DATA)
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

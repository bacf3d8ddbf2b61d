"""A Slurm script that runs one worker a task, gives trials back before the time is up, and queues itself again."""

import shlex
from collections.abc import Iterator
from dataclasses import replace

from tuner.launch.batch import Job
from tuner.settings import Settings
from tuner.storage.url import read_url, shown

WARNED_S = 120
"""Seconds before the time limit at which the worker is told; it takes sixty at most."""
IDLE = "15m"
"""A worker for any study that finds no work for so long hands its GPU back to the queue."""

_HEAD = """\
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
    if job.study is None and job.until_idle is None:
        job = replace(job, until_idle=IDLE)
    plural = job.count > 1
    head = _HEAD.format(
        what=f"{job.count} workers" if plural else "A worker",
        it="them" if plural else "it",
        url=shown(read_url(settings.storage)).replace("+psycopg", "").replace("***", "PASSWORD"),
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

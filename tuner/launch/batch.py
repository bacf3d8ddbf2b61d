"""A worker that is to run on a cluster, and what it needs there."""

import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

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
    return [found] if found else [sys.executable, "-m", "tuner"]


def check_job(job: Job) -> None:
    """Refuse what Slurm or Kubernetes would refuse, or a shell would take for something else. Raises SpecError."""
    from tuner.errors import SpecError

    rules = (
        ("--study", job.study, _NAME, "the name of a study"),
        ("--memory", job.memory, _MEMORY, "an amount of memory like 16G or 500M"),
        ("--time", job.time_limit, _TIME, "a time like 24:00:00 or 2-12:00:00"),
        ("--partition", job.partition, _WORD, "the name of a partition"),
        ("--image", job.image, _IMAGE, "the name of an image"),
    )
    problems = [
        f"{flag}: {value!r} is not {what}" for flag, value, rule, what in rules if value and not rule.fullmatch(value)
    ]
    if problems:
        raise SpecError(problems)

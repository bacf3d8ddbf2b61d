"""What a study will take, found out before it starts: nothing of its budget is run, and nothing is stored."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from tuner.config.study import StudySpec
from tuner.errors import RequestError
from tuner.launch.cost_estimate import Plan, price
from tuner.launch.data_facts import Progress, prepare_data
from tuner.launch.fitting import published_configs
from tuner.launch.loss_profile import measure_losses
from tuner.launch.machine import cores
from tuner.launch.study_setup import AUTO, Request, Say, check_data, question_of, resolved
from tuner.models.entry import ENTRY


def plan_study(
    request: Request,
    *,
    seconds: float,
    say: Say,
    progress: Progress | None = None,
    tell: Callable[[str], None] = lambda text: None,
) -> Plan:
    """Measure every competing loss on this machine and price the study.

    Args:
        request: As for a launch.
        seconds: Time for all measurements together.
        say: Told of what the data check does.
        progress: Told of how far preparing the data is.
        tell: Told of each loss that was measured.

    Raises:
        RequestError: Something asked for cannot be, or would run code of the user's.
        RunError: Nothing could be measured.
    """
    spec, settings = request.spec, request.settings
    _check_own_code(spec)
    question = question_of(request.resources.over({}))
    request.ask(replace(question, precision=False))
    check_data(spec, settings, say)
    data = prepare_data(spec, settings, progress)
    machine = request.ask(replace(question, precision=spec.base.train.precision == AUTO, shape=data.shape))
    spec = resolved(spec, machine)
    device = machine.slots[0]
    threads = spec.base.train.threads or machine.threads
    found = measure_losses(
        published_configs(spec), settings, device=device, threads=threads, seed=spec.seed, seconds=seconds, tell=tell
    )
    return price(
        spec,
        data,
        found,
        workers=len(machine.slots),
        device=device,
        cores=cores(),
        disk_free=shutil.disk_usage(_existing(settings.artifacts)).free,
    )


def _check_own_code(spec: StudySpec) -> None:
    own = "train.entry" if spec.base.train.entry is not None else "model.entry"
    if spec.base.train.entry is not None or spec.base.model.get("name") == ENTRY:
        raise RequestError(
            f"a plan runs no code of yours ({own}), so that it cannot be measured.",
            hint="Launch a few trials instead, `--trials 3`: `tuner trials` then says how long they took.",
            where=own,
        )


def _existing(folder: Path) -> Path:
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder

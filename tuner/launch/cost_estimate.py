"""Cost estimate of a study (`tuner plan`): device-hours, disk, workers and warnings, from measured step times."""

import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean, median
from typing import Any

from tuner.config.study import StudySpec
from tuner.data.preparation import ProgressCallback
from tuner.errors import RequestError
from tuner.launch.launcher import MessageCallback, cores
from tuner.launch.loss_profile import LossProfile, measure_losses, published_configs, workers_that_fit
from tuner.launch.new_study import AUTO, resolve_precision
from tuner.launch.repeats_note import repeats_note
from tuner.launch.study_setup import (
    DataFacts,
    Request,
    check_data,
    prepare_data,
    probe_request,
    steps_per_epoch,
    unfit_losses,
    with_declared_regions,
)
from tuner.models.catalog import ENTRY
from tuner.search.pruners import make_pruner

PRUNED_SHARE = 0.5
"""Share of the trials that a pruner ends, for the likely estimate: the median pruner's, once its patience is over."""
SLOW = 3.0
"""A loss whose training takes so many times the median one's is worth a word."""
MIN_STEPS = 10


@dataclass(frozen=True, slots=True)
class LossCost:
    """One loss."""

    loss: str
    step_s: float | None
    memory: int | None
    """Bytes that a worker holds."""
    trial_s: float | None
    """Seconds of a trial that runs to its end."""
    problem: str | None


@dataclass(frozen=True, slots=True)
class Plan:
    """What a study will take."""

    prices: tuple[LossCost, ...]
    validation_s: float | None
    trials: int
    workers: int
    fitting: int | None
    """Workers of the largest loss that fit on one device; None where memory cannot be counted."""
    most_device_s: float | None
    """Device time if no trial is pruned."""
    likely_device_s: float | None
    disk: int | None
    """Bytes of artifacts."""
    warnings: tuple[str, ...] = field(default=())

    @property
    def wall_s(self) -> float | None:
        """Likely time until the budget is used up."""
        return None if self.likely_device_s is None else self.likely_device_s / max(1, min(self.workers, self.trials))

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON document."""
        return {
            "losses": [
                {
                    "loss": p.loss,
                    "step_s": p.step_s,
                    "memory_bytes": p.memory,
                    "trial_s": p.trial_s,
                    "problem": p.problem,
                }
                for p in self.prices
            ],
            "validation_s": self.validation_s,
            "trials": self.trials,
            "workers": self.workers,
            "workers_per_device": self.fitting,
            "device_hours": {"most": _hours(self.most_device_s), "likely": _hours(self.likely_device_s)},
            "hours": _hours(self.wall_s),
            "disk_bytes": self.disk,
            "doubts": list(self.warnings),
        }


def estimate_costs(
    spec: StudySpec,
    data: DataFacts,
    found: Mapping[str, LossProfile],
    *,
    workers: int,
    device: str,
    cores: int,
    disk_free: int,
) -> Plan:
    """Price a study.

    Args:
        spec: The study, with `train.threads` resolved.
        data: Numbers of samples.
        found: What was measured of each competing loss.
        workers: Workers that a launch would start.
        device: Where it was measured.
        cores: CPU cores of this machine.
        disk_free: Bytes free where the artifacts would be.
    """
    train = spec.base.train
    steps = steps_per_epoch(spec, data)
    validation_s = next((m.validation_s for m in found.values() if m.validation_s is not None), None)
    epoch_more = (validation_s or 0.0) / train.validate_every
    prices = tuple(
        LossCost(m.loss, m.step_s, m.memory, _trial_s(m, steps, train.epochs, epoch_more), m.problem)
        for m in found.values()
    )
    known = [p.trial_s for p in prices if p.trial_s is not None]
    share, hours = _unpruned(spec), spec.budget.hours_per_loss
    if hours is None:
        trials = spec.total
        most = fmean(known) * trials if known else None
        likely = None if most is None else most * share
    else:
        trials = _trials_within(3600 * hours, prices, spec, share)
        most = likely = 3600 * hours * len(spec.candidates)
    plan = Plan(
        prices=prices,
        validation_s=validation_s,
        trials=trials,
        workers=workers,
        fitting=workers_that_fit(list(found.values()), device=device, cores=cores, threads=train.threads or 1),
        most_device_s=most,
        likely_device_s=likely,
        disk=_disk(found, trials=trials, workers=workers),
    )
    warnings = tuple(_warnings(spec, data, plan, steps=steps, disk_free=disk_free))
    return Plan(**{name: getattr(plan, name) for name in Plan.__slots__ if name != "warnings"}, warnings=warnings)


def _trial_s(measured: LossProfile, steps: int, epochs: int, epoch_more: float) -> float | None:
    return None if measured.step_s is None else epochs * (steps * measured.step_s + epoch_more)


def _trials_within(limit_s: float, prices: Sequence[LossCost], spec: StudySpec, share: float) -> int:
    """Return how many trials a training time for each loss likely allows; those of unmeasured losses count once."""
    allowed = [1 if p.trial_s is None else math.ceil(limit_s / (p.trial_s * share)) for p in prices]
    return max(1, min(spec.total, sum(allowed)))


def _unpruned(spec: StudySpec) -> float:
    """Return the share of the work that is left when the pruner ends half of the trials as soon as it may."""
    epochs = spec.base.train.epochs
    options = {key: value for key, value in spec.pruner.items() if key != "name"}
    pruner = make_pruner(spec.pruner["name"], options, epochs=epochs)
    first = next((epoch for epoch in range(1, epochs + 1) if pruner.should_check(epoch, 0)), None)
    return 1.0 if first is None or first >= epochs else 1 - PRUNED_SHARE * (1 - first / epochs)


def _disk(found: Mapping[str, LossProfile], *, trials: int, workers: int) -> int | None:
    """Return the bytes of artifacts: each trial's best weights, each worker's checkpoint twice (old and new)."""
    weights = [m.weights for m in found.values() if m.weights is not None]
    checkpoints = [m.checkpoint for m in found.values() if m.checkpoint is not None]
    if not weights or not checkpoints:
        return None
    return math.ceil(fmean(weights) * trials) + 2 * max(checkpoints) * workers


def _warnings(spec: StudySpec, data: DataFacts, plan: Plan, *, steps: int, disk_free: int) -> list[str]:
    said = [f"{p.loss} could not be measured: {p.problem}" for p in plan.prices if p.problem]
    times = [p.trial_s for p in plan.prices if p.trial_s is not None]
    typical = median(times) if times else 0.0
    slow = [f"{p.loss} ({p.trial_s / typical:.1f}×)" for p in plan.prices if p.trial_s and p.trial_s > SLOW * typical]
    if slow:
        said.append(f"much slower than the others: {', '.join(slow)}")
    missing, needed = spec.left_out()
    if missing:
        said.append(
            f"{len(missing)} losses get no trial with their published defaults ({', '.join(missing)}); "
            f"--trials {needed} would hold all"
        )
    repeats = repeats_note(spec, spec.total)
    if repeats is not None:
        said.append(repeats.removeprefix("note: "))
    if steps < MIN_STEPS:
        said.append(f"an epoch has {steps} steps only: {data.train} samples in batches of {spec.base.train.batch_size}")
    if data.protocol == "test":
        said.append("validated on the test cases (dataset.validation: test): no result will be a test result")
    if plan.validation_s is None:
        said.append("a validation took longer than the probe waits; its time is not in these figures")
    if plan.fitting is not None and plan.workers > plan.fitting and not spec.base.train.is_own:
        said.append(f"memory or cores are for {plan.fitting} workers a device; {plan.workers} are asked for in all")
    if plan.disk is not None and plan.disk > disk_free:
        said.append(f"the artifacts need about {plan.disk / 1e9:.1f} GB; {disk_free / 1e9:.1f} GB are free")
    timeout = spec.budget.timeout
    if timeout is not None and plan.wall_s is not None and plan.wall_s > timeout:
        said.append(f"budget.timeout ({timeout:.0f} s) ends it first: about {plan.wall_s:.0f} s are needed")
    hours = spec.budget.hours_per_loss
    long = [p.loss for p in plan.prices if hours is not None and p.trial_s is not None and p.trial_s > 3600 * hours]
    if long:
        said.append(f"one trial takes longer than budget.hours_per_loss ({hours:g} h) with {', '.join(long)}")
    limit = spec.budget.trial_timeout
    over = [p.loss for p in plan.prices if limit is not None and p.trial_s is not None and p.trial_s > limit]
    if over:
        said.append(f"a whole trial takes longer than budget.trial_timeout with {', '.join(over)}")
    return said


def _hours(seconds: float | None) -> float | None:
    return None if seconds is None else seconds / 3600


def plan_study(
    request: Request,
    *,
    seconds: float,
    on_message: MessageCallback,
    on_progress: ProgressCallback | None = None,
) -> Plan:
    """Measure every competing loss on this machine and price the study.

    Args:
        request: As for a launch.
        seconds: Time for all measurements together.
        on_message: Told of what the data check does, and of each loss that was measured.
        on_progress: Told of how far preparing the data is.

    Raises:
        RequestError: Something asked for cannot be, or would run code of the user's.
        RunError: Nothing could be measured.
    """
    settings = request.settings
    spec = with_declared_regions(request.spec, settings)
    for line in unfit_losses(spec):
        on_message(line)
    _check_own_code(spec)
    question = probe_request(request.resources.over({}))
    request.ask(replace(question, precision=False))
    check_data(spec, settings, on_message)
    data = prepare_data(spec, settings, on_progress)
    machine = request.ask(replace(question, precision=spec.base.train.precision == AUTO, shape=data.shape))
    spec = resolve_precision(spec, machine)
    device = machine.slots[0]
    threads = spec.base.train.threads or machine.threads
    found = measure_losses(
        published_configs(spec),
        settings,
        device=device,
        threads=threads,
        seed=spec.seed,
        seconds=seconds,
        on_message=on_message,
    )
    return estimate_costs(
        spec,
        data,
        found,
        workers=len(machine.slots),
        device=device,
        cores=cores(),
        disk_free=shutil.disk_usage(_existing(settings.artifacts)).free,
    )


def _check_own_code(spec: StudySpec) -> None:
    train = spec.base.train
    own = "train.entry" if train.entry is not None else "train.command" if train.command is not None else "model.entry"
    if train.is_own or spec.base.model.get("name") == ENTRY:
        raise RequestError(
            f"a plan runs no code of yours ({own}), so that it cannot be measured.",
            hint="Launch a few trials instead, `--trials 3`: `tuner trials` then says how long they took.",
            where=own,
        )


def _existing(folder: Path) -> Path:
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder

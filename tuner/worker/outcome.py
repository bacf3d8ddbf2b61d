"""Outcome of a trial: classification of failures, collapse, early end; the table of `states.py` applied."""

import errno
import math

from tuner.config.study import StudySpec
from tuner.config.trial import TrialConfig
from tuner.errors import DiskFullError, TunerError, UnreachableError
from tuner.losses.spec import ramp_end
from tuner.search.pruners import make_pruner
from tuner.storage.records import Claim, EpochRow, Outcome, ReportAnswer
from tuner.storage.states import Reason, State, Verdict
from tuner.training.command import CommandMemoryError
from tuner.training.epoch_report import Diverged, EpochReport, is_better

COLLAPSED_AFTER = 5
"""Validations running that predict one class only, before a trial counts as collapsed."""


class TrialMonitor:
    """What a worker remembers of the trial that it trains: the best epoch, and signs of collapse."""

    def __init__(self, spec: StudySpec, claim: Claim, config: TrialConfig, ramp: int) -> None:
        options = dict(spec.pruner)
        self.claim = claim
        self.config = config
        self.ramp_epochs = ramp
        self.pruner = make_pruner(
            options.pop("name"), options, epochs=config.train.epochs, validate_every=config.train.validate_every
        )
        self.bracket = self.pruner.bracket(claim.slot)
        self.metrics = tuple(o.metric for o in spec.objectives)
        self.directions = spec.directions
        self.epoch = 0
        self.last: tuple[int, float] | None = None
        self.best: tuple[float, ...] | None = None
        self._one_class_running = 0
        self._saw_more_classes = False

    def record(self, report: EpochReport) -> None:
        """Take an epoch in."""
        self.epoch = report.epoch
        values = [report.metrics.get(metric) for metric in self.metrics]
        first = values[0]
        if first is None:
            return
        self.last = (report.epoch, first)
        if is_better(first, self.best[0] if self.best else None, self.directions[0]):
            self.best = tuple(math.nan if value is None else value for value in values)
        self._one_class_running = self._one_class_running + 1 if report.one_class else 0
        self._saw_more_classes |= not report.one_class

    def row(self, report: EpochReport) -> EpochRow:
        """Return what the database keeps of an epoch."""
        return EpochRow(
            epoch=report.epoch,
            value=report.metrics.get(self.metrics[0]),
            metrics=report.metrics,
            per_class=report.per_class,
            train_loss=report.train_loss,
            lr=report.lr,
            seconds=report.seconds,
        )

    def judge(self, report: EpochReport, answer: ReportAnswer) -> Outcome | None:
        """Say how the trial ends after this epoch, or None when it goes on."""
        if answer.verdict in (Verdict.LOST, Verdict.STOP):
            return interrupted()
        if answer.verdict is Verdict.PRUNE_BY_HAND:
            return ended_by_hand(self.last)
        if self._has_collapsed(report):
            message = f"one class only in {self._one_class_running} validations running"
            return Outcome(State.PRUNED, Reason.COLLAPSED, message)
        if answer.peers is not None:
            why = self.pruner.decide(report.epoch, answer.peers)
            if why:
                return Outcome(State.PRUNED, Reason.PRUNED, why, last=self.last)
        return None

    def complete(self) -> Outcome:
        """Return the outcome of a trial that ran to its end, or that has ended by itself."""
        if self.epoch == 0:
            return Outcome(State.FAIL, Reason.ERROR, "the training ended without a single report")
        if self.best is None:
            why = "no report has one" if self.config.train.is_own else "no validation case holds any of the classes"
            message = f"no epoch gave a value of {self.metrics[0]}: {why}"
            return Outcome(State.FAIL, Reason.ERROR, message)
        missing = [m for m, value in zip(self.metrics, self.best, strict=True) if math.isnan(value)]
        if missing:
            return Outcome(State.FAIL, Reason.ERROR, f"the best epoch has no value of {', '.join(missing)}")
        return Outcome(State.COMPLETE, values=self.best, last=self.last)

    def _has_collapsed(self, report: EpochReport) -> bool:
        patient = self._saw_more_classes or report.epoch > max(3, self.config.train.epochs // 3, self.ramp_epochs)
        return patient and self._one_class_running >= COLLAPSED_AFTER


def is_disk_full(error: BaseException) -> bool:
    """Tell whether there was no space left, whoever noticed it: libraries write files as well, and do not say it so."""
    full = (errno.ENOSPC, errno.EDQUOT)
    return isinstance(error, DiskFullError) or (isinstance(error, OSError) and error.errno in full)


def classify_failure(error: Exception, *, exclusive_device: bool, device: str = "cpu") -> Outcome:
    """Say how a trial ended that raised: what its parameters are to blame for is PRUNED, and the sampler learns it."""
    from tuner.training.device import is_out_of_memory, spoils_process

    message = str(error) or type(error).__name__
    if isinstance(error, Diverged):
        return Outcome(State.PRUNED, Reason.DIVERGED, message)
    if isinstance(error, CommandMemoryError) and error.at_limit:
        return Outcome(State.PRUNED, Reason.OUT_OF_MEMORY, message)
    if isinstance(error, CommandMemoryError) or is_out_of_memory(error):
        if exclusive_device:
            return Outcome(State.PRUNED, Reason.OUT_OF_MEMORY, "out of memory with the device for itself")
        again = "out of memory beside other trials; tried once more, alone on the device"
        return Outcome(State.FAIL, Reason.OUT_OF_MEMORY, again, retry=True, exclusive_device=True)
    if is_disk_full(error) or isinstance(error, UnreachableError):
        return Outcome(State.FAIL, Reason.INTERRUPTED, message, retry=True)
    name = "" if isinstance(error, TunerError) else f"{type(error).__name__}: "
    if not isinstance(error, TunerError) and spoils_process(error, device):
        again = f"{device} fails in this process from now on, which ends: {name}{message}"
        return Outcome(State.FAIL, Reason.ERROR, again, retry=True, counted=True, spoiled=True)
    return Outcome(State.FAIL, Reason.ERROR, f"{name}{message}")


def interrupted() -> Outcome:
    """Return the outcome of a trial that goes back into the queue with its checkpoint."""
    return Outcome(
        State.FAIL, Reason.INTERRUPTED, "returned to the queue; it continues from its last finished epoch", retry=True
    )


def stalled(limit_s: float) -> Outcome:
    """Return the outcome of a trial whose training hangs, or takes longer for a step than it may."""
    message = f"no step for {limit_s:g} s (budget.stall_timeout; null waits for ever); its process was ended"
    return Outcome(State.FAIL, Reason.STALLED, message, retry=True, counted=True)


def overdue(limit_s: float) -> Outcome:
    """Return the outcome of a trial that took longer than it may."""
    return Outcome(State.FAIL, Reason.TIMEOUT, f"took longer than budget.trial_timeout ({limit_s:g} s)")


def ended_by_hand(last: tuple[int, float] | None) -> Outcome:
    """Return the outcome of a trial that a user has ended; `last` is its last report."""
    return Outcome(State.PRUNED, Reason.PRUNED, "ended by hand", last=last)


def ramp_epochs(config: TrialConfig) -> int:
    """Return how many epochs the loss is still being ramped up, and its trial must not be judged."""
    return 0 if not config.loss or "entry" in config.loss else math.ceil(ramp_end(config.loss) * config.train.epochs)

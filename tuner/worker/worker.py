"""One worker: reap, claim, train, finish. The only place where search and training meet.

Workers are equal and alone: they meet in the database only, and may die at any moment. A worker that is told to stop
(SIGTERM, `tuner stop`) abandons the epoch it is in, and gives its trial back with the checkpoint of the
last finished one.
"""

import logging
import os
import random
import resource
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from tuner import __version__
from tuner.artifacts.remote import RETRY_TIMEOUT_S, artifacts_of
from tuner.config.confirmation import ConfirmationSpec
from tuner.config.trial import TrialConfig
from tuner.data.preparation import PreparedData
from tuner.errors import RunError, TunerError, UnreachableError
from tuner.notifications import make_notifier
from tuner.registry import Scalar
from tuner.search.finite_space import can_repeat, untried
from tuner.search.grid import grid_size
from tuner.search.points import point_key, point_keys
from tuner.settings import Settings
from tuner.storage.records import Claim, Orders, Outcome, ReportAnswer, StopRule
from tuner.storage.states import Reason, State
from tuner.storage.storage import Storage
from tuner.storage.trials import PointTakenError
from tuner.trackers.tracking import TrackedTrial, TrialTracking
from tuner.training.command import program_place
from tuner.training.epoch_report import EpochReport
from tuner.training.program import GRACE_S
from tuner.worker.confirmation_run import ScoringStoppedError, note_cases, score_test_cases
from tuner.worker.exit_codes import REPLACE
from tuner.worker.health import ProcessSpentError, ReadinessCheck, check_device, stop_when_failing
from tuner.worker.outcome import (
    TrialMonitor,
    classify_failure,
    ended_by_hand,
    interrupted,
    is_disk_full,
    overdue,
    ramp_epochs,
    stalled,
)
from tuner.worker.study_cache import ServedStudy, StudyCache
from tuner.worker.watchdog import ANSWER_S, DEAD_MAN_S, WATCH_S, end_children, end_no_more, end_unless_told, show_stacks

logger = logging.getLogger(__name__)

HEARTBEAT_INTERVAL_S = 5.0
"""Seconds between two heartbeats."""
MAX_POLL_INTERVAL_S = 5.0
"""A worker that has long been idle looks for work that often: two hundred of them share one server."""
STALL_TIMEOUT_S = 900.0
"""A worker without a trial that has done nothing for so long gives no more heartbeats."""
FIRST_STEP_S = 900.0
"""The first step of a training is waited for at least so long."""
FOREIGN_INTERVAL_S = 5.0
"""Seconds between two looks for what other programs have added to a study."""
LAST_WORDS_S = 5.0
"""Seconds that a process which ends at once waits for the storage."""


@dataclass(slots=True)
class Progress:
    """What the training of one trial has done last, and what its limits, its user and its worker ask of it."""

    last_step: float = field(default_factory=time.monotonic)
    first_step: float | None = None
    limit_s: float | None = None
    """Seconds from the first step."""
    stall_s: float | None = None
    """Seconds between two steps. The first one may take longer: until then code is imported and a network built."""
    stopping: Callable[[], bool] = lambda: False
    orders: Orders = field(default_factory=Orders)
    lost: bool = False
    """The worker was taken for dead."""
    obeyed: bool = False
    """The training was asked to end, and has heard it."""
    asked_at: float | None = None
    """Since when it is to end at once."""
    is_paused: bool = False
    """Nothing is trained yet, and no step is waited for."""
    has_program: bool = False
    """A program of the user's trains: it is ended by itself, and this process goes on."""
    stalled_s: float | None = None
    """A program of the user's was ended because it did nothing for so long."""

    def should_stop(self) -> bool:
        """Note that something was done; True asks for an end."""
        self.last_step = time.monotonic()
        return self.lost or self.orders.stop or self.orders.now or self.timed_out or self.stopping()

    def step(self) -> bool:
        """Called by the trainer at every step: note progress; True asks it to end at once."""
        if self.first_step is None:
            self.first_step = time.monotonic()
        if self.should_stop():
            self.obeyed = True
        return self.obeyed

    def is_told(self) -> bool:
        """Whether a program that is waited for is to end; it has made no step meanwhile."""
        if self.is_stalled and self.stalled_s is None:
            self.stalled_s = self.waited_s
        told = self.stalled_s is not None or self.lost or self.orders.stop or self.orders.now
        if told or self.timed_out or self.stopping():
            self.obeyed = True
        return self.obeyed

    @property
    def timed_out(self) -> bool:
        """Whether it has taken longer than it may."""
        return self.left_s(self.limit_s, self.first_step) < 0

    @property
    def is_stalled(self) -> bool:
        """Whether it has made no step for longer than it may."""
        return self.left_s(self.waited_s, self.last_step) < 0

    @property
    def allowed_s(self) -> float:
        """Seconds until one of its limits is reached without a further step."""
        return min(self.left_s(self.limit_s, self.first_step), self.left_s(self.waited_s, self.last_step))

    @property
    def waited_s(self) -> float | None:
        """Seconds that the next step is waited for; None for ever."""
        if self.stall_s is None or self.is_paused:
            return None
        return self.stall_s if self.first_step is not None else max(self.stall_s, FIRST_STEP_S)

    def rest(self) -> None:
        """Have no limits any more: what follows is no training."""
        self.limit_s = self.stall_s = None

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Wait for no step while the body runs."""
        self.is_paused = True
        try:
            yield
        finally:
            self.should_stop()
            self.is_paused = False

    @staticmethod
    def left_s(limit_s: float | None, since: float | None) -> float:
        """Return the seconds until a limit is reached that counts since a moment; infinite without either."""
        return float("inf") if limit_s is None or since is None else since + limit_s - time.monotonic()


@dataclass(slots=True)
class Serving:
    """The trial that a worker holds. Another thread that has looked at it never speaks to the next one."""

    study: ServedStudy
    claim: Claim
    progress: Progress
    trial: TrialMonitor | None = None
    tracking: TrialTracking | None = None


class Worker:
    """Serves one study (or, with `study=None`, whichever has work) on one device until the work is done.

    Args:
        store: opened for writing.
        settings: places of data, cache and artifacts on this machine.
        study: name of the study to serve; None serves any.
        device: `cpu`, `mps` or `cuda:N`.
        shown_as: the device as others know it, where this process sees one GPU only and calls it `cuda:0`.
        stop: set from outside to drain.
        poll_s: seconds between two looks when there is nothing to claim; more, the longer there has been nothing.
        idle_s: ends after so long without a trial; None waits for ever.
        end: ends this process, with an exit code, over a training that does not answer.
        dead_man: whether the process is this worker's own, and may be ended when none of its threads can run.
    """

    def __init__(
        self,
        store: Storage,
        settings: Settings,
        *,
        study: str | None,
        device: str,
        shown_as: str | None = None,
        stop: threading.Event | None = None,
        poll_s: float = 1.0,
        idle_s: float | None = None,
        end: Callable[[int], None] = os._exit,
        dead_man: bool = False,
    ) -> None:
        self.store = store
        self.settings = settings
        self.study = study
        self.device = device
        self.shown_as = shown_as or device
        self._gpu: str | None = None
        self.stop = stop or threading.Event()
        self.poll_s = poll_s
        self.idle_s = idle_s
        self._worked = time.monotonic()
        self.progress = Progress()
        self.finished = 0
        self._db_lock = threading.Lock()
        self._served = StudyCache(store, settings, self._db_lock, device)
        self._artifacts = artifacts_of(settings, owner=store.studies.folder_mark, retry_timeout_s=RETRY_TIMEOUT_S)
        self._readiness = ReadinessCheck(device, self._artifacts)
        self._obstacle: str | None = None
        self._announcer = make_notifier(store, settings)
        self._id = ""
        self._has_left = False
        self._serving: Serving | None = None
        self._end = end
        self._dead_man = dead_man
        self._ending = threading.Lock()

    def run(self) -> int:
        """Work until nothing is left, the study is stopped, or `stop` is set; return how many trials were ended."""
        self._gpu = gpu_of(self.device)
        self._id = self.store.workers.register(
            host=socket.gethostname(),
            pid=os.getpid(),
            device=self.shown_as,
            study=self.study,
            version=__version__,
            gpu=self._gpu,
        )
        logger.info("worker %s on %s", self._id, self.shown_as, extra={"worker": self._id, "device": self.shown_as})
        with self._beating(), self._watched():
            try:
                while not self.stop.is_set():
                    if not self._poll():
                        break
            finally:
                with self._db_lock:
                    self.store.workers.unregister(self._id)
                    self._has_left = True
                if self._announcer is not None:
                    self._announcer.close()
        return self.finished

    def _poll(self) -> bool:
        """Serve one trial, or wait a moment; False when there is nothing left to wait for."""
        with self._db_lock:
            if self.study is None:  # of every study: what a dead colleague held may be all that is left of one
                self.store.workers.requeue_lost()
            names = [self.study] if self.study else self.store.queries.studies_with_work()
        self._obstacle = self._readiness.blocked_reason() if names else None
        for name in self._claimable(names) if self._obstacle is None else ():
            study = self._served.refresh(name) if self.study else self._served.get_or_none(name)
            if study is None:
                continue
            with self._db_lock:
                self.store.workers.requeue_lost(study.record.study_id)
                self._take_up_foreign(study)
                claim = self.store.trials.claim(study.record.study_id, self._id)
            if claim is not None:
                try:
                    self._serve(self._served.refresh(name, claim.study_identity), claim)
                finally:
                    self._serving = None
                    self._worked = time.monotonic()
                return True
        if self.study and self._is_over(self.study):
            return False
        self.progress.should_stop()
        if self._obstacle is not None:
            self._worked = time.monotonic()
        idle_s = time.monotonic() - self._worked
        self.stop.wait(max(self.poll_s, min(idle_s / 4, MAX_POLL_INTERVAL_S)) * random.uniform(0.75, 1.25))
        return self.idle_s is None or time.monotonic() - self._worked < self.idle_s

    def _take_up_foreign(self, study: ServedStudy) -> None:
        """Take up what other programs have added to the study through Optuna's API; once in a while."""
        if time.monotonic() < study.foreign_at + FOREIGN_INTERVAL_S:
            return
        study.foreign_at = time.monotonic()
        for number in self.store.foreign.adopt(study.record.study_id):
            logger.info("trial %d was enqueued by another program: it is a place of the budget now", number)
        study.searcher.observe(self.store.foreign.finished(study.record.study_id))

    def _claimable(self, names: list[str]) -> Iterator[str]:
        """Yield studies, behind the one that is served its confirmation; each is asked for when nothing was before."""
        yield from names
        if self.study is not None:
            with self._db_lock:
                confirmation = self.store.confirmations.find(self.study)
            if confirmation is not None:
                yield confirmation.name

    def _is_over(self, name: str) -> bool:
        """Tell whether nothing is left to wait for of a study and its confirmation."""
        with self._db_lock:
            document = self.store.queries.status(name)
        parts = [document, document["confirmation"]]
        return all(part["phase"] in ("done", "stopped") for part in parts if part is not None)

    def _serve(self, study: ServedStudy, claim: Claim) -> None:
        """Fill in, train and end one claimed trial, whatever happens on the way."""
        budget, name = study.spec.budget, study.record.name
        self.progress = Progress(limit_s=budget.trial_timeout, stall_s=budget.stall_timeout, stopping=self.stop.is_set)
        self._serving = Serving(study, claim, self.progress)
        context = {"study": name, "trial": claim.number}
        logger.info("trial %d: claimed (attempt %d)", claim.number, claim.attempt, extra=context)
        if claim.exclusive_device:
            self._wait_for_device(claim)
        try:
            outcome = self._train(study, claim, study.spec.config(self._params(study, claim)))
            self.progress.rest()
            self._publish(claim)
            self._readiness.observe()
        except Exception as error:
            self.progress.rest()
            outcome = classify_failure(
                error, exclusive_device=claim.exclusive_device or self._has_device_to_itself(), device=self.device
            )
            if outcome.reason is Reason.ERROR:
                logger.error("%s", traceback.format_exc(), extra=context)
            if is_disk_full(error):
                self.stop.set()
            self._publish_rest(claim, error)
            self._readiness.observe(error)
        except BaseException:  # Ctrl-C where no handler turns it into a stop, or a training that raises the like
            with self._ending:
                self.store.trials.finish(claim, _within(study, claim, replace(interrupted(), counted=True)))
                self._serving = None
            self._artifacts.release(name, claim.number)
            raise
        outcome = _within(study, claim, outcome)
        tracking = self._serving.tracking
        with self._ending:  # not while the process is ended over this very trial
            is_kept = self.store.trials.finish(claim, outcome, _stop_rule(study))
            self._serving = None
        if tracking is not None:
            reached = outcome.values or (None if outcome.last is None else outcome.last[1:])
            tracking.end(outcome.state.value, reached[0] if reached else None)
        if not is_kept:
            logger.warning("trial %d: was given to another worker meanwhile; this result is not kept", claim.number)
            self._artifacts.release(name, claim.number)
            return
        self.finished += 1
        words = f"{outcome.state.value.lower()}{f', {outcome.reason.value}' if outcome.reason else ''}"
        logger.info("trial %d: %s. %s", claim.number, words, outcome.message or "", extra=context)
        if outcome.state is not State.FAIL or not outcome.retry:
            self._artifacts.drop_checkpoint(name, claim.number)
        self._artifacts.release(name, claim.number)
        if outcome.state is State.FAIL and not outcome.retry:
            stop_when_failing(self.store, name)
        if self._announcer is not None and study.record.parent is None:
            with self._db_lock:
                self._announcer.after_trial(name, claim.number)
        if outcome.reason is Reason.ERROR:
            self._check_device(name)
        if outcome.spoiled:
            raise ProcessSpentError(
                f"trial {claim.number}: {outcome.message}",
                hint="Another worker is to take its place; launchers see to that.",
            )

    def _params(self, study: ServedStudy, claim: Claim) -> Mapping[str, Scalar]:
        """Return the trial's point; an empty or half-filled place of the queue is filled in by the sampler now."""
        if claim.has_params:
            return claim.params
        history = self.store.epochs.history(study.record.study_id, study.cursor)
        study.cursor = history.cursor
        study.learn(history.finished)
        running = [trial for trial in history.running if trial.number != claim.number]
        space = study.spec.space

        def suggest(fixed: Mapping[str, Scalar]) -> dict[str, Scalar]:
            return study.searcher.suggest(claim.slot, fixed=fixed, running=running)

        params = suggested = suggest(claim.params)
        is_grid = study.spec.sampler["name"] == "grid" and claim.hours_per_loss is not None
        if not is_grid and not can_repeat(space, params):
            self.store.trials.set_params(claim, params, space)
            return params
        while True:
            taken = point_keys(space, self.store.trials.taken_points(claim))
            if is_grid:  # its points are not queued beforehand: nobody knows how many the time allows
                size = grid_size(space, claim.params)
                points = (study.searcher.suggest(claim.slot + i, fixed=claim.params) for i in range(size))
                params = next((p for p in points if point_key(space, p) not in taken), suggested)
            else:
                params = untried(
                    space, suggested, taken, seed=study.spec.seed, slot=claim.slot, fixed=claim.params, suggest=suggest
                )
            is_left = point_key(space, params) not in taken
            with suppress(PointTakenError):  # by another worker, in the same moment
                self.store.trials.set_params(claim, params, space, unless_taken=is_left)
                return params

    def _train(self, study: ServedStudy, claim: Claim, config: TrialConfig) -> Outcome:
        """Train a configuration, report its epochs, and say how it ended."""
        name = study.record.name
        with self.progress.paused():  # it may wait for hours for another worker, who prepares the same
            data = self._served.prepared(study, config) if config.has_data else None
        trial = TrialMonitor(study.spec, claim, config, ramp_epochs(config))
        if self._serving is not None:
            self._serving.trial = trial
        is_own = config.train.is_own
        folder = self._artifacts.create(name, claim.number, earlier=claim.previous, whole=is_own)
        if not is_own and not self._artifacts.continues(name, claim.number):
            self._warn_lost_epochs(claim)
        if not isinstance(study.spec, ConfirmationSpec):
            return self._train_epochs(study, claim, trial, config, data, folder)
        return self._train_finalist(study, claim, trial, config, data, folder)

    def _train_finalist(
        self,
        study: ServedStudy,
        claim: Claim,
        trial: TrialMonitor,
        config: TrialConfig,
        data: PreparedData | None,
        folder: Path,
    ) -> Outcome:
        """Train a run of a confirmation, and score it on the test cases where these are judged on."""
        assert isinstance(study.spec, ConfirmationSpec)
        places = self.settings.with_stored(study.record.resources)
        if data is not None and not config.train.is_own:
            with self.progress.paused():
                search = self._served.prepared(study, study.spec.base)
                note_cases(folder, config, data=data, search=search, places=places)
        try:
            outcome = self._train_epochs(study, claim, trial, config, data, folder)
        except RunError as error:
            outcome = classify_failure(error, exclusive_device=claim.exclusive_device, device=self.device)
            if outcome.reason is not Reason.DIVERGED:
                raise
        if data is not None and study.spec.plan.section.on == "test" and outcome.state is not State.FAIL:
            try:
                with self.progress.paused():
                    score_test_cases(
                        folder,
                        config,
                        data=data,
                        device=self.device,
                        places=places,
                        stop=self.progress.should_stop,
                    )
            except ScoringStoppedError:
                return _tell_outcome(self.progress, trial.last)
        return outcome

    def _train_epochs(
        self,
        study: ServedStudy,
        claim: Claim,
        trial: TrialMonitor,
        config: TrialConfig,
        data: PreparedData | None,
        folder: Path,
    ) -> Outcome:
        from tuner.training.trainer import train

        self.progress.has_program = config.train.command is not None
        reports = train(
            config,
            data=data,
            device=self.device,
            folder=folder,
            stop=self.progress.step,
            allow_entry=self.settings.allow_entry,
            data_root=self.settings.with_stored(study.record.resources).data_root,
            is_told=self.progress.is_told,
            place=program_place(self.settings),
            device_share=self._device_share(),
        )
        tracking = self._track(study, claim, config, folder)
        with closing(reports):
            for report in reports:
                self._publish(claim)  # before the database hears of an epoch, others must be able to continue it
                with self.progress.paused():  # the storage may be away for a while
                    answer = self._report(trial, report)
                if tracking is not None and not report.replayed:
                    tracking.log_epoch(
                        report.epoch, report.metrics, report.per_class, train_loss=report.train_loss, lr=report.lr
                    )
                outcome = trial.judge(report, answer)
                if outcome is not None:
                    return outcome
        if self.progress.obeyed and trial.epoch < config.train.epochs:
            return _tell_outcome(self.progress, trial.last)
        return trial.complete()

    def _track(self, study: ServedStudy, claim: Claim, config: TrialConfig, folder: Path) -> TrialTracking | None:
        """Open the trackers of the study for a trial; None where it has none, or where they cannot be opened."""
        if not study.spec.trackers or self._serving is None:
            return None
        loss = config.loss.get("name")
        searched = {"loss"} | {dimension.name for dimension in study.spec.space}
        params = {name: value for name, value in config.parameters().items() if name in searched}
        trial = TrackedTrial(study.record.name, claim.number, loss, params, config.as_dict())
        self._serving.tracking = TrialTracking(study.spec.trackers, trial, folder)
        return self._serving.tracking

    def _warn_lost_epochs(self, claim: Claim) -> None:
        before = max((len(self.store.queries.epochs(claim.study_name, number)) for number in claim.previous), default=0)
        if before:
            logger.warning(
                "trial %d: no checkpoint of its earlier attempts (%s) can be read in %s: it starts from the beginning, "
                "and its first %d epochs are trained again",
                claim.number,
                ", ".join(map(str, claim.previous)),
                f"{self._artifacts.place}/{claim.study_name}",
                before,
            )

    def _publish(self, claim: Claim) -> None:
        self._artifacts.publish(claim.study_name, claim.number, self.progress.should_stop)

    def _publish_rest(self, claim: Claim, error: Exception) -> None:
        """Publish what a trial that failed has left, where that can be done at once."""
        if isinstance(error, UnreachableError):
            return
        try:
            self._artifacts.publish(claim.study_name, claim.number, lambda: True)
        except TunerError as problem:
            logger.warning("trial %d: not all of its files are published: %s", claim.number, problem)

    def _report(self, trial: "TrialMonitor", report: EpochReport) -> ReportAnswer:
        trial.record(report)
        asks = not report.replayed and trial.pruner.should_check(report.epoch, trial.ramp_epochs, bracket=trial.bracket)
        return self.store.epochs.report(trial.claim, trial.row(report), peers=asks, bracket=trial.bracket)

    def _check_device(self, name: str) -> None:
        """End with DeviceQuarantinedError where this device fails what others do well."""
        with self._db_lock:
            try:
                host = socket.gethostname()
                check_device(self.store, name, self._id, host=host, device=self.shown_as, gpu=self._gpu)
            except TunerError:
                self._has_left = True
                raise

    def _has_device_to_itself(self) -> bool:
        """Tell whether no other worker trains on the same device."""
        return all(other.trial_id is None for other in self.store.workers.neighbours(self._id))

    def _device_share(self) -> float:
        """Return the share of the memory of an accelerator that is this worker's; others have theirs."""
        return 1.0 if self.device == "cpu" else 1.0 / (1 + len(self.store.workers.neighbours(self._id)))

    def _wait_for_device(self, claim: Claim) -> None:
        """Wait until no other trial is trained on this device: this one ran out of memory beside others.

        Nobody claims another one there meanwhile. Of two that both want to be alone the older one goes first.
        """
        while any(
            other.trial_id is not None and not (other.alone and other.trial_id > claim.trial_id)
            for other in self.store.workers.neighbours(self._id)
        ):
            self._obstacle = f"waits to have {self.shown_as} for itself"
            if self.progress.should_stop() or self.stop.wait(self.poll_s):
                break
        self._obstacle = None

    @contextmanager
    def _beating(self) -> Iterator[None]:
        """Give heartbeats as long as the training makes progress, and listen for `tuner stop`."""
        over = threading.Event()

        def heartbeat() -> None:
            while not over.wait(HEARTBEAT_INTERVAL_S):
                serving = self._serving
                if serving is None and time.monotonic() - self.progress.last_step > STALL_TIMEOUT_S:
                    continue
                try:
                    with self._db_lock:  # an idle worker does with one connection
                        if self._has_left:
                            return
                        waits = {"waits": self._obstacle} if self._obstacle else {}
                        alive = self.store.workers.heartbeat(self._id, progress=memory_used(self.device) | waits)
                    if serving is not None:
                        orders = self.store.workers.orders(serving.claim)
                        serving.progress.lost |= not alive or orders is None
                        serving.progress.orders = orders or Orders()
                except TunerError as error:
                    logger.warning("heartbeat failed: %s", error)

        thread = threading.Thread(target=heartbeat, name="heartbeat", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join(timeout=2 * HEARTBEAT_INTERVAL_S)

    @contextmanager
    def _watched(self) -> Iterator[None]:
        """End this process over a training that hangs, is past its time, or does not obey."""
        over = threading.Event()

        def watch() -> None:
            while not over.wait(WATCH_S):
                serving = self._serving
                if serving is not None:
                    outcome = self._overstayed(serving)
                    if outcome is not None:
                        self._abandon(serving, outcome, REPLACE)
                if self._dead_man:
                    left_s = float("inf") if serving is None else serving.progress.allowed_s
                    end_no_more() if left_s == float("inf") else end_unless_told(max(0.0, left_s) + DEAD_MAN_S)

        thread = threading.Thread(target=watch, name="watchdog", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            if self._dead_man:
                end_no_more()

    def _overstayed(self, serving: Serving) -> Outcome | None:
        """Say how a trial ends whose training does not end by itself; None as long as it may go on."""
        progress = serving.progress
        if progress.is_stalled and not progress.has_program:
            return stalled(progress.waited_s or 0.0)
        if not (progress.timed_out or progress.orders.now or progress.lost or progress.is_stalled):
            progress.asked_at = None
            return None
        progress.asked_at = progress.asked_at or time.monotonic()
        answer_s = 2 * ANSWER_S + GRACE_S if progress.has_program else ANSWER_S
        if time.monotonic() - progress.asked_at < answer_s:
            return None
        return _tell_outcome(progress, serving.trial.last if serving.trial else None)

    def give_up(self, code: int) -> None:
        """End this process at once, from another thread; the trial that it holds goes back into the queue."""
        serving = self._serving
        if serving is None:
            self._end(code)
        else:
            self._abandon(serving, interrupted(), code, within_s=LAST_WORDS_S)
            self._end(code)

    def _abandon(self, serving: Serving, outcome: Outcome, code: int, *, within_s: float | None = None) -> None:
        """Write down how a trial ends, and end this process under its training.

        Returns when the trial has ended by itself in the last moment, or after `within_s`.
        """
        study, claim = serving.study, serving.claim
        outcome = _within(study, claim, outcome)

        def write_down() -> None:
            with self._ending:
                if self._serving is not serving:  # it has ended by itself in the last moment
                    return
                self._has_left = True  # no further heartbeat
                words = "trial %d: its training does not answer, and this process is ended: %s"
                logger.error(words, claim.number, outcome.message)
                show_stacks()
                with suppress(TunerError):  # else the others find it without a worker
                    if self.store.trials.finish(claim, outcome) and outcome.state is State.FAIL and not outcome.retry:
                        stop_when_failing(self.store, study.record.name)
                    self.store.workers.unregister(self._id)
                end_children()
                self._end(code)
                threading.Event().wait()  # where `end` ends a thread only, the others must not go on

        writer = threading.Thread(target=write_down, name="last words", daemon=True)
        writer.start()
        writer.join(within_s)


def _stop_rule(study: ServedStudy) -> StopRule | None:
    rule = study.spec.budget.stop
    return None if rule is None else StopRule(rule.no_gain_in, rule.target)


def _within(study: ServedStudy, claim: Claim, outcome: Outcome) -> Outcome:
    """Return an outcome whose retry is one that `budget.retries` still allows."""
    if outcome.counted and claim.lost >= study.record.retries:
        return replace(outcome, retry=False)
    return outcome


def _tell_outcome(progress: Progress, last: tuple[int, float] | None) -> Outcome:
    """Return the outcome of a training that has ended, or is ended, because it was told to."""
    if progress.timed_out:
        return overdue(progress.limit_s or 0.0)
    if progress.stalled_s is not None:
        return stalled(progress.stalled_s)
    if progress.orders.now and progress.orders.prune:
        return ended_by_hand(last)
    return interrupted()


def gpu_of(device: str) -> str | None:
    """Return the UUID of a GPU; None for another device."""
    if not device.startswith("cuda"):
        return None
    from tuner.training.device import gpu_uuid

    return gpu_uuid(device)


def memory_used(device: str) -> dict[str, int]:
    """Return the most memory in MiB that this process has held: `rss_mib`, and `cuda_mib` once CUDA is in use.

    On Linux, and on CUDA, since its newest training began (`tuner.training.peak_memory`).
    """
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    used = {"rss_mib": round(peak / (2**20 if sys.platform == "darwin" else 2**10))}
    torch = sys.modules.get("torch")  # importing it for this would cost more than it says
    if torch is not None and device.startswith("cuda") and torch.cuda.is_initialized():
        used["cuda_mib"] = round(torch.cuda.max_memory_reserved(device) / 2**20)
    return used

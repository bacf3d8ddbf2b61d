"""One worker: reap, claim, train, finish. The only place where the search half and the training half meet.

Workers are equal and alone: they meet in the database only, and may die at any moment. A worker that is told to stop
(SIGTERM, `tuner stop`) abandons the epoch it is in, and gives its trial back with the checkpoint of the
last finished one.
"""

import json
import logging
import math
import os
import re
import resource
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field

from tuner import __version__
from tuner.artifacts import Artifacts
from tuner.config import TrialConfig
from tuner.data.prepared import PreparedData, prepare
from tuner.errors import DiskFullError, TunerError
from tuner.outcomes import Trial, blame, given_back
from tuner.registry import Scalar
from tuner.search.searcher import Searcher
from tuner.settings import Settings
from tuner.spec import StudySpec, load_spec
from tuner.store.records import Claim, Outcome, ReportAnswer, StudyRecord
from tuner.store.states import Reason, State, Wanted
from tuner.store.store import Store
from tuner.training.reports import EpochReport
from tuner.yaml_file import YamlDocument

logger = logging.getLogger(__name__)

FAILURES_IN_A_ROW = 5
"""Trials that end in the same failure one after the other, before the study stops itself."""
ALONE_WITHIN_S = 1800.0
"""Seconds that a trial which needs its device for itself waits for the others to end."""
BEAT_S = 5.0
"""Seconds between two signs of life."""
HANGS_AFTER_S = 900.0
"""A training that makes no step for so long gets no more signs of life: it hangs, and is given to another worker."""


@dataclass(slots=True)
class Progress:
    """What the training thread has done last; the heartbeat believes this, not the mere existence of the process."""

    touched: float = field(default_factory=time.monotonic)
    started: float = field(default_factory=time.monotonic)
    limit_s: float | None = None
    stopping: Callable[[], bool] = lambda: False
    overdue: bool = False
    told: bool = False
    """The study is to be stopped, or this worker was taken for dead: told by the answer to a sign of life."""

    def tick(self) -> bool:
        """Called by the trainer at every step: note progress; True asks it to end at once."""
        self.touched = time.monotonic()
        if self.limit_s is not None and self.touched - self.started > self.limit_s:
            self.overdue = True
        return self.overdue or self.told or self.stopping()


@dataclass(slots=True)
class Study:
    """What a worker keeps of a study while it serves it."""

    record: StudyRecord
    spec: StudySpec
    searcher: Searcher
    cursor: int = 0


class Worker:
    """Serves one study (or, with `study=None`, whichever has work) on one device until the work is done.

    Args:
        store: opened for writing.
        settings: places of data, cache and artifacts on this machine.
        study: name of the study to serve; None serves any.
        device: `cpu`, `mps` or `cuda:N`.
        stop: set from outside to drain.
        poll_s: seconds between two looks when there is nothing to claim.
    """

    def __init__(
        self,
        store: Store,
        settings: Settings,
        *,
        study: str | None,
        device: str,
        stop: threading.Event | None = None,
        poll_s: float = 1.0,
    ) -> None:
        self.store = store
        self.settings = settings
        self.study = study
        self.device = device
        self.stop = stop or threading.Event()
        self.poll_s = poll_s
        self.progress = Progress()
        self.finished = 0
        self._studies: dict[str, Study] = {}
        self._data: dict[str, PreparedData] = {}
        self._artifacts = Artifacts(settings.artifacts)
        self._id = ""
        self._serving: str | None = None

    def run(self) -> int:
        """Work until nothing is left, the study is stopped, or `stop` is set; return how many trials were ended."""
        self._id = self.store.register_worker(
            host=socket.gethostname(), pid=os.getpid(), device=self.device, study=self.study, version=__version__
        )
        logger.info("worker %s on %s", self._id, self.device, extra={"worker": self._id, "device": self.device})
        with self._beating():
            try:
                while not self.stop.is_set():
                    if not self._turn():
                        break
            finally:
                self.store.leave(self._id)
        return self.finished

    def _turn(self) -> bool:
        """Serve one trial, or wait a moment; False when there is nothing left to wait for."""
        names = [self.study] if self.study else self.store.studies_with_work()
        for name in names:
            study = self._open(name)
            self.store.requeue_lost_trials(study.record.study_id)
            claim = self.store.claim(study.record.study_id, self._id)
            if claim is not None:
                self._serving = name
                try:
                    self._serve(study, claim)
                finally:
                    self._serving = None
                return True
        if self.study and self.store.study_phase(self.study)[0] in ("done", "stopped"):
            return False
        self.progress.tick()
        self.stop.wait(self.poll_s)
        return True

    def _open(self, name: str) -> Study:
        if name not in self._studies:
            record = self.store.study(name)
            spec = load_spec(YamlDocument(record.spec, {}, f"study {name}"))
            sampler = dict(spec.sampler)
            searcher = Searcher(
                spec.space, spec.directions, sampler=sampler.pop("name"), options=sampler, seed=spec.seed
            )
            self._studies[name] = Study(record, spec, searcher)
        return self._studies[name]

    def _serve(self, study: Study, claim: Claim) -> None:
        """Fill in, train and end one claimed trial, whatever happens on the way."""
        self.progress = Progress(limit_s=study.spec.budget.trial_timeout, stopping=self.stop.is_set)
        name = study.record.name
        context = {"study": name, "trial": claim.number}
        logger.info("trial %d: claimed (attempt %d)", claim.number, claim.attempt, extra=context)
        if claim.alone:
            self._wait_for_device(claim)
        try:
            outcome = self._train(study, claim, study.spec.config(self._params(study, claim)))
        except Exception as error:
            outcome = blame(error, alone=claim.alone or self._is_alone(name))
            if outcome.reason is Reason.ERROR:
                logger.error("%s", traceback.format_exc(), extra=context)
            if isinstance(error, DiskFullError):
                self.stop.set()
        if not self.store.finish(claim, outcome):
            logger.warning("trial %d: was given to another worker meanwhile; this result is not kept", claim.number)
            return
        self.finished += 1
        words = f"{outcome.state.value.lower()}{f', {outcome.reason.value}' if outcome.reason else ''}"
        logger.info("trial %d: %s. %s", claim.number, words, outcome.message or "", extra=context)
        if outcome.state is not State.FAIL:
            self._artifacts.drop_checkpoint(name, claim.number)
        elif not outcome.retry:
            stop_when_failing(self.store, name)

    def _params(self, study: Study, claim: Claim) -> Mapping[str, Scalar]:
        """Return the trial's point; an empty or half-filled place of the queue is filled in by the sampler now."""
        if claim.complete:
            return claim.params
        history = self.store.history(study.record.study_id, study.cursor)
        study.cursor = history.cursor
        study.searcher.observe(history.finished)
        running = [trial for trial in history.running if trial.number != claim.number]
        params = study.searcher.suggest(claim.slot, fixed=claim.params, running=running)
        self.store.set_params(claim, params, study.spec.space)
        return params

    def _train(self, study: Study, claim: Claim, config: TrialConfig) -> Outcome:
        """Train a configuration, report its epochs, and say how it ended."""
        from tuner.training.trainer import train

        name = study.record.name
        data = self._prepared(config, study)
        trial = Trial(study.spec, claim, config, ramp_epochs(config, data))
        folder = self._artifacts.create(name, claim.number, earlier=claim.previous)
        reports = train(
            config,
            data=data,
            device=self.device,
            folder=folder,
            stop=self.progress.tick,
            allow_entry=self.settings.allow_entry,
        )
        with closing(reports):
            for report in reports:
                outcome = trial.judge(report, self._report(trial, report))
                if outcome is not None:
                    return outcome
        if self.progress.overdue:
            limit = study.spec.budget.trial_timeout or 0.0
            return Outcome(State.FAIL, Reason.TIMEOUT, f"took longer than budget.trial_timeout ({limit:g} s)")
        if trial.epoch < config.train.epochs:
            return given_back()
        return trial.complete()

    def _report(self, trial: "Trial", report: EpochReport) -> ReportAnswer:
        trial.see(report)
        asks = not report.replayed and trial.pruner.asks(report.epoch, trial.ramp_epochs, bracket=trial.bracket)
        return self.store.report(trial.claim, trial.row(report), peers=asks, bracket=trial.bracket)

    def _prepared(self, config: TrialConfig, study: Study) -> PreparedData:
        key = json.dumps([config.dataset, study.spec.seed], sort_keys=True)
        if key not in self._data:
            places = self.settings.with_stored(study.record.resources)
            data = prepare(config.dataset, data_root=places.data_root, cache=places.cache, seed=study.spec.seed)
            if study.record.resources.get("fingerprint") is None and config.dataset == study.spec.base.dataset:
                facts = {"fingerprint": data.fingerprint, "protocol": data.validation_protocol}
                self.store.add_resources(study.record.study_id, facts)
                study.record = self.store.study(study.record.name)
            self._data[key] = data
        return self._data[key]

    def _is_alone(self, name: str) -> bool:
        """Tell whether no other worker of this host trains on the same device."""
        return not self._beside(name)

    def _beside(self, name: str) -> list[int]:
        """Return the numbers of the trials that other workers of this host train on the same device."""
        here = (socket.gethostname(), self.device)
        others = [w for w in self.store.workers(name) if (w["host"], w["device"]) == here and w["id"] != self._id]
        return [w["trial"] for w in others if w["trial"] is not None]

    def _wait_for_device(self, claim: Claim) -> None:
        """Let the older trials on this device end first: this one ran out of memory beside others."""
        until = time.monotonic() + ALONE_WITHIN_S
        while time.monotonic() < until and any(n < claim.number for n in self._beside(claim.study_name)):
            if self.progress.tick() or self.stop.wait(self.poll_s):
                return

    def _is_stopped(self) -> bool:
        """Tell whether the study whose trial is trained here is to be stopped: looked at between two epochs as well."""
        serving = self._serving
        return serving is not None and self.store.study(serving).wanted is Wanted.STOP

    @contextmanager
    def _beating(self) -> Iterator[None]:
        """Give signs of life as long as the training makes progress, and listen for `tuner stop`."""
        over = threading.Event()

        def beat() -> None:
            while not over.wait(BEAT_S):
                if time.monotonic() - self.progress.touched > HANGS_AFTER_S:
                    continue
                try:
                    alive = self.store.beat(self._id, progress=memory_used(self.device))
                    self.progress.told = not alive or self._is_stopped()
                except TunerError as error:
                    logger.warning("no sign of life could be given: %s", error)

        thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join(timeout=2 * BEAT_S)


def memory_used(device: str) -> dict[str, int]:
    """Return the most memory in MiB that this process has held: `rss_mib`, and `cuda_mib` once CUDA is in use."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    used = {"rss_mib": round(peak / (2**20 if sys.platform == "darwin" else 2**10))}
    torch = sys.modules.get("torch")  # importing it for this would cost more than it says
    if torch is not None and device.startswith("cuda") and torch.cuda.is_initialized():
        used["cuda_mib"] = round(torch.cuda.max_memory_reserved(device) / 2**20)
    return used


def ramp_epochs(config: TrialConfig, data: PreparedData) -> int:
    """Return how many epochs the loss is still being ramped up, and its trial must not be judged."""
    from tuner.losses.build import build_loss

    loss = build_loss(
        config.loss, classes=data.classes, ignore_index=data.ignore_index, class_frequencies=data.class_frequencies
    )
    return math.ceil(loss.ramp_end() * config.train.epochs)


def stop_when_failing(store: Store, name: str) -> None:
    """Stop a study whose trials fail for one and the same reason, instead of burning its budget.

    That is: the last FAILURES_IN_A_ROW trials that ended all failed, with the same reason and the same message but for
    its numbers. Bad data, a broken device or a missing package look like that; unlucky parameters do not.
    """
    newest = store.trials(name, sort="finished", order="desc", limit=FAILURES_IN_A_ROW)
    ended = [trial for trial in newest if trial["finished"]]
    kinds = {(t["state"], t["reason"], re.sub(r"[0-9.]+", "#", t["message"] or "")) for t in ended}
    if len(ended) < FAILURES_IN_A_ROW or len(kinds) != 1 or ended[0]["state"] != State.FAIL:
        return
    message = f"the last {FAILURES_IN_A_ROW} trials all failed in the same way: {ended[0]['message']}"
    logger.error("stopping the study %s: %s", name, message, extra={"study": name})
    store.stop(name, "failures", message)

"""Study cache of a worker: the studies that it serves and their data on its machine."""

import json
import logging
import math
import os
import socket
import statistics
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from tuner.config.command import check_allowed
from tuner.config.confirmation import served_spec
from tuner.config.study import StudySpec
from tuner.config.trial import TrialConfig
from tuner.data.preparation import PreparedData, check_same_data, prepare
from tuner.errors import ConflictError, StorageError, TunerError
from tuner.search.finished_trial import FinishedTrial
from tuner.search.sampler import SeededSampler
from tuner.settings import Settings
from tuner.storage.records import PriorResult, StudyRecord
from tuner.storage.storage import Storage
from tuner.storage.studies import AUTO
from tuner.worker.searcher import PRIOR_OTHER, as_trials, make_searcher

logger = logging.getLogger(__name__)

REFUSED_RETRY_S = 60.0
"""A worker for any study looks again after so long at one that it could not serve."""

REFRESH_INTERVAL_S = 15.0
"""Whether a study is still the same is asked that often where nothing else tells."""


SCALED_AFTER = 10
"""Complete trials of a study before results of other data are put on its scale."""


@dataclass(slots=True)
class ServedStudy:
    """What a worker keeps of a study while it serves it."""

    record: StudyRecord
    spec: StudySpec
    searcher: SeededSampler
    cursor: int = 0
    foreign_at: float = -math.inf
    """When other programs' trials were last looked for."""
    prior: list[PriorResult] = field(default_factory=list)
    """Results of other data that the sampler has not been shown yet."""
    values: list[float] = field(default_factory=list)
    """The first values of this study, in the order in which they came."""

    def learn(self, finished: Sequence[FinishedTrial]) -> None:
        """Show the sampler what has finished, and results of other data once their values can be put on this scale.

        Values of other data are higher or lower as a whole: they take median and spread of the first values here.
        """
        self.searcher.observe(finished)
        if not self.prior:
            return
        new = [t.values[0] for t in finished if t.state == "COMPLETE" and t.values]
        self.values = (self.values + new)[:SCALED_AFTER]
        if len(self.values) == SCALED_AFTER:
            theirs = [result.value for result in self.prior]
            ratio = _spread(self.values) / (_spread(theirs) or 1.0)
            middle, own = statistics.median(theirs), statistics.median(self.values)
            scaled = [own + (value - middle) * ratio for value in theirs]
            self.searcher.observe(as_trials(self.prior, scaled, first=PRIOR_OTHER))
            self.prior = []


def _spread(values: Sequence[float]) -> float:
    """Return the median distance from the median."""
    middle = statistics.median(values)
    return statistics.median([abs(value - middle) for value in values])


class StudyCache:
    """What one worker knows of studies; each is opened once, and only where its data is as the study began with it.

    `talking` is held while the storage is asked, and not while data is prepared: heartbeats come in between.
    """

    def __init__(
        self, store: Storage, settings: Settings, talking: AbstractContextManager[object], device: str = "cpu"
    ) -> None:
        self._store = store
        self._device = device
        self._settings = settings
        self._db_lock = talking
        self._studies: dict[str, ServedStudy] = {}
        self._data: dict[str, PreparedData] = {}
        self._refused: dict[str, float] = {}
        self._looked: dict[str, float] = {}

    def open(self, name: str) -> ServedStudy:
        """Return a study that can be served here.

        Before anything is claimed, so that a machine that lacks the data costs the study no trial.

        Raises:
            ConflictError: The data here is not what the study began with, or this device cannot compute as it does.
            EntryError: Its program may not be run here.
            DataError: It is missing or broken.
            StorageError: The storage does not answer.
        """
        if name not in self._studies:
            study = self._read(name)
            if study.spec.base.train.command is not None:
                check_allowed(study.spec.base.train.command, self._settings.allow_command)
            if study.spec.base.has_data:
                self._check_data(study)
            study = self._resolve(study)
            self._studies[name] = study
            self._looked[name] = time.monotonic()
        return self._studies[name]

    def refresh(self, name: str, identity: str | None = None) -> ServedStudy:
        """Return a study that was opened, anew when it was deleted and made again since.

        `identity` is what the storage has just told; without it the storage is asked, though not all the time.
        """
        if identity is None and time.monotonic() < self._looked.get(name, 0.0) + REFRESH_INTERVAL_S:
            return self.open(name)
        self._looked[name] = time.monotonic()
        known = self._studies.get(name)
        if known is not None and (identity or self._record(name).identity) != known.record.identity:
            del self._studies[name]
        return self.open(name)

    def get_or_none(self, name: str) -> ServedStudy | None:
        """Return a study, or None, with a warning, for one that cannot be served here: then others may be."""
        if time.monotonic() < self._refused.get(name, 0.0):
            return None
        try:
            return self.refresh(name)
        except StorageError:
            raise
        except TunerError as error:
            logger.warning("study %s is not served here: %s", name, error)
            self._refused[name] = time.monotonic() + REFUSED_RETRY_S
            return None

    def prepared(self, study: ServedStudy, config: TrialConfig) -> PreparedData:
        """Return the data of a trial; it stays mapped for the next ones."""
        seed = study.spec.division_seed(config)
        key = json.dumps([config.dataset, seed], sort_keys=True)
        if key not in self._data:
            places = self._settings.with_stored(study.record.resources)
            self._data[key] = prepare(config.dataset, data_root=places.data_root, cache=places.cache, seed=seed)
        return self._data[key]

    def _record(self, name: str) -> StudyRecord:
        with self._db_lock:
            return self._store.studies.get(name)

    def _read(self, name: str) -> ServedStudy:
        record = self._record(name)
        spec = served_spec(record.spec, name)
        with self._db_lock:
            searcher, other = make_searcher(self._store, record, spec)
        return ServedStudy(record, spec, searcher, prior=other)

    def _resolve(self, study: ServedStudy) -> ServedStudy:
        """Return a study whose threads and precision are settled: by its first worker, then for all the same."""
        from tuner.training.device import precision_problem, resolve_precision

        dims = self.prepared(study, study.spec.base).spatial_dims if study.spec.base.has_data else 2
        train = study.spec.base.train
        values: dict[str, object] = {}
        if train.threads is None:
            values["threads"] = self._threads()
        if train.precision == AUTO and train.command is None:  # a program knows for itself
            values["precision"] = resolve_precision(self._device, dims)
        if values:
            with self._db_lock:
                self._store.studies.resolve_train(study.record.study_id, values)
            study = self._read(study.record.name)
            train = study.spec.base.train
            logger.info(
                "study %s: all its trials are trained with %s threads in %s",
                *(study.record.name, train.threads, train.precision),
            )
        problem = None if train.command is not None else precision_problem(train.precision, self._device, dims)
        if problem is not None:
            raise ConflictError(
                f"study {study.record.name!r} is trained in {train.precision}, and {problem}.",
                hint="Serve it with devices that can, or make it anew with `train: {precision: float32}`.",
                where=self._device,
            )
        return study

    def _threads(self) -> int:
        """Return the threads of each of the workers that are on this machine now."""
        import torch

        here = socket.gethostname()
        with self._db_lock:
            workers = len([worker for worker in self._store.workers.live() if worker["host"] == here])
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return max(1, min(int(torch.get_num_threads()), cores // max(1, workers)))

    def _check_data(self, study: ServedStudy) -> None:
        """Compare the data of this machine with the study's; its first worker says which data that is."""
        data, record = self.prepared(study, study.spec.base), study.record
        if record.resources.get("fingerprint") is None:
            facts = {"fingerprint": data.fingerprint, "protocol": data.validation_protocol}
            with self._db_lock:
                self._store.studies.add_resources(record.study_id, facts)
            record = study.record = self._record(record.name)
        where = str(self._settings.with_stored(record.resources).data_root or self._settings.cache)
        stored = record.resources.get("fingerprint")
        check_same_data(data.name, record.name, found=data.fingerprint, stored=stored, where=where)

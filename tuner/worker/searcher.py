"""The sampler of a stored study with results of earlier ones: for workers, and for who asks it afterwards."""

from collections.abc import Sequence

from tuner.config.study import StudySpec
from tuner.search.finished_trial import FinishedTrial
from tuner.search.sampler import SeededSampler
from tuner.storage.records import PriorResult, StudyRecord
from tuner.storage.storage import Storage

PRIOR_OTHER, PRIOR_SAME = -2_000_000, -1_000_000
"""Numbers of the first results of other data and of the same: before all trials of the study."""


def make_searcher(store: Storage, record: StudyRecord, spec: StudySpec) -> tuple[SeededSampler, list[PriorResult]]:
    """Return the sampler before the first trial, and the results of other data that it cannot take as they are."""
    sampler = dict(spec.sampler)
    searcher = SeededSampler(spec.space, spec.directions, sampler=sampler.pop("name"), options=sampler, seed=spec.seed)
    prior = store.foreign.prior(record.study_id)
    same = [result for result in prior if result.same_data]
    searcher.observe(as_trials(same, [result.value for result in same], first=PRIOR_SAME))
    other = [result for result in prior if not result.same_data]
    if other and searcher.observe_other(as_trials(other, [result.value for result in other], first=PRIOR_OTHER)):
        other = []
    return searcher, other


def as_trials(results: Sequence[PriorResult], values: Sequence[float], *, first: int) -> list[FinishedTrial]:
    """Return results as trials older than all of the study."""
    return [
        FinishedTrial(first + i, "COMPLETE", result.params, (value,))
        for i, (result, value) in enumerate(zip(results, values, strict=True))
    ]


def expected_means(store: Storage, record: StudyRecord, spec: StudySpec) -> dict[int, float]:
    """Return the mean over seeds that the sampler expects of complete trials, by number; empty where it models none."""
    if len(spec.directions) > 1 or spec.sampler["name"] != "auto":
        return {}
    searcher, _ = make_searcher(store, record, spec)
    searcher.observe(store.epochs.history(record.study_id).finished)
    searcher.observe(store.foreign.finished(record.study_id))
    return {number: mean for number, mean in searcher.estimates().items() if number >= 0}

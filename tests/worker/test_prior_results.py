"""Results of earlier studies as the sampler sees them."""

from dataclasses import dataclass, field

from tuner.search.finished_trial import FinishedTrial
from tuner.storage.records import PriorResult
from tuner.worker.study_cache import SCALED_AFTER, ServedStudy


@dataclass
class Listener:
    """Stands where the sampler stands, and keeps what it is shown."""

    seen: list[FinishedTrial] = field(default_factory=list)

    def observe(self, finished: list[FinishedTrial]) -> None:
        self.seen += finished


def test_values_of_other_data_take_the_scale_of_this_study() -> None:
    """Dice of 0.9 there and 0.3 here may be equally good: ranks count, and only once there is a scale."""
    listener = Listener()
    prior = [PriorResult({"train.lr": 0.1 * i}, 0.8 + 0.01 * i, False) for i in range(11)]
    study = ServedStudy(None, None, listener, prior=prior)  # type: ignore[arg-type]
    trials = [FinishedTrial(i, "COMPLETE", {}, (0.1 + 0.02 * i,)) for i in range(SCALED_AFTER)]

    study.learn(trials[:-1])
    assert len(listener.seen) == SCALED_AFTER - 1
    study.learn(trials[-1:])

    shown = [t.values[0] for t in listener.seen if t.number < 0 and t.values]
    assert len(shown) == 11
    assert shown == sorted(shown)
    assert abs(shown[5] - 0.19) < 1e-9
    assert 0 < shown[0] < shown[-1] < 0.4

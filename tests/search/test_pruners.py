"""Each pruner ends a planted loser and spares a planted late starter; all of them are patient."""

import math
from collections import Counter
from dataclasses import dataclass, field

import pytest

from tuner.errors import UnknownNameError
from tuner.search.catalog import PRUNERS
from tuner.search.pruners import Peers, Pruner, make_pruner

EPOCHS = 30
ACTIVE = [name for name in PRUNERS if name != "none"]


def usual(number: int) -> list[float]:
    """A training that rises to between 0.70 and 0.79."""
    return [(0.7 + 0.01 * (number * 7 % 10)) * (1 - math.exp(-epoch / 6)) for epoch in range(1, EPOCHS + 1)]


def loser(_: int) -> list[float]:
    """A training that never gets anywhere."""
    return [0.2 * (1 - math.exp(-epoch / 6)) for epoch in range(1, EPOCHS + 1)]


def late_starter(_: int) -> list[float]:
    """Nothing for seven epochs, then better than all others by a third of the training."""
    return [0.05 if epoch <= 7 else 0.9 * (1 - math.exp(-(epoch - 7) / 1.5)) for epoch in range(1, EPOCHS + 1)]


@dataclass
class Simulation:
    """What the store does in SQL, on a list: the best value so far of every trial at every epoch."""

    pruner: Pruner
    finished: int = 0
    rows: list[tuple[int, str, int, float]] = field(default_factory=list)

    def run(self, slot: int, loss: str, curve: list[float], ramp: int = 0) -> int | None:
        """Train one trial; return the epoch after which it was ended, None when it was not."""
        bracket = self.pruner.bracket(slot)
        best, ended = -math.inf, None
        for epoch, value in enumerate(curve, 1):
            best = max(best, value)
            if self.pruner.should_check(epoch, ramp, bracket=bracket):
                reason = self.pruner.decide(epoch, self.peers(epoch, loss, bracket, best))
                if reason is not None:
                    ended = epoch
            self.rows.append((epoch, loss, bracket, best))
            if ended is not None:
                break
        self.finished += 1
        return ended

    def peers(self, epoch: int, loss: str, bracket: int, best: float) -> Peers:
        every = [row for row in self.rows if row[0] == epoch and row[2] == bracket]
        same = [row for row in every if row[1] == loss]
        better = [sum(row[3] > best for row in rows) for rows in (same, every)]
        return Peers(self.finished, len(same), better[0], len(every), better[1])


def warm(name: str, trials: int = 40, **options: float) -> Simulation:
    """Return a simulation in which some usual trials of one loss have run."""
    simulation = Simulation(make_pruner(name, options, epochs=EPOCHS))
    for slot in range(trials):
        simulation.run(slot, "dice", usual(slot))
    return simulation


def active_slot(pruner: Pruner) -> int:
    return next(slot for slot in range(100, 200) if pruner.bracket(slot) == 0)


@pytest.mark.parametrize("name", ACTIVE)
def test_a_loser_is_ended(name: str) -> None:
    """What saves the time of a search: a hopeless trial ends at a third of its epochs."""
    simulation = warm(name)

    assert simulation.run(active_slot(simulation.pruner), "dice", loser(0)) == 10


@pytest.mark.parametrize("name", ACTIVE)
def test_a_late_starter_is_spared(name: str) -> None:
    """The best trial of a study often looks bad for its first epochs; ending it loses the study's result."""
    simulation = warm(name)

    assert simulation.run(active_slot(simulation.pruner), "dice", late_starter(0)) is None


@pytest.mark.parametrize("name", ACTIVE)
def test_nothing_is_ended_before_enough_trials_have_finished(name: str) -> None:
    """The first trials have nobody to be compared with."""
    simulation = warm(name, trials=5 if name == "auto" else 9)

    assert simulation.run(active_slot(simulation.pruner), "dice", loser(0)) is None


@pytest.mark.parametrize("name", ACTIVE)
def test_a_ramp_is_waited_for(name: str) -> None:
    """A loss that is added late cannot show what it is worth before it is there."""
    simulation = warm(name, min_epochs=5)
    slot = active_slot(simulation.pruner)

    ended = simulation.run(slot, "dice", loser(0), ramp=12)

    assert ended is not None
    assert ended > 12


@pytest.mark.parametrize("name", [name for name in ACTIVE if name != "auto"])
def test_peers_are_of_the_same_loss_while_there_are_enough(name: str) -> None:
    """A slow loss must not be ended for being slower than the others: they compete at the end."""
    simulation = warm(name, min_trials=0)
    slow = [0.5 * value for value in usual(9)]
    slots = [slot for slot in range(100, 300) if simulation.pruner.bracket(slot) == 0]

    assert simulation.run(slots[0], "boundary", slow) == 10
    slower = [(epoch, "boundary", 0, 0.4 * value) for epoch, value in enumerate(usual(0), 1)]
    simulation.rows += 4 * slower
    assert simulation.run(slots[1], "boundary", slow) is None


@pytest.mark.parametrize("name", list(PRUNERS))
def test_the_last_epoch_is_never_judged(name: str) -> None:
    """After the last epoch there is nothing to save: the trial is complete."""
    pruner = make_pruner(name, {}, epochs=EPOCHS)

    assert not any(pruner.should_check(epoch, 0) for epoch in (*range(1, 10), EPOCHS, EPOCHS + 1))


def test_short_trainings_are_not_judged_before_their_third_epoch() -> None:
    """A third of five epochs is one; after one epoch nothing can be said."""
    pruner = make_pruner("median", {}, epochs=5)

    assert [epoch for epoch in range(1, 6) if pruner.should_check(epoch, 0)] == [3, 4]


def test_none_never_asks() -> None:
    """Switched off means off."""
    simulation = warm("none")

    assert simulation.run(100, "dice", loser(0)) is None
    assert simulation.pruner.decide(20, Peers(50, 20, 20, 50, 50)) is None


@pytest.mark.parametrize(
    ("name", "options", "count", "better", "ended"),
    [
        pytest.param("median", {}, 10, 5, False, id="exactly the median goes on"),
        pytest.param("median", {}, 10, 6, True, id="below the median"),
        pytest.param("percentile", {"percentile": 20}, 10, 2, False, id="among the best fifth"),
        pytest.param("percentile", {"percentile": 20}, 10, 3, True, id="not among the best fifth"),
        pytest.param("successive_halving", {"reduction_factor": 3}, 8, 2, False, id="third of nine"),
        pytest.param("successive_halving", {"reduction_factor": 3}, 8, 3, True, id="fourth of nine"),
        pytest.param("successive_halving", {"reduction_factor": 9}, 4, 0, False, id="the best always goes on"),
    ],
)
def test_the_rules(name: str, options: dict, count: int, better: int, ended: bool) -> None:
    """The border of each rule, by hand."""
    reason = make_pruner(name, options, epochs=EPOCHS).decide(10, Peers(50, count, better, 90, 80))

    assert (reason is not None) is ended


def test_reasons_say_what_was_counted() -> None:
    """A person who sees PRUNED asks against whom, when, and by how much."""
    pruner = make_pruner("median", {}, epochs=EPOCHS)

    assert pruner.decide(12, Peers(50, 8, 7, 90, 20)) == (
        "worse than the median after epoch 12: 7 of 8 trials of the same loss were better"
    )
    assert "of 90 trials of all losses" in str(pruner.decide(12, Peers(50, 2, 0, 90, 80)))
    assert pruner.decide(12, Peers(50, 2, 2, 3, 3)) is None


def test_rungs_grow_by_the_factor_and_fall_on_validations() -> None:
    """A rung between two validations would never be asked for, and nothing would ever be ended."""
    pruner = make_pruner("successive_halving", {"min_epochs": 4, "reduction_factor": 2}, epochs=40, validate_every=3)

    assert [epoch for epoch in range(1, 41) if pruner.should_check(epoch, 0)] == [6, 9, 18, 33]


def test_brackets_are_spread_and_the_same_everywhere() -> None:
    """Every worker must put a trial into the same bracket, and any stretch of the budget must hold all of them."""
    options = {"min_epochs": 3, "reduction_factor": 3}
    first, second = (make_pruner("hyperband", options, epochs=81) for _ in range(2))
    brackets = [first.bracket(slot) for slot in range(240)]
    counts = Counter(brackets)

    assert brackets == [second.bracket(slot) for slot in range(240)]
    assert sorted(counts) == [0, 1, 2, 3]
    assert counts[0] > counts[1] > counts[2] > counts[3] > 0
    assert all(len(set(brackets[start : start + 40])) == 4 for start in range(0, 200, 40))


def test_a_patient_bracket_passes_the_first_rungs_over() -> None:
    """That is what brackets are for."""
    pruner = make_pruner("hyperband", {"min_epochs": 3, "reduction_factor": 3}, epochs=81)
    asked = [[epoch for epoch in range(1, 82) if pruner.should_check(epoch, 0, bracket=b)] for b in range(4)]

    assert asked == [[3, 9, 27], [9, 27], [27], []]


def test_unknown_pruners_and_options_are_refused() -> None:
    """A misspelt option that is ignored silently would prune by other rules than its owner believes."""
    with pytest.raises(UnknownNameError, match="Did you mean 'median'"):
        make_pruner("medain", {}, epochs=10)
    with pytest.raises(UnknownNameError, match="min_epochs"):
        make_pruner("median", {"min_epoch": 3}, epochs=10)


@pytest.mark.parametrize(
    ("epoch", "better", "same", "goes_on"),
    [
        pytest.param(3, 19, 5, True, id="before a third"),
        pytest.param(4, 5, 5, True, id="among the best third"),
        pytest.param(4, 8, 5, False, id="not among them"),
        pytest.param(6, 6, 5, False, id="not among the best quarter"),
        pytest.param(8, 4, 5, True, id="among the best fifth"),
        pytest.param(6, 15, 0, True, id="the first trial of its loss"),
        pytest.param(7, 15, 0, False, id="after half of the epochs no longer"),
    ],
)
def test_the_share_that_goes_on_falls_in_stages(epoch: int, better: int, same: int, goes_on: bool) -> None:
    """All losses are compared, and each has its hearing."""
    pruner = make_pruner("auto", {"hearing": 1}, epochs=12)
    peers = Peers(finished=20, same=same, same_better=same, every=20, every_better=better)

    assert not pruner.should_check(epoch, 0) or (pruner.decide(epoch, peers) is None) == goes_on
    assert pruner.should_check(epoch, 0) or goes_on

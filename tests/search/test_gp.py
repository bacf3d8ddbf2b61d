"""What the Gaussian process is shown, and when TPE stands in for it."""

import numpy as np
import torch

from tests.search.planted_optimum import infeasible, play, scored, searcher_for
from tuner.search.gp import _MAX_TRIALS, _most_telling


def test_a_long_history_is_thinned_to_the_best_and_the_newest() -> None:
    """Fitting costs the cube of the trials: a long study must not make its own suggestions unaffordable."""
    losses = np.linspace(0, 1, 1000)
    shown = _most_telling(losses)

    assert len(shown) == len(set(shown)) == _MAX_TRIALS
    assert shown == sorted(shown)
    assert set(range(_MAX_TRIALS // 3)) <= set(shown)
    assert set(range(900, 1000)) <= set(shown)
    assert _most_telling(losses[:7]) == list(range(7))


def test_a_loss_without_trials_is_left_to_tpe() -> None:
    """A process through one point says nothing; the shared options are known from the other losses."""
    gp, tpe = searcher_for("gp"), searcher_for("tpe")
    trials = [t for t in play(searcher_for("random"), 40) if t.params["loss"] != "tversky"]
    gp.observe(trials)
    tpe.observe(trials)

    assert gp.suggest(50, fixed={"loss": "tversky"}) == tpe.suggest(50, fixed={"loss": "tversky"})
    assert gp.suggest(50, fixed={"loss": "focal"}) != tpe.suggest(50, fixed={"loss": "focal"})


def test_observing_twice_is_observing_once() -> None:
    """A worker reads the history again after a lost connection."""
    once, twice = searcher_for("tpe"), searcher_for("tpe")
    trials = [scored(t.number, t.params) for t in play(searcher_for("random"), 20)]
    once.observe(trials)
    for _ in range(2):
        twice.observe(trials)

    assert once.suggest(30, fixed={}) == twice.suggest(30, fixed={})


def test_a_study_of_failures_only_goes_on() -> None:
    """The first trials may all run out of memory; the next suggestion must come all the same."""
    for name in ("gp", "cmaes", "tpe"):
        searcher = searcher_for(name)
        searcher.observe([infeasible(t.number, t.params) for t in play(searcher_for("random"), 15)])

        assert len(searcher.suggest(20, fixed={"loss": "focal"})) == 5


def test_a_training_in_the_same_process_does_not_notice() -> None:
    """A worker trains where it searches: threads and random states move the numbers of the training."""
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    searcher = searcher_for("gp")
    searcher.observe(play(searcher_for("random"), 12))
    state, numpys = torch.random.get_rng_state(), np.random.get_state()[1].tolist()

    searcher.suggest(20, fixed={"loss": "focal"})

    assert torch.get_num_threads() == 2
    assert torch.equal(state, torch.random.get_rng_state())
    assert numpys == np.random.get_state()[1].tolist()
    torch.set_num_threads(threads)

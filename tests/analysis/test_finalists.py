"""Who is trained again: the best of each loss and a baseline, with seeds that no trial has used."""

from typing import Any

import pytest

from tests.worker.studies import tiny
from tuner.analysis.finalists import estimate, first_fresh_seed, plan_confirmation
from tuner.config.confirm_section import ConfirmSection
from tuner.config.study import StudySpec
from tuner.errors import ConflictError, RequestError, UnknownNameError
from tuner.search.space import SearchSpace
from tuner.storage.records import StudyRecord
from tuner.storage.states import DesiredState


def record(direction: str = "maximize") -> StudyRecord:
    metric = "dice" if direction == "maximize" else "hd95"
    return StudyRecord(
        1, "tiny", "x", None, True, {}, SearchSpace(()), ({"metric": metric, "direction": direction},), 0, 4, 3, None,
        0.0, {}, DesiredState.RUN, None, None, "test", 1,
    )  # fmt: skip


def trial(number: int, loss: str, value: float | None, lr: float = 0.01, **params: Any) -> dict[str, Any]:
    state = "COMPLETE" if value is not None else "PRUNED"
    whole = {"loss": loss, "train.lr": lr, **params}
    return {"number": number, "state": state, "value": value, "loss": loss, "params": whole, "duration_s": 60.0}


ROWS = [
    trial(0, "dice", 0.6),
    trial(1, "dice", 0.7, 0.02),
    trial(2, "cross_entropy", 0.65, 0.03),
    trial(3, "dice_cross_entropy", 0.5, 0.04, **{"loss.dice_cross_entropy.weight": 0.9}),
    trial(4, "dice", None),
]


def plan(spec: StudySpec | None = None, rows: list[dict[str, Any]] | None = None, **section: Any) -> Any:
    return plan_confirmation(record(), spec or tiny(), ROWS if rows is None else rows, ConfirmSection(**section))


def test_expected_means_choose_where_there_are_any() -> None:
    """The best of many values is the luckiest; what no mean is expected of comes after, by value."""
    expected = {0: 0.62, 1: 0.61, 3: 0.63}

    found = plan_confirmation(record(), tiny(), ROWS, ConfirmSection(top=3, baseline=None), expected=expected)

    assert [f.trial for f in found.finalists] == [3, 0, 2]
    assert [f.seen_in_search for f in found.finalists] == [0.5, 0.6, 0.65]


def test_one_finalist_a_loss_and_the_published_options() -> None:
    """The answer is about losses; the baseline differs from what was tuned in the loss's options only."""
    found = plan(top=2)

    assert [(f.name, f.trial, f.seen_in_search) for f in found.finalists] == [
        ("dice", 1, 0.7),
        ("cross_entropy", 2, 0.65),
        ("dice_cross_entropy (published options)", None, None),
    ]
    tuned, published = tiny().config(ROWS[3]["params"]), found.finalists[2].config
    assert published["train"]["lr"] == 0.04
    assert published["loss"]["dice_cross_entropy"]["weight"] != tuned.loss["dice_cross_entropy"]["weight"] == 0.9
    assert {**published, "loss": None, "train": {**published["train"], "seed": 0}} == {**tuned.as_dict(), "loss": None}


def test_a_baseline_that_was_never_tried_is_trained_as_the_best_trial() -> None:
    """Any loss can be the baseline; its learning rate is that of the best trial of all then."""
    found = plan(top=1, baseline="focal")

    assert found.finalists[1].name == "focal (published options)"
    assert found.finalists[1].config["train"]["lr"] == 0.02


def test_who_stands_twice_is_counted_once() -> None:
    """A finalist that is the baseline itself."""
    rows = [trial(0, "dice_cross_entropy", 0.6), trial(1, "dice", 0.5)]
    found = plan(rows=rows)

    assert [(f.name, f.baseline) for f in found.finalists] == [("dice_cross_entropy", True), ("dice", False)]


def test_trials_that_are_named() -> None:
    """Two of one loss get names of their own."""
    found = plan(trials=(0, 1), baseline=None)
    assert found.names == ("dice, trial 0", "dice, trial 1")

    with pytest.raises(ConflictError, match=r"trial 4 is PRUNED.*trial 9 does not exist"):
        plan(trials=(4, 9))


def test_lower_is_better_for_distances() -> None:
    found = plan_confirmation(record("minimize"), tiny(), ROWS, ConfirmSection(top=1, baseline=None))
    assert (found.finalists[0].trial, found.margin) == (3, None)


def test_seeds_that_no_trial_has_used_nor_will() -> None:
    """What was searched, what is searched, and the study's own."""
    assert first_fresh_seed(tiny(), ROWS) == 1
    assert first_fresh_seed(tiny("seed=41"), ROWS) == 42
    assert first_fresh_seed(tiny("train.seed=7"), ROWS) == 8
    searched = tiny("search.train.seed=[3, 11]")
    assert first_fresh_seed(searched, [trial(0, "dice", 0.5, **{"train.seed": 3})]) == 12
    assert first_fresh_seed(tiny(f"seed={2**63 - 1}"), ROWS) == 1


def test_a_study_that_repeats_over_folds_is_judged_on_common_cases() -> None:
    """Finalists whose best values come from different folds."""
    spec = tiny("dataset.validation={folds: 3, fold: 1}", "search.dataset.validation.fold=[0, 1, 2]")
    rows = [
        trial(0, "dice", 0.5, **{"dataset.validation.fold": 0}),
        trial(1, "cross_entropy", 0.6, **{"dataset.validation.fold": 2}),
    ]

    found = plan(spec, rows)

    assert {f.config["dataset"]["validation"]["fold"] for f in found.finalists} == {1}


@pytest.mark.parametrize(
    ("section", "spec", "error"),
    [
        pytest.param({"baseline": "dise"}, (), UnknownNameError, id="unknown-loss"),
        pytest.param({"top": 1, "baseline": None, "until": "sure"}, (), RequestError, id="nothing-to-be-sure-of"),
        pytest.param({"on": "test"}, ("train.entry=tests.worker.trainings:steady",), RequestError, id="own-training"),
    ],
)
def test_what_cannot_be_is_refused(section: dict[str, Any], spec: tuple[str, ...], error: type[Exception]) -> None:
    with pytest.raises(error):
        plan(tiny(*spec), **section)


def test_nothing_to_confirm() -> None:
    with pytest.raises(ConflictError, match="no trial of 'tiny' is complete"):
        plan(rows=[trial(0, "dice", None)])


def test_what_it_will_take_and_see() -> None:
    """From the times of the finalists' trials, and from configurations that the search has repeated."""
    found = plan(top=2)
    nothing = estimate(found, ROWS, trainings=15, study_seed=0)
    assert (nothing.hours, nothing.detectable) == (0.25, {})

    repeats = [trial(10 + s, "dice", 0.5 + 0.02 * (-1) ** s, **{"train.seed": s}) for s in range(6)]
    told = estimate(found, [*ROWS, *repeats], trainings=15, study_seed=0).detectable

    assert list(told) == [3, 5, 8]
    assert told[3] > told[5] > told[8] > 0.02

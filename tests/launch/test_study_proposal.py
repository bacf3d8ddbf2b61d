"""What a proposal decides from what was measured: losses, sizes and budgets, without measuring anything."""

from dataclasses import replace

import pytest

from tuner.launch.data_profile import ClassProfile, DataProfile
from tuner.launch.loss_choice import RULES, choose_losses, suggested_task
from tuner.launch.study_proposal import BUDGETS, Wish, fitting_budget, possible_setups
from tuner.losses.catalog.registry import LOSSES

BLOB = ClassProfile("cell", share=0.1, objects=2.0, size=3000.0, width=40.0, thinness=1.0)
PROFILE = DataProfile(
    channels=1,
    spatial_dims=2,
    classes=("background", "cell"),
    background=True,
    scored=(BLOB,),
    imbalance=9.0,
    empty=0.0,
    size=(512, 512),
    recorded=(512, 512),
    uneven=False,
    cases=(40, 10, 0),
    samples=(40, 10),
    measured=40,
)
THIN = replace(BLOB, name="vessel", width=5.0, thinness=300.0)
RARE = replace(BLOB, name="lesion", share=0.001, objects=6.0, size=90.0, width=9.0)


def _kept(profile: DataProfile, task: str, most: int = 40, **more: object) -> list[str]:
    return [c.loss for c in choose_losses(profile, task, most=most, **more) if c.is_in]  # type: ignore[arg-type]


def test_every_loss_is_decided_about_with_a_reason() -> None:
    """A loss that is added to the catalogue needs a rule here."""
    choices = choose_losses(PROFILE, "regions", most=40)

    assert set(RULES) == set(LOSSES)
    assert {choice.loss for choice in choices} == set(LOSSES)
    assert all(choice.why for choice in choices)


def test_losses_follow_the_fingerprint() -> None:
    """Thin structures, rare classes, many small objects and the task each bring the losses that were made for them."""
    plain = _kept(PROFILE, "regions")
    thin = _kept(replace(PROFILE, scored=(THIN,)), "structures")
    rare = _kept(replace(PROFILE, scored=(RARE,), imbalance=999.0), "regions")

    assert suggested_task(PROFILE) == "regions"
    assert suggested_task(replace(PROFILE, scored=(THIN,))) == "structures"
    assert suggested_task(replace(PROFILE, background=False)) == "scene"
    assert set(thin) - set(plain) == {"soft_cldice", "skeleton_recall", "cbdice"}
    assert {"focal_tversky", "unified_focal", "boundary", "blob", "mcc"} <= set(rare) - set(plain)
    assert {"hausdorff", "boundary_dou"} <= set(_kept(PROFILE, "borders")) - set(plain)
    assert "jaccard" in _kept(PROFILE, "scene")


def test_what_the_data_speaks_for_comes_before_what_suits_any() -> None:
    """In a short search a loss for thin structures must not make room for one that has nothing to do with them."""
    few = _kept(replace(PROFILE, scored=(THIN,)), "structures", most=5)

    assert few == ["dice_cross_entropy", "cross_entropy", "dice", "soft_cldice", "skeleton_recall"]


def test_a_slow_loss_is_left_out_and_said() -> None:
    """It would take the time of several others."""
    steps = dict.fromkeys(_kept(PROFILE, "borders"), 0.1) | {"hausdorff": 1.0}
    choices = {c.loss: c for c in choose_losses(PROFILE, "borders", most=40, steps=steps)}

    assert not choices["hausdorff"].is_in
    assert "10 times the median" in choices["hausdorff"].why


@pytest.mark.parametrize(("scored", "patch"), [((BLOB,), None), ((THIN,), (128, 128))])
def test_thin_classes_are_not_shrunk_away(scored: tuple[ClassProfile, ...], patch: tuple[int, int] | None) -> None:
    """At 128 pixels a vessel of 5 would be one pixel wide: patches then, at full resolution."""
    wish = Wish("x", {"name": "folder", "path": "x"}, None, 3600.0)

    setup = possible_setups(wish, replace(PROFILE, scored=scored), "cpu")[1]

    assert setup.patch == patch
    assert (setup.dataset.get("resize") is False) is (patch is not None)


def test_budgets_follow_the_time() -> None:
    """Ten times the time never means a smaller search, and what is proposed fits where anything does."""
    times = [10.0 * 1.3**n for n in range(50)]
    chosen = [fitting_budget(2.0, time) for time in times]

    assert chosen[0] == BUDGETS[-1]
    assert chosen[-1] == BUDGETS[0]
    assert [b.trials for b in chosen] == sorted(b.trials for b in chosen)
    assert [b.epochs for b in chosen] == sorted(b.epochs for b in chosen)
    fitting = [(time, b) for time, b in zip(times, chosen, strict=True) if b != BUDGETS[-1]]
    assert all(b.seconds(2.0) <= time for time, b in fitting)
    assert all(b.seconds(2.0) > time / 3 for time, b in fitting if b != BUDGETS[0])

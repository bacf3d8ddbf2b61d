"""`budget.hours_per_loss` as it is typed: said at launch, in `status`, raised, and never lowered."""

from pathlib import Path

from tests.cli.shell import Shell

INLINE = ("--launcher", "inline", "--devices", "cpu")
HOURS = 1e-5


def budget(hours: float) -> tuple[str, str]:
    return "--set", f"budget.hours_per_loss={hours:.7f}"


def test_each_loss_has_its_time_which_may_rise(tuner: Shell, study_file: Path) -> None:
    """From the launch to a larger budget, in text and JSON; another kind of budget or a smaller one is refused."""
    launched = tuner("launch", str(study_file), *INLINE, "--set", "budget.trials=1000000", *budget(HOURS))
    assert launched.code == 0, launched.err
    assert "1e-05 h of training for each of 3 losses; a trial is at most 3 epochs" in launched.err

    first = tuner("status", "tiny", "--json").json()["loss_time"]
    assert first["hours_per_loss"] == HOURS
    assert sorted(first["hours"]) == ["cross_entropy", "dice", "dice_cross_entropy"]
    assert min(first["hours"].values()) >= HOURS
    assert "training time, 1e-05 h for each loss: " in tuner("status", "tiny").out
    assert "has had its training time" in tuner("resume", "tiny", *INLINE).err
    raised = tuner("resume", "tiny", *INLINE, *budget(2 * HOURS))
    assert raised.code == 0, raised.err
    assert min(tuner("status", "tiny", "--json").json()["loss_time"]["hours"].values()) >= 2 * HOURS
    less = tuner("resume", "tiny", *INLINE, *budget(HOURS))
    assert (less.code, "may rise, not fall" in less.err) == (2, True)
    counted = tuner("launch", str(study_file), *INLINE)
    assert (counted.code, "a budget keeps its kind" in counted.err) == (2, True)

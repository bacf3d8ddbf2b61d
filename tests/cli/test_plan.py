"""`tuner plan`: real steps of real trainings, and nothing left behind."""

from pathlib import Path

from tests.cli.shell import Shell

SMALL = (
    "--set",
    "dataset.size=32",
    "--set",
    "dataset.cases=4",
    "--set",
    "model.width=4",
    "--set",
    "train.batch_size=4",
)


def test_a_plan_measures_and_stores_nothing(tuner: Shell, here: Path) -> None:
    """Each competing loss has a time and a memory; the sum is in device-hours; the folder stays empty."""
    losses = "search.loss=[dice, lovasz_softmax]"
    answer = tuner(
        "plan", "--dataset", "phantom", "--devices", "cpu", "--seconds", "1", *SMALL, "--set", losses, "--json"
    )
    document = answer.json()

    assert [row["loss"] for row in document["losses"]] == ["dice", "lovasz_softmax"]
    for row in document["losses"]:
        assert row["problem"] is None
        assert 0 < row["step_s"] < row["trial_s"]
        assert row["memory_bytes"] > 2**20
    assert 0 < document["device_hours"]["likely"] <= document["device_hours"]["most"]
    assert document["workers_per_device"] >= 1
    assert document["disk_bytes"] > 0
    assert list(here.iterdir()) == []


def test_code_of_the_users_own_is_not_run(tuner: Shell, study_file: Path) -> None:
    """A plan imports nothing that a study names."""
    answer = tuner("plan", str(study_file))

    assert answer.code == 2
    assert "runs no code of yours (train.entry)" in answer.err

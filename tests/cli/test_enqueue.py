"""`tuner enqueue`: points from the command line and from files, all of them or none."""

from pathlib import Path

import pytest

from tests.cli.shell import Shell
from tests.cli.test_control import queued

__all__ = ["queued"]
POINT = '{"loss": "dice", "train.lr": 0.01}'


def test_points_take_empty_places_and_then_the_budget_grows(queued: Shell, here: Path) -> None:
    """What `POST …/trials` does."""
    first = queued("enqueue", "tiny", "--params", POINT, "--json").json()
    file = here / "points.csv"
    file.write_text("loss,train.lr,value\ndice,0.02,0.5\nfocal_is_left_out,,\n".replace("focal_is_left_out", "dice"))

    many = queued("enqueue", "tiny", "--file", str(file), "--json").json()
    rows = {row["number"]: row["params"] for row in queued("trials", "tiny", "--json").json()}

    assert rows[first["numbers"][0]] == {"loss": "dice", "train.lr": 0.01}
    assert [rows[n] for n in many["numbers"]] == [{"loss": "dice", "train.lr": 0.02}, {"loss": "dice"}]
    file.write_text("".join(f"- {{loss: dice, train.lr: 0.0{i}}}\n" for i in range(3, 8)))
    more = file.rename(here / "points.yaml")
    assert queued("enqueue", "tiny", "--file", str(more), "--json").json()["enqueued"] == 5
    assert queued("status", "tiny", "--json").json()["trials"]["total"] > 6


def test_points_that_a_trial_has_are_passed_over_when_asked(queued: Shell, here: Path) -> None:
    """The table of a study can be given again."""
    queued("enqueue", "tiny", "--params", POINT)
    file = here / "points.yaml"
    file.write_text("[{loss: dice, train.lr: 0.01}, {loss: dice, train.lr: 0.03}, {train.lr: 0.03, loss: dice}]")

    result = queued("enqueue", "tiny", "--file", str(file), "--skip-existing", "--json").json()

    assert (result["enqueued"], result["skipped"], result["numbers"][0], result["numbers"][2]) == (1, 2, None, None)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((), "neither was given"),
        (("--params", "{"), "is not JSON"),
        (("--params", "{}"), "at least one parameter"),
        (("--params", '{"loss": "dise"}'), "outside cross_entropy, dice"),
        (("--file", "bad.csv"), "line 3: train.lr: 5.0 is outside"),
        (("--file", "unknown.csv"), "did you mean 'train.lr'?"),
        (("--file", "none.csv"), "No such file"),
    ],
)
def test_one_wrong_point_and_nothing_is_enqueued(queued: Shell, here: Path, words: tuple[str, ...], told: str) -> None:
    """With the line, and what would be right."""
    (here / "bad.csv").write_text("loss,train.lr\ndice,0.01\ndice,5.0\n")
    (here / "unknown.csv").write_text("loss,lr\ndice,0.01\n")
    before = queued("trials", "tiny", "--json").json()

    result = queued("enqueue", "tiny", *words)

    assert result.code == 2
    assert told in result.err
    assert queued("trials", "tiny", "--json").json() == before

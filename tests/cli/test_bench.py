"""`tuner bench`: a table from a study, and searches on it."""

from pathlib import Path

from tests.cli.shell import Shell


def test_a_study_becomes_a_table_on_which_searches_are_replayed(searched: Shell, here: Path) -> None:
    """From the storage alone, in seconds."""
    written = searched("bench", "record", "tiny", "-o", "table.csv", "--json").json()

    assert written["trainings"] + sum(written["left_out"].values()) == 6
    lines = (here / "table.csv").read_text().splitlines()
    assert lines[0] == "task,configuration,loss,params,seed,epoch,epochs,value,seconds"
    assert len(lines) == 1 + written["rows"]
    document = searched("bench", "replay", "table.csv", "--sampler", "random", "--repeats", "3", "--json").json()
    assert (document["task"], document["sampler"], document["repeats"]) == ("tiny", "random", 3)
    assert document["final"]["regret_mean"] == 0
    assert {"cost", "regret_mean", "regret_low", "regret_high"} == set(document["curve"][0])
    assert searched("bench", "replay", "table.csv", "--repeats", "2", "--parallel", "4").code == 0


def test_what_cannot_be_replayed_is_refused(searched: Shell, here: Path) -> None:
    """With the known names."""
    searched("bench", "record", "tiny", "-o", "table.csv")

    assert searched("bench", "replay", "table.csv", "--pruner", "medien").code == 2
    assert "random" in searched("bench", "replay", "table.csv", "--sampler", "rendom").err
    assert searched("bench", "replay", "missing.csv").code == 2
    assert searched("bench", "record", "unknown", "-o", "other.csv").code == 2
    assert not (here / "other.csv").exists()

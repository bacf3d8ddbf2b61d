"""`launch --warm-start`: results of earlier studies and tables steer a new one, and are no trials of it."""

from pathlib import Path

import pytest

from tests.cli.shell import STUDY, Shell
from tuner.storage.storage import Storage


def test_a_changed_study_goes_on_from_its_predecessor(searched: Shell, here: Path) -> None:
    """More losses, a narrower range: what fits is counted, and the new study has its own trials only."""
    changed = STUDY.replace("name: tiny", "name: wider").replace("low: 1.0e-3", "low: 3.0e-3")
    (here / "wider.yaml").write_text(changed.replace("[cross_entropy, dice,", "[cross_entropy, dice, focal,"))
    searched("trials", "tiny", "--csv")
    (here / "tiny.csv").write_text(searched("trials", "tiny", "--csv").out)

    sources = ("--warm-start", "tiny", "--warm-start", "tiny.csv")
    result = searched("launch", "wider.yaml", *sources, "--launcher", "inline", "--devices", "cpu")

    assert result.code == 0
    assert "of 6 results of tiny" in result.err
    assert "of 6 results of tiny.csv" in result.err
    assert len(searched("trials", "wider", "--json").json()) == 6
    with Storage.open(f"sqlite:///{here / 'tuner.db'}", read_only=True) as store:
        prior = store.foreign.prior(store.studies.get("wider").study_id)
    assert prior
    assert any(result.same_data for result in prior)
    assert all(result.params["train.lr"] >= 3e-3 for result in prior)


@pytest.mark.parametrize(("source", "told"), [("unheard", "no study 'unheard'"), ("no.csv", "cannot be read")])
def test_an_unknown_source_creates_nothing(searched: Shell, here: Path, source: str, told: str) -> None:
    """Nothing half-done."""
    (here / "next.yaml").write_text(STUDY.replace("name: tiny", "name: next"))

    result = searched("launch", "next.yaml", "--warm-start", source, "--launcher", "none", "--devices", "cpu")

    assert result.code == 2
    assert told in result.err
    assert searched("status", "next").code == 2


def test_the_refusal_of_a_changed_study_names_the_way(searched: Shell, here: Path) -> None:
    """A wider range is another study, which can start from the results of this one."""
    result = searched("launch", "tiny.yaml", "--set", "train.epochs=4")

    assert result.code == 2
    assert "--warm-start tiny" in result.err


def test_a_backup_is_read_as_the_storage_it_was_made_from(searched: Shell, here: Path) -> None:
    """Also where the storage itself has gone since."""
    (here / "next.yaml").write_text(STUDY.replace("name: tiny", "name: next"))
    assert searched("db", "backup", "copy.db").code == 0
    assert searched("delete", "tiny", "--yes").code == 0

    result = searched("launch", "next.yaml", "--warm-start", "copy.db", "--launcher", "inline", "--devices", "cpu")

    assert result.code == 0
    assert "of 6 results of copy.db" in result.err
    with Storage.open(f"sqlite:///{here / 'tuner.db'}", read_only=True) as store:
        prior = store.foreign.prior(store.studies.get("next").study_id)
    assert prior
    assert all(result.same_data for result in prior)
    assert len(searched("trials", "next", "--json").json()) == 6


def test_auto_takes_the_tasks_that_the_data_resembles(searched: Shell, here: Path) -> None:
    """By the facts of the data; what does not fit the space is counted, and results are of other data."""
    (here / "next.yaml").write_text(STUDY.replace("name: tiny", "name: next"))

    result = searched("launch", "next.yaml", "--warm-start", "auto", "--launcher", "none", "--devices", "cpu")

    assert result.code == 0
    assert "results of auto: LossBench's phantom (similarity 0." in result.err
    with Storage.open(f"sqlite:///{here / 'tuner.db'}", read_only=True) as store:
        prior = store.foreign.prior(store.studies.get("next").study_id)
    assert prior
    assert not any(result.same_data for result in prior)
    refused = searched(
        "launch", "next.yaml", "--name", "hd", "--set", "objectives=[{metric: hd95}]", "--warm-start", "auto",
        "--launcher", "none", "--devices", "cpu",
    )  # fmt: skip
    assert refused.code == 2
    assert "the objective here is hd95" in refused.err

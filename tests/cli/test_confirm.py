"""`confirm` and `verdict` as they are typed: in this process, with the launcher that needs no other."""

import json
from pathlib import Path

import pytest

from tests.cli.shell import Shell

INLINE = ("--launcher", "inline", "--devices", "cpu")


def test_the_finalists_are_trained_again_and_a_verdict_is_said(searched: Shell) -> None:
    """Before, while nothing is changed by looking, after, and again."""
    before = searched("status", "tiny", "--json").json()
    told = searched("verdict", "tiny")
    assert (told.code, "Not confirmed" in told.out) == (0, True)
    plan = searched("confirm", "tiny", "--dry-run", "--top", "2", "--seeds", "3", "--json").json()
    assert (plan["trainings"], plan["first_seed"]) == (3 * len(plan["finalists"]), 1)
    assert searched("status", "tiny", "--json").json() == before

    answer = searched("confirm", "tiny", "--top", "2", "--seeds", "3", *INLINE, "--json")
    assert answer.code == 0, answer.err
    verdict = answer.json()

    names = [finalist["name"] for finalist in plan["finalists"]]
    assert sorted(c["name"] for c in verdict["configurations"]) == sorted(names)
    assert {c["runs"] for c in verdict["configurations"]} == {3}
    assert verdict["generalises_to"] == "new trainings"
    assert verdict["confirmation"]["runs"]["complete"] == 3 * len(names)
    assert searched("verdict", "tiny", "--json").json() == verdict
    after = searched("status", "tiny", "--json").json()
    assert {**after, "confirmation": None, "spent_s": before["spent_s"]} == before
    assert [row["name"] for row in searched("studies", "--json").json()] == ["tiny"]
    again = searched("confirm", "tiny", *INLINE)
    assert again.code == 0
    assert verdict["text"].splitlines()[0] in again.out
    exported = searched("export", "tiny", "-o", "leader.yaml")
    assert "the confirmed leader" in exported.err


def test_a_study_file_that_asks_for_it_is_gone_on_with(tuner: Shell, study_file: Path) -> None:
    """`launch` ends with the verdict; a second one says it again and trains nothing."""
    study_file.write_text(study_file.read_text() + "confirm: {top: 1, seeds: 3, on: validation}\n", encoding="utf-8")
    launched = tuner("launch", str(study_file), *INLINE)
    assert launched.code == 0, launched.err
    assert "Confirmation of tiny" in launched.err
    assert "paired runs" in launched.out

    assert launched.out.count("paired runs") == 1
    again = tuner("launch", str(study_file), *INLINE)
    assert again.out.count("paired runs") == 1, "one verdict, not two one below the other"
    document = tuner("launch", str(study_file), *INLINE, "--json").json()

    assert document["phase"] == "done"
    assert document["confirmation"]["runs"]["complete"] == document["confirmation"]["runs"]["total"] > 0
    assert tuner("delete", "tiny", "--yes", "--artifacts").code == 0
    assert not Path("artifacts/tiny").exists()
    skipped = tuner("launch", str(study_file), *INLINE, "--set", "confirm=null", "--json").json()
    assert skipped["confirmation"] is None


def test_a_confirmation_is_renewed_when_the_search_has_found_others(searched: Shell) -> None:
    """The new finalists are named with the command; fresh seeds, and the look that was had counts; nothing is lost."""
    ask = ("--top", "1", "--seeds", "3")
    first = searched("confirm", "tiny", *ask, *INLINE, "--json").json()
    same = searched("confirm", "tiny", "--renew", *INLINE)
    assert (same.code, "still the same" in same.err) == (0, True)
    tried = {c["loss"] for c in first["configurations"]}
    other = next(loss for loss in ("cross_entropy", "dice", "dice_cross_entropy") if loss not in tried)
    better = json.dumps({"loss": other, "train.lr": 0.0999})
    assert searched("enqueue", "tiny", "--params", better).code == 0
    assert searched("resume", "tiny", *INLINE).code == 0
    told = searched("verdict", "tiny")
    assert "tuner confirm tiny --renew" in told.err
    assert f"{other} (trial " in told.err
    plan = searched("confirm", "tiny", "--renew", "--dry-run", "--json").json()

    renewed = searched("confirm", "tiny", "--renew", *INLINE, "--json").json()

    assert plan["finalists"][0]["loss"] == other
    assert plan["first_seed"] > 1000, "no seed of the earlier confirmation again"
    assert {c["name"] for c in renewed["configurations"]} == {f["name"] for f in plan["finalists"]}
    assert (first["look"], renewed["look"]) == (1, 2)
    assert renewed["alpha_of_look"] == pytest.approx(0.05 / 6)
    assert Path("artifacts/tiny/confirmation/0").is_dir()
    assert Path("artifacts/tiny/confirmation-2/0").is_dir()
    assert "--renew" not in searched("verdict", "tiny").err
    assert json.loads(searched("gc", "--dry-run", "--json").out)["items"] == []
    assert searched("delete", "tiny", "--yes", "--artifacts").code == 0
    assert not Path("artifacts/tiny").exists()


def test_runs_that_nobody_starts_wait_for_workers(searched: Shell) -> None:
    """The launcher `none`; a worker of the study takes them."""
    queued = searched("confirm", "tiny", "--top", "1", "--seeds", "1", "--launcher", "none")
    assert (queued.code, "tuner worker --study tiny" in queued.err) == (0, True)
    assert "0 of" in searched("verdict", "tiny").out

    assert searched("worker", "--study", "tiny", "--device", "cpu").code == 0

    document = searched("verdict", "tiny", "--json").json()
    assert document["generalises_to"] == "nothing"
    assert {pair["reason"] for pair in document["pairs"]} == {"one_run"}
    freed = searched("gc", "--dry-run", "--json")
    assert json.loads(freed.out)["items"] == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        pytest.param(("confirm", "tnyi"), "there is no study", id="unknown-study"),
        pytest.param(("verdict", "tnyi"), "Did you mean 'tiny'", id="unknown-study-verdict"),
        pytest.param(("confirm", "tiny", "--folds", "3", "--on", "test"), "folds", id="folds-with-test"),
        pytest.param(("confirm", "tiny", "--on", "test"), "train.entry", id="own-training-on-test"),
        pytest.param(("confirm", "tiny", "--folds", "7"), "4 training cases; 7 folds need 7", id="too-many-folds"),
        pytest.param(("confirm", "tiny", "--on", "tset"), "--on", id="unknown-cases"),
        pytest.param(("confirm", "tiny", "--until", "shure"), "--until", id="unknown-end"),
        pytest.param(("confirm", "tiny", "--until", "sure", "--seeds", "2"), "first looks after 3", id="too-few"),
        pytest.param(("confirm", "tiny", "--seeds", "0"), "--seeds", id="no-seeds"),
        pytest.param(("confirm", "tiny", "--margin", "-1"), "--margin", id="margin"),
        pytest.param(("confirm", "tiny", "--trials", "1,x"), "--trials", id="no-number"),
        pytest.param(("confirm", "tiny", "--trials", "1,77"), "trial 77 does not exist", id="unknown-trial"),
        pytest.param(("confirm", "tiny", "--baseline", "dise"), "Did you mean 'dice'", id="unknown-loss"),
    ],
)
def test_what_cannot_be_is_refused_and_changes_nothing(searched: Shell, words: tuple[str, ...], message: str) -> None:
    """Exit 2, with what would be right."""
    refused = searched(*words, *(INLINE if words[0] == "confirm" else ()))

    assert refused.code == 2
    assert message in refused.err
    assert searched("status", "tiny", "--json").json()["confirmation"] is None


def test_a_study_without_a_finished_trial(tuner: Shell, study_file: Path) -> None:
    """Nothing to confirm: queued only, and then stopped."""
    assert tuner("launch", str(study_file), "--launcher", "none").code == 0
    assert "not over" in tuner("confirm", "tiny", *INLINE).err
    assert tuner("stop", "tiny").code == 0

    refused = tuner("confirm", "tiny", *INLINE)

    assert (refused.code, "no trial of 'tiny' is complete" in refused.err) == (2, True)
    assert "No trial is complete yet." in tuner("verdict", "tiny").out

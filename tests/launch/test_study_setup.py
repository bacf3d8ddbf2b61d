"""What may change when a study is launched again."""

from pathlib import Path

import pytest

from tests.worker.studies import create, tiny
from tuner.errors import ConflictError
from tuner.launch.repeats_note import repeats_note
from tuner.launch.study_setup import check_same, differences, new_total
from tuner.storage.records import StudyRecord
from tuner.storage.storage import Storage


@pytest.fixture
def record(tmp_path: Path) -> StudyRecord:
    """A stored study of four trials."""
    with Storage.open(f"sqlite:///{tmp_path / 'tuner.db'}", create=True) as store:
        create(store, tiny())
        return store.studies.get("tiny")


def test_the_same_file_is_the_same_study(record: StudyRecord) -> None:
    """A second launch is how a search goes on after a reboot."""
    check_same(record, tiny())

    assert new_total(record, tiny()) is None


def test_a_budget_rises(record: StudyRecord) -> None:
    """More trials are the same search, gone on with."""
    more = tiny("budget.trials=9")
    check_same(record, more, trials_given=True)

    assert new_total(record, more) == 9


def test_a_budget_does_not_fall_when_it_is_typed(record: StudyRecord) -> None:
    """Trials that were promised are not taken back in silence."""
    with pytest.raises(ConflictError, match="4 stored, 3 asked for"):
        check_same(record, tiny("budget.trials=3"), trials_given=True)


def test_a_file_that_was_not_touched_does_not_lower_a_raised_budget(tmp_path: Path) -> None:
    """`resume --trials 9`, then `launch FILE` again: the file still says 4, and nobody asked for less."""
    with Storage.open(f"sqlite:///{tmp_path / 'tuner.db'}", create=True) as store:
        create(store, tiny())
        store.studies.raise_budget("tiny", 9)
        record = store.studies.get("tiny")

    check_same(record, tiny())
    assert new_total(record, tiny()) is None


@pytest.mark.parametrize(
    "override",
    ["train.epochs=4", "dataset.size=64", "seed=3", "sampler=random", "search.loss=[dice]", "train.precision=bfloat16",
     "objectives=[{metric: iou}]", "search.train.lr={low: 0.001, high: 0.2, log: true}"],
    ids=str,
)  # fmt: skip
def test_everything_else_is_refused_by_its_key(record: StudyRecord, override: str) -> None:
    """Each with both values."""
    with pytest.raises(ConflictError, match="stored") as caught:
        check_same(record, tiny(override))

    assert override.split("=")[0].split("[")[0] in str(caught.value).replace(".name", "")


def test_values_that_were_resolved_are_met_by_null_and_auto() -> None:
    """The file says `auto`; what that meant was stored when the study was created."""
    stored = {"train": {"threads": 4, "precision": "bfloat16", "lr": 1}}

    assert differences(stored, {"train": {"threads": None, "precision": "auto", "lr": 1.0}}) == []
    assert differences(stored, {"train": {"threads": 2, "precision": "auto", "lr": 1.0}}) == [
        "train.threads: 4 stored, 2 asked for"
    ]


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        ((), None),
        (("search={}", "loss=dice"), "nothing is searched: 3 of 4 trials repeat a point with the same seed"),
        (("search={train.batch_size: [2, 4]}", "loss=dice"), "only 2 points for this budget: 2 of 4 trials repeat"),
        (("search={train.seed: [0, 1, 2, 3]}", "loss=dice"), None),
        (("search={loss: [dice, cross_entropy], options: default}", "budget.trials_per_loss=2"), "only 2 points"),
    ],
)  # fmt: skip
def test_a_space_smaller_than_the_budget_is_said(overrides: tuple[str, ...], told: str | None) -> None:
    """A study with nothing to search trained the same configuration as often as its budget held, without a word."""
    spec = tiny(*overrides)
    note = repeats_note(spec, spec.total)

    assert (note is None) if told is None else (note is not None and told in note)

"""k-fold by case: every case validates once, and nothing of it is ever on both sides."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.data.volumes import make_nnunet, section
from tuner.analysis.leaderboard import caveats
from tuner.config.study import StudySpec, load_spec
from tuner.config.yaml_reader import YamlDocument
from tuner.data.arrays import Split
from tuner.data.preparation import PreparedData, prepare
from tuner.data.splits import choose_cases, complete_validation, validation_problem
from tuner.errors import DataError, SpecError

CASES = tuple(f"case{number:04d}" for number in range(18))


def _fold(fold: int, folds: int = 5, cases: tuple[str, ...] = CASES, **options: Any) -> tuple[set[str], set[str]]:
    keywords = {"test": (), "seed": 0, "dataset": "synapse"} | options
    train, held_out, protocol = choose_cases({"folds": folds, "fold": fold}, training=cases, **keywords)
    assert protocol == "folds"
    assert sorted(train + held_out) == sorted(cases)
    return set(train), set(held_out)


def _contents(split: Split) -> set[bytes]:
    return {np.asarray(image).tobytes() for image in split.images}


def _check_folds(prepared: list[PreparedData]) -> None:
    """No image of one half is in the other, and every image validates in one fold."""
    halves = [(_contents(data.train), _contents(data.validation)) for data in prepared]
    for train, held_out in halves:
        assert train
        assert held_out
        assert not train & held_out
    everything = halves[0][0] | halves[0][1]
    assert sum(len(held_out) for _, held_out in halves) == len(everything)
    assert set().union(*(held_out for _, held_out in halves)) == everything


@pytest.mark.parametrize(("folds", "count"), [(5, 18), (2, 2), (18, 18), (7, 13)])
def test_every_case_validates_once(folds: int, count: int) -> None:
    """The folds divide the cases, in parts that differ by one case at most."""
    parts = [_fold(fold, folds, CASES[:count])[1] for fold in range(folds)]

    assert sum(map(len, parts)) == len(set().union(*parts)) == count
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_folds_are_seeded() -> None:
    """The same study divides alike everywhere, another seed otherwise, and the order of the files does not matter."""
    assert _fold(2) == _fold(2, cases=tuple(reversed(CASES)))
    assert len({frozenset(_fold(0, seed=seed)[1]) for seed in range(6)}) > 3


def test_folds_keep_patients_together() -> None:
    """Two scans of a patient look alike: they validate together or train together."""
    scans = tuple(f"{patient}_{visit}" for patient in "abcde" for visit in (1, 2, 3))

    for fold in range(5):
        train, held_out = _fold(fold, 5, scans, group=lambda name: name[0])
        assert len({name[0] for name in held_out}) == 1
        assert not {name[0] for name in train} & {name[0] for name in held_out}


def test_too_few_cases_say_what_would_do() -> None:
    """Five folds of three patients would leave folds without a case to validate on."""
    with pytest.raises(DataError, match=r"3 training cases; 5 folds need 5.*at most 3 folds"):
        _fold(0, 5, CASES[:3])
    with pytest.raises(DataError, match=r"4 training cases of 2 groups; 3 folds need 3"):
        _fold(0, 3, ("a1", "a2", "b1", "b2"), group=lambda name: name[0])


def test_a_list_may_not_divide_a_patient(tmp_path: Path) -> None:
    """A list of cases that leaves the patient's other scan in training is refused, and says which one."""
    make_nnunet(tmp_path)
    config = section(group="{group}_*", validation=["anna_1"])

    with pytest.raises(DataError, match=r"anna_1 would validate and anna_2, of the same group 'anna', would train"):
        prepare(config, data_root=tmp_path, cache=tmp_path / "cache", seed=0)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"folds": 1}, "2 to 1000"),
        ({"folds": 5, "fold": 5}, "0 to 4"),
        ({"folds": 5, "fold": -1}, "0 to 4"),
        ({"folds": True}, "2 to 1000"),
        ({"fold": 0}, "folds is None"),
        ({"folds": 5, "flod": 0}, "did you mean 'fold'"),
        ({}, "folds is None"),
    ],
    ids=str,
)
def test_illegal_folds(value: object, message: str) -> None:
    """Refused with what would be right, before any data is looked at."""
    assert message in str(validation_problem(value))


def test_the_first_fold_is_meant_when_none_is_named() -> None:
    """`{folds: 5}` alone is legal, and written out in every configuration."""
    assert validation_problem({"folds": 5}) is None
    assert complete_validation({"folds": 5}) == {"folds": 5, "fold": 0}
    assert complete_validation(0.2) == 0.2


def test_no_image_crosses_the_split_of_volumes(tmp_path: Path) -> None:
    """By content, for scans grouped by patient: three patients, three folds."""
    make_nnunet(tmp_path)
    folds = [{"folds": 3, "fold": fold} for fold in range(3)]

    found = [
        prepare(section(group="{group}_*", validation=fold), data_root=tmp_path, cache=tmp_path / "cache", seed=1)
        for fold in folds
    ]

    _check_folds(found)
    assert all(data.validation_protocol == "folds" for data in found)
    assert {"anna_1", "anna_2"} in [set(data.validation.cases) for data in found]
    assert len({data.fingerprint for data in found}) == 3


@pytest.mark.parametrize(
    ("config", "folds"),
    [
        pytest.param({"name": "phantom", "size": 16, "slices": 2, "cases": 5, "anatomy_seed": 4}, 5, id="phantom"),
        pytest.param({"name": "synapse", "size": 32}, 2, id="synapse"),
        pytest.param({"name": "folder", "path": "nuclei", "size": 16}, 4, id="folder"),
        pytest.param(
            {"name": "folder", "path": "membranes", "size": 16, "group": "{group}_?"},
            3,
            id="groups",
            marks=pytest.mark.slow,
        ),
        pytest.param({"name": "cityscapes", "size": 16}, 2, id="cityscapes", marks=pytest.mark.slow),
    ],
)
def test_no_image_crosses_the_split(config: dict[str, Any], folds: int, test_data: Path, tmp_path: Path) -> None:
    """By content, on real images: what validates in one fold trains in all others."""
    _check_folds(
        [
            prepare(
                {**config, "validation": {"folds": folds, "fold": fold}},
                data_root=test_data,
                cache=tmp_path / "cache",
                seed=0,
            )
            for fold in range(folds)
        ]
    )


def _study(validation: object, **search: Any) -> StudySpec:
    content = {"dataset": {"name": "phantom", "validation": validation}, "search": {"loss": ["dice"], **search}}
    return load_spec(YamlDocument(content, {}, "test.yaml"))


def test_a_study_repeats_over_the_folds() -> None:
    """The fold is a parameter like any other, by its one name: searched, stored, and in the configuration."""
    spec = _study({"folds": 5}, **{"dataset.validation.fold": [0, 1, 2, 3, 4]})

    config = spec.config({"loss": "dice", "dataset.validation.fold": 3})

    assert config.dataset["validation"] == {"folds": 5, "fold": 3}
    assert config.parameters()["dataset.validation.fold"] == 3
    assert spec.base.dataset["validation"] == {"folds": 5, "fold": 0}
    assert [d.choices for d in spec.space if d.name == "dataset.validation.fold"] == [(0, 1, 2, 3, 4)]
    assert load_spec(YamlDocument(spec.as_dict(), {}, "again")).space == spec.space


def test_the_export_says_that_folds_differ() -> None:
    """The best of several folds is the easiest fold, not the best configuration."""
    spec = _study({"folds": 2}, **{"dataset.validation.fold": [0, 1]})
    row = {"number": 0, "state": "COMPLETE", "value": 0.5, "loss": "dice", "params": {"dataset.validation.fold": 1}}

    said = caveats(spec.space, {"metric": "dice", "direction": "maximize"}, [row], row)

    assert any("folds are not equally hard" in text for text in said)


@pytest.mark.parametrize(
    ("validation", "search", "message"),
    [
        pytest.param({"folds": 3}, [0, 3], "above the limit 2", id="fold that is not there"),
        pytest.param(0.2, [0, 1], "there are no folds", id="share"),
        pytest.param({"folds": "five"}, [0, 1], "2 to 1000", id="no number"),
    ],
)
def test_folds_that_cannot_be_searched(validation: object, search: list[int], message: str) -> None:
    """A study over folds that do not exist never starts."""
    with pytest.raises(SpecError, match=message):
        _study(validation, **{"dataset.validation.fold": search})

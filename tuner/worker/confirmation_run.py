"""What a run of a confirmation leaves beside what trials leave: whose cases they are, and scores of test cases."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from tuner.atomic_io import write_json, write_lines
from tuner.config.confirmation import CASES_LEFT_OUT, TEST_CASES
from tuner.config.trial import TrialConfig
from tuner.data.preparation import PreparedData, open_source, test_cases
from tuner.data.source import Grouped, TestCase
from tuner.errors import DataError
from tuner.settings import Settings


class ScoringStoppedError(Exception):
    """The scoring of test cases was told to stop; nothing of it is kept."""


def note_cases(
    folder: Path, config: TrialConfig, *, data: PreparedData, search: PreparedData, places: Settings
) -> None:
    """Write down which validation cases chose the finalists, and which scored samples belong to one group.

    Args:
        folder: Of the run.
        config: Of the run.
        data: What it is trained and validated on.
        search: What the trials of the search were trained and validated on.
        places: Where the data is.
    """
    from tuner.training.evaluate import score_units

    _, _, source = open_source(config.dataset, places.data_root)
    group = source.group if isinstance(source, Grouped) else str
    split = data.validation
    groups = {
        unit.name: group(split.cases[split.case_of[unit.start]]) for unit in score_units(split, stacked=data.stacked)
    }
    content = {
        "cases": sorted({group(case) for case in search.validation.cases}),
        "groups": {name: owner for name, owner in groups.items() if name != owner},
    }
    write_json(folder / CASES_LEFT_OUT, content)


def score_test_cases(
    folder: Path,
    config: TrialConfig,
    *,
    data: PreparedData,
    device: str,
    places: Settings,
    stop: Callable[[], bool],
) -> None:
    """Score the test cases with the weights of the best validated epoch; nothing where there are no such weights.

    Raises:
        ScoringStoppedError: `stop` said so between two cases.
        DataError: The data set has no test cases.
    """
    from tuner.training.final import score_tests
    from tuner.training.run_dir import RunDirectory

    record = RunDirectory(folder, config, device)
    record.resume(config.train.epochs)
    if record.best is None:
        return
    tests = test_cases(config.dataset, data_root=places.data_root, cache=places.cache, seed=config.train.seed or 0)
    found = score_tests(
        config, data=data, tests=_until(stop, tests), device=device, record=record, allow_entry=places.allow_entry
    )
    if found is None:
        raise DataError(f"{config.dataset['name']} has no test cases to judge on.", where="confirm.on")
    write_lines(folder / TEST_CASES, found["cases"])


def _until(stop: Callable[[], bool], tests: Iterable[TestCase]) -> Iterator[TestCase]:
    for case in tests:
        if stop():
            raise ScoringStoppedError
        yield case

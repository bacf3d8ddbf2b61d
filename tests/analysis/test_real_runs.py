"""Real trainings of one configuration, entered as two: how often the verdict is wrong."""

from pathlib import Path

import pytest

from benchmarks.verdict_runs import FOLDER, RUNS, resample
from tuner.analysis.score_table import ScoreTable, read_score_table


def runs_of(name: str) -> ScoreTable:
    """Return the recorded scores of a data set."""
    return read_score_table(Path(FOLDER) / f"{name}.csv", metric="dice", direction="maximize", unit=True)


@pytest.mark.parametrize(("name", "cases"), [("phantom", 24), ("nuclei", 15)])
def test_the_same_configuration_is_seldom_told_from_itself(name: str, cases: int) -> None:
    """1 000 pairs of five runs each, of at least sixteen that differ in their seed alone: at most 70."""
    table = runs_of(name)

    assert (len(table.runs) >= 16, len(table.cases)) == (True, cases)
    assert table.values[0].mean(axis=1).std() > 0.005
    for random_cases in (True, False):
        assert resample(table, 1000, 0, runs=RUNS, random_cases=random_cases) <= 70

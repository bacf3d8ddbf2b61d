"""Another worker, another process: the same point from the same knowledge, and not a word from Optuna."""

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.search.planted_optimum import judge_for, play, searcher_for
from tuner.search.catalog import SAMPLERS

SCRIPT = """
import json, sys
from tests.search.test_reproducible_across_processes import suggestions
json.dump({name: suggestions(name) for name in sys.argv[1:]}, sys.stdout)
"""


def suggestions(name: str) -> list[dict]:
    """Return what a worker suggests for two slots after twelve trials of history."""
    searcher = searcher_for(name, seed=2**63 - 1)
    searcher.observe(play(searcher_for("random", seed=4), 24, judge_for(name)))
    return [searcher.suggest(slot, fixed={}) for slot in (24, 25)]


def test_the_same_points_and_a_clean_stderr() -> None:
    """Hash order, caches and logging differ from process to process; a study's trials and its output must not."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", SCRIPT, *SAMPLERS],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONHASHSEED": "77"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.stderr == ""
    told = json.loads(done.stdout)
    assert list(told) == list(SAMPLERS)
    for name, points in told.items():
        assert points == suggestions(name), name

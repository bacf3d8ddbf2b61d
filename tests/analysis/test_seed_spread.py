"""What a search says of its values: no verdict, and a spread from real repeats only."""

import ast
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from api.leaderboard_view import standing_of
from tuner.analysis.leaderboard import caveats
from tuner.analysis.seed_spread import best_seen_statement, seed_spread, unconfirmed_statement
from tuner.figures.data import LossNumbers
from tuner.search.space import Dimension, SearchSpace

CLAIMS = re.compile(
    r"\bbetter than\b|\boutperform|\bwins\b|\bwinner\b|\bleads (\S+ )?by\b|\bis (the )?best loss\b|\bahead of\b"
    r"|\btold apart\b|\b(cannot|not) be told from\b|\bsignificant(ly)?\b|more than chance|times the noise",
    re.IGNORECASE,
)
"""Words that say that one loss is better than another, or cannot be told from it."""
VERDICTS = (
    "tuner/analysis/pairwise_tests.py",
    "tuner/analysis/verdict.py",
    "tuner/analysis/score_table.py",
    "tuner/analysis/league.py",
    "tuner/analysis/robustness.py",
    "tuner/analysis/confirmation.py",
    "tuner/report/verdict_",
    "tuner/report/league_",
    "tuner/report/robustness_",
    "tuner/cli/compare.py",
    "tuner/cli/confirm.py",
    "tuner/cli/league.py",
    "api/pages/confirmation.py",
    "api/templates/study_confirmation.html",
)
"""What speaks from runs with several seeds."""
ROOT = Path(__file__).parents[2]


def trial(value: float | None, seed: int | None = None, *, lr: float = 0.1, state: str = "COMPLETE") -> dict[str, Any]:
    """Return a trial as the storage lists it."""
    params = {"loss": "dice", "train.lr": lr} | ({} if seed is None else {"train.seed": seed})
    return {"number": 0, "state": state, "value": value, "loss": "dice", "params": params}


def losses(*bests: float) -> list[LossNumbers]:
    """Return numbers of losses, best first."""
    return [LossNumbers(f"loss{n}", "region", 1, 0, 0, 0, 1.0, v, n, v, [(n, v)]) for n, v in enumerate(bests)]


def test_the_spread_is_pooled_over_configurations_with_several_seeds() -> None:
    """Variances 0.02 and 0.005, one degree of freedom each."""
    rows = [trial(0.5, 1), trial(0.7, 2), trial(0.6, 1, lr=0.2), trial(0.7, 2, lr=0.2), trial(0.9, 1, lr=0.3)]

    found = seed_spread(rows, study_seed=0)

    assert found is not None
    assert found.deviation == pytest.approx(((0.02 + 0.005) / 2) ** 0.5)
    assert found.configurations == 2
    assert unconfirmed_statement(found).endswith("moves by about ±0.1 (from 2 repeated configurations).")


def test_equal_seeds_are_no_repeats() -> None:
    """Copies of one training agree by construction, however the seed is spelt."""
    assert seed_spread([trial(0.5, 1), trial(0.5, 1), trial(0.6, 1)], study_seed=0) is None
    assert seed_spread([trial(0.5), trial(0.5)], study_seed=0) is None
    assert seed_spread([trial(0.5, 7), trial(0.6, None)], study_seed=7) is None
    assert seed_spread([trial(0.5, 1), trial(0.5, 2)], study_seed=0) is None
    twice = seed_spread([trial(0.5, 1), trial(0.7, 2), trial(0.7, 2), trial(0.7, 2)], study_seed=0)
    assert twice == seed_spread([trial(0.5, 1), trial(0.7, 2)], study_seed=0)


def test_only_complete_trials_tell_the_spread() -> None:
    """A pruned training has the value of another epoch."""
    assert seed_spread([trial(0.5, 1), trial(0.2, 2, state="PRUNED"), trial(None, 3)], study_seed=0) is None


@pytest.mark.parametrize("sample", [[], [trial(0.70 + 0.0001 * n, n) for n in range(4)]], ids=["none", "repeats"])
@pytest.mark.parametrize("bests", [(), (0.7,), (0.95, 0.2), (0.7, 0.7)], ids=str)
def test_a_search_makes_no_claim(sample: list[dict[str, Any]], bests: tuple[float, ...]) -> None:
    """However large a lead is: the configuration against itself with another seed may have it as well."""
    found = standing_of(losses(*bests), sample, study_seed=0)

    assert not found.confirmed
    assert CLAIMS.search(f"{found.text} {found.note}") is None
    assert found.text == (best_seen_statement("loss0", bests[0]) if bests else "No trial is complete yet.")
    assert found.note is None or found.note.startswith("Not confirmed")


def test_the_same_configuration_against_itself_gets_no_claim() -> None:
    """Two names of one thing, a lucky and an unlucky seed: the values are told, nothing else."""
    space = SearchSpace((Dimension("loss", "categorical", choices=("dice", "focal")),))
    rows = [trial(0.70 + 0.01 * n) | {"number": n, "loss": ("dice", "focal")[n % 2]} for n in range(40)]

    said = caveats(space, {"metric": "dice", "direction": "maximize"}, rows, rows[-1])

    assert [text for text in said if CLAIMS.search(text)] == []
    assert any("not confirmed" in text for text in said)


def test_nothing_but_a_verdict_says_that_a_loss_is_better() -> None:
    """Sentences of the program, its pages and templates; comments and docstrings are not output."""
    listed = subprocess.run(["git", "ls-files", "tuner", "api"], cwd=ROOT, capture_output=True, text=True, check=True)
    found = []
    for name in listed.stdout.split():
        if name.endswith((".py", ".html", ".js")) and not name.startswith((*VERDICTS, "tuner/losses/")):
            found += [f"{name}: {text}" for text in _sentences(ROOT / name) if CLAIMS.search(text)]

    assert found == []


def _sentences(path: Path) -> list[str]:
    """Return the texts of a file that may be shown: string literals that are no docstrings, or every line."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".py":
        return [line for line in text.splitlines() if not line.lstrip().startswith("//")]
    tree = ast.parse(text)
    silent = {
        id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    constants = (node for node in ast.walk(tree) if isinstance(node, ast.Constant) and id(node) not in silent)
    return [node.value for node in constants if isinstance(node.value, str)]

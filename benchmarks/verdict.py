"""Error rates of verdicts beside those of the tests that papers use, by simulation.

    python benchmarks/verdict.py [--simulations 2000] [--seed 0] [-o benchmarks/verdict.md]

Every configuration has effects of configuration × run, configuration × case and a rest, each normal with the standard
deviation that is stated; cases are new in every simulation. A false claim is a difference claimed between equals.
"""

import argparse
import time
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path

import numpy as np
from scipy import special

from tuner.analysis.pairwise_tests import (
    LOOKS_UNTIL_SURE,
    adjust_holm,
    alpha_of_look,
    alpha_until_sure,
    compare_pairs,
    mean_squares,
)
from tuner.analysis.score_table import Candidate, ScoreTable
from tuner.analysis.verdict import judge

RUNS, CASES = (3, 5, 10), (6, 12, 30, 100)
MIXTURES = ((1, 1, 1), (1, 1, 0.3), (1, 0.1, 1), (0, 1, 0.3), (0.1, 1, 1))
SETTINGS = tuple(product(RUNS, CASES, MIXTURES))
TESTS = ("cases, 1 run", "cases", "runs", "estimated df", "bound")
ALPHA = 0.05


def draw(rng, simulations, count, runs, cases, sds):
    """Return scores [B, C, R, K] of equal configurations."""
    run, case, rest = sds
    values = rest * rng.standard_normal((simulations, count, runs, cases))
    values += run * rng.standard_normal((simulations, count, runs, 1))
    values += case * rng.standard_normal((simulations, count, 1, cases))
    return values


def usual_p(values):
    """Return p [B, M] of each of `TESTS` for values [B, C, R, K]."""
    first, second = np.triu_indices(values.shape[1], 1)
    differences = values[:, first] - values[:, second]
    return {
        "cases, 1 run": _t_test(differences[..., 0, :]),
        "cases": _t_test(differences.mean(axis=-2)),
        "runs": _t_test(differences.mean(axis=-1)),
        "estimated df": _satterthwaite(differences),
        "bound": compare_pairs(values).p,
    }


def _t_test(values):
    count = values.shape[-1]
    t = values.mean(axis=-1) / (values.std(axis=-1, ddof=1) / np.sqrt(count))
    return 2 * special.stdtr(count - 1, -np.abs(t))


def _satterthwaite(differences):
    """Hillis (2007): the same variance, a t with estimated degrees of freedom."""
    squares = mean_squares(differences)
    runs, cases = squares.runs, squares.cases
    x = np.maximum(squares.case - squares.residual, 0.0)
    total = squares.run + x
    freedom = total**2 / (squares.run**2 / (runs - 1))
    return 2 * special.stdtr(freedom, -np.abs(squares.mean) / np.sqrt(total / (runs * cases)))


def false_claims(rng, setting, simulations, count=4):
    """Return for each test the share of false claims for one pair, and among `count` equals by Holm."""
    runs, cases, sds = setting
    p = usual_p(draw(rng, simulations, count, runs, cases, sds))
    return {
        name: (float((of[:, 0] < ALPHA).mean()), float((adjust_holm(of).min(axis=-1) < ALPHA).mean()))
        for name, of in p.items()
    }


def false_claims_fixed(rng, setting, simulations):
    """Return the share for one pair where the cases are fixed: their effects are those of these cases, sum 0."""
    runs, cases, (run, _, rest) = setting
    values = draw(rng, simulations, 2, runs, cases, (run, 0, rest))
    effects = rng.standard_normal((1, 2, 1, cases))
    values += effects - effects.mean(axis=-1, keepdims=True)
    return float((compare_pairs(values, random_cases=False).p < ALPHA).mean())


def false_claims_skewed(rng, runs, cases, simulations):
    """Return the share among four equals for Dice of small objects: right at 0 in a third of the cases."""
    absent = rng.random((simulations, 1, 1, cases)) < 0.3
    level = rng.beta(2, 1, size=(simulations, 1, 1, cases))
    moved = draw(rng, simulations, 4, runs, cases, (0.1, 0.1, 0.15))
    values = np.where(absent, 0.0, np.clip(level + moved - 0.2, 0.0, 1.0))
    return float((compare_pairs(values).p_adjusted.min(axis=-1) < ALPHA).mean())


def power(rng, setting, simulations, count, errors=5.0):
    """Return how often a difference of five standard errors of the difference is found between the first two."""
    runs, cases, sds = setting
    values = draw(rng, simulations, count, runs, cases, sds)
    run, case, rest = sds
    values[:, 0] += errors * np.sqrt(2 * (run**2 / runs + case**2 / cases + rest**2 / (runs * cases)))
    first = compare_pairs(values)
    return float((first.p_adjusted[:, 0] < ALPHA).mean())


def looks(rng, setting, simulations, planned, levels, margin=None, difference=0.0):
    """Return how often any look at growing data claims: a difference, or with a margin equivalence."""
    _, cases, sds = setting
    values = draw(rng, simulations, 2, max(planned), cases, sds)
    values[:, 0] += difference
    claimed = np.zeros(simulations, dtype=bool)
    for runs, level in zip(planned, levels, strict=True):
        tests = compare_pairs(values[:, :, :runs])
        claimed |= (tests.p[:, 0] < level) if margin is None else tests.within(margin, level)[:, 0]
    return float(claimed.mean())


def collapses(rng, runs, cases, rate, depth, simulations, equal="with"):
    """Return how often a configuration whose runs collapse sometimes is told apart from an equal one.

    Args:
        rng: Random numbers.
        runs: R.
        cases: K.
        rate: Share of the runs of the first configuration that collapse.
        depth: How far a collapsed run lies below, in standard deviations between runs.
        simulations: Number of tables.
        equal: Means are equal `with` or `without` the collapsed runs.

    Returns:
        Shares of false claims: of the verdict, and of the same test on what did not collapse.
    """
    names = (Candidate("a"), Candidate("b"))
    labels = tuple(map(str, range(runs))), tuple(map(str, range(cases)))
    told = dropped = 0
    for values in draw(rng, simulations, 2, runs, cases, (1, 1, 1)):
        gone = rng.random(runs) < rate
        values[0, gone] -= depth
        if equal == "with":
            values[0] += rate * depth
        collapsed = np.stack([gone, np.zeros(runs, dtype=bool)])
        table = ScoreTable(names, *labels, values, collapsed=collapsed)
        told += _claims(table)
        if (~gone).sum() >= 3:
            dropped += bool(compare_pairs(values[:, ~gone]).p[0] < ALPHA)
    return told / simulations, dropped / simulations


def _claims(table):
    return any(pair.verdict in ("a_better", "b_better") for pair in judge(table, draws=0).pairs)


# --- tables ---------------------------------------------------------------------------------------------------------


def report(simulations: int, seed: int) -> Iterator[str]:
    """Yield the lines of the tables; each setting has random numbers of its own."""
    streams = iter(np.random.SeedSequence(seed).spawn(400))
    yield f"Simulations a setting: {simulations}; seed {seed}; nominal {ALPHA}."
    yield ""
    yield "| R, K | sd run, case, rest | " + " | ".join(f"{name}: pair | four" for name in TESTS) + " | fixed cases |"
    yield "|---" * (3 + 2 * len(TESTS)) + "|"
    worst = {}
    for setting in SETTINGS:
        rng = np.random.default_rng(next(streams))
        found = false_claims(rng, setting, simulations)
        fixed = false_claims_fixed(rng, setting, simulations)
        worst.setdefault("bound, pair", []).append(found["bound"][0])
        worst.setdefault("bound, four", []).append(found["bound"][1])
        worst.setdefault("fixed", []).append(fixed)
        runs, cases, sds = setting
        cells = " | ".join(f"{pair:.3f} | {four:.3f}" for pair, four in found.values())
        yield f"| {runs}, {cases} | {', '.join(f'{sd:g}' for sd in sds)} | {cells} | {fixed:.3f} |"
    yield ""
    for name, rates in worst.items():
        yield f"Worst of the {len(rates)} settings, {name}: {max(rates):.3f}."
    yield ""
    yield "| what | should be | found |"
    yield "|---|---|---|"
    yield from further(streams, simulations)


def further(streams, simulations: int) -> Iterator[str]:
    """Yield a row for each further property."""

    def rng():
        return np.random.default_rng(next(streams))

    ten = [false_claims(rng(), (3, 30, sds), simulations, count=10)["bound"][1] for sds in MIXTURES]
    yield f"| ten equals, R = 3, K = 30, five mixtures: false claim | ≤ 0.07 | {span(ten)} |"
    skewed = [false_claims_skewed(rng(), runs, cases, simulations) for runs in RUNS for cases in (12, 30)]
    yield f"| four equals, skewed Dice with zeros: false claim | ≤ 0.07 | {span(skewed)} |"
    settings = [setting for setting in SETTINGS if setting[0] >= 5]
    alone = [power(rng(), setting, simulations, 2) for setting in settings]
    yield f"| power at 5 standard errors, one pair, R ≥ 5 | ≥ 0.9 | {span(alone)} |"
    among = [power(rng(), setting, simulations, 4) for setting in settings]
    yield f"| power at 5 standard errors, among four, R ≥ 5 | ≥ 0.55 | {span(among)} |"
    every = tuple(range(3, 11))
    mixtures = [(0, 30, sds) for sds in MIXTURES]
    free = [looks(rng(), s, simulations, every, [ALPHA] * len(every)) for s in mixtures]
    yield f"| looks after 3 … 10 runs, each at 0.05: false claim | – | {span(free)} |"
    spent = [looks(rng(), s, simulations, every, [alpha_of_look(j + 1) for j in range(len(every))]) for s in mixtures]
    yield f"| looks after 3 … 10 runs, spent: false claim | ≤ 0.05 | {span(spent)} |"
    planned = [looks(rng(), s, simulations, LOOKS_UNTIL_SURE, [alpha_until_sure()] * 3) for s in mixtures]
    yield f"| looks after 3, 5, 8 runs, alpha / 3: false claim | ≤ 0.05 | {span(planned)} |"
    levels = [alpha_of_look(j + 1) for j in range(len(every))]
    for times in (2, 1):
        same = [
            looks(rng(), setting, simulations, every, levels, margin, times * margin)
            for setting in mixtures
            for margin in (0.5, 1.0, 2.0)
        ]
        words = "2 margins" if times == 2 else "the margin itself"
        yield f"| equivalence at a difference of {words}, looks after 3 … 10 runs | ≤ 0.05 | {span(same)} |"
    few = min(simulations, 300)
    for equal in ("with", "without"):
        pairs = [collapses(rng(), runs, 20, rate, 5, few, equal) for runs in (5, 10) for rate in (0.1, 0.2)]
        yield (
            f"| collapsing runs (10, 20 %; 5 sd deep), means equal {equal} them: false claim | ≤ 0.07 | "
            f"{span([told for told, _ in pairs])}; when dropped {span([dropped for _, dropped in pairs])} |"
        )


def span(rates: Sequence[float]) -> str:
    """Write the smallest and the largest."""
    return f"{min(rates):.3f} – {max(rates):.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--simulations", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-o", "--output", type=Path)
    arguments = parser.parse_args()
    began, lines = time.process_time(), []
    for line in report(arguments.simulations, arguments.seed):
        print(line, flush=True)
        lines.append(line)
    if arguments.output:
        arguments.output.write_text("\n".join(["# Error rates of verdicts", "", *lines]) + "\n", encoding="utf-8")
    print(f"{time.process_time() - began:.0f} s of CPU time")


if __name__ == "__main__":
    main()

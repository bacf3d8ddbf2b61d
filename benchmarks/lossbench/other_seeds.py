"""How much of a replay's regret is looked up: the same searches, judged by seeds that they have not seen.

    OMP_NUM_THREADS=1 python -m benchmarks.lossbench.other_seeds [--repeats 40] [--parallel 1] [--task NAME]

Most configurations have two seeds on record, so half of the mean that a recommendation is judged by is the very value
that the search has seen: whoever takes the best value seen is favoured. Here a recommended configuration is worth the
mean over its other seeds. Of both the regret is told against the best mean over all seeds, at shares of the cost of
training all configurations once, and on average while 5 to 60 % of it is spent, in thousandths of the difference
between the best configuration and the mean of all; that best mean is a lucky one, so nothing comes to zero.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

import numpy as np

from benchmarks.lossbench import compare
from benchmarks.lossbench.compare import BASELINE, BEFORE, FREE, OURS, RANDOM, SHARES, Entry
from benchmarks.lossbench.record import TABLE
from tuner.search.replay import Rule, Search, Task, regrets_at, regrets_of, values_of_seeds
from tuner.search.trial_table import Floats

RULES = (
    RANDOM,
    BASELINE,
    BEFORE,
    Entry("tpe", "median"),
    OURS,
    FREE,
    Entry("auto", "auto", "recommended by value", queue=True, recommend="value"),
    Entry("auto", "none", queue=True),
)
SPENT = tuple(float(share) for share in np.linspace(0.05, 0.6, 23))
"""Shares of the cost over which the mean is taken."""


def judge(task: Task, rule: Rule, seed: int, costs: Sequence[float]) -> tuple[Floats, Floats]:
    """Return the regrets of one search at several costs, by the mean over all seeds and over the other seeds."""
    search = Search(task, rule, seed=seed)
    run = search.run(len(task.configurations))
    seen = {trial.configuration: trial.curve for trial in search.trials}
    values = values_of_seeds(task.configurations)

    def unseen(number: int) -> float:
        curves = task.configurations[number].curves
        return fmean(v for v, c in zip(values[number], curves, strict=True) if c is not seen[number])

    return regrets_at(task, run, costs), regrets_of(task, run, [unseen(n) for n in run.recommended], costs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--table", type=Path, default=TABLE)
    parser.add_argument("--task", help="only this one is judged")
    parser.add_argument("--repeats", type=int, default=40)
    parser.add_argument("--parallel", type=int, default=1)
    arguments = parser.parse_args()
    compare.take_tasks(*compare.read_table(arguments.table))
    shares = [*(f"{100 * share:.0f} %" for share in SHARES), "mean, ‰"]
    print("| task | rule | " + " | ".join(f"{s}, {by}" for by in ("all seeds", "other seeds") for s in shares) + " |")
    print("|" + "---|" * (2 + 2 * len(shares)))
    for name, task in compare.tasks.items():
        if arguments.task not in (None, name):
            continue
        costs = [share * compare.whole_cost(task) for share in (*SHARES, *SPENT)]
        spread = float(task.means[task.best] - task.means.mean())
        for entry in RULES:
            rule = compare.rule_of(name, entry, arguments.parallel)
            found = [judge(task, rule, seed, costs) for seed in range(arguments.repeats)]
            cells = []
            for regrets in np.mean(found, axis=0):
                cells += [f"{mean:.4f}" for mean in regrets[: len(SHARES)]]
                cells.append(f"{1000 * regrets[len(SHARES) :].mean() / spread:.0f}")
            print(f"| {name} | {entry.name} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()

"""Samplers and pruners on LossBench, as a table in Markdown.

python -m benchmarks.lossbench.compare [--task phantom] [--repeats 50] [--parallel 1 4 16]
"""

import argparse
from pathlib import Path

from benchmarks.lossbench.record import TABLE
from tuner.search.curve_table import read_curves
from tuner.search.replay import read_tasks, replay

RULES = [
    ("random", "none"),
    ("random", "median"),
    ("random", "hyperband"),
    ("random", "successive_halving"),
    ("tpe", "none"),
    ("tpe", "median"),
    ("tpe", "hyperband"),
    ("tpe", "successive_halving"),
    ("gp", "none"),
    ("gp", "median"),
    ("optuna_tpe", "none"),
    ("optuna_tpe", "median"),
    ("optuna_tpe_multivariate", "none"),
    ("optuna_tpe_multivariate", "median"),
    ("optuna_gp", "none"),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--table", type=Path, default=TABLE)
    parser.add_argument("--task", help="only this one")
    parser.add_argument("--repeats", type=int, default=50)
    parser.add_argument("--parallel", type=int, nargs="+", default=[1, 4, 16])
    arguments = parser.parse_args()
    tasks = read_tasks(read_curves(arguments.table))
    columns = ["task", "workers", "sampler", "pruner", "seconds in all", "to 1 %", "to the noise"]
    print("|", " | ".join([*columns, "regret at half the cost (band)"]), "|")
    print("|---|---|---|---|---|---|---|---|")
    for name, task in tasks.items():
        if arguments.task not in (None, name):
            continue
        for parallel in arguments.parallel:
            for sampler, pruner in RULES:
                found = replay(task, sampler=sampler, pruner=pruner, parallel=parallel, repeats=arguments.repeats)
                final, half = found["final"], found["curve"][len(found["curve"]) // 2]
                reach = [final["seconds_to"][key] for key in ("one_percent", "noise")]
                cells = [f"{final['cost']:.0f}", *("not" if s is None else f"{s:.0f}" for s in reach)]
                band = f"{half['regret_mean']:.3f} ({half['regret_low']:.3f} to {half['regret_high']:.3f})"
                print("|", " | ".join([name, str(parallel), sampler, pruner, *cells, band]), "|", flush=True)


if __name__ == "__main__":
    main()

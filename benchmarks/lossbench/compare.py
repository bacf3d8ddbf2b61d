"""Replays samplers and pruners on LossBench and writes what they came to, as Markdown.

    OMP_NUM_THREADS=1 nice python -m benchmarks.lossbench.compare [-o results.md] [--repeats 50] [--processes 2]

Rules of ours that learn from other tasks see those of the table without the one that is judged: left out in turn.
Searches of other programs (`peers.py`) are among them where these are installed.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from multiprocessing import Pool
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.lossbench import peers
from benchmarks.lossbench.record import HERE, TABLE, study_of
from tuner.atomic_io import write_atomically
from tuner.registry import Scalar
from tuner.search.curve_table import read_curves
from tuner.search.prior_fit import MIN_CONFIGURATIONS, learn_prior
from tuner.search.replay import Rule, Run, Search, Task, pooled_deviation, read_tasks, regrets_at, seconds_to
from tuner.search.task_prior import PriorRow, TaskPrior

RESULTS = HERE / "results.md"
DEFAULTS = "published defaults first"
UNTAUGHT, MISLED = "no prior", "misleading prior"
"""Beside what the other tasks tell: nothing, and the opposite."""


@dataclass(frozen=True)
class Entry:
    """A rule in the comparison."""

    sampler: str
    pruner: str
    note: str = ""
    queue: bool = False
    """Whether it begins with the published defaults, as studies do."""
    prior: str = "others"
    recommend: str | None = None

    @property
    def name(self) -> str:
        """As in the tables."""
        notes = [self.note, DEFAULTS if self.queue else "", self.prior if self.prior != "others" else ""]
        text = ", ".join(note for note in notes if note)
        return f"{self.sampler} + {self.pruner}" + (f" ({text})" if text else "")


OURS = Entry("auto", "auto", queue=True)
BASELINE, RANDOM = Entry("optuna_tpe", "optuna_median"), Entry("random", "none")
MIN_JUDGED = 23
"""Configurations of a task below which it teaches others only."""
FREE = Entry("auto", "auto")
BEFORE = Entry("tpe", "median", "the default before auto", queue=True)
MAIN = (RANDOM, BASELINE, OURS)
"""Judged with 1, 4 and 16 workers."""
OTHERS = (
    FREE,
    Entry("random", "optuna_median"),
    Entry("random", "auto"),
    Entry("optuna_tpe", "none"),
    Entry("optuna_tpe", "optuna_hyperband"),
    Entry("optuna_tpe", "optuna_asha"),
    Entry("optuna_tpe", "optuna_median", "recommended by estimate", recommend="estimate"),
    Entry("optuna_tpe_multivariate", "optuna_median"),
    BEFORE,
    Entry("auto", "none", queue=True),
    Entry("auto", "optuna_median", queue=True),
    Entry("auto", "auto", "recommended by value", queue=True, recommend="value"),
    Entry("auto", "auto", queue=True, prior=UNTAUGHT),
    Entry("auto", "auto", queue=True, prior=MISLED),
)
"""Judged with 4 workers, and with fewer repeats."""
SLOW = (Entry("optuna_gp", "none"), Entry("gp", "median"))
"""Seconds a search; with --slow."""
PROGRAMS = {
    "smac3": Entry("smac3", "none", "races over seeds"),
    "syne_tune_promotion": Entry("syne_tune", "promotion ASHA"),
}
"""Of other people, by the name in `peers.PEERS`; the first takes some ten seconds a search."""


@dataclass(frozen=True)
class Cell:
    """One rule on one task."""

    task: str
    entry: Entry
    parallel: int
    repeats: int


tasks: dict[str, Task] = {}
"""That are judged."""
priors: dict[str, TaskPrior] = {}
"""What the other tasks tell, by the task that is judged."""


def read_table(table: Path) -> tuple[dict[str, Task], dict[str, TaskPrior]]:
    """Return the tasks that are judged, and what the others tell each of them."""
    known = {
        name: task
        for name, task in read_tasks(read_curves(table)).items()
        if len(task.configurations) >= MIN_CONFIGURATIONS
    }
    judged = {name: task for name, task in known.items() if len(task.configurations) >= MIN_JUDGED}
    return judged, {name: learn_prior([t for key, t in known.items() if key != name]) for name in judged}


def take_tasks(judged: dict[str, Task], learnt: dict[str, TaskPrior]) -> None:
    """Make them known to this process."""
    tasks.update(judged)
    priors.update(learnt)


def _prior(name: str, kind: str) -> TaskPrior:
    prior = priors[name]
    if kind == UNTAUGHT:
        return replace(prior, tasks=())
    if kind == MISLED:
        worse = tuple(
            replace(task, rows=tuple(PriorRow(r.params, -r.value, r.seeds) for r in task.rows)) for task in prior.tasks
        )
        return replace(prior, tasks=worse)
    return prior


def _queue(name: str, sampler: str, trials: int) -> tuple[Mapping[str, Scalar], ...]:
    return tuple(replace(study_of(name), sampler={"name": sampler}).queue(trials))


def play(cell: Cell) -> tuple[Cell, list[Run]]:
    """Replay one cell."""
    task, entry = tasks[cell.task], cell.entry
    budget = len(task.configurations)
    program = next((name for name, known in PROGRAMS.items() if known == entry), None)
    if program is not None:
        seeds = range(cell.repeats)
        return cell, [peers.play(program, task, parallel=cell.parallel, seed=s, budget=budget) for s in seeds]
    rule = rule_of(cell.task, entry, cell.parallel)
    return cell, [Search(task, rule, seed=seed).run(budget) for seed in range(cell.repeats)]


def rule_of(name: str, entry: Entry, parallel: int) -> Rule:
    """Return how a task is searched."""
    budget = len(tasks[name].configurations)
    return Rule(
        entry.sampler,
        entry.pruner,
        parallel,
        queue=_queue(name, entry.sampler, budget) if entry.queue else (),
        prior=_prior(name, entry.prior) if entry.sampler == "auto" else None,
        recommend=entry.recommend,
    )


def leaders_noise(task: Task) -> float:
    """Return the standard deviation between seeds, pooled over the best fifth of the configurations.

    That over all of them is mostly what a training is worth that collapses with one seed and not with another.
    """
    leaders = np.argsort(-task.means)[: max(2, len(task.means) // 5)]
    return pooled_deviation([c.best for c in task.configurations[i].curves if not c.diverged] for i in leaders)


SHARES = (0.05, 0.1, 0.2, 0.4)
"""Costs at which regrets are told, as shares of the cost of training all configurations once."""


def whole_cost(task: Task) -> float:
    return float(sum(np.mean([sum(c.seconds) for c in k.curves]) for k in task.configurations))


def _line(cell: Cell, runs: list[Run], found: Mapping[Any, list[Run]]) -> str:
    task = tasks[cell.task]
    best = float(task.means[task.best])
    limits = (0.01 * best, leaders_noise(task), task.noise)
    reach = [seconds_to(task, runs, limit) for limit in limits]
    costs = [share * whole_cost(task) for share in SHARES]
    regrets = np.array([regrets_at(task, run, costs) for run in runs])
    bands = [
        f"{middle:.3f} ({low:.3f}–{high:.3f})"
        for middle, low, high in zip(
            regrets.mean(0), np.quantile(regrets, 0.1, axis=0), np.quantile(regrets, 0.9, axis=0), strict=True
        )
    ]
    cost = float(np.mean([run.cost for run in runs]))
    final = float(np.mean([regrets_at(task, run, [np.inf])[0] for run in runs]))
    others = [found.get((cell.task, entry, cell.parallel)) for entry in (BASELINE, RANDOM)]
    ratios = [_ratio(o, task, mine, limit) for mine, limit in zip(reach, limits, strict=True) for o in others]
    cells = [cell.task, str(cell.parallel), cell.entry.name, str(len(runs)), *map(_seconds, reach), *ratios, *bands]
    return "| " + " | ".join([*cells, f"{final:.3f}", f"{cost:.0f}"]) + " |"


def _seconds(value: float | None) -> str:
    return "not" if value is None else f"{value:.0f}"


def _ratio(runs: list[Run] | None, task: Task, mine: float | None, limit: float) -> str:
    """Write how much less this took to a limit than another rule; `>` where the other does not come there."""
    if runs is None or mine is None:
        return ""
    theirs = seconds_to(task, runs, limit)
    if theirs is None:
        return f"> {np.mean([run.cost for run in runs]) / mine:.1f}"
    return f"{theirs / mine:.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--table", type=Path, default=TABLE)
    parser.add_argument("-o", "--output", type=Path, default=RESULTS)
    parser.add_argument("--task", help="only this one is judged")
    parser.add_argument("--repeats", type=int, default=50)
    parser.add_argument("--others", type=int, default=10, help="repeats of the rules beside the main ones; 0: none")
    parser.add_argument("--parallel", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--slow", action="store_true", help="with Gaussian processes that take seconds a search")
    arguments = parser.parse_args()
    read = read_table(arguments.table)
    take_tasks(*read)
    judged = [name for name in tasks if arguments.task in (None, name)]
    cells = [Cell(name, e, w, arguments.repeats) for w in arguments.parallel for name in judged for e in MAIN]
    left_out: list[str] = []
    if arguments.others:
        why = {name: peers.PEERS[name].missing() for name in PROGRAMS}
        left_out = [f"{name} is left out: {reason}" for name, reason in why.items() if reason]
        print("\n".join(left_out), file=sys.stderr)
        programs = [entry for name, entry in PROGRAMS.items() if why[name] is None]
        beside = [*OTHERS, *programs, *(SLOW if arguments.slow else ())]
        cells += [Cell(name, entry, 4, arguments.others) for entry in beside for name in judged]
    found: dict[Any, list[Run]] = {}
    with Pool(arguments.processes, initializer=take_tasks, initargs=read) as pool:
        for cell, runs in pool.imap(play, cells):
            found[cell.task, cell.entry, cell.parallel] = runs
            print(_line(cell, runs, found), flush=True)
            write_atomically(arguments.output, _document(cells, found, left_out).encode())


def _about(name: str, task: Task) -> str:
    best, leaders = float(task.means[task.best]), leaders_noise(task)
    near = [_near(task, limit) for limit in (0.01 * best, leaders, task.noise)]
    return (
        f"- {name}: {len(task.configurations)} configurations, {sum(len(c.curves) for c in task.configurations)} "
        f"trainings; best mean {best:.3f}, within 1 % of it {near[0]} of the configurations; standard deviation "
        f"between seeds {leaders:.3f} of the best fifth ({near[1]} lie within it of the best), {task.noise:.3f} of all "
        f"({near[2]}); {whole_cost(task):.0f} s to train all once"
    )


def _near(task: Task, limit: float) -> int:
    return int((task.means >= task.means[task.best] - limit).sum())


def _document(cells: list[Cell], found: Mapping[Any, list[Run]], left_out: Sequence[str]) -> str:
    known = [_about(name, task) for name, task in tasks.items()]
    columns = [
        "task",
        "workers",
        "rule",
        "repeats",
        "s to 1 %",
        "s to leaders' noise",
        "s to noise",
        "to 1 %: × less than Optuna",
        "than random",
        "to leaders' noise: × less than Optuna",
        "than random",
        "to noise: × less than Optuna",
        "than random",
    ]
    columns += [f"regret at {100 * share:.0f} %" for share in SHARES]
    columns += ["in the end", "s in all"]
    head = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    order = [(c.task, c.entry, c.parallel) for c in cells]
    lines = [_line(c, found[key], found) for c, key in zip(cells, order, strict=True) if key in found]
    text = """# Replay on LossBench

Written by `python -m benchmarks.lossbench.compare`; what the columns mean is in README.md.

"""
    return text + "\n".join([*known, *(f"- {line}" for line in left_out), "", *head, *lines]) + "\n"


if __name__ == "__main__":
    main()

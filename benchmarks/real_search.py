"""Searches that really train, on data that no rule was chosen on, and what their recommendations are worth.

    OMP_NUM_THREADS=1 nice python benchmarks/real_search.py FOLDER [--trials 36] [--seeds 3] [--size 80] [--processes 2]

The data is the phantom with other patients, another size and more noise than LossBench's. Five searches with each
seed: `auto` with its pruner, published defaults first, as `tuner launch` does it; the same with what LossBench's other
tasks tell alone, without its phantom, a relative of this data; our TPE with the median pruner, published defaults
first; Optuna's TPE with its median pruner, both with their defaults; and random without pruning. All train by the same
code with one thread and search the same space. Each recommends one point: `auto` that with the best expected mean, the
others that with the best value.

Then one study holds all recommended points, and `tuner confirm` trains them again with fresh seeds, the same for all.
The regret of a recommendation is how far its mean over these seeds lies below the best of them. The cost is the CPU
time of the search's process, training, validation and search together, from the first trial on.

Goes on where it was stopped: each search and the confirmation leave their results in FOLDER. Prints a table and writes
it to FOLDER/real_search.md.
"""

import argparse
import json
import math
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from statistics import fmean
from typing import Any

from tuner.atomic_io import write_atomically
from tuner.config.study import StudySpec, find_study_file, load_spec
from tuner.registry import Scalar
from tuner.search.space import SearchSpace
from tuner.settings import Settings

RULES = {
    "random": "random, no pruning",
    "optuna": "Optuna: TPE + median pruner",
    "auto": "auto + auto, published defaults first",
    "unrelated": "the same, LossBench's phantom left out",
    "tpe": "our TPE + median pruner, published defaults first",
}
DATA = {"cases": 20, "anatomy_seed": 11, "noise": 0.08}
TABLE = Path(__file__).parent / "lossbench" / "table.csv.gz"
JUDGED = "recommended"


def study(rule: str, seed: int, options: argparse.Namespace) -> StudySpec:
    """Return the study of one search."""
    values: dict[str, Any] = {
        "name": f"{rule}-{seed}",
        "train.threads": 1,
        "train.precision": "float32",
        "dataset.size": options.size,
        **{f"dataset.{key}": value for key, value in DATA.items()},
        "budget.trials": options.trials,
        "seed": seed,
        "confirm": None,
    }
    if options.epochs:
        values["train.epochs"] = options.epochs
    if rule == "tpe":
        values |= {"sampler": {"name": "tpe"}, "pruner": {"name": "median"}}
    elif rule not in ("auto", "unrelated"):
        values |= {"sampler": {"name": "random"}, "pruner": {"name": "none"}}
    return load_spec(find_study_file("phantom"), values=values)


def settings(folder: Path, name: str) -> Settings:
    """Return where a search keeps its trials; the prepared data is shared."""
    return Settings(
        storage=f"sqlite:///{folder / name}.db", artifacts=folder / "artifacts", data_root=None, cache=folder / "cache"
    )


def search(rule: str, seed: int, options: argparse.Namespace) -> None:
    """Search, and write what is recommended and what it cost."""
    spec = study(rule, seed, options)
    if rule == "unrelated":
        forget_relatives()
    found = (by_optuna if rule == "optuna" else by_product)(spec, seed, options)
    write_atomically(options.folder / f"{spec.name}.json", json.dumps(found).encode())


def forget_relatives() -> None:
    """Leave LossBench's phantom out of what `auto` begins with in this process, and learn from its other tasks anew."""
    from tuner.search import auto
    from tuner.search.curve_table import read_curves
    from tuner.search.prior_fit import prior_without
    from tuner.search.replay import read_tasks

    prior = prior_without("phantom", read_tasks(read_curves(TABLE)))
    auto.shipped_prior = lambda: prior


def by_product(spec: StudySpec, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """Search as a worker of the product does, in this process."""
    from tuner.data.preparation import prepare
    from tuner.launch.new_study import create_study
    from tuner.storage.storage import Storage
    from tuner.worker.searcher import expected_means
    from tuner.worker.worker import Worker

    places = settings(options.folder, spec.name)
    prepare(spec.base.dataset, data_root=None, cache=places.cache, seed=spec.seed)
    with Storage.open(places.storage, create=True) as store:
        known = {found["name"] for found in store.queries.studies()}
        if spec.name not in known:
            create_study(store, spec)
        began = time.process_time()
        Worker(store, places, study=spec.name, device="cpu", poll_s=0.1).run()
        cost = time.process_time() - began
        rows = store.queries.trials(spec.name)
        complete = {row["number"]: row for row in rows if row["state"] == "COMPLETE"}
        means = expected_means(store, store.studies.get(spec.name), spec)
    values = means or {number: row["value"] for number, row in complete.items()}
    best = complete[max(values, key=lambda number: (values[number], -number))]
    return {"params": best["params"], "seen": best["value"], "expected": means.get(best["number"]), "cost": cost,
            "complete": len(complete), "trials": len(rows)}  # fmt: skip


def by_optuna(spec: StudySpec, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """Search as a script with Optuna's defaults does; a training is the product's."""
    import optuna

    from tuner.data.preparation import prepare
    from tuner.training.epoch_report import Diverged
    from tuner.training.trainer import train

    places = settings(options.folder, spec.name)
    metric = spec.objectives[0].metric
    data = prepare(spec.base.dataset, data_root=None, cache=places.cache, seed=spec.seed)

    def objective(trial: optuna.Trial) -> float:
        params = suggest(trial, spec.space)
        trial.set_user_attr("params", params)
        folder = options.folder / "optuna" / spec.name / str(trial.number)
        best = -math.inf
        reports = train(spec.config(params), data=data, device="cpu", folder=folder, stop=lambda: False)
        with closing(reports):
            try:
                for report in reports:
                    value = float(report.metrics.get(metric) or 0.0)
                    best = max(best, value)
                    trial.report(value, report.epoch)
                    if trial.should_prune():
                        raise optuna.TrialPruned
            except Diverged:
                return math.nan
        return best

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    made = optuna.create_study(
        direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed), pruner=optuna.pruners.MedianPruner()
    )
    began = time.process_time()
    made.optimize(objective, n_trials=options.trials)
    cost = time.process_time() - began
    complete = [t for t in made.trials if t.state == optuna.trial.TrialState.COMPLETE]
    best = made.best_trial
    return {"params": best.user_attrs["params"], "seen": best.value, "expected": None, "cost": cost,
            "complete": len(complete), "trials": len(made.trials)}  # fmt: skip


def suggest(trial: Any, space: SearchSpace) -> dict[str, Scalar]:
    """Ask Optuna for a point, parameter by parameter."""
    params: dict[str, Scalar] = {}
    for d in space:
        if d.when is not None and params.get(d.when[0]) != d.when[1]:
            continue
        if d.kind == "categorical":
            params[d.name] = trial.suggest_categorical(d.name, list(d.choices))
        elif d.kind == "int":
            params[d.name] = trial.suggest_int(d.name, int(d.low), int(d.high), log=d.log)
        else:
            params[d.name] = trial.suggest_float(d.name, d.low, d.high, log=d.log)
    return params


def judge(found: Mapping[tuple[str, int], Mapping[str, Any]], options: argparse.Namespace) -> dict[str, Any]:
    """Train all that was recommended again with fresh seeds, by `tuner confirm`; return its verdict with the points."""
    from tuner.launch.new_study import create_study
    from tuner.storage.storage import Storage

    points: list[Mapping[str, Scalar]] = []
    for result in found.values():
        if result["params"] not in points:
            points.append(result["params"])
    places = settings(options.folder, JUDGED)
    one = argparse.Namespace(**{**vars(options), "trials": 1})  # so that nothing but these points is in its queue
    spec = load_spec(find_study_file("phantom"), values=_values(study("random", 0, one)))
    with Storage.open(places.storage, create=True) as store:
        if JUDGED not in {known["name"] for known in store.queries.studies()}:
            create_study(store, spec)
        store.studies.enqueue_all(JUDGED, points, skip_existing=True)
    flags = ["--storage", places.storage, "--artifacts", str(places.artifacts), "--cache", str(places.cache)]
    _tuner(["worker", "--study", JUDGED, "--device", "cpu", *flags])
    with Storage.open(places.storage) as store:
        rows = [row for row in store.queries.trials(JUDGED) if row["state"] == "COMPLETE"]
    numbers = [next(row["number"] for row in rows if row["params"] == point) for point in points]
    confirm = ["confirm", JUDGED, "--trials", ",".join(map(str, numbers)), "--seeds", str(options.fresh)]
    confirm += ["--baseline", "none", "--workers", str(options.processes), "--devices", "cpu", "--json", *flags]
    verdict = json.loads(_tuner(confirm))
    means = {row["trial"]: row["mean"] for row in verdict["configurations"]}
    return {"verdict": verdict, "points": [dict(p) for p in points], "means": [means[number] for number in numbers]}


def _values(spec: StudySpec) -> dict[str, Any]:
    """Return what makes the study of all recommended points out of a search's."""
    content = spec.as_dict()
    return {
        "name": JUDGED,
        "dataset": content["dataset"],
        "train": content["train"],
        "budget": content["budget"],
        "sampler": content["sampler"],
        "pruner": content["pruner"],
        "seed": 0,
        "confirm": None,
    }


def _tuner(arguments: Sequence[str]) -> str:
    done = subprocess.run([sys.executable, "-m", "tuner", *arguments], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"tuner {' '.join(arguments)} ended with {done.returncode}")
    return done.stdout


def table(found: Mapping[tuple[str, int], Mapping[str, Any]], judged: Mapping[str, Any]) -> str:
    """Write the searches with the regret of what they recommend."""
    best = max(judged["means"])

    def mean(result: Mapping[str, Any]) -> float:
        return float(judged["means"][judged["points"].index(result["params"])])

    lines = ["| search | seed | trials (complete) | CPU s | recommended | seen | mean over fresh seeds | regret |"]
    lines.append("|---|---|---|---|---|---|---|---|")
    for (rule, seed), result in found.items():
        cells = [RULES[rule], seed, f"{result['trials']} ({result['complete']})", f"{result['cost']:.0f}"]
        cells += [result["params"]["loss"], f"{result['seen']:.3f}", f"{mean(result):.3f}"]
        lines.append("| " + " | ".join(map(str, [*cells, f"{best - mean(result):.3f}"])) + " |")
    for rule, name in RULES.items():
        own = [result for (key, _), result in found.items() if key == rule]
        regret, cost = fmean(best - mean(r) for r in own), fmean(r["cost"] for r in own)
        lines.append(f"| **{name}, mean** | | | {cost:.0f} | | | | {regret:.3f} |")
    runs = judged["verdict"]["configurations"][0]["runs"]
    return "\n".join([*lines, "", f"{runs} fresh seeds each. {judged['verdict']['text']}", ""])


def main() -> None:
    """Search, confirm, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--trials", type=int, default=36)
    parser.add_argument("--seeds", type=int, default=3, help="searches by each rule")
    parser.add_argument("--fresh", type=int, default=5, help="fresh seeds of each recommended point")
    parser.add_argument("--size", type=int, default=80)
    parser.add_argument("--epochs", type=int, help="default: the study file's")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--part", help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.folder = options.folder.resolve()
    options.folder.mkdir(parents=True, exist_ok=True)
    if options.part:
        rule, seed = options.part.rsplit("-", 1)
        search(rule, int(seed), options)
        return
    parts = [(rule, seed) for seed in range(options.seeds) for rule in RULES]
    with ThreadPoolExecutor(options.processes) as pool:
        list(pool.map(lambda part: _run_part(*part, options), parts))
    found = {part: json.loads((options.folder / f"{part[0]}-{part[1]}.json").read_text()) for part in parts}
    path = options.folder / "judged.json"
    if not path.exists():
        write_atomically(path, json.dumps(judge(found, options)).encode())
    text = table(found, json.loads(path.read_text()))
    write_atomically(options.folder / "real_search.md", text.encode())
    print(text)


def _run_part(rule: str, seed: int, options: argparse.Namespace) -> None:
    """Run one search in a process of its own, unless it is done."""
    if (options.folder / f"{rule}-{seed}.json").exists():
        return
    given = {"trials": options.trials, "size": options.size, "epochs": options.epochs}
    flags = [text for name, value in given.items() if value for text in (f"--{name}", str(value))]
    command = [sys.executable, __file__, str(options.folder), "--part", f"{rule}-{seed}", *flags]
    if subprocess.run(command, check=False).returncode:
        raise SystemExit(f"the search {rule}-{seed} has failed; started again, this goes on from here")
    print(f"{rule}-{seed}: done", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()

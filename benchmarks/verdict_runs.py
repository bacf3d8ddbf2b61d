"""Real trainings of one configuration that differ in their seed alone, and how often halves of them are told apart.

    python benchmarks/verdict_runs.py record phantom [--runs 16] [-o benchmarks/verdict/phantom.csv]
    python benchmarks/verdict_runs.py record nuclei --data-root DIR [-o benchmarks/verdict/nuclei.csv]
    python benchmarks/verdict_runs.py resample benchmarks/verdict/phantom.csv [--pairs 1000] [--seed 0]

`record` writes a table that `tuner compare` reads, a row for each run and validation case: its Dice, the mean over the
classes that are defined there, at the best validated epoch. Runs that the file holds already are not trained again.
`resample` draws two disjoint sets of runs again and again, enters them as two configurations and counts the claims:
each of them is false.
"""

import argparse
import csv
import tempfile
import time
from pathlib import Path

import numpy as np

from tuner.analysis.score_table import COLUMNS, Candidate, ScoreTable, read_score_table
from tuner.analysis.verdict import judge
from tuner.config.trial import load_config
from tuner.data.preparation import prepare
from tuner.training.final import train_final
from tuner.training.run_dir import CASES, RunDirectory, read_lines

FOLDER = Path(__file__).parent / "verdict"
NETWORK = {"name": "unet", "width": 8}
TRAIN = {"batch_size": 8, "lr": 0.01, "weight_decay": 1.0e-4, "threads": 1}
SETUPS = {
    "phantom": {
        "dataset": {
            "name": "phantom",
            "size": 64,
            "cases": 36,
            "validation": [f"phantom{n:03d}" for n in range(12, 36)],
        },
        "model": NETWORK,
        "loss": "dice",
        "train": TRAIN | {"epochs": 8},
    },
    "nuclei": {
        "dataset": {"name": "folder", "path": "nuclei", "size": 64, "validation": "test"},
        "model": NETWORK,
        "loss": "dice",
        "train": TRAIN | {"epochs": 12},
    },
}
RUNS = 5
"""Runs of each of the two configurations in a resampled table."""


def record(name: str, runs: int, path: Path, data_root: Path | None, cache: Path) -> None:
    """Train the runs that `path` lacks, and append their scores."""
    known = {row["run"] for row in csv.DictReader(path.open())} if path.exists() else set()
    if not known:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(",".join(COLUMNS) + "\n")
    setup = SETUPS[name]
    for seed in range(runs):
        if str(seed) in known:
            continue
        config = load_config({**setup, "train": {**setup["train"], "seed": seed}})
        data = prepare(config.dataset, data_root=data_root, cache=cache, seed=0)
        began = time.monotonic()
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            result = train_final(config, data=data, tests=(), device="cpu", folder=folder, data_root=data_root)
            scores = _scores(config, folder)
        with path.open("a", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows([name, seed, case, value] for case, value in scores)
        print(f"{name} run {seed}: dice {result['value']:.4f}, {time.monotonic() - began:.0f} s", flush=True)


def _scores(config, folder: Path) -> list[tuple[str, str]]:
    """Return case and Dice of the best epoch."""
    written = RunDirectory(folder, config, "cpu")
    written.resume(config.train.epochs)
    found = []
    for line in read_lines(folder / CASES):
        if line["epoch"] == written.best.epoch:
            values = [value for value in line["metrics"]["dice"].values() if value is not None]
            found.append((line["case"], f"{np.mean(values):.5f}" if values else ""))
    return found


def resample(table: ScoreTable, pairs: int, seed: int, *, runs: int = RUNS, random_cases: bool = True) -> int:
    """Return how many of so many pairs of disjoint draws of runs, all of one configuration, are told apart."""
    rng = np.random.default_rng(seed)
    told = 0
    for _ in range(pairs):
        drawn = rng.permutation(len(table.runs))[: 2 * runs].reshape(2, runs)
        pair = ScoreTable(
            (Candidate("a"), Candidate("b")),
            tuple(map(str, range(runs))),
            table.cases,
            table.values[0, drawn],
            metric=table.metric,
            direction=table.direction,
        )
        verdict = judge(pair, random_cases=random_cases, draws=0)
        told += verdict.pairs[0].verdict in ("a_better", "b_better")
    return told


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    recording = commands.add_parser("record")
    recording.add_argument("name", choices=SETUPS)
    recording.add_argument("--runs", type=int, default=16)
    recording.add_argument("--data-root", type=Path)
    recording.add_argument("--cache", type=Path, default=Path.home() / ".cache/tuner")
    recording.add_argument("-o", "--output", type=Path)
    resampling = commands.add_parser("resample")
    resampling.add_argument("table", type=Path)
    resampling.add_argument("--pairs", type=int, default=1000)
    resampling.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    if asked.command == "record":
        path = asked.output or FOLDER / f"{asked.name}.csv"
        record(asked.name, asked.runs, path, asked.data_root, asked.cache)
        return
    table = read_score_table(asked.table, metric="dice", direction="maximize", unit=True)
    means = table.values[0].mean(axis=1)
    spread = f"mean {means.mean():.4f}, sd of runs {means.std(ddof=1):.4f}"
    print(f"{len(table.runs)} runs on {len(table.cases)} cases: {spread}")
    for words, random_cases in (("random cases", True), ("fixed cases", False)):
        told = resample(table, asked.pairs, asked.seed, random_cases=random_cases)
        print(f"{words}: {told} of {asked.pairs} pairs of {RUNS} runs each are told apart (seed {asked.seed})")


if __name__ == "__main__":
    main()

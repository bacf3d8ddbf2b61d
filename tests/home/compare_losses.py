"""The validation Dice of nnU-Net with an exported loss and with its own, over seeds, on pictures of two classes.

    python -m tests.home.compare_losses FOLDER --pictures DIR [--seeds 3] [--epochs 8] [--iterations 50]

DIR holds `images/`, `masks/`, `train.txt` and `val.txt`. Everything is done with nnU-Net's and tuner's own programs: a
search runs on the pictures of `train.txt` alone, its best trial is exported, and nnU-Net trains on them, with each
recipe and seed, a tiny network on small patches, and is scored on those of `val.txt`. What was trained already in
FOLDER is not trained again. The table is Markdown; FOLDER/scores.csv holds the Dice of every picture, and `tuner
compare` says what it lets one claim.
"""

import argparse
import csv
import json
import os
import statistics
import time
from pathlib import Path

from tests.home.sample import TINY, nnunet_environment, plan, run, write_pictures

NUMBER = 903
NAME = f"Dataset{NUMBER}_Pictures"
PATCH = 64
STUDY = f"""
name: pictures
dataset: {{name: nnunet, path: {NAME}, size: 128, validation: 0.2}}
model: {{name: unet, width: 8}}
train: {{epochs: 8, batch_size: 8, threads: 1}}
search:
  loss: [dice_focal, focal_tversky, unified_focal]
  train.lr: {{low: 1.0e-3, high: 1.0e-2, log: true}}
budget: {{trials: 9}}
"""
OWN = dict.fromkeys(("optimizer", "lr", "weight_decay", "momentum"))
RECIPES = {
    "nnU-Net's own": {"loss": None, "train": OWN},
    "exported loss": {"train": OWN},
    "exported loss, optimizer and rates": {"train": {}},
}
"""What is overridden in the exported trainer."""


def main() -> None:
    """Train what is missing and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--pictures", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--iterations", type=int, default=50)
    parser.add_argument("--recipes", type=int, default=2, choices=(1, 2, 3), help="the first so many of three")
    words = parser.parse_args()
    root = words.folder.absolute()
    root.mkdir(parents=True, exist_ok=True)
    env = nnunet_environment(root)
    name = prepare(root, words.pictures, env)
    recipes = dict(list(RECIPES.items())[: words.recipes])
    found: dict[str, list[dict[str, float]]] = {recipe: [] for recipe in recipes}
    for seed in range(words.seeds):
        for number, (recipe, changed) in enumerate(recipes.items()):
            size = {"epochs": words.epochs, "iterations": words.iterations, "validation_iterations": 2, "seed": seed}
            settings = {**changed, "train": {**changed["train"], **size}}
            found[recipe].append(trained(root / f"recipe{number}-seed{seed}", env, name, settings))
    print("| recipe | " + " | ".join(f"seed {seed}" for seed in range(words.seeds)) + " | mean | s.d. |")
    print("|---" * (words.seeds + 3) + "|")
    rows: list[tuple[str, int, str, float]] = []
    for recipe, runs in found.items():
        rows += [(recipe, run, case, value) for run, scores in enumerate(runs) for case, value in scores.items()]
        values = [statistics.mean(scores.values()) for scores in runs]
        spread = statistics.stdev(values) if len(values) > 1 else float("nan")
        cells = [*(f"{value:.4f}" for value in values), f"{statistics.mean(values):.4f}", f"{spread:.4f}"]
        print(f"| {recipe} | " + " | ".join(cells) + " |")
    table = root / "scores.csv"
    with table.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([("configuration", "run", "case", "value"), *rows])
    if words.seeds > 1 and words.recipes > 1:
        print(run("tuner", "compare", str(table), env=env), flush=True)


def prepare(root: Path, pictures: Path, env: dict[str, str]) -> str:
    """Write, plan and preprocess the pictures, search on those that train and export; return the trainer's name."""
    train, validation = ((pictures / f"{part}.txt").read_text().split() for part in ("train", "val"))
    preprocessed = Path(env["nnUNet_preprocessed"]) / NAME
    if not (preprocessed / "splits_final.json").exists():
        write_pictures(root / "nnUNet_raw", pictures, [*train, *validation], name=NAME, reduced=2)
        plan(env, NUMBER, NAME, patch_size=[PATCH, PATCH], batch_size=4)
        (preprocessed / "splits_final.json").write_text(json.dumps([{"train": train, "val": validation}]))
    file = root / "trainers" / "winner.py"
    if not file.exists():
        (root / "study.yaml").write_text(STUDY)
        write_pictures(root / "search", pictures, train, name=NAME)
        places = {"TUNER_DATA_ROOT": str(root / "search"), "TUNER_CACHE": str(root / "cache")}
        url = f"sqlite:///{root / 'tuner.db'}"
        resources = ["--devices", "cpu", "--workers", "1", "--storage", url]
        run("tuner", "launch", "study.yaml", *resources, env={**env, **places}, cwd=root)
        run("tuner", "export", "pictures", "-o", str(file), "--format", "nnunet", "--storage", url, env=env, cwd=root)
    names = [line for line in file.read_text().splitlines() if line.startswith("class nnUNetTrainer_")]
    return names[0].removeprefix("class ").partition("(")[0]


def trained(folder: Path, env: dict[str, str], name: str, settings: dict[str, object]) -> dict[str, float]:
    """Train fold 0 into a folder, if it is not there yet; return the Dice of its validation pictures."""
    result = folder / NAME / f"{name}__nnUNetPlans__{TINY}" / "fold_0" / "validation" / "summary.json"
    if not result.exists():
        folder.mkdir(exist_ok=True)
        (folder / "settings.json").write_text(json.dumps(settings))
        places = {"nnUNet_results": str(folder), "TUNER_NNUNET_SETTINGS": str(folder / "settings.json")}
        began = time.monotonic()
        run("nnUNetv2_train", str(NUMBER), TINY, "0", "-tr", name, "-device", "cpu", env={**env, **places})
        (folder / "seconds").write_text(f"{time.monotonic() - began:.0f}")
    cases = json.loads(result.read_text())["metric_per_case"]
    return {Path(row["reference_file"]).stem: float(row["metrics"]["1"]["Dice"]) for row in cases}


if __name__ == "__main__":
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    main()

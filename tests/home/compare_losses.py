"""The validation Dice of nnU-Net with an exported trial and with its own recipe, over seeds.

    python -m tests.home.compare_losses FOLDER [--seeds 3] [--epochs 20] [--iterations 25]

Everything is done with nnU-Net's and tuner's own programs: a sample is written, planned and preprocessed, a search runs
on the raw data set, its best trial is exported, and fold 0 is trained with each recipe and seed by a tiny
two-dimensional plan. What was trained already in FOLDER is not trained again. The table is Markdown.
"""

import argparse
import json
import os
import statistics
import time
from pathlib import Path

from tests.home.sample import NAME, NUMBER, TINY, nnunet_environment, plan, run, write_sample

STUDY = """
name: organs
dataset: {name: nnunet, path: Dataset901_Phantom, dimensions: 2, size: 64, validation: 0.2}
model: {name: unet, width: 8}
train: {epochs: 6, batch_size: 8, threads: 1, optimizer: sgd, momentum: 0.99}
search:
  loss: [dice_focal, focal_tversky, generalized_dice_focal]
  train.lr: {low: 3.0e-3, high: 3.0e-2, log: true}
budget: {trials: 6}
"""
OWN = dict.fromkeys(("optimizer", "lr", "weight_decay", "momentum"))
RECIPES = {
    "nnU-Net's own": {"loss": None, "train": OWN},
    "exported loss, nnU-Net's optimizer": {"train": OWN},
    "as exported": {"train": {}},
}
"""What is overridden in the exported trainer."""


def main() -> None:
    """Train what is missing and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--iterations", type=int, default=25)
    words = parser.parse_args()
    root = words.folder.absolute()
    root.mkdir(parents=True, exist_ok=True)
    env = nnunet_environment(root, nnUNet_extTrainer=str(root / "trainers"))
    env.setdefault("OMP_NUM_THREADS", "1")
    name = prepare(root, env)
    print("| recipe | " + " | ".join(f"seed {seed}" for seed in range(words.seeds)) + " | mean | s.d. |", flush=True)
    print("|---" * (words.seeds + 3) + "|", flush=True)
    for number, (recipe, changed) in enumerate(RECIPES.items()):
        values = []
        for seed in range(words.seeds):
            size = {"epochs": words.epochs, "iterations": words.iterations, "validation_iterations": 2, "seed": seed}
            settings = {**changed, "train": {**changed["train"], **size}}
            values.append(trained(root / f"recipe{number}-seed{seed}", env, name, settings))
        spread = statistics.stdev(values) if len(values) > 1 else float("nan")
        cells = [*(f"{value:.4f}" for value in values), f"{statistics.mean(values):.4f}", f"{spread:.4f}"]
        print(f"| {recipe} | " + " | ".join(cells) + " |", flush=True)


def prepare(root: Path, env: dict[str, str]) -> str:
    """Write, plan and preprocess the sample, search on it and export; return the trainer's name."""
    if not (root / "nnUNet_preprocessed" / NAME / "nnUNetPlans.json").exists():
        write_sample(root / "nnUNet_raw", cases=10)
        plan(env)
    file = root / "trainers" / "winner.py"
    if not file.exists():
        file.parent.mkdir(exist_ok=True)
        (root / "study.yaml").write_text(STUDY)
        places = {"TUNER_DATA_ROOT": env["nnUNet_raw"], "TUNER_CACHE": str(root / "cache")}
        url = f"sqlite:///{root / 'tuner.db'}"
        resources = ["--devices", "cpu", "--workers", "1", "--storage", url]
        run("tuner", "launch", "study.yaml", *resources, env={**env, **places}, cwd=root)
        run("tuner", "export", "organs", "-o", str(file), "--format", "nnunet", "--storage", url, env=env, cwd=root)
    names = [line for line in file.read_text().splitlines() if line.startswith("class nnUNetTrainer_")]
    return names[0].removeprefix("class ").partition("(")[0]


def trained(folder: Path, env: dict[str, str], name: str, settings: dict[str, object]) -> float:
    """Train fold 0 into a folder, if it is not there yet; return the mean Dice of its validation cases."""
    result = folder / NAME / f"{name}__nnUNetPlans__{TINY}" / "fold_0" / "validation" / "summary.json"
    if not result.exists():
        folder.mkdir(exist_ok=True)
        (folder / "settings.json").write_text(json.dumps(settings))
        places = {"nnUNet_results": str(folder), "TUNER_NNUNET_SETTINGS": str(folder / "settings.json")}
        began = time.monotonic()
        run("nnUNetv2_train", str(NUMBER), TINY, "0", "-tr", name, "-device", "cpu", env={**env, **places})
        (folder / "seconds").write_text(f"{time.monotonic() - began:.0f}")
    value: float = json.loads(result.read_text())["foreground_mean"]["Dice"]
    return value


if __name__ == "__main__":
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    main()

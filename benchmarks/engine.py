"""Our engine beside the script that a practitioner writes (`naive_search.py`): equal work, wall time, equal quality.

    python -m benchmarks.engine --data-root DIR [--epochs 12] [--seeds 1] [--configs FILE] [--workers 2]

Both train the same list of configurations in this run, one after the other, on the same cores: the script in one
process with as many threads as there are workers, ours in processes of one thread each. Equal: network, losses and
their options, learning rates, schedule, optimiser steps, batch size, image size, data (validation on the test volumes,
`dataset.validation: test`). Wall time is from the start of the first process to the end of the last: start-up,
imports and preparing the data count. Afterwards, off the clock, both networks of every configuration (as they were
after the last epoch) predict the first test volume, and one function scores the predictions at the volume's own size.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

CONFIGS = [
    {"loss": "dice_ce", "weight": 0.5, "lr": 0.003},
    {"loss": "focal", "gamma": 1.0, "lr": 0.005},
    {"loss": "tversky", "alpha": 0.3, "lr": 0.003},
    {"loss": "dice", "lr": 0.005},
]
"""In the words of the naive script. MONAI's DiceFocalLoss is not among them: its Dice is of a softmax and its focal
loss of sigmoids, and no loss of ours is equal to that."""

BATCH = 8
AUGMENTATION = {
    "flip_width": 0.5,
    "quarter_turns": 0.2,
    "affine": 0.5,
    "rotation": 20.0,
    "scale": 0.1,
    "translation": 0.0,
    "intensity": 0.5,
    "brightness": 0.0,
    "contrast": 0.1,
    "gamma": 0.0,
    "noise": 0.2,
    "noise_std": 0.02,
}
"""What the script augments with; ours by default mirrors nothing in an abdomen, and that alone makes it better here."""
MONAI_DICE = {"batch": False, "classes": "all", "smooth": 1e-5}
"""What MONAI's losses do by default: a mean over samples, absent classes counted."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-root", required=True, type=Path, help="folder that holds `synapse/`")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--seeds", type=int, default=1, help="everything once with each of the seeds 0, 1, ...")
    parser.add_argument("--seed", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--configs", type=Path, help="JSON list as `--fixed` of the naive script takes it")
    parser.add_argument("--role", choices=["table", "naive", "ours"], default="table", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help="keep everything here")
    args = parser.parse_args()
    if args.role == "naive":
        run_naive(args)
    elif args.role == "ours":
        run_ours(args)
    else:
        configs = json.loads(args.configs.read_text()) if args.configs else CONFIGS
        with tempfile.TemporaryDirectory() as scratch:
            kept = args.folder or Path(scratch)
            measured = []
            for seed in range(args.seeds):
                args.seed, args.folder = seed, kept / f"seed-{seed}"
                args.folder.mkdir(parents=True, exist_ok=True)
                (args.folder / "configs.json").write_text(json.dumps(configs))
                measured.append(measure(args, configs))
            print_table(args, configs, measured)


class Measured(NamedTuple):
    """Both sides with one seed: seconds, and the Dice of every configuration."""

    wall: dict[str, float]
    cpu: dict[str, float]
    dice: list[dict[str, float]]


def measure(args: argparse.Namespace, configs: list[dict[str, Any]]) -> Measured:
    naive, naive_cpu = timed(args, "naive", count=1, threads=args.workers)
    ours, ours_cpu = timed(args, "ours", count=args.workers, threads=1)
    found = Measured({"naive": naive, "ours": ours}, {"naive": naive_cpu, "ours": ours_cpu}, scores(args, configs))
    print(args.seed, json.dumps(found._asdict()), file=sys.stderr, flush=True)
    return found


def print_table(args: argparse.Namespace, configs: list[dict[str, Any]], measured: list[Measured]) -> None:
    print(f"\n{len(configs)} configurations, {args.epochs} epochs, {args.size} x {args.size}, {args.workers} cores, "
          f"{args.seeds} seeds (mean, lowest to highest)\n")  # fmt: skip
    print("| | naive script | tuner | |")
    print("|---|---|---|---|")
    for label, seconds in (
        ("wall time, end to end", [one.wall for one in measured]),
        ("CPU time", [one.cpu for one in measured]),
    ):
        ratios = spread([one["naive"] / one["ours"] for one in seconds], "{:.2f}")
        sides = [spread([one[side] for one in seconds], "{:.1f}") for side in ("naive", "ours")]
        print(f"| {label}, s | {sides[0]} | {sides[1]} | {ratios} times less |")
    for number, config in enumerate(configs):
        options = ", ".join(f"{key} {value}" for key, value in config.items() if key != "loss")
        print(f"| Dice, {config['loss']} ({options}) {dice_cells([[one.dice[number]] for one in measured])}")
    print(f"| Dice, mean {dice_cells([one.dice for one in measured])}")


def dice_cells(seeds: list[list[dict[str, float]]]) -> str:
    means = [{side: fmean(row[side] for row in rows) for side in ("naive", "ours")} for rows in seeds]
    sides = [spread([mean[side] for mean in means], "{:.4f}") for side in ("naive", "ours")]
    return f"| {sides[0]} | {sides[1]} | {spread([mean['ours'] - mean['naive'] for mean in means], '{:+.4f}')} |"


def spread(values: list[float], form: str) -> str:
    mean, low, high = (form.format(value) for value in (fmean(values), min(values), max(values)))
    return mean if len(values) == 1 else f"{mean} ({low} to {high})"


def timed(args: argparse.Namespace, role: str, *, count: int, threads: int) -> tuple[float, float]:
    """Run `count` processes of a role to their end; return wall and CPU seconds (the latter bear a busy machine)."""
    environment = os.environ | {
        "OMP_NUM_THREADS": str(threads),
        "OMP_WAIT_POLICY": "passive",
        "PYTHONWARNINGS": "ignore",
    }
    command = [
        *(sys.executable, "-m", "benchmarks.engine", "--role", role, "--data-root", str(args.data_root)),
        *("--size", str(args.size), "--epochs", str(args.epochs), "--folder", str(args.folder)),
        *("--seed", str(args.seed)),
    ]
    began, used = time.perf_counter(), children_cpu_s()
    processes = [subprocess.Popen(command, env=environment, stdout=sys.stderr) for _ in range(count)]
    codes = [process.wait() for process in processes]
    if any(codes):
        raise SystemExit(f"{role} failed")
    return time.perf_counter() - began, children_cpu_s() - used


def children_cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def run_naive(args: argparse.Namespace) -> None:
    """What `naive_search.py --fixed` does; each network is kept as it is when its training ends."""
    import torch

    from benchmarks import naive_search

    networks = []
    build = naive_search.UNet
    naive_search.UNet = lambda *a, **k: networks.append(build(*a, **k)) or networks[-1]
    given = ["--data", str(args.data_root / "synapse"), "--layout", "synapse", "--size", str(args.size)]
    given += ["--epochs", str(args.epochs), "--batch", str(BATCH), "--fixed", str(args.folder / "configs.json")]
    given += ["--seed", str(args.seed)]
    sys.argv = ["naive_search.py", *given]
    naive_search.main()
    torch.save([network.state_dict() for network in networks], args.folder / "naive.pt")


def run_ours(args: argparse.Namespace) -> None:
    """One worker: take the next configuration that nobody has taken, train it, until none is left."""
    from tuner.data.augmentation import Augment
    from tuner.data.augmentation_options import complete_augmentation
    from tuner.training import loop
    from tuner.training.trainer import train

    options = complete_augmentation(AUGMENTATION)
    loop.build_augment = lambda config, data: Augment(options, data.ignore_index)
    configs = json.loads((args.folder / "configs.json").read_text())
    data = None
    for number in claims(args.folder, len(configs)):
        config = translated(configs[number], args)
        data = data or prepared(config, args)
        for report in train(config, data=data, device="cpu", folder=args.folder / f"{number}", stop=lambda: False):
            print(number, report.epoch, f"{report.metrics['dice']:.4f}", f"{report.seconds:.2f} s", flush=True)


def claims(folder: Path, count: int) -> Iterator[int]:
    """Yield the numbers that this process has taken: who creates the file has the number."""
    for number in range(count):
        try:
            (folder / f"{number}.claim").touch(exist_ok=False)
        except FileExistsError:
            continue
        yield number


def translated(config: dict[str, Any], args: argparse.Namespace) -> Any:
    """Say a configuration of the naive script in our words."""
    from tuner.config.trial import load_config

    name, lr = config["loss"], config["lr"]
    loss: dict[str, Any] = {
        # their weight is Dice's, ours the cross entropy's
        "dice_ce": lambda: {"name": "dice_cross_entropy", "weight": 1 - config["weight"], **MONAI_DICE},
        "dice": lambda: {"name": "dice", **MONAI_DICE},
        "focal": lambda: {"name": "focal", "gamma": config["gamma"]},
        "tversky": lambda: {
            "name": "tversky", "alpha": config["alpha"], "beta": 1 - config["alpha"], **MONAI_DICE
        },
    }[name]()  # fmt: skip
    train = {"epochs": args.epochs, "batch_size": BATCH, "lr": lr, "weight_decay": 1e-5, "warmup": 0.0}
    train |= {"clip_norm": None, "threads": 1, "seed": args.seed}
    return load_config(
        {
            "dataset": {"name": "synapse", "size": args.size, "validation": "test"},
            "model": {"name": "monai_unet", "width": 16, "depth": 4, "residual_units": 2, "norm": "instance"},
            "loss": loss,
            "train": train,
        }
    )


def prepared(config: Any, args: argparse.Namespace) -> Any:
    from tuner.data.preparation import prepare

    return prepare(config.dataset, data_root=args.data_root, cache=args.folder / "cache", seed=0)


def scores(args: argparse.Namespace, configs: list[dict[str, Any]]) -> list[dict[str, float]]:
    """Mean foreground Dice of the first test volume, for both networks of every configuration."""
    import torch
    from monai.networks.nets import UNet

    from tuner.data.preparation import test_cases
    from tuner.metrics.scoring import mean_scores, score_case
    from tuner.training.components import build_components
    from tuner.training.final import predict_case
    from tuner.training.sliding_window import Geometry

    theirs = torch.load(args.folder / "naive.pt", weights_only=True)
    images = naive_inputs(args)
    found = []
    for number, config in enumerate(configs):
        ours = translated(config, args)
        data = prepared(ours, args)
        case = next(iter(test_cases(ours.dataset, data_root=args.data_root, cache=args.folder / "cache", seed=0)))
        trial = build_components(ours, data, "cpu")
        trial.model.load_state_dict(torch.load(args.folder / f"{number}/last.ckpt", weights_only=True)["model"])
        naive = UNet(2, 1, data.classes, channels=(16, 32, 64, 128, 256), strides=(2, 2, 2, 2), num_res_units=2)
        naive.load_state_dict(theirs[number])
        predictions = {
            "naive": predict_naive(naive, images, case.label.shape[-2:]),
            "ours": predict_case(trial, case, data, Geometry.of(ours.train, data.sample_shape)),
        }
        row = {}
        for side, prediction in predictions.items():
            score = score_case(prediction, case.label, data.classes, data.ignore_index, ("dice",))
            row[side] = float(mean_scores([score])[0]["dice"] or 0.0)
        found.append(row)
    return found


def naive_inputs(args: argparse.Namespace) -> Any:
    """The slices of the first test volume as the naive script resizes them."""
    import torch

    from benchmarks import naive_search

    arguments = argparse.Namespace(data=str(args.data_root / "synapse"), layout="synapse", size=args.size)
    task = naive_search.Task(arguments)
    return torch.stack([torch.as_tensor(item["image"]) for item in task.val])


def predict_naive(network: Any, images: Any, size: tuple[int, int]) -> Any:
    import torch

    from tuner.data.images import resize_labels

    network.eval()
    with torch.no_grad():
        return resize_labels(network(images).argmax(1).to(torch.uint8).numpy(), size)


if __name__ == "__main__":
    main()

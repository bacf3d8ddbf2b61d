"""How much every loss costs: forward and backward, in units of torch's cross-entropy on the same logits.

    python benchmarks/losses.py [--losses dice,focal] [--rounds 15] [--threads 1] [--device cpu]

Rounds are interleaved, so that other work on the machine meets all losses alike; the table shows medians of this
process's CPU time (of the wall clock on a GPU). Target maps
are made once and handed in, as in training; "map" is what making them costs in the same units. "MONAI" is MONAI's
implementation of the same loss, where it has one, timed in the same rounds; "SMP" is segmentation-models-pytorch's,
taken out of its wheel, which pip fetches (its package wants torchvision). "memory" is what one forward and backward
allocates at its peak beyond logits and gradient, in units of the logits (on CUDA only).
"""

import argparse
import importlib
import statistics
import subprocess
import sys
import tempfile
import time
import types
import zipfile
from collections.abc import Callable
from pathlib import Path

import torch
from monai import losses as monai
from torch import Tensor
from torch.nn import functional as F

from tuner.losses.build import build_loss
from tuner.losses.catalogue import LOSSES
from tuner.losses.target_maps import target_map
from tuner.losses.view import read_view
from tuner.maps import MAPS

SHAPES = ((4, 9, 224, 224), (2, 19, 256, 512))
VOID = 255

MONAI: dict[str, Callable[[], torch.nn.Module]] = {
    "dice": lambda: monai.DiceLoss(softmax=True, to_onehot_y=True, batch=True),
    "jaccard": lambda: monai.DiceLoss(softmax=True, to_onehot_y=True, batch=True, jaccard=True),
    "tversky": lambda: monai.TverskyLoss(softmax=True, to_onehot_y=True, batch=True, alpha=0.3, beta=0.7),
    "focal": lambda: monai.FocalLoss(use_softmax=True, to_onehot_y=True),
    "dice_cross_entropy": lambda: monai.DiceCELoss(softmax=True, to_onehot_y=True, batch=True),
    "dice_focal": lambda: monai.DiceFocalLoss(softmax=True, to_onehot_y=True, batch=True),
    "generalized_dice": lambda: monai.GeneralizedDiceLoss(softmax=True, to_onehot_y=True),
    "generalized_dice_focal": lambda: monai.GeneralizedDiceFocalLoss(softmax=True, to_onehot_y=True),
    "hausdorff": lambda: monai.HausdorffDTLoss(softmax=True, to_onehot_y=True),
    "log_hausdorff": lambda: monai.LogHausdorffDTLoss(softmax=True, to_onehot_y=True),
}

SMP: dict[str, tuple[str, dict[str, object]]] = {
    "dice": ("DiceLoss", {}),
    "jaccard": ("JaccardLoss", {}),
    "tversky": ("TverskyLoss", {"alpha": 0.3, "beta": 0.7}),
    "focal_tversky": ("TverskyLoss", {"alpha": 0.3, "beta": 0.7, "gamma": 0.75}),
    "focal": ("FocalLoss", {}),
    "lovasz_softmax": ("LovaszLoss", {}),
}


def smp_losses() -> types.ModuleType | None:
    """Return segmentation-models-pytorch's `losses` without the rest of its package; None where it cannot be had."""
    package = "segmentation_models_pytorch"
    with tempfile.TemporaryDirectory() as folder:
        fetch = [sys.executable, "-m", "pip", "download", "--no-deps", "-q", "-d", folder, package.replace("_", "-")]
        done = subprocess.run(fetch, capture_output=True, check=False)
        wheels = list(Path(folder).glob("*.whl"))
        if done.returncode or not wheels:
            print("SMP left out: pip cannot fetch segmentation-models-pytorch here")
            return None
        with zipfile.ZipFile(wheels[0]) as wheel:
            wheel.extractall(folder, [name for name in wheel.namelist() if name.startswith(f"{package}/losses/")])
        # an empty parent, so that its __init__ does not run
        parent = types.ModuleType(package)
        parent.__path__ = [str(Path(folder) / package)]
        sys.modules[package] = parent
        return importlib.import_module(f"{package}.losses")


def scene(shape: tuple[int, ...], device: str) -> tuple[Tensor, Tensor]:
    """Logits and labels with smooth regions, from a fixed seed."""
    torch.manual_seed(0)
    coarse = torch.rand(shape[0], 1, *(side // 16 for side in shape[2:]))
    smooth = F.interpolate(coarse, size=shape[2:], mode="bilinear")[:, 0]
    target = (smooth * shape[1]).long().clamp_max(shape[1] - 1)
    logits = torch.randn(shape) + 2 * F.one_hot(target, shape[1]).movedim(-1, 1)
    return logits.to(device).requires_grad_(), target.to(device)


def step(loss: Callable[[], Tensor], logits: Tensor) -> float:
    """Seconds of one forward and backward."""
    logits.grad = None
    wait(logits)
    # other people's work on the machine does not count, where the host does the work
    clock = time.process_time if logits.device.type == "cpu" else time.perf_counter
    start = clock()
    loss().backward()
    wait(logits)
    return clock() - start


def wait(logits: Tensor) -> None:
    if logits.device.type == "cuda":
        torch.cuda.synchronize()


def peak(loss: Callable[[], Tensor], logits: Tensor) -> float | None:
    """Memory of one forward and backward, in units of the logits, the gradient left out."""
    if logits.device.type != "cuda":
        return None
    logits.grad = None
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    loss().backward()
    own = logits.numel() * logits.element_size()
    return (torch.cuda.max_memory_allocated() - before) / own - 1


def candidates(
    names: list[str], logits: Tensor, target: Tensor, smp: types.ModuleType | None = None
) -> dict[str, Callable[[], Tensor]]:
    """Everything that is timed, by name; others' under `monai NAME` and `smp NAME`."""
    classes = logits.shape[1]
    view = read_view(logits.detach(), target, ignore_index=VOID)
    timed: dict[str, Callable[[], Tensor]] = {
        "reference": lambda: F.cross_entropy(logits, target, ignore_index=VOID),
    }
    for name in names:
        loss = build_loss(
            {"name": name, name: bare(name)},
            classes=classes,
            ignore_index=VOID,
            class_frequencies=[1 / classes] * classes,
        ).to(logits.device)
        inputs = {need: target_map(view, need, None) for need in loss.needs if need in MAPS}
        timed[name] = lambda loss=loss, inputs=inputs: loss(logits, target, inputs)
        if name in MONAI:
            module, column = MONAI[name](), target.unsqueeze(1)
            timed[f"monai {name}"] = lambda module=module, column=column: module(logits, column)
        if smp is not None and name in SMP:
            kind, options = SMP[name]
            other = getattr(smp, kind)(mode="multiclass", **options)
            timed[f"smp {name}"] = lambda other=other: other(logits, target)
        if loss.needs & MAPS.keys():
            timed[f"map {name}"] = lambda needs=loss.needs: make_maps(logits, target, needs)
    return timed


def bare(name: str) -> dict[str, object]:
    """Options under which the loss is timed without its companion; add-ons keep their base, as in training."""
    return {"cross_entropy_weight": 0.0} if "cross_entropy_weight" in LOSSES[name].blend else {}


def make_maps(logits: Tensor, target: Tensor, needs: frozenset[str]) -> Tensor:
    view = read_view(logits.detach(), target, ignore_index=VOID)
    for need in needs & MAPS.keys():
        target_map(view, need, None)
    return logits[:1, :1].sum() * 0


def measure(names: list[str], shape: tuple[int, ...], rounds: int, device: str, smp: types.ModuleType | None) -> None:
    """Time one shape and print its table."""
    logits, target = scene(shape, device)
    timed = candidates(names, logits, target, smp)
    seconds: dict[str, list[float]] = {name: [] for name in timed}
    for round_ in range(rounds + 1):
        for name, loss in timed.items():
            taken = step(loss, logits)
            if round_:
                seconds[name].append(taken)
    unit = statistics.median(seconds["reference"])
    print(f"\nlogits {list(shape)} on {device}: cross-entropy forward + backward takes {unit * 1000:.2f} ms\n")
    print("| loss | ours | MONAI | SMP | map | memory |\n|---|---|---|---|---|---|")
    for name in names:
        cells = [ratio(seconds.get(key), unit) for key in (name, f"monai {name}", f"smp {name}", f"map {name}")]
        memory = peak(timed[name], logits)
        print(f"| {name} | {' | '.join(cells)} | {'' if memory is None else f'{memory:.2f}'} |")


def ratio(seconds: list[float] | None, unit: float) -> str:
    return "" if seconds is None else f"{statistics.median(seconds) / unit:.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--losses", default=",".join(LOSSES))
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    smp = smp_losses()
    for shape in SHAPES:
        measure(options.losses.split(","), shape, options.rounds, options.device, smp)


if __name__ == "__main__":
    main()

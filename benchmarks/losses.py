"""How much every loss costs: forward and backward, in units of torch's cross-entropy on the same logits.

    python benchmarks/losses.py [--losses dice,focal] [--rounds 15] [--threads 1] [--device cpu]

Every loss is timed alone, without companion; for those that are added to a base, "with base" is the sum as it is
trained. Rounds are interleaved, so that other work on the machine meets all losses alike; in every round each runs
twice and the second counts, so that none pays for the caches that another one emptied. The table shows medians of this
process's CPU time (of the wall clock on a GPU). Freed memory stays with the process, as in our workers, or the kernel's
page faults would decide. Target maps are made once and handed in, as in training; "map" is the loss when it must make
them itself. "MONAI" is MONAI's implementation of the same loss, where it has one, timed in the same rounds; "SMP" is
segmentation-models-pytorch's, taken out of its wheel, which pip fetches (its package wants torchvision). "memory" is
what one forward and backward allocates at its peak beyond the logits, the gradient included, in units of the logits.

    python benchmarks/losses.py --forms [--losses dice,focal]

times the other forms of target on the small logits: "sigmoid", classes that overlap, as uint8 and as float; "soft",
probabilities that add up to 1; "weights", a weight for every pixel; "supervised", outputs of three resolutions. Beside
them the same of torch, MONAI and SMP, which get the floats that they want.
"""

import argparse
import ctypes
import importlib
import statistics
import subprocess
import sys
import tempfile
import time
import types
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import cast

import torch
from monai import losses as monai
from torch import Tensor
from torch.nn import functional as F
from torch.profiler import ProfilerActivity, profile

from tuner import losses
from tuner.label_maps import MAPS
from tuner.losses.batch import END, read_inputs
from tuner.losses.build import SegmentationLoss, Term, build_loss
from tuner.losses.catalog.registry import LOSSES
from tuner.losses.distance_transform import target_map

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
    "sigmoid_focal": lambda: monai.FocalLoss(to_onehot_y=True, alpha=0.25),
    "bce_dice": lambda: monai.DiceCELoss(sigmoid=True, to_onehot_y=True, batch=True),
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
    "sigmoid_focal": ("FocalLoss", {"alpha": 0.25}),
    "log_dice": ("DiceLoss", {"log_loss": True}),
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
    """Seconds of one forward and backward, the second of two."""
    taken = 0.0
    # other people's work on the machine does not count, where the host does the work
    clock = time.process_time if logits.device.type == "cpu" else time.perf_counter
    for _ in range(2):
        logits.grad = None
        wait(logits)
        start = clock()
        loss().backward()
        wait(logits)
        taken = clock() - start
    return taken


def wait(logits: Tensor) -> None:
    if logits.device.type == "cuda":
        torch.cuda.synchronize()


def keep_memory() -> None:
    """Let the allocator keep what is freed, as our workers' does (tuner/launch/local.py); glibc only."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        trim_threshold, mmap_threshold = -1, -3
        mallopt(trim_threshold, 2_000_000_000)
        mallopt(mmap_threshold, 1 << 30)


def peak(loss: Callable[[], Tensor], logits: Tensor) -> float:
    """Memory of one forward and backward at its peak, in units of the logits, the gradient included."""
    logits.grad = None
    own = logits.numel() * logits.element_size()
    if logits.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        loss().backward()
        return (torch.cuda.max_memory_allocated() - before) / own
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        loss().backward()
    held = top = 0
    for event in sorted(seen.profiler.kineto_results.events(), key=lambda event: event.start_ns()):
        if event.name() == "[memory]":
            held += event.nbytes()
            top = max(top, held)
    return top / own


def candidates(
    names: list[str], logits: Tensor, target: Tensor, smp: types.ModuleType | None = None
) -> dict[str, Callable[[], Tensor]]:
    """Everything that is timed, by name; others' under `monai NAME` and `smp NAME`."""
    classes = logits.shape[1]
    view = read_inputs(logits.detach(), target, ignore_index=VOID)
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
        timed[name] = alone(loss, logits, target, inputs)
        if loss.mixing_options.hidden and "base" in LOSSES[name].mixing_options:
            timed[f"base {name}"] = lambda loss=loss, inputs=inputs: loss(logits, target, inputs)
        if name in MONAI:
            module, column = MONAI[name](), target.unsqueeze(1)
            timed[f"monai {name}"] = lambda module=module, column=column: module(logits, column)
        if smp is not None and name in SMP:
            kind, options = SMP[name]
            other = getattr(smp, kind)(mode="multiclass", **options)
            timed[f"smp {name}"] = lambda other=other: other(logits, target)
        if loss.needs & MAPS.keys():
            timed[f"map {name}"] = alone(loss, logits, target, {})
    return timed


def alone(loss: SegmentationLoss, logits: Tensor, target: Tensor, inputs: Mapping[str, Tensor]) -> Callable[[], Tensor]:
    """The loss without its base."""
    term = cast(Term, loss.terms[loss.name])
    sums, squares = term.function.reads(**term.keywords)
    logs = term.function.logs

    def run() -> Tensor:
        view = read_inputs(logits, target, ignore_index=VOID, sums=sums, squares=squares, logs=logs)
        return term(view, inputs, END)

    return run


def bare(name: str) -> dict[str, object]:
    """Options under which the loss has no companion."""
    return {"cross_entropy_weight": 0.0} if "cross_entropy_weight" in LOSSES[name].mixing_options else {}


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
    print("| loss | ours | MONAI | SMP | map | with base | memory |\n|---|---|---|---|---|---|---|")
    print(f"| (torch's cross-entropy) | 1.00 | | | | | {peak(timed['reference'], logits):.1f} |")
    for name in names:
        keys = (name, f"monai {name}", f"smp {name}", f"map {name}", f"base {name}")
        cells = [ratio(seconds.get(key), unit) for key in keys]
        print(f"| {name} | {' | '.join(cells)} | {peak(timed[name], logits):.1f} |")


PUBLIC_SIGMOID: dict[str, Callable[[], torch.nn.Module]] = {
    "cross_entropy": torch.nn.BCEWithLogitsLoss,
    "dice": lambda: monai.DiceLoss(sigmoid=True, batch=True),
    "jaccard": lambda: monai.DiceLoss(sigmoid=True, batch=True, jaccard=True),
    "tversky": lambda: monai.TverskyLoss(sigmoid=True, batch=True, alpha=0.3, beta=0.7),
    "focal": lambda: monai.FocalLoss(),
    "dice_cross_entropy": lambda: monai.DiceCELoss(sigmoid=True, batch=True),
    "dice_focal": lambda: monai.DiceFocalLoss(sigmoid=True, batch=True),
    "generalized_dice": lambda: monai.GeneralizedDiceLoss(sigmoid=True),
    "sigmoid_focal": lambda: monai.FocalLoss(alpha=0.25),
    "bce_dice": lambda: monai.DiceCELoss(sigmoid=True, batch=True),
}
PUBLIC_SOFT: dict[str, Callable[[], torch.nn.Module]] = {
    "cross_entropy": torch.nn.CrossEntropyLoss,
    "dice": lambda: monai.DiceLoss(softmax=True, batch=True, soft_label=True),
    "jaccard": lambda: monai.DiceLoss(softmax=True, batch=True, jaccard=True, soft_label=True),
    "tversky": lambda: monai.TverskyLoss(softmax=True, batch=True, alpha=0.3, beta=0.7, soft_label=True),
}
SMP_SIGMOID = ("dice", "jaccard", "tversky", "focal_tversky", "focal", "lovasz_softmax", "sigmoid_focal", "log_dice")


def forms(name: str, logits: Tensor, target: Tensor, smp: types.ModuleType | None) -> dict[str, Callable[[], Tensor]]:
    """Every form of target that a loss has, ours and the public ones."""
    entry, classes = LOSSES[name], logits.shape[1]
    one_hot = F.one_hot(target, classes).movedim(-1, 1)
    floats = one_hot.float().contiguous()
    soft = 0.9 * floats + 0.1 / classes
    bytes_, weights = one_hot.to(torch.uint8).contiguous(), torch.rand(target.shape) + 0.5
    coarse = [F.avg_pool2d(logits.detach(), side).requires_grad_() for side in (2, 4)]
    shares = {"class_frequencies": [1 / classes] * classes}
    hard = losses.create(name, num_classes=classes, **shares)
    timed: dict[str, Callable[[], Tensor]] = {}
    if entry.multilabel:
        sigmoid = losses.create(name, activation="sigmoid", **shares)
        timed["sigmoid uint8"] = lambda: sigmoid(logits, bytes_)
        timed["sigmoid float"] = lambda: sigmoid(logits, floats)
        if name in PUBLIC_SIGMOID:
            public = PUBLIC_SIGMOID[name]()
            timed["sigmoid public"] = lambda: public(logits, floats)
        if smp is not None and name in SMP_SIGMOID:
            kind, options = SMP[name]
            other = getattr(smp, kind)(mode="multilabel", **options)
            timed["sigmoid SMP"] = lambda: other(logits, floats)
    if entry.soft_labels:
        timed["soft"] = lambda: hard(logits, soft)
        timed["weights"] = lambda: hard(logits, target, mask=weights)
        if name in PUBLIC_SOFT:
            public_soft = PUBLIC_SOFT[name]()
            timed["soft public"] = lambda: public_soft(logits, soft)
    if entry.deep_supervision:
        deep = losses.DeepSupervision(hard)
        timed["supervised"] = lambda: deep([logits, *coarse], target)
        if name in MONAI:
            public_deep, column = monai.DeepSupervisionLoss(MONAI[name]()), target.unsqueeze(1).float()
            timed["supervised MONAI"] = lambda: public_deep([logits, *coarse], column)
    return timed


FORMS = (
    *("sigmoid uint8", "sigmoid float", "sigmoid public", "sigmoid SMP"),
    *("soft", "soft public", "weights", "supervised", "supervised MONAI"),
)


def measure_forms(names: list[str], rounds: int, smp: types.ModuleType | None) -> None:
    """Time the forms on small logits and print their table."""
    logits, target = scene(SHAPES[0], "cpu")
    print("| loss | " + " | ".join(FORMS) + " |\n|---" + "|---" * len(FORMS) + "|", flush=True)
    for name in names:
        timed = {"reference": lambda: F.cross_entropy(logits, target)} | forms(name, logits, target, smp)
        seconds: dict[str, list[float]] = {form: [] for form in timed}
        for round_ in range(rounds + 1):
            for form, loss in timed.items():
                taken = step(loss, logits)
                if round_:
                    seconds[form].append(taken)
        unit = statistics.median(seconds["reference"])
        print(f"| {name} | " + " | ".join(ratio(seconds.get(form), unit) for form in FORMS) + " |", flush=True)


def ratio(seconds: list[float] | None, unit: float) -> str:
    return "" if seconds is None else f"{statistics.median(seconds) / unit:.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--losses", default=",".join(LOSSES))
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--forms", action="store_true", help="sigmoid, soft labels, weights, deep supervision")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    keep_memory()
    smp = smp_losses()
    if options.forms:
        measure_forms(options.losses.split(","), options.rounds, smp)
        return
    for shape in SHAPES:
        measure(options.losses.split(","), shape, options.rounds, options.device, smp)


if __name__ == "__main__":
    main()

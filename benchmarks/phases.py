"""Where the CPU time of a trial goes: one training of `engine.py`, its phases by the CPU clock of their thread.

    OMP_NUM_THREADS=1 python -m benchmarks.phases --data-root DIR [--epochs 12] [--config 0] [--size 128] [--json]

One process with one thread. A phase's seconds are its own: what it calls that is a phase itself is taken off. The rest
is the difference to the thread's whole time. Checkpoints are written by a thread of their own, and counted as such.
"""

import argparse
import functools
import json
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.engine import AUGMENTATION, CONFIGS, prepared, translated

ORDER = (
    "build network, loss and optimiser",
    "data",
    "augmentation",
    "forward pass of the steps",
    "loss",
    "backward pass",
    "optimiser and schedule",
    "validation: network",
    "validation: classes and confusion matrix",
    "validation: calibration",
    "validation: surfaces (HD95, ASSD, surface Dice) and other scores",
    "copy of the state",
    "checkpoints (a thread)",
    "records of an epoch",
    "best weights",
    "pictures",
)


class Clock:
    """CPU seconds by phase; a phase inside another one is taken off that."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._inner: list[float] = []

    def wrap(self, owner: Any, name: str, phase: str | Callable[..., str]) -> None:
        """Count a function or method under a phase, or under the one that `phase` says of its arguments."""
        function = getattr(owner, name)

        @functools.wraps(function)
        def timed(*args: Any, **options: Any) -> Any:
            self._inner.append(0.0)
            began = time.thread_time()
            try:
                return function(*args, **options)
            finally:
                took = time.thread_time() - began
                inside = self._inner.pop()
                self.seconds[phase if isinstance(phase, str) else phase(*args)] += took - inside
                if self._inner:
                    self._inner[-1] += took

        setattr(owner, name, timed)

    def wrap_thread(self, owner: Any, name: str, phase: str) -> None:
        """Count a function that a thread runs by itself."""
        function = getattr(owner, name)

        @functools.wraps(function)
        def timed(*args: Any, **options: Any) -> Any:
            began = time.thread_time()
            try:
                return function(*args, **options)
            finally:
                self.seconds[phase] += time.thread_time() - began

        setattr(owner, name, timed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-root", required=True, type=Path, help="folder that holds `synapse/`")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--config", type=int, default=0, help="number in `engine.CONFIGS`")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        args.folder = Path(scratch)
        seconds, whole, last = measure(args)
    if args.json:
        print(json.dumps({"seconds": seconds, "whole": whole, "metrics": last}))
        return
    print(f"{whole:.2f} s of CPU; {last}\n\n| phase | CPU s | share |\n|---|---|---|")
    for phase, value in seconds.items():
        print(f"| {phase} | {value:.2f} | {value / whole:.1%} |")
    print(f"| validation, all of it | {validation(seconds):.2f} | {validation(seconds) / whole:.1%} |")


def validation(seconds: dict[str, float]) -> float:
    return sum(value for phase, value in seconds.items() if phase.startswith("validation"))


def measure(args: argparse.Namespace) -> tuple[dict[str, float], float, dict[str, Any]]:
    """Train one configuration; return seconds by phase, all of them together, and the last epoch's metrics."""
    from tuner.data.augmentation import Augment
    from tuner.data.augmentation_options import complete_augmentation
    from tuner.training import loop
    from tuner.training.trainer import train

    options = complete_augmentation(AUGMENTATION)
    loop.build_augment = lambda config, data: Augment(options, data.ignore_index)
    config = translated(CONFIGS[args.config], args)
    data = prepared(config, args)
    clock = Clock()
    watch(clock)
    metrics: dict[str, Any] = {}
    began, of_process = time.thread_time(), time.process_time()
    for report in train(config, data=data, device="cpu", folder=args.folder / "trial", stop=lambda: False):
        metrics = {"epoch": report.epoch, "loss": report.train_loss, **report.metrics}
    thread, whole = time.thread_time() - began, time.process_time() - of_process
    found = {phase: clock.seconds[phase] for phase in ORDER}
    in_thread = sum(found.values()) - found["checkpoints (a thread)"]
    return found | {"the rest": thread - in_thread}, whole, metrics


def watch(clock: Clock) -> None:
    """Name the phases of a training by the functions that they consist of."""
    import torch

    from tuner.data.augmentation import Augment
    from tuner.metrics.calibration import CalibrationCounter
    from tuner.training import checkpoint, evaluate, loop, run_dir, trainer, visualize
    from tuner.training.batches import Samples
    from tuner.training.components import Components, PlacedModel
    from tuner.training.optimizer import Schedule

    clock.wrap(trainer, "TrainingState", "build network, loss and optimiser")
    clock.wrap(Samples, "batch", "data")
    clock.wrap(Augment, "__call__", "augmentation")
    clock.wrap(
        PlacedModel,
        "logits",
        lambda net, images: "forward pass of the steps" if net.model.training else "validation: network",
    )
    clock.wrap(Components, "training_loss", "loss")
    clock.wrap(torch.autograd, "backward", "backward pass")
    clock.wrap(torch.amp.GradScaler, "step", "optimiser and schedule")
    clock.wrap(Schedule, "set_lr", "optimiser and schedule")
    clock.wrap(CalibrationCounter, "add", "validation: calibration")
    clock.wrap(CalibrationCounter, "counts", "validation: calibration")
    clock.wrap(evaluate.Validator, "predict", "validation: classes and confusion matrix")
    clock.wrap(loop, "validate", "validation: surfaces (HD95, ASSD, surface Dice) and other scores")
    clock.wrap(loop.TrainingState, "state", "copy of the state")
    clock.wrap_thread(checkpoint.CheckpointWriter, "_write", "checkpoints (a thread)")
    clock.wrap(run_dir.RunDirectory, "add", "records of an epoch")
    clock.wrap(run_dir.RunDirectory, "write_best", "best weights")
    clock.wrap(visualize.Pictures, "write", "pictures")


if __name__ == "__main__":
    main()

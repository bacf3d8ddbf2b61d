"""The parts of one trial, built from its configuration, and the proof that they are what was asked for."""

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from tuner.config import TrialConfig
from tuner.data.prepared import PreparedData
from tuner.errors import EffectiveConfigError
from tuner.losses.build import SegmentationLoss, build_loss
from tuner.models.build import SegmentationNet, build_model
from tuner.models.features import FeatureTap
from tuner.registry import Scalar
from tuner.training.device import resolve_precision, sound_precision
from tuner.training.loss_parts import connect
from tuner.training.optim import Schedule, build_optimizer, effective_train
from tuner.training.seeds import seed_everything

logger = logging.getLogger(__name__)

CHECKED = ("model.", "loss")
"""Every parameter of these sections must come back from the built parts; of `train`, those that the parts report."""


@dataclass
class Trial:
    """Network, loss, optimiser and schedule on their device."""

    model: SegmentationNet
    loss: SegmentationLoss
    optimizer: Optimizer
    schedule: Schedule
    device: str
    seed: int
    precision: str
    layout: torch.memory_format
    steps_per_epoch: int
    tap: FeatureTap | None = None

    def to_device(self, images: Tensor) -> Tensor:
        """Bring a batch [B, C, *S] to the device, in float32 and in the layout that the network is fast with."""
        moved = images.to(self.device, torch.float32, non_blocking=True)
        return moved.contiguous(memory_format=self.layout)

    def logits(self, images: Tensor) -> Tensor:
        """Run the network under autocast: [B, C, *S] to [B, classes, *S]."""
        if self.precision == "float32":
            return cast(Tensor, self.model(images))
        dtype = torch.float16 if self.precision == "float16" else torch.bfloat16
        with torch.autocast(torch.device(self.device).type, dtype=dtype):
            return cast(Tensor, self.model(images))

    def handed_over(self, sizes: tuple[int, ...]) -> dict[str, Tensor]:
        """Return what the loss asks of the network beside its logits, of the last call of `logits`."""
        return {} if self.tap is None else self.tap.take(sizes)

    def effective_options(self) -> dict[str, Scalar]:
        """Return what the built parts really use, under the names of the configuration."""
        return (
            self.model.effective_options()
            | self.loss.effective_options()
            | effective_train(self.optimizer, self.schedule)
        )


def build_trial(config: TrialConfig, data: PreparedData, device: str) -> Trial:
    """Build the parts of a trial; the weights depend on `train.seed` only.

    Raises:
        EffectiveConfigError: A part would use another value than the configuration says.
    """
    train = config.train
    seed = train.seed or 0
    seed_everything(seed, "model")
    model = build_model(config.model, channels=data.channels, classes=data.classes, spatial_dims=data.spatial_dims)
    layout = fast_layout(model, device, data.spatial_dims)
    model = cast(Any, model).to(device, memory_format=layout)
    loss = build_loss(
        config.loss,
        classes=data.classes,
        ignore_index=data.ignore_index,
        class_frequencies=data.class_frequencies,
    )
    tap = connect(loss, model, data)
    loss = loss.to(device)
    steps = math.ceil(len(data.train.labels) / train.batch_size)
    trial = Trial(
        model=model,
        loss=loss,
        optimizer=build_optimizer(model, loss.parameter_groups(), train, device),
        schedule=Schedule(train.schedule, train.lr, train.warmup, steps * train.epochs),
        device=device,
        seed=seed,
        precision=_precision(train.precision, device, data.spatial_dims),
        layout=layout,
        steps_per_epoch=steps,
        tap=tap,
    )
    check_effective(config, trial.effective_options())
    return trial


def check_effective(config: TrialConfig, effective: Mapping[str, Scalar]) -> None:
    """Compare what the parts use with what the configuration says. Raises EffectiveConfigError naming what differs."""
    wanted = config.parameters()
    names = {name for name in wanted if name.startswith(CHECKED)} | set(effective)
    differences = [
        f"{name}: {wanted.get(name, 'nothing')!r} was asked for, {effective.get(name, 'nothing')!r} is used"
        for name in sorted(names)
        if name not in wanted or name not in effective or not _same(wanted[name], effective[name])
    ]
    if differences:
        raise EffectiveConfigError(
            "the trial would not train what its configuration says: " + "; ".join(differences) + ".",
            hint="This is a defect of the model, the loss or the optimiser named above, not of the configuration.",
        )


def fast_layout(model: nn.Module, device: str, dims: int) -> torch.memory_format:
    """Channels last, where the device has fast kernels for all that the network does in it.

    On the CPU, instance and group normalisation are up to ten times slower in that layout, and volumes gain nothing.
    """
    kind = torch.device(device).type
    slow_norms = (nn.GroupNorm, nn.InstanceNorm2d)
    if kind == "mps" or (kind == "cpu" and (dims == 3 or any(isinstance(m, slow_norms) for m in model.modules()))):
        return torch.contiguous_format
    return torch.channels_last if dims == 2 else torch.channels_last_3d


def _precision(wanted: str, device: str, dims: int) -> str:
    used = resolve_precision(device, dims) if wanted == "auto" else sound_precision(wanted, device, dims)
    if wanted not in ("auto", used):
        logger.warning("volumes on %s are trained in %s: its gradients in %s are wrong", device, used, wanted)
    return used


def _same(wanted: object, used: object) -> bool:
    numbers = (int, float)
    if isinstance(wanted, numbers) and isinstance(used, numbers) and isinstance(wanted, bool) is isinstance(used, bool):
        return math.isclose(wanted, used, rel_tol=1e-6)
    return wanted == used

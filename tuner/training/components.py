"""The parts of one trial, built from its configuration, and the proof that they are what was asked for."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor
from torch.optim import Optimizer

from tuner.config.trial import TrialConfig
from tuner.data.preparation import PreparedData
from tuner.errors import EffectiveConfigError
from tuner.losses.build import SegmentationLoss, build_loss
from tuner.models.features import FeatureTap
from tuner.registry import Scalar
from tuner.training.loss_parts import connect
from tuner.training.network import Net, build_net
from tuner.training.optimizer import Schedule, build_optimizer, effective_train
from tuner.training.seeds import seed_everything
from tuner.training.sources import NOTHING, Sources

CHECKED = ("model.", "loss")
"""Every parameter of these sections must come back from the built parts; of `train`, those that the parts report."""


@dataclass
class Trial(Net):
    """Network, loss, optimiser and schedule on their device."""

    loss: SegmentationLoss
    optimizer: Optimizer
    schedule: Schedule
    seed: int
    steps_per_epoch: int
    patch: tuple[int, ...] | None = None
    """Sides of the pieces that are trained on; None: whole samples."""
    tap: FeatureTap | None = None

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


def build_trial(config: TrialConfig, data: PreparedData, device: str, sources: Sources = NOTHING) -> Trial:
    """Build the parts of a trial; the weights depend on `train.seed`, and on a file of pretrained ones.

    Raises:
        SpecError, EntryError, DataError: The network cannot be built, see `build_network`.
        EffectiveConfigError: A part would use another value than the configuration says.
    """
    train = config.train
    seed = train.seed or 0
    seed_everything(seed, "model")
    net = build_net(
        config,
        device,
        channels=data.channels,
        classes=data.classes,
        spatial_dims=data.spatial_dims,
        sources=sources,
    )
    loss = build_loss(
        config.loss,
        classes=data.classes,
        ignore_index=data.ignore_index,
        class_frequencies=data.class_frequencies,
    )
    tap = connect(loss, net.model, data)
    loss = loss.to(device)
    patch = train.patch_shape(data.spatial_dims)
    samples = len(data.train.labels) * (train.patches if patch else 1)
    steps = math.ceil(samples / train.batch_size)
    trial = Trial(
        **vars(net),
        loss=loss,
        optimizer=build_optimizer(net.model, loss.parameter_groups(), train, device),
        schedule=Schedule(train.schedule, train.lr, train.warmup, steps * train.epochs),
        seed=seed,
        steps_per_epoch=steps,
        patch=patch,
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


def _same(wanted: object, used: object) -> bool:
    numbers = (int, float)
    if isinstance(wanted, numbers) and isinstance(used, numbers) and isinstance(wanted, bool) is isinstance(used, bool):
        return math.isclose(wanted, used, rel_tol=1e-6)
    return wanted == used

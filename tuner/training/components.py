"""Components of one training: model, loss, optimizer, built from the configuration and checked against it."""

import hashlib
import json
import logging
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from tuner.config.trial import TrialConfig
from tuner.data.arrays import spatial_shape
from tuner.data.cache import open_or_build
from tuner.data.preparation import PreparedData
from tuner.data.regions import Regions
from tuner.errors import EffectiveConfigError, Problem, SpecError
from tuner.losses.boundary_aware import DistanceHead
from tuner.losses.build import SegmentationLoss, build_loss
from tuner.losses.inverse_form import FrozenRegressor, label_borders, train_on_borders
from tuner.losses.module import DeepSupervision, resized
from tuner.losses.own import OwnLoss
from tuner.models.build import SegmentationNet, build_model
from tuner.models.catalog import ENTRY
from tuner.models.features import FEATURES, FeatureTap
from tuner.models.pretrained import load_pretrained
from tuner.models.weights_path import find_weights
from tuner.registry import Scalar
from tuner.training.custom import load_entry
from tuner.training.device import resolve_precision, seed_everything, supported_precision
from tuner.training.optimizer import Schedule, build_optimizer, effective_train

logger = logging.getLogger(__name__)

SLICES = 512
"""Label images that the regressor learns from, evenly from all of the training split."""

MIN_SAMPLES = 8
"""With fewer border maps than this, the regressor stays the one that was trained on drawn shapes."""

_FORMAT = 1
_FILE = "regressor.safetensors"


def attach_loss_inputs(loss: SegmentationLoss, model: SegmentationNet, data: PreparedData) -> FeatureTap | None:
    """Give a loss what it can use of the network and of the data; call it before the optimizer is built.

    Raises SpecError where a loss cannot do without features that the network does not have.
    """
    tap = feature_hook(loss, model, classes=data.outputs)
    for state in loss.states():
        if isinstance(state, DistanceHead) and tap is not None:
            state.adopt_features(tap.channels)
        if isinstance(state, FrozenRegressor):
            weights = regressor_weights(data)
            if weights is None:
                state.settle()
            else:
                state.adopt(weights)
    return tap


def feature_hook(loss: SegmentationLoss, model: SegmentationNet, *, classes: int) -> FeatureTap | None:
    """Tap the network's features where the loss asks for them; without need of its classifier it can do without."""
    if not loss.needs & FEATURES:
        return None
    if model.deep_supervision:
        wrong = f"{loss.name} reads the network's features, which coarser outputs do not have"
        raise SpecError([Problem("model.deep_supervision", wrong, True)])
    try:
        return FeatureTap(model, classes=classes)
    except SpecError:
        if "classifier_weight" in loss.needs:
            raise
        logger.warning("%s has no features to hand over; %s takes the probabilities", model.name, loss.name)
        return None


def regressor_weights(data: PreparedData) -> dict[str, Tensor] | None:
    """Return InverseForm's regressor for this data set, trained once and kept beside it; None without borders.

    Of several workers one trains it, and the others wait.
    """
    key = json.dumps({"format": _FORMAT, "data": data.fingerprint}, sort_keys=True)
    digest = hashlib.sha256(key.encode()).hexdigest()[:16]
    folder = data.folder.parent / f"{data.folder.name}-inverse_form-{digest}"

    def build(scratch: Path) -> dict[str, Any]:
        borders = _borders(data)
        if len(borders) >= MIN_SAMPLES:
            logger.info("training InverseForm's regressor on %d border maps", len(borders))
            save_file(train_on_borders(borders, on_progress=_say), scratch / _FILE)
        return {"borders": len(borders)}

    found = open_or_build(folder, build)["borders"]
    if found < MIN_SAMPLES:
        logger.info("%d border maps are too few to train InverseForm's regressor on; drawn shapes do", found)
        return None
    weights: dict[str, Tensor] = load_file(folder / _FILE)
    return weights


def _say(step: int, steps: int, error: float) -> None:
    logger.info("InverseForm's regressor: step %d of %d, error %.4g", step, steps, error)


def _borders(data: PreparedData) -> Tensor:
    """Return the border maps [M, 1, 64, 64] of training slices that have a border."""
    labels = data.train.labels
    spaces = [spatial_shape(labels, number) for number in range(len(labels))]
    ends = np.cumsum([space[0] if len(space) == 3 else 1 for space in spaces])
    total = int(ends[-1]) if len(ends) else 0
    maps = []
    for number in np.unique(np.linspace(0, total - 1, min(SLICES, total)).astype(np.int64)):
        row = int(np.searchsorted(ends, number, side="right"))
        image = labels[row]
        flat = np.array(image[number - ends[row]] if image.ndim == 3 else image)
        maps.append(label_borders(torch.from_numpy(flat)[None]))
    found = torch.cat(maps) if maps else torch.zeros(0, 1, 64, 64)
    return found[found.flatten(1).amax(1) > 0]


@dataclass(frozen=True, slots=True)
class AllowedSources:
    """What this machine lets a network be made of.

    `data_root` holds files of weights that are named without their whole path, `allow_entry` are the packages from
    which code may be imported.
    """

    data_root: Path | None = None
    allow_entry: Collection[str] = ()


class SampleFacts(Protocol):
    """What a network has to know of the data: both what was prepared and what a run has kept of it say so."""

    @property
    def channels(self) -> int:
        """Channels of an image."""

    @property
    def outputs(self) -> int:
        """Channels of the output: a class each, the background included, or a region each."""

    @property
    def regions(self) -> Regions | None:
        """Classes that overlap; None: classes exclude each other."""

    @property
    def spatial_dims(self) -> int:
        """2 for images, 3 for volumes."""


@dataclass(frozen=True, slots=True)
class SampleShape:
    """`SampleFacts` of data of which nothing else is known."""

    channels: int
    outputs: int
    spatial_dims: int
    regions: Regions | None = None


@dataclass
class PlacedModel:
    """A network on its device."""

    model: SegmentationNet
    device: str
    precision: str
    layout: torch.memory_format
    regions: Regions | None = None
    """What the output's channels are where they overlap"""

    @property
    def label_type(self) -> type[np.uint8] | type[np.int32]:
        """The type of what is predicted at a pixel."""
        return np.uint8 if self.regions is None else self.regions.code_type

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

    def inference_batch(self, batch_size: int) -> int:
        """Return how many samples are predicted at once where a step trains on `batch_size`.

        On the CPU in bfloat16 three times as many: every forward pass converts all weights and lays them out anew, and
        without gradients three batches take about the memory, and the time, that a step takes with one. The predictions
        are the same to the bit. In float32 nothing is gained.
        """
        return 3 * batch_size if self.device == "cpu" and self.precision == "bfloat16" else batch_size

    def decide(self, logits: Tensor, dim: int) -> Tensor:
        """Return the predicted class of every pixel, or the code of its regions (probability above 0.5).

        `dim` is that of the classes, which goes.
        """
        if self.regions is None:
            return logits.max(dim).indices.to(torch.uint8)  # ten times as fast as argmax on the CPU
        kind = torch.uint8 if self.regions.code_type is np.uint8 else torch.int32
        there = (logits > 0).movedim(dim, 0)
        code = torch.zeros_like(there[0], dtype=kind)
        for number, mask in enumerate(there):
            code |= mask.to(kind) << number
        return code


def build_network(
    config: TrialConfig,
    data: SampleFacts,
    device: str,
    sources: AllowedSources = AllowedSources(),
    *,
    pretrained: bool = True,
) -> PlacedModel:
    """Build the network that a configuration names on its device: the one place where this is done.

    Args:
        config: Names the network, its options and its precision.
        data: What the network is made for.
        device: `cpu`, `mps` or `cuda:N`.
        sources: What this machine lets it be made of.
        pretrained: Whether to load the file that `model.weights` names; False where the weights of a finished training
            are about to replace them, or where they do not matter.

    Raises:
        SpecError: The model cannot be built as it is asked for.
        EntryError: Its code may not be imported here, or does not make a network.
        DataError: Its pretrained weights are not there, cannot be read, or do not fit.
    """
    section, dims = config.model, data.spatial_dims
    maker = None
    if section["name"] == ENTRY:
        maker = load_entry(str(section["entry"]), sources.allow_entry, where="model.entry")
    model = build_model(section, channels=data.channels, classes=data.outputs, spatial_dims=dims, maker=maker)
    model.weights = section.get("weights")
    if model.weights is not None and pretrained:
        path = find_weights(model.weights, sources.data_root)
        fit = load_pretrained(model, path, name=model.weights)
        (logger.warning if fit.other_shape or fit.missing else logger.info)("weights of %s", fit.text(str(path)))
    layout = fast_layout(model, device, dims)
    model = cast(Any, model).to(device, memory_format=layout)
    return PlacedModel(model, device, _precision(config.train.precision, device, dims), layout, data.regions)


def fast_layout(model: nn.Module, device: str, dims: int) -> torch.memory_format:
    """Channels last, where the device has fast kernels for all that the network does in it.

    On the CPU, instance and group normalisation are up to ten times slower in that layout, and volumes gain nothing; on
    CUDA these norms have no kernels for it and copy their input, forth and back.
    """
    kind = torch.device(device).type
    slow_norms = (nn.GroupNorm, nn.InstanceNorm2d, nn.InstanceNorm3d)
    has_slow_norms = any(isinstance(m, slow_norms) for m in model.modules())
    if kind == "mps" or has_slow_norms or (kind == "cpu" and dims == 3):
        return torch.contiguous_format
    return torch.channels_last if dims == 2 else torch.channels_last_3d


def _precision(wanted: str, device: str, dims: int) -> str:
    used = resolve_precision(device, dims) if wanted == "auto" else supported_precision(wanted, device, dims)
    if wanted not in ("auto", used):
        logger.warning("volumes on %s are trained in %s: its gradients in %s are wrong", device, used, wanted)
    return used


CHECKED = ("model.", "loss")
"""Every parameter of these sections must come back from the built parts; of `train`, those that the parts report."""


@dataclass
class Components(PlacedModel):
    """Network, loss, optimiser and schedule on their device."""

    _: KW_ONLY
    loss: SegmentationLoss
    optimizer: Optimizer
    schedule: Schedule
    seed: int
    steps_per_epoch: int
    patch: tuple[int, ...] | None = None
    """Sides of the pieces that are trained on; None: whole samples."""
    tap: FeatureTap | None = None
    criterion: DeepSupervision | None = None
    """The loss over outputs of several resolutions, where the network has them"""

    def training_loss(self, outputs: Tensor | Sequence[Tensor], labels: Tensor, inputs: Mapping[str, Tensor]) -> Tensor:
        """Return the loss of what `logits` returned in training mode against labels [B, *S].

        inputs: maps of the target, for the finest output; for coarser ones they are made of the coarser labels.
        """
        if self.criterion is None:
            return cast(Tensor, self.loss(outputs, labels, inputs))
        # coarser outputs cover what the network saw, the margin that its stride asks for as well
        seen = self.model.pad(labels, labels.shape[1:], value=self.loss.ignore_index)
        targets = [labels, *(resized(seen, output) for output in outputs[1:])]
        return cast(Tensor, self.criterion(outputs, targets, inputs=inputs))

    def auxiliary_inputs(self, sizes: tuple[int, ...]) -> dict[str, Tensor]:
        """Return what the loss asks of the network beside its logits, of the last call of `logits`."""
        return {} if self.tap is None else self.tap.take(sizes)

    def effective_options(self) -> dict[str, Scalar]:
        """Return what the built parts really use, under the names of the configuration."""
        return (
            self.model.effective_options()
            | self.loss.effective_options()
            | effective_train(self.optimizer, self.schedule)
        )


def build_components(
    config: TrialConfig,
    data: PreparedData,
    device: str,
    sources: AllowedSources = AllowedSources(),
) -> Components:
    """Build the parts of a trial; the weights depend on `train.seed`, and on a file of pretrained ones.

    Raises:
        SpecError, EntryError, DataError: The network cannot be built, see `build_network`.
        EffectiveConfigError: A part would use another value than the configuration says.
    """
    train = config.train
    seed = train.seed or 0
    seed_everything(seed, "model")
    net = build_network(config, data, device, sources)
    loss = build_training_loss(config, data, sources)
    tap = attach_loss_inputs(loss, net.model, data)
    loss = loss.to(device)
    patch = train.patch_shape(data.spatial_dims)
    samples = len(data.train.labels) * (train.patches if patch else 1)
    steps = math.ceil(samples / train.batch_size)
    trial = Components(
        net.model,
        net.device,
        net.precision,
        net.layout,
        net.regions,
        loss=loss,
        optimizer=build_optimizer(net.model, loss.parameter_groups(), train, device),
        schedule=Schedule(train.schedule, train.lr, train.warmup, steps * train.epochs),
        seed=seed,
        steps_per_epoch=steps,
        patch=patch,
        tap=tap,
        criterion=DeepSupervision(loss) if net.model.deep_supervision else None,
    )
    check_effective(config, trial.effective_options())
    return trial


def build_training_loss(config: TrialConfig, data: PreparedData, sources: AllowedSources) -> SegmentationLoss:
    """Build the loss of a trial; code of the user's own is imported where the machine's owner has allowed it.

    Raises EntryError where it may not or cannot be.
    """
    path = config.loss.get("entry")
    regions = None if data.regions is None else data.regions.members
    if path is None:
        return build_loss(
            config.loss,
            classes=data.classes,
            ignore_index=data.ignore_index,
            class_frequencies=data.output_frequencies,
            regions=regions,
        )
    name = str(config.loss["name"])
    function = load_entry(path, sources.allow_entry, where="loss.entry")
    return OwnLoss(
        name,
        path,
        function,
        config.loss.get(name, {}),
        classes=data.classes,
        ignore_index=data.ignore_index,
        regions=regions,
    )


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

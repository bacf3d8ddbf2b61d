"""Training state: model, optimizer and data on the device; one epoch, one step, and the checkpoint's content."""

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tuner.config.trial import TrainConfig, TrialConfig
from tuner.data.augmentation import Augment
from tuner.data.augmentation_options import complete_augmentation
from tuner.data.preparation import PreparedData
from tuner.data.target_maps import training_maps
from tuner.data.transfer import copy_to_device
from tuner.training.batches import Batches, Patches, Samples, fits_device
from tuner.training.checkpoint import copied
from tuner.training.components import AllowedSources, build_components
from tuner.training.device import derive, epoch_order, free_memory, generator, seed_everything
from tuner.training.epoch_report import Diverged
from tuner.training.evaluate import Validation, Validator, validate
from tuner.training.heap import keep_freed_memory
from tuner.training.optimizer import trained_parameters
from tuner.training.repeatable import refuse_unrepeatable, use_repeatable_kernels

logger = logging.getLogger(__name__)

LIGHT = {"rotation": 10.0, "scale": 0.05, "translation": 0.025, "intensity": 0.25, "noise": 0.1}
"""What `train.augment: light` changes of the defaults."""

_CHECKED_LABELS: set[tuple[object, ...]] = set()
"""Data of which a whole epoch was trained in this process, its labels looked at in every batch.

One label that is no class kills a CUDA context, and with it the process.
"""

CHECK_EVERY = 50
"""Steps after which a loss on an accelerator is looked at: each look makes the device wait."""


class TrainingState:
    """Everything that one training holds in memory."""

    def __init__(
        self,
        config: TrialConfig,
        data: PreparedData,
        device: str,
        sources: AllowedSources = AllowedSources(),
        share: float = 1.0,
    ) -> None:
        """Build everything; `share` of what the device has free may be filled with data by this training."""
        self.config, self.data, self.device = config, data, device
        self.trial = build_components(config, data, device, sources)
        self.samples = build_batches(config, data, self.trial.patch, device, share)
        self.validation = Validator(data, device, train=config.train, share=share)
        self.augment = build_augment(config, data)
        # Distances survive neither being turned and stretched nor being cut, so such a batch has its maps made anew.
        whole = self.augment is None and self.trial.patch is None
        self.maps = _place(training_maps(data, self.trial.loss.needs) if whole else {}, device, share)
        kind = torch.device(device).type
        self._grain = torch.Generator(device) if kind == "cuda" else None
        self._is_first_batch = True
        self._labels = (data.fingerprint, data.classes, data.ignore_index, self.trial.patch)
        self.scaler = torch.amp.GradScaler(kind, enabled=self.trial.precision == "float16")
        self.parameters = trained_parameters(self.trial.optimizer)
        logger.info(
            "%d samples, %d for validation, on %s in %s, %d threads",
            *(len(self.samples), len(self.validation), device, self.trial.precision, torch.get_num_threads()),
        )
        if config.train.compile:
            self.trial.model.network = cast(nn.Module, torch.compile(self.trial.model.network))

    def train_epoch(self, epoch: int, stop: Callable[[], bool]) -> tuple[float, float] | None:
        """Train one epoch and return its mean loss and last learning rate; None when `stop` said so in the middle.

        Raises:
            Diverged: A loss is not finite.
        """
        trial, train = self.trial, self.config.train
        seed_everything(trial.seed, "dropout", epoch)
        trial.model.train()
        trial.loss.on_epoch(epoch, train.epochs)
        total, lr = torch.zeros((), device=self.device), 0.0
        augmenting = generator(trial.seed, "augment", epoch)
        if self._grain is not None:
            self._grain.manual_seed(derive(trial.seed, "grain", epoch))
        self.samples.begin(epoch)
        order = epoch_order(len(self.samples), seed=trial.seed, epoch=epoch)
        batches = torch.split(order, train.batch_size)
        there = torch.split(copy_to_device(order, self.device), train.batch_size)
        for number, index in enumerate(batches):
            if stop():
                return None
            lr = trial.schedule.set_lr(trial.optimizer, (epoch - 1) * trial.steps_per_epoch + number)
            loss = self.step(index, augmenting, there[number], following=batches[number + 1 : number + 2])
            total += loss * len(index)
            if self.device == "cpu" or number % CHECK_EVERY == 0:
                _check_loss(loss, epoch, number)
        _CHECKED_LABELS.add(self._labels)
        mean = total / len(self.samples)
        _check_loss(mean, epoch, trial.steps_per_epoch - 1)
        return float(mean), lr

    def step(
        self,
        index: Tensor,
        augmenting: torch.Generator,
        there: Tensor | None = None,
        *,
        following: Sequence[Tensor] = (),
    ) -> Tensor:
        """Train on the samples `index` [B] and return the loss.

        Args:
            index: Numbers of samples, on the CPU.
            augmenting: A generator on the CPU.
            there: `index` on the device, where it is there already.
            following: The samples of the next step, if there is one.

        Raises:
            UnrepeatableError: `train.deterministic` is set, and a kernel that is needed does not repeat.
        """
        try:
            return self._step(index, augmenting, there, following)
        except RuntimeError as error:
            refuse_unrepeatable(error, loss=self.trial.loss.name, model=self.trial.model.name, device=self.device)
            raise

    def _step(
        self, index: Tensor, augmenting: torch.Generator, there: Tensor | None, following: Sequence[Tensor]
    ) -> Tensor:
        trial, clip_norm = self.trial, self.config.train.clip_norm
        there = copy_to_device(index, self.device) if there is None else there
        images, labels = self.samples.batch(index, there)
        for upcoming in following:
            self.samples.prefetch(upcoming)
        if self.augment is not None:
            images, labels = self.augment(images.float(), labels, augmenting, self._grain)
        trial.optimizer.zero_grad(set_to_none=True)
        outputs = trial.logits(trial.to_device(images))
        if self._is_first_batch or self._labels not in _CHECKED_LABELS:
            trial.loss.check(outputs if trial.criterion is None else outputs[0], labels)
            self._is_first_batch = False
        inputs = self.maps_of(index, there) | trial.auxiliary_inputs(tuple(labels.shape[1:]))
        loss = trial.training_loss(outputs, labels, inputs)
        torch.autograd.backward(self.scaler.scale(loss))
        if clip_norm is not None:
            self.scaler.unscale_(trial.optimizer)
            nn.utils.clip_grad_norm_(self.parameters, clip_norm)
        self.scaler.step(trial.optimizer)
        self.scaler.update()
        return loss.detach()

    def maps_of(self, index: Tensor, there: Tensor | None = None) -> dict[str, Tensor]:
        """Return the cached target maps of the samples `index` [B], `there` on the device, on the device."""
        found = {}
        for name, maps in self.maps.items():
            if isinstance(maps, Tensor):
                found[name] = maps[copy_to_device(index, self.device) if there is None else there]
            else:
                found[name] = copy_to_device(torch.from_numpy(maps[index.numpy()]), self.device)
        return found

    def validate(self, stop: Callable[[], bool]) -> Validation | None:
        """Score the network on the validation split; None when `stop` said so in the middle."""
        return validate(self.trial, self.validation, stop=stop)

    def state(self, epoch: int) -> dict[str, Any]:
        """Copy everything that a continued training needs. Generators are seeded anew by epoch and need no state."""
        trial = self.trial
        return {
            "epoch": epoch,
            "model": copied(self.weights()),
            "optimizer": copied(trial.optimizer.state_dict()),
            "loss": copied(trial.loss.state_dict()),
            "scaler": copied(self.scaler.state_dict()),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from a state. Raises RuntimeError, KeyError or ValueError when it is not one of this training's."""
        self.load_weights(state["model"])
        self.trial.optimizer.load_state_dict(state["optimizer"])
        self.trial.loss.load_state_dict(state["loss"])
        self.scaler.load_state_dict(state["scaler"])

    def weights(self) -> dict[str, Tensor]:
        """Return the network's weights under the names that they have without torch.compile."""
        return {name.replace("_orig_mod.", ""): value for name, value in self.trial.model.state_dict().items()}

    def load_weights(self, weights: Mapping[str, Tensor]) -> None:
        """Put weights into the network."""
        names = self.trial.model.state_dict()
        self.trial.model.load_state_dict({name: weights[name.replace("_orig_mod.", "")] for name in names})

    def close(self) -> None:
        """Give the memory back."""
        vars(self).pop("trial", None)
        if hasattr(self, "samples"):
            self.samples.close()
        for name in ("samples", "validation", "parameters", "scaler", "maps"):
            vars(self).pop(name, None)
        free_memory(self.device)


def configure_torch(train: TrainConfig) -> None:
    """Set what belongs to the process: threads (they change the numbers), determinism, and what its heap keeps."""
    keep_freed_memory()
    if train.threads is not None:
        torch.set_num_threads(train.threads)
    use_repeatable_kernels(train.deterministic)


def _place(maps: Mapping[str, NDArray[Any]], device: str, share: float) -> dict[str, Tensor | NDArray[Any]]:
    """Put target maps onto the device as long as they fit; the others are read from their files batch by batch."""
    return {
        name: torch.from_numpy(np.array(found)).to(device) if fits_device(found.nbytes, device, share) else found
        for name, found in maps.items()
    }


def build_batches(
    config: TrialConfig, data: PreparedData, patch: tuple[int, ...] | None, device: str, share: float = 1.0
) -> Batches:
    """Return what is trained on: the samples as they are, or patches of them.

    `share` of what the device has free is this training's.
    """
    if patch is None:
        return Samples(data.train, device, share)
    return Patches(data, patch, config.train, config.train.seed or 0, device)


def build_augment(config: TrialConfig, data: PreparedData) -> Augment | None:
    """Build the augmentation that `train.augment` names, with the data set's own settings."""
    level = config.train.augment
    if level == "none":
        return None
    options = complete_augmentation({}, dataset=data.name)
    if level == "light":
        options |= {name: min(value, options[name]) for name, value in LIGHT.items()}
    # Beyond the edge of a patch the image goes on: what is turned in from there is nothing that one may learn from.
    return Augment(options, data.ignore_index, outside=0 if config.train.patch is None else data.ignore_index)


def _check_loss(loss: Tensor, epoch: int, step: int) -> None:
    value = float(loss)
    if not math.isfinite(value):
        raise Diverged(epoch, f"the training loss is {value} at step {step + 1}")

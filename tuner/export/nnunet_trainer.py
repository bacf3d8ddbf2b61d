"""A trainer of nnU-Net v2 whose loss, learning rate, weight decay and epochs are settings.

nnU-Net finds it in a folder that the environment variable nnUNet_extTrainer names. Settings stand in `SETTINGS`; the
JSON file that TUNER_NNUNET_SETTINGS names overrides them key by key, and may be the `config.json` of a trial:

    loss                 section of a configuration, {"name": "dice", "dice": {...}}; null: nnU-Net's own loss
    class_frequencies    share of each label in the training data; null: counted where the loss needs them
    train.optimizer      "adamw", "sgd"; null: nnU-Net's own (SGD with Nesterov momentum 0.99)
    train.lr, train.weight_decay, train.momentum         null: nnU-Net's own
    train.epochs, train.iterations, train.validation_iterations, train.seed         null: nnU-Net's own

Everything else is nnU-Net's: plans, network, augmentation, the polynomial decay of the learning rate, clipping of
gradients at 12, and deep supervision with weights 1, 1/2, 1/4, ... and 0 for the lowest resolution, normalised
(Isensee et al. 2021).
"""

import json
import os
import random
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from nnunetv2.training.loss.deep_supervision import DeepSupervisionWrapper
from nnunetv2.training.lr_scheduler.polylr import PolyLRScheduler
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from torch import Tensor, nn

from tuner.losses.build import terms_of
from tuner.losses.evaluate import needs_frequencies
from tuner.losses.module import Loss, from_section

SETTINGS: dict[str, Any] = {"loss": None, "class_frequencies": None, "train": {}}
OVERRIDES = "TUNER_NNUNET_SETTINGS"


def settings_here() -> dict[str, Any]:
    """Return SETTINGS with what the file in TUNER_NNUNET_SETTINGS overrides."""
    found = {**SETTINGS, "train": dict(SETTINGS["train"])}
    path = os.environ.get(OVERRIDES)
    if path:
        with open(path, encoding="utf-8") as file:
            given = json.load(file)
        found |= {key: given[key] for key in ("loss", "class_frequencies") if key in given}
        found["train"] |= given.get("train", {})
    return found


class NnunetLoss(nn.Module):
    """A loss as nnU-Net calls it, on an output [B, C, *S] and the target of that resolution.

    Target: [B, 1, *S] of labels, or of regions [B, C, *S]; with an ignore label a last channel marks the pixels that
    do not count.
    """

    def __init__(self, loss: Loss, *, regions: bool, has_ignore_label: bool) -> None:
        super().__init__()
        self.loss = loss
        self.regions, self.has_ignore_label = regions, has_ignore_label

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the loss, a scalar."""
        if not self.regions:
            value: Tensor = self.loss(output, target.long())
        elif self.has_ignore_label:
            value = self.loss(output, target[:, :-1].long(), mask=target[:, -1:] == 0)
        else:
            value = self.loss(output, target.long())
        return value


class GroupedPolyLRScheduler(PolyLRScheduler):  # type: ignore[misc]
    """nnU-Net's polynomial decay, of groups that begin at rates of their own."""

    def step(self, current_step: int | None = None) -> None:
        """Set the rates of an epoch, counted from 0."""
        first = [group.setdefault("first_lr", group["lr"]) for group in self.optimizer.param_groups]
        super().step(current_step)
        for group, rate in zip(self.optimizer.param_groups, first, strict=True):
            group["lr"] *= rate / self.initial_lr
        self._last_lr = [group["lr"] for group in self.optimizer.param_groups]


class nnUNetTrainerTuned(nnUNetTrainer):  # type: ignore[misc]  # noqa: N801
    """nnU-Net's trainer with the settings of this file."""

    def __init__(
        self,
        plans: dict[str, Any],
        configuration: str,
        fold: int,
        dataset_json: dict[str, Any],
        device: torch.device = torch.device("cuda"),
    ) -> None:
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.settings = settings_here()
        train = self.settings["train"]
        for name, key in (
            ("initial_lr", "lr"),
            ("weight_decay", "weight_decay"),
            ("num_epochs", "epochs"),
            ("num_iterations_per_epoch", "iterations"),
            ("num_val_iterations_per_epoch", "validation_iterations"),
        ):
            if train.get(key) is not None:
                setattr(self, name, train[key])
        if train.get("seed") is not None:
            seed = int(train["seed"]) % 2**32
            random.seed(seed)
            np.random.seed(seed)
            torch.manual_seed(seed)
        # those of the settings are of labels that exclude each other
        regions = self.label_manager.has_regions
        self.class_frequencies: Sequence[float] | None = None if regions else self.settings["class_frequencies"]
        self.criterion: NnunetLoss | None = None

    def build_criterion(self) -> NnunetLoss:
        """Build the loss of one resolution once: the optimizer takes what it learns, deep supervision wraps it.

        Raises RuntimeError where the data set has regions, and the loss no form for classes that overlap.
        """
        if self.criterion is not None:
            return self.criterion
        section, labels = self.settings["loss"], self.label_manager
        heads, regions = labels.num_segmentation_heads, bool(labels.has_regions)
        terms, _ = terms_of(section, None, classes=heads)
        excluded = [name for name, term in terms.items() if not term.entry.multilabel]
        if regions and excluded:
            raise RuntimeError(
                f"The loss {', '.join(excluded)} is defined for labels that exclude each other, and this data set has "
                "regions, which overlap. Train on labels (leave regions_class_order out of dataset.json), or export "
                "a trial whose loss has a form for overlapping classes."
            )
        frequencies = None
        if any(needs_frequencies(term.entry, term.options) for term in terms.values()):
            frequencies = self.find_class_frequencies(heads)
        loss = from_section(
            section,
            activation="sigmoid" if regions else "softmax",
            num_classes=heads,
            ignore_index=None if regions else labels.ignore_label,
            class_frequencies=frequencies,
        )
        made = NnunetLoss(loss, regions=regions, has_ignore_label=labels.ignore_label is not None)
        self.criterion = made.to(self.device)
        return self.criterion

    def find_class_frequencies(self, heads: int) -> list[float]:
        """Return the share of each label or region: of the settings where they fit, else counted in training cases."""
        given = self.class_frequencies
        if given is not None and len(given) == heads:
            return [float(share) for share in given]
        self.print_to_log_file("Counting how often classes occur, for the loss ...")
        keys, _ = self.do_split()
        cases = self.dataset_class(self.preprocessed_dataset_folder, keys)
        manager = self.label_manager
        wanted = manager.foreground_regions if manager.has_regions else manager.all_labels
        marked, total = np.zeros(heads), 0
        for key in keys:
            labels = np.asarray(cases.load_case(key)[1][:])
            labels = np.where(labels < 0, 0, labels)
            total += int((labels != manager.ignore_label).sum()) if manager.has_ignore_label else labels.size
            for number, group in enumerate(wanted):
                marked[number] += np.isin(labels, group).sum()
        return [float(share) for share in marked / max(total, 1)]

    def configure_optimizers(self) -> tuple[torch.optim.Optimizer, Any]:
        """Return optimizer and schedule; weight decay is not on biases and norms, as it was searched."""
        train = self.settings["train"]
        if train.get("optimizer") is None and self.settings["loss"] is None:
            pair: tuple[torch.optim.Optimizer, Any] = super().configure_optimizers()
            return pair
        network = [p for p in self.network.parameters() if p.requires_grad]
        decayed = train.get("optimizer") is not None
        groups: list[dict[str, Any]] = [
            {"params": [p for p in network if p.ndim > 1 or not decayed]},
            {"params": [p for p in network if p.ndim <= 1 and decayed], "weight_decay": 0.0},
        ]
        groups = [group for group in groups if group["params"]]
        if self.settings["loss"] is not None:
            groups += self._learned_by_the_loss()
        rates = {"lr": self.initial_lr, "weight_decay": self.weight_decay}
        optimizer: torch.optim.Optimizer
        if train.get("optimizer") == "adamw":
            optimizer = torch.optim.AdamW(groups, betas=(train.get("momentum") or 0.9, 0.999), **rates)
        else:
            momentum = train.get("momentum") if train.get("optimizer") == "sgd" else None
            momentum = 0.99 if momentum is None else momentum
            optimizer = torch.optim.SGD(groups, momentum=momentum, nesterov=momentum > 0, **rates)
        return optimizer, GroupedPolyLRScheduler(optimizer, self.initial_lr, self.num_epochs)

    def _learned_by_the_loss(self) -> list[dict[str, Any]]:
        groups = []
        for term in self.build_criterion().loss.terms.values():
            learned = [p for p in term.parameters() if p.requires_grad]
            rate = getattr(term.state, "learning_rate", None)
            if learned:
                own = {} if rate is None else {"lr": rate}
                groups.append({"params": learned, "weight_decay": 0.0, **own})
        return groups

    def _build_loss(self) -> nn.Module:
        if self.settings["loss"] is None:
            own: nn.Module = super()._build_loss()
            return own
        criterion = self.build_criterion()
        self.print_to_log_file(f"Loss: {criterion.loss}")
        if not self.enable_deep_supervision:
            return criterion
        weights = [0.5**n for n in range(len(self._get_deep_supervision_scales()))]
        if len(weights) > 1:
            # as in nnU-Net: DDP complains of parameters without a gradient
            weights[-1] = 1e-6 if self.is_ddp and not self._do_i_compile() else 0.0
        wrapped: nn.Module = DeepSupervisionWrapper(criterion, [weight / sum(weights) for weight in weights])
        return wrapped

    def on_train_epoch_start(self) -> None:
        """Tell schedules of the loss how far the training is."""
        super().on_train_epoch_start()
        if self.criterion is not None:
            self.criterion.loss.set_progress(min(1.0, self.current_epoch / max(1, self.num_epochs - 1)))

    def save_checkpoint(self, filename: str) -> None:
        """Write the checkpoint, and into it what the loss has learnt."""
        super().save_checkpoint(filename)
        learned = {} if self.criterion is None else self.criterion.state_dict()
        if learned and self.local_rank == 0 and not self.disable_checkpointing:
            checkpoint = torch.load(filename, map_location="cpu", weights_only=False)
            torch.save({**checkpoint, "loss_state": learned}, filename)

    def load_checkpoint(self, filename_or_checkpoint: dict[str, Any] | str) -> None:
        """Read a checkpoint, and from it what the loss had learnt."""
        checkpoint: Mapping[str, Any]
        if isinstance(filename_or_checkpoint, str):
            checkpoint = torch.load(filename_or_checkpoint, map_location="cpu", weights_only=False)
        else:
            checkpoint = filename_or_checkpoint
        super().load_checkpoint(filename_or_checkpoint)
        if self.criterion is not None and "loss_state" in checkpoint:
            self.criterion.load_state_dict(checkpoint["loss_state"])

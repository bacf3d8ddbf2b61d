"""The trainer of nnU-Net v2 that a trial of `tuner` runs: settings from config.json, reports, a division of its own.

`nnUNetv2_train DATASET CONFIGURATION 0 -tr nnUNetTrainerSearched --c`, started by `train.command`, trains in the folder
of the trial, which TUNER_FOLDER names: results below `nnunet/`, cases divided by `splits_final.json`. After each epoch
it reports nnU-Net's pseudo Dice as `dice`; with the last one, after the validation, the Dice of every validation case.
It saves each epoch and draws each epoch's random numbers from seed and epoch: where nnU-Net augments in one process
(nnUNet_n_proc_DA=0) a training that was interrupted ends as one that was not.

Without TUNER_FOLDER it is the trainer it inherits from.

Parameters that `search:` of the study file gives, fixed or searched:

    nnunet.iterations, nnunet.validation_iterations    steps of an epoch; nnU-Net's own are 250 and 50
    nnunet.split_seed                                  divides the cases, by `dataset.validation` and `dataset.group`
    nnunet.folds, nnunet.fold                          the same for a study without a data set: 5 and 0
"""

import json
import math
import os
import random
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from tuner.data.splits import choose_cases, group_of
from tuner.export.nnunet_trainer import OVERRIDES, nnUNetTrainerTuned

FOLDER = os.environ.get("TUNER_FOLDER")
if FOLDER:
    os.environ[OVERRIDES] = os.environ["TUNER_CONFIG"]
    os.environ["nnUNet_results"] = os.path.join(FOLDER, "nnunet")  # noqa: SIM112


class nnUNetTrainerSearched(nnUNetTrainerTuned):  # noqa: N801
    """nnU-Net's trainer as a trial."""

    def __init__(
        self,
        plans: dict[str, Any],
        configuration: str,
        fold: int,
        dataset_json: dict[str, Any],
        device: torch.device = torch.device("cuda"),
    ) -> None:
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.trial: Mapping[str, Any] | None = None
        if FOLDER is None:
            return
        with open(os.environ["TUNER_CONFIG"], encoding="utf-8") as file:
            self.trial = json.load(file)
        self.save_every = 1
        for name, key in (
            ("num_iterations_per_epoch", "nnunet.iterations"),
            ("num_val_iterations_per_epoch", "nnunet.validation_iterations"),
        ):
            value = self._param(key)
            if value is not None:
                setattr(self, name, int(value))

    def _param(self, name: str, default: Any = None) -> Any:
        value = (self.trial or {}).get("parameters", {}).get(name)
        return default if value is None else value

    def do_split(self) -> tuple[list[str], list[str]]:
        """Return the cases that train and those that validate, by a file in the folder of the trial."""
        if self.trial is None or FOLDER is None:
            return super().do_split()  # type: ignore[no-any-return]
        path = os.path.join(FOLDER, "splits_final.json")
        if not os.path.exists(path):
            splits = [dict(zip(("train", "val"), self._divided(), strict=True))]
            part = f"{path}.{os.getpid()}"
            with open(part, "w", encoding="utf-8") as file:
                json.dump(splits, file, indent=1)
            os.replace(part, path)
        with open(path, encoding="utf-8") as file:
            split = json.load(file)[0]
        return split["train"], split["val"]

    def _divided(self) -> tuple[list[str], list[str]]:
        """Divide the preprocessed cases as the study divides them."""
        dataset = (self.trial or {}).get("dataset") or {}
        own = {"folds": int(self._param("nnunet.folds", 5)), "fold": int(self._param("nnunet.fold", 0))}
        find = group_of(str(dataset.get("group") or ""))
        if vars(self).get("dataset_class") is None:
            from nnunetv2.training.dataloading.nnunet_dataset import infer_dataset_class

            self.dataset_class: Any = infer_dataset_class(self.preprocessed_dataset_folder)
        train, held_out, _ = choose_cases(
            dataset.get("validation", own),
            training=sorted(self.dataset_class.get_identifiers(self.preprocessed_dataset_folder)),
            test=(),
            seed=int(self._param("nnunet.split_seed", 0)),
            dataset=self.plans_manager.dataset_name,
            group=lambda name: find(name) or name,
        )
        return list(train), list(held_out)

    def on_train_start(self) -> None:
        """Report what an attempt before this one has trained: it may have been ended before it could."""
        super().on_train_start()
        for epoch in range(min(self.current_epoch, self.num_epochs - 1)):
            self._report(epoch)

    def on_epoch_start(self) -> None:
        """Draw the random numbers of an epoch from the seed and its number."""
        super().on_epoch_start()
        if self.trial is not None:
            seed = zlib.crc32(f"{self.trial['train'].get('seed') or 0}:{self.current_epoch}".encode())
            random.seed(seed)
            np.random.seed(seed)
            torch.manual_seed(seed)

    def on_epoch_end(self) -> None:
        """Save, then report; the last epoch is reported with the validation."""
        super().on_epoch_end()
        if self.current_epoch < self.num_epochs:
            self._report(self.current_epoch - 1)

    def perform_actual_validation(self, save_probabilities: bool = False) -> None:
        """Predict the validation cases, and report their Dice with the last epoch."""
        super().perform_actual_validation(save_probabilities)
        if self.trial is None or self.local_rank != 0:
            return
        with open(os.path.join(self.output_folder, "validation", "summary.json"), encoding="utf-8") as file:
            summary = json.load(file)
        names = self._class_names()
        ending = self.dataset_json["file_ending"]
        cases = {
            os.path.basename(row["reference_file"]).removesuffix(ending): {
                "dice": {names.get(label, label): _finite(found["Dice"]) for label, found in row["metrics"].items()}
            }
            for row in summary["metric_per_case"]
        }
        whole = {"validation_dice": _finite(summary["foreground_mean"]["Dice"])}
        self._report(self.num_epochs - 1, **whole, cases=cases)

    def _class_names(self) -> dict[str, str]:
        """Return the names of labels and regions as nnU-Net's summary writes them."""
        return {
            str(tuple(value) if isinstance(value, list) else value): name
            for name, value in self.dataset_json["labels"].items()
        }

    def _report(self, epoch: int, **more: Any) -> None:
        """Write a line for tuner; epochs count from 1 there."""
        if self.trial is None or FOLDER is None or self.local_rank != 0:
            return
        names = [name for name, value in self.dataset_json["labels"].items() if value != 0 and name != "ignore"]
        by_class = [_finite(value) for value in self.logger.get_value("dice_per_class_or_region", step=epoch)]
        line = {
            "epoch": epoch + 1,
            "dice": float(self.logger.get_value("mean_fg_dice", step=epoch)),
            "train_loss": float(self.logger.get_value("train_losses", step=epoch)),
            "val_loss": _finite(self.logger.get_value("val_losses", step=epoch)),
            "lr": float(self.logger.get_value("lrs", step=epoch)),
            "per_class": {"dice": dict(zip(names, by_class, strict=True))} if len(names) == len(by_class) else None,
            **more,
        }
        with open(os.path.join(FOLDER, "reports.jsonl"), "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


def _finite(value: Any) -> float | None:
    """Return a number, None in place of NaN: a class that is absent has no Dice."""
    number = float(value)
    return number if math.isfinite(number) else None

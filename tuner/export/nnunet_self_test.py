"""The self-test of an exported nnU-Net trainer: its loss, as nnU-Net builds and calls it, on stored tensors.

This is a part of an exported file; what it uses without importing it stands there above it.
"""

import os
import tempfile
from pathlib import Path
from typing import Any

import torch

from tuner.export.nnunet_trainer import nnUNetTrainerTuned
from tuner.export.value_comparison import largest_difference

TENSORS = Path(__file__).with_suffix(".pt")
RESULTS = "nnUNet_results"
PLANS: dict[str, Any] = {
    "dataset_name": "Dataset000_SelfTest",
    "plans_name": "nnUNetPlans",
    "label_manager": "LabelManager",
    "continue_training": False,
    "configurations": {
        "2d": {
            "batch_size": 2,
            "batch_dice": True,
            "data_identifier": "none",
            "architecture": {"arch_kwargs": {"strides": [[1, 1], [2, 2], [2, 2], [2, 2]]}},
        }
    },
}


def self_test() -> float:
    """Return the largest relative difference of values and gradients. Raises ValueError where it exceeds TOLERANCE."""
    worst = 0.0
    for case in torch.load(TENSORS, weights_only=True):
        with tempfile.TemporaryDirectory() as folder:
            trainer = trainer_for(case, folder)
            outputs = [logits.clone().requires_grad_() for logits in case["logits"]]
            value = trainer._build_loss().double()(outputs, list(case["targets"]))
        torch.autograd.backward(value)
        pairs = [("the loss", value.detach(), case["value"])]
        for number, (output, wanted) in enumerate(zip(outputs, case["gradients"], strict=True)):
            found = torch.zeros_like(wanted) if output.grad is None else output.grad
            pairs.append((f"the gradient of output {number}", found, wanted))
        worst = max(worst, largest_difference(case["name"], pairs))
    return worst


def trainer_for(case: dict[str, Any], folder: str) -> nnUNetTrainerTuned:
    """Return the trainer as nnU-Net makes it of plans and a dataset.json, its results in a folder."""
    before = os.environ.get(RESULTS)
    os.environ[RESULTS] = folder
    try:
        plans = {**PLANS, "configurations": {key: dict(value) for key, value in PLANS["configurations"].items()}}
        described = {"labels": case["labels"], "regions_class_order": case["regions_class_order"]}
        trainer = nnUNetTrainerTuned(plans, "2d", 0, described, torch.device("cpu"))
    finally:
        if before is None:
            del os.environ[RESULTS]
        else:
            os.environ[RESULTS] = before
    trainer.class_frequencies = case["class_frequencies"]
    return trainer


if __name__ == "__main__":
    print(f"self-test passed: the largest relative difference is {self_test():.2g}")  # noqa: T201

"""A trial as a trainer class of nnU-Net v2 in one file that needs torch, numpy and nnU-Net only."""

import ast
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from tuner.config.trial import TrialConfig
from tuner.errors import LossInputError
from tuner.export.embedding import assembled, loss_modules, text_of, with_tensors_in
from tuner.export.torch_file import TorchExport, check_features, check_loss, head_lines
from tuner.losses.module import from_section

TEMPLATE = "tuner.export.nnunet_trainer"
PARTS = ("tuner.export.value_comparison", TEMPLATE, "tuner.export.nnunet_self_test")
_CLASS = "nnUNetTrainerTuned"
SCALES = (1, 2, 4)
SIDE = 16


def trainer_name(study: str, trial: int | None) -> str:
    """Return the name of the trainer class of a trial: nnU-Net's results folder has it, too."""
    words = re.sub(r"\W+", "_", study).strip("_")
    return f"nnUNetTrainer_{words}_{'baseline' if trial is None else trial}"


def trainer_source(name: str, settings: Mapping[str, Any], *, head: str, modules: Iterable[str] = ()) -> str:
    """Return the source of a trainer class.

    Args:
        name: Of the class.
        settings: What `tuner.export.nnunet_trainer.SETTINGS` says of it.
        head: What its docstring says.
        modules: Of the losses that it may be asked for; those of the catalogue are loaded by name.
    """
    described = ast.get_docstring(ast.parse(text_of(TEMPLATE)))
    made = assembled(PARTS, head=f"{head}\n\n{described}", settings=settings, modules=modules)
    return made.replace(_CLASS, name)


def nnunet_export(config: TrialConfig, facts: Mapping[str, Any], *, beside: str) -> TorchExport:
    """Return the file of a trial's trainer, and the tensors of its self-test.

    Args:
        config: The trial.
        facts: Its `data.json`.
        beside: Name of the file of tensors, in the folder of the Python file.

    Raises:
        RequestError: The loss is code of the user's own or reads features of the network, or `data.json` is of an
            earlier version.
    """
    check_loss(config, facts)
    frequencies = [float(share) for share in facts["class_frequencies"]]
    train = config.train
    settings = {
        "loss": config.loss,
        "class_frequencies": frequencies,
        "train": {
            "optimizer": train.optimizer,
            "lr": train.lr,
            "weight_decay": train.weight_decay,
            "momentum": train.momentum,
            "epochs": None,
            "iterations": None,
            "validation_iterations": None,
            "seed": None,
        },
    }
    study, trial = config.provenance.get("study", "trial"), config.provenance.get("trial")
    name = trainer_name(str(study), trial)
    spatial_dims = len(facts["sample_shape"]) - 1
    check_features(config, "nnU-Net's networks")
    cases = recorded_cases(config.loss, frequencies, spatial_dims=spatial_dims)
    head = _head(config, name, _has_regions(cases))
    text = trainer_source(name, settings, head=head, modules=loss_modules(config.loss))
    text = with_tensors_in(text, beside)
    buffer = io.BytesIO()
    torch.save(cases, buffer)
    return TorchExport(text, buffer.getvalue(), ())


def recorded_cases(
    section: Mapping[str, Any], frequencies: Sequence[float], *, spatial_dims: int
) -> list[dict[str, Any]]:
    """Return lists of outputs and targets as nnU-Net hands them to a loss, with its value and gradients in float64.

    Labels, and where the loss has a form for them regions; each with and without ignored pixels.
    """
    classes = len(frequencies)
    cases = [_case(section, frequencies, spatial_dims, regions=False, ignored=ignored) for ignored in (False, True)]
    try:
        from_section(section, activation="sigmoid", num_classes=classes - 1, class_frequencies=frequencies[1:])
    except LossInputError:
        return cases
    return cases + [
        _case(section, frequencies, spatial_dims, regions=True, ignored=ignored) for ignored in (False, True)
    ]


def _case(
    section: Mapping[str, Any], frequencies: Sequence[float], spatial_dims: int, *, regions: bool, ignored: bool
) -> dict[str, Any]:
    draw = torch.Generator().manual_seed(0)
    classes = len(frequencies)
    shares = list(frequencies[1:] if regions else frequencies)
    loss = from_section(
        section,
        activation="sigmoid" if regions else "softmax",
        num_classes=len(shares),
        ignore_index=classes if ignored and not regions else None,
        class_frequencies=shares,
    ).double()
    labels = _drawn_labels(classes, spatial_dims, draw)
    if ignored:
        labels[:, :, :4] = classes
    logits, targets, gradients = [], [], []
    weights = [0.5**n for n in range(len(SCALES) - 1)] + [0.0]
    total = torch.zeros((), dtype=torch.float64)
    for scale, weight in zip(SCALES, weights, strict=True):
        small = labels[(slice(None), slice(None), *(slice(None, None, scale),) * spatial_dims)]
        leaf = torch.randn(2, len(shares), *small.shape[2:], generator=draw, dtype=torch.float64).requires_grad_()
        target, mask = small, None
        if regions:
            # region c holds the labels c and above: each lies within the one before
            target = torch.cat([(small >= c) & (small < classes) for c in range(1, classes)], 1)
            mask = small != classes if ignored else None
        logits.append(leaf.detach())
        gradient = torch.zeros_like(leaf)
        if weight:
            value = loss(leaf, target.long(), mask=mask) * (weight / sum(weights))
            (gradient,) = torch.autograd.grad(value, leaf)
            total = total + value.detach()
        targets.append(torch.cat([target, small == classes], 1) if regions and ignored else target)
        gradients.append(gradient)
    return {
        "name": ("regions" if regions else "labels") + (" with ignored pixels" if ignored else ""),
        "labels": _nnunet_labels(classes, regions=regions, ignored=ignored),
        "regions_class_order": list(range(1, classes)) if regions else None,
        "class_frequencies": shares,
        "logits": logits,
        "targets": targets,
        "value": total,
        "gradients": gradients,
    }


def _drawn_labels(classes: int, spatial_dims: int, draw: torch.Generator) -> Tensor:
    """Return labels [2, 1, *S] of blocks: losses of borders and skeletons have nothing to say about noise."""
    blocks = torch.randint(0, classes, (2, 1, *(SIDE // 4,) * spatial_dims), generator=draw, dtype=torch.int16)
    for axis in range(2, blocks.ndim):
        blocks = blocks.repeat_interleave(4, axis)
    return blocks


def _nnunet_labels(classes: int, *, regions: bool, ignored: bool) -> dict[str, Any]:
    """Return `labels` of a dataset.json."""
    named: dict[str, Any] = {"background": 0}
    for c in range(1, classes):
        named[f"class_{c}"] = list(range(c, classes)) if regions else c
    return named | ({"ignore": classes} if ignored else {})


def _has_regions(cases: Iterable[Mapping[str, Any]]) -> bool:
    return any(case["regions_class_order"] for case in cases)


def _head(config: TrialConfig, name: str, has_regions: bool) -> str:
    regions = (
        "labels or regions (in a sigmoid)"
        if has_regions
        else "labels only: the loss has no form for regions, which overlap"
    )
    lines = [
        *head_lines(config),
        "",
        "    export nnUNet_extTrainer=FOLDER        # the folder of this file, and of no other programs",
        f"    nnUNetv2_train DATASET CONFIGURATION FOLD -tr {name}",
        f"    nnUNetv2_predict -i IMAGES -o OUT -d DATASET -c CONFIGURATION -f FOLD -tr {name}",
        "",
        f"For data sets of {regions}. `python` and this file's name compare its loss, as nnU-Net builds and calls it,",
        "with values of the place where it was exported.",
    ]
    return "\n".join(lines)

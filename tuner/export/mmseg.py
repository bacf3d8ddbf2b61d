"""A trial's loss as a module for mmsegmentation, registered by name; its head holds what a configuration says."""

import io
import re
from collections.abc import Mapping
from typing import Any

import torch

from tuner.config.trial import TrialConfig
from tuner.errors import RequestError
from tuner.export.embedding import assembled, loss_modules, with_tensors_in
from tuner.export.stored_values import IGNORED, recorded_cases
from tuner.export.torch_file import TorchExport, check_features, check_loss, head_lines

PARTS = ("tuner.export.value_comparison", "tuner.export.mmseg_parts")
_CLASS = "TunedLoss"


def mmseg_export(config: TrialConfig, facts: Mapping[str, Any], *, module: str, beside: str) -> TorchExport:
    """Return the module and the tensors of its self-test.

    Args:
        config: The trial.
        facts: Its `data.json`.
        module: Name of the module, as a configuration imports it.
        beside: Name of the file of tensors, in the folder of the module.

    Raises:
        RequestError: The loss is code of the user's own or reads features of the network; the trial had regions;
            or `data.json` is of an earlier version.
    """
    check_loss(config, facts)
    check_features(config, "mmsegmentation's decode heads")
    if facts.get("regions"):
        raise RequestError(
            "the trial had regions, which overlap; mmsegmentation trains on one label for each pixel.",
            hint="--format torch, nnunet and smp take regions.",
            where="--format",
        )
    frequencies = [float(share) for share in facts["class_frequencies"]]
    settings = {
        "loss": config.loss,
        "classes": len(facts["class_names"]),
        "class_frequencies": frequencies,
        "ignored": IGNORED,
    }
    name = loss_class_name(str(config.provenance.get("study", "trial")), config.provenance.get("trial"))
    text = assembled(PARTS, head=_head(config, _CLASS, module), settings=settings, modules=loss_modules(config.loss))
    text = with_tensors_in(text, beside)
    buffer = io.BytesIO()
    torch.save(recorded_cases(config.loss, frequencies, activation="softmax"), buffer)
    return TorchExport(text.replace(_CLASS, name), buffer.getvalue(), ())


def loss_class_name(study: str, trial: int | None) -> str:
    """Return the name in the registry of a trial's loss."""
    words = re.sub(r"\W+", "_", study).strip("_")
    return f"{_CLASS}_{words}_{'baseline' if trial is None else trial}"


def config_block(config: TrialConfig, name: str, module: str) -> str:
    """Return what a configuration that inherits from another says to train with the loss and the trial's optimizer."""
    train = config.train
    rate = f"lr={train.lr!r}, weight_decay={train.weight_decay!r}"
    optimizer = f"type='AdamW', {rate}, betas=({train.momentum!r}, 0.999)"
    if train.optimizer == "sgd":
        optimizer = f"type='SGD', {rate}, momentum={train.momentum!r}, nesterov={train.momentum > 0}"
    lines = [
        f"custom_imports = dict(imports=[{module!r}], allow_failed_imports=False)",
        f"custom_hooks = [dict(type='ProgressOf{name}')]",
        f"model = dict(decode_head=dict(loss_decode=dict(_delete_=True, type={name!r})))",
        "optim_wrapper = dict(",
        f"    optimizer=dict(_delete_=True, {optimizer}),",
        *([] if train.clip_norm is None else [f"    clip_grad=dict(max_norm={train.clip_norm!r}),"]),
        "    paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0))",
    ]
    return "\n".join(lines)


def _head(config: TrialConfig, name: str, module: str) -> str:
    lines = [
        *head_lines(config),
        "",
        "Beside a configuration that inherits from another (`_base_ = [...]`), or in a folder of PYTHONPATH; what that",
        "configuration says:",
        "",
        *(f"    {line}" for line in config_block(config, name, module).splitlines()),
        "",
        "The last statement is the trial's optimizer, and may be left out. `auxiliary_head` takes the same",
        "`loss_decode`; `loss_weight` and `loss_name` are its arguments. `python` and this file's name compare the",
        "loss, as mmsegmentation builds and calls it, with values of the place where it was exported.",
    ]
    return "\n".join(lines)

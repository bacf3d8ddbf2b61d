"""A trial as a module for segmentation_models_pytorch: its loss, and its network where it is one of that package."""

import io
from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from tuner.config.trial import TrialConfig
from tuner.data.regions import Regions
from tuner.errors import LossInputError, RequestError
from tuner.export.embedding import assembled, loss_modules, with_tensors_in
from tuner.export.stored_values import IGNORED, recorded_cases
from tuner.export.torch_file import TorchExport, built_network, check_features, check_loss, head_lines
from tuner.models.catalog import WEIGHTS

PARTS = ("tuner.export.value_comparison", "tuner.export.smp_parts")
PACKAGE = "segmentation_models_pytorch"


def smp_export(
    config: TrialConfig, facts: Mapping[str, Any], weights: Mapping[str, Tensor] | None, *, beside: str
) -> TorchExport:
    """Return the module and its tensors.

    Args:
        config: The trial.
        facts: Its `data.json`.
        weights: Of its network; None where they are not kept any more.
        beside: Name of the file of tensors, in the folder of the module.

    Raises:
        RequestError: The loss is code of the user's own, reads features of the network, or has no form for the trial's
            regions; or `data.json` is of an earlier version.
    """
    check_loss(config, facts)
    check_features(config, f"networks of {PACKAGE}")
    classes, shares = len(facts["class_names"]), [float(share) for share in facts["class_frequencies"]]
    regions = Regions.from_dict(facts["regions"], classes=classes) if facts.get("regions") else None
    name = str(config.model.get("name"))
    left_out = []
    if name != "smp":
        left_out.append(f"the network {name!r}, which is not one of {PACKAGE}")
    elif weights is None:
        left_out.append("the network: its weights are not kept any more")
    held = None if left_out else weights
    settings = {
        "loss": config.loss,
        "activation": "softmax" if regions is None else "sigmoid",
        "classes": classes if regions is None else len(regions),
        "class_frequencies": shares if regions is None else list(regions.shares(shares)),
        "ignored": IGNORED,
        "channels": int(facts["sample_shape"][0]),
        "model": None,
    }
    tensors: dict[str, Any] = {"cases": recorded(config, settings)}
    if held is not None:
        settings["model"] = model_arguments(config, settings)
        tensors |= _network(config, settings, held)
    text = assembled(PARTS, head=_head(config, left_out), settings=settings, modules=loss_modules(config.loss))
    text = with_tensors_in(text, beside)
    buffer = io.BytesIO()
    torch.save(tensors, buffer)
    return TorchExport(text, buffer.getvalue(), tuple(left_out))


def recorded(config: TrialConfig, settings: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the cases of the self-test. Raises RequestError where the loss has no form for regions."""
    try:
        return recorded_cases(config.loss, settings["class_frequencies"], activation=settings["activation"])
    except LossInputError as error:
        raise RequestError(str(error), hint="--trial N exports another trial.", where="--format") from error


def model_arguments(config: TrialConfig, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of the package's `create_model`."""
    return {
        "arch": config.model["architecture"],
        "encoder_name": config.model["encoder"],
        "in_channels": settings["channels"],
        "classes": settings["classes"],
    }


def _network(config: TrialConfig, settings: Mapping[str, Any], weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return the weights under the package's own names, and what the network makes of images in float64."""
    shape = {"channels": settings["channels"], "outputs": settings["classes"], "spatial_dims": 2}
    model = {key: value for key, value in config.model.items() if key != WEIGHTS.name}
    net = cast(nn.Module, built_network({"model": model, **shape}, weights).network.net)
    draw = torch.Generator().manual_seed(0)
    images = torch.randn(1, settings["channels"], 64, 64, generator=draw, dtype=torch.float64)
    own = {key: tensor.detach().clone() for key, tensor in net.state_dict().items()}
    with torch.no_grad():
        logits = net.double()(images)
    return {"weights": own, "network": {"images": images, "logits": logits}}


def _head(config: TrialConfig, left_out: list[str]) -> str:
    lines = [
        *head_lines(config),
        *(f"Not in this file: {text}." for text in left_out),
        "",
        "    import best                             # under the name that you gave this file",
        "    criterion = best.loss()                 # loss(ignore_index=255) where masks have such pixels",
        "    model = best.network()                  # with its weights, where this file has them; else one of yours",
        "    loss = criterion(model(images), masks)    # [N, C, H, W] and [N, H, W]; see ExportedLoss for other forms",
        "    criterion.on_epoch(epoch, epochs)         # where the loss has a schedule: as every epoch begins, from 1",
        "",
        "`python` and this file's name compare values and gradients with those of the place where it was exported, and",
        f"train a network of {PACKAGE} for one step.",
    ]
    return "\n".join(lines)

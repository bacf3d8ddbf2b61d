"""The winner as one Python file that needs torch and numpy only: its loss, its network where it is ours.

The file holds the sources of this package that the loss and the network are made of, under a name of its own, so that
it neither needs this package nor meets another version of it. It carries tensors with the values that the loss and the
network had here, and `self_test` compares.
"""

import io
import math
import pprint
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tuner.config.trial import TrialConfig
from tuner.data.regions import Regions
from tuner.errors import RequestError
from tuner.export.embedding import embedded, loss_modules, loss_terms
from tuner.export.value_comparison import TOLERANCE
from tuner.losses.build import SegmentationLoss, build_loss
from tuner.models.build import SegmentationNet, build_model
from tuner.models.catalog import MODELS, WEIGHTS
from tuner.models.features import FEATURES

OURS = ("unet", "resunet", "transunet", "transunet_tiny")
"""Networks that are made of torch alone."""


@dataclass(frozen=True, slots=True)
class TorchExport:
    """What is written: the file, and what lies beside it under `beside`; `left_out` says what it does not hold."""

    text: str
    tensors: bytes
    left_out: tuple[str, ...]


def check_not_own(config: TrialConfig) -> None:
    """Raise RequestError for a trial that a training of the user's own has made."""
    if config.train.is_own:
        what = f"the function {config.train.entry}" if config.train.entry else "a program"
        raise RequestError(
            f"its training is your own ({what}): there is no loss or network of ours to take home.",
            hint="Other formats write the configuration: --format command, json, yaml.",
            where="--format",
        )


def torch_export(
    config: TrialConfig,
    facts: Mapping[str, Any],
    weights: Mapping[str, Tensor] | None,
    *,
    beside: str,
    networks: Collection[str] = OURS,
) -> TorchExport:
    """Return the file and its tensors.

    Args:
        config: The trial.
        facts: Its `data.json`.
        weights: Of its network; None where they are not kept any more.
        beside: Name of the file of tensors, in the folder of the Python file.
        networks: Those that may be in the file; with others than OURS it needs the package that they are made of.

    Raises:
        RequestError: The loss is code of the user's own, or `data.json` is of an earlier version.
    """
    check_loss(config, facts)
    name = str(config.model.get("name"))
    left_out = []
    if name not in networks:
        left_out.append(f"the network {name!r}, which is not made of torch alone")
    elif weights is None:
        left_out.append("the network: its weights are not kept any more")
    held = weights if not left_out else None
    classes, shares = len(facts["class_names"]), [float(share) for share in facts["class_frequencies"]]
    regions = Regions.from_dict(facts["regions"], classes=classes) if facts.get("regions") else None
    settings = {
        "loss": config.loss,
        "classes": classes,
        "regions": None if regions is None else [list(members) for members in regions.members],
        "outputs": classes if regions is None else len(regions),
        "ignore_index": int(facts["ignore_index"]),
        "class_frequencies": shares if regions is None else list(regions.shares(shares)),
        "model": {key: value for key, value in config.model.items() if key != WEIGHTS.name} if held else None,
        "channels": int(facts["sample_shape"][0]),
        "spatial_dims": len(facts["sample_shape"]) - 1,
    }
    roots = ["tuner.losses.build", *loss_modules(config.loss)]
    if held is not None:
        roots += ["tuner.models.build", MODELS[name].fn.partition(":")[0]]
    tensors = _recorded(settings, held)
    text = _FILE.format(
        head=_head(config, left_out),
        beside=beside,
        settings=pprint.pformat(settings, width=110, sort_dicts=False),
        tolerance=TOLERANCE,
        sources=embedded(roots)[1],
    )
    buffer = io.BytesIO()
    torch.save(tensors, buffer)
    return TorchExport(text, buffer.getvalue(), tuple(left_out))


def check_loss(config: TrialConfig, facts: Mapping[str, Any]) -> None:
    """Raise RequestError where the loss cannot be taken out of this package, or is not known well enough."""
    check_not_own(config)
    if "entry" in config.loss:
        raise RequestError(
            f"the loss is your own code ({config.loss['entry']}): it is already at home.", where="--format"
        )
    if facts.get("class_frequencies") is None:
        raise RequestError(
            "the trial's data.json does not say how often classes occur: it was trained by an earlier version.",
            hint="Train it again with `tuner train` of this version, or in a new study.",
        )


def check_features(config: TrialConfig, networks: str) -> None:
    """Raise RequestError where the loss reads more of a network than its outputs, which `networks` do not give."""
    wanting = [term for term, spec in loss_terms(config.loss).items() if FEATURES & set(spec.needs)]
    if wanting:
        raise RequestError(
            f"the loss {', '.join(wanting)} reads features of the network beside its outputs, which {networks} do not "
            "give.",
            hint="--trial N exports another trial.",
            where="--format",
        )


def _loss(settings: Mapping[str, Any]) -> SegmentationLoss:
    return build_loss(
        settings["loss"],
        classes=settings["classes"],
        ignore_index=settings["ignore_index"],
        class_frequencies=settings["class_frequencies"],
        regions=settings["regions"],
    )


def built_network(settings: Mapping[str, Any], weights: Mapping[str, Tensor]) -> SegmentationNet:
    """Build a network with its weights, ready to predict, from `model`, `channels`, `outputs` and `spatial_dims`."""
    net = build_model(
        settings["model"],
        channels=settings["channels"],
        classes=settings["outputs"],
        spatial_dims=settings["spatial_dims"],
    )
    net.load_state_dict(dict(weights))
    return net.eval()


def _recorded(settings: Mapping[str, Any], weights: Mapping[str, Tensor] | None) -> dict[str, Any]:
    """Return weights and the tensors of the self-test, with what this package makes of them in float64."""
    draw = torch.Generator().manual_seed(0)
    side = 16
    size = (side,) * settings["spatial_dims"]
    classes = settings["classes"]
    target = (torch.rand(2, *size, generator=draw) * classes).long().clamp_max(classes - 1)
    # objects, not noise: losses of borders and skeletons have nothing to say about noise
    target = target[:, *(slice(None, None, 4),) * len(size)]
    for axis in range(1, target.ndim):
        target = target.repeat_interleave(4, axis)
    target[:, :2] = settings["ignore_index"]
    logits = torch.randn(2, settings["outputs"], *size, generator=draw, dtype=torch.float64)
    leaf = logits.clone().requires_grad_()
    value = _loss(settings).double()(leaf, target)
    torch.autograd.backward(value)
    assert leaf.grad is not None
    found: dict[str, Any] = {
        "loss": {"logits": logits, "target": target, "value": value.detach(), "gradient": leaf.grad},
    }
    if weights is not None:
        images = torch.randn(1, settings["channels"], *(2 * s for s in size), generator=draw, dtype=torch.float64)
        with torch.no_grad():
            outputs = built_network(settings, weights).double()(images)
        found["network"] = {"images": images, "logits": outputs}
        found["weights"] = {key: tensor.contiguous() for key, tensor in weights.items()}
    return found


def head_lines(config: TrialConfig) -> list[str]:
    """Say in an exported file's docstring where it comes from."""
    origin = config.provenance
    lines = [f"The loss {config.loss['name']}, as a search found it."]
    if origin:
        value = origin.get("value")
        score = (
            "no value" if value is None or not math.isfinite(value) else f"{config.objectives[0].metric} {value:.4g}"
        )
        lines = [f"Trial {origin['trial']} of study {origin['study']}: {score}, loss {config.loss['name']}."]
        lines += [f"Mind: {text}." for text in origin.get("caveats", ())]
    return [line.replace("\\", "/").replace('"""', "'''") for line in lines]


def _head(config: TrialConfig, left_out: Iterable[str]) -> str:
    return "\n".join([*head_lines(config), *(f"Not in this file: {text}." for text in left_out)])


_FILE = '''"""{head}

    import exported                      # under the name that you gave this file
    loss = exported.loss()                # loss(logits, target): [B, C, *S] and [B, *S]; loss.on_epoch(epoch, epochs)
                                          # of regions: [B, R, *S] and the label map [B, *S]
    network = exported.network()             # with its weights, where they are here

`python exported.py` compares values and gradients with those of the place where it was exported.
"""

import importlib
from pathlib import Path

import torch

SETTINGS = {settings}

TENSORS = Path(__file__).with_name({beside!r})
TOLERANCE = {tolerance!r}


def loss():
    """Return the loss, a module; give what it learns to the optimizer: loss.parameters()."""
    return _module("losses.build").build_loss(
        SETTINGS["loss"],
        classes=SETTINGS["classes"],
        ignore_index=SETTINGS["ignore_index"],
        class_frequencies=SETTINGS["class_frequencies"],
        regions=SETTINGS["regions"],
    )


def network(pretrained=True):
    """Return the network, with its weights and ready to predict, or to be trained anew.

    Raises LookupError where this file does not hold it.
    """
    if SETTINGS["model"] is None:
        raise LookupError("this file holds the loss only; its head says why")
    made = _module("models.build").build_model(
        SETTINGS["model"],
        channels=SETTINGS["channels"],
        classes=SETTINGS["outputs"],
        spatial_dims=SETTINGS["spatial_dims"],
    )
    if not pretrained:
        return made
    made.load_state_dict(_tensors()["weights"])
    return made.eval()


def self_test():
    """Compare with the stored tensors; returns the largest relative difference, raises ValueError above TOLERANCE."""
    stored = _tensors()
    wanted = stored["loss"]
    logits = wanted["logits"].clone().requires_grad_()
    value = loss().double()(logits, wanted["target"])
    value.backward()
    pairs = [("loss", value.detach(), wanted["value"]), ("gradient", logits.grad, wanted["gradient"])]
    if SETTINGS["model"] is not None:
        with torch.no_grad():
            outputs = network().double()(stored["network"]["images"])
        pairs.append(("network", outputs, stored["network"]["logits"]))
    worst = 0.0
    for what, found, expected in pairs:
        off = ((found - expected).abs().max() / expected.abs().max().clamp_min(1e-12)).item()
        if not off <= TOLERANCE:
            raise ValueError(f"{{what}} differs by {{off:.3g}} of its largest value; at most {{TOLERANCE}} is right")
        worst = max(worst, off)
    return worst


def _tensors():
    return torch.load(TENSORS, weights_only=True)


def _module(name):
    return importlib.import_module(f"{{_PACKAGE}}.{{name}}")


{sources}

if __name__ == "__main__":
    print(f"self-test passed: the largest relative difference is {{self_test():.2g}}")
'''

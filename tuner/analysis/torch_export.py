"""The winner as one Python file that needs torch and numpy only: its loss, its network where it is ours.

The file holds the sources of this package that the loss and the network are made of, under a name of its own, so that
it neither needs this package nor meets another version of it. It carries tensors with the values that the loss and the
network had here, and `self_test` compares.
"""

import ast
import io
import math
import pprint
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tuner.config.trial import TrialConfig
from tuner.errors import RequestError
from tuner.losses.build import SegmentationLoss, build_loss
from tuner.losses.catalog.registry import LOSSES
from tuner.models.build import SegmentationNet, build_model
from tuner.models.catalog import MODELS, WEIGHTS

PACKAGE = "_tuner_winner"
TOLERANCE = 1e-6
OURS = ("unet", "resunet", "transunet", "transunet_tiny")
"""Networks that are made of torch alone."""
PURE = ("tuner.errors", "tuner.registry", "tuner.label_maps", "tuner.losses", "tuner.models")
_REFERENCE = re.compile(r"\btuner(?=\.(?:errors|registry|label_maps|losses|models)\b)")


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
    config: TrialConfig, facts: Mapping[str, Any], weights: Mapping[str, Tensor] | None, *, beside: str
) -> TorchExport:
    """Return the file and its tensors.

    Args:
        config: The trial.
        facts: Its `data.json`.
        weights: Of its network; None where they are not kept any more.
        beside: Name of the file of tensors, in the folder of the Python file.

    Raises:
        RequestError: The loss is code of the user's own, or `data.json` is of an earlier version.
    """
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
    name = str(config.model.get("name"))
    left_out = []
    if name not in OURS:
        left_out.append(f"the network {name!r}, which is not made of torch alone")
    elif weights is None:
        left_out.append("the network: its weights are not kept any more")
    held = weights if not left_out else None
    settings = {
        "loss": config.loss,
        "classes": len(facts["class_names"]),
        "ignore_index": int(facts["ignore_index"]),
        "class_frequencies": [float(share) for share in facts["class_frequencies"]],
        "model": {key: value for key, value in config.model.items() if key != WEIGHTS.name} if held else None,
        "channels": int(facts["sample_shape"][0]),
        "spatial_dims": len(facts["sample_shape"]) - 1,
    }
    roots = ["tuner.losses.build", *_loss_modules(config)]
    if held is not None:
        roots += ["tuner.models.build", MODELS[name].fn.partition(":")[0]]
    tensors = _recorded(settings, held)
    text = _FILE.format(
        head=_head(config, left_out),
        package=PACKAGE,
        beside=beside,
        settings=pprint.pformat(settings, width=110, sort_dicts=False),
        tolerance=TOLERANCE,
        sources="\n".join(f"_SOURCES[{key!r}] = {_literal(text)}\n" for key, text in sources(roots).items()),
    )
    buffer = io.BytesIO()
    torch.save(tensors, buffer)
    return TorchExport(text, buffer.getvalue(), tuple(left_out))


def sources(roots: Iterable[str]) -> dict[str, str]:
    """Return, by name below PACKAGE, the sources of modules and of all of this package that they import."""
    found: dict[str, str] = {}
    waiting = list(roots)
    while waiting:
        name = waiting.pop()
        key = name.partition(".")[2]
        if key in found:
            continue
        spec = find_spec(name)
        assert spec is not None
        assert spec.origin is not None
        text = Path(spec.origin).read_text(encoding="utf-8")
        if spec.origin.endswith("__init__.py"):
            # what it offers lazily is not there
            found[key] = ""
            continue
        found[key] = _REFERENCE.sub(PACKAGE, text)
        waiting += [module for module in _imports(text) if module.startswith(PURE)]
        waiting += [name.rpartition(".")[0]] if name.count(".") > 1 else []
    return dict(sorted(found.items()))


def _imports(text: str) -> list[str]:
    """Return the modules that a source imports, at its top or in its functions."""
    names = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith(PURE):
            submodules = [f"{node.module}.{alias.name}" for alias in node.names]
            names += [node.module, *(name for name in submodules if _is_module(name))]
        elif isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
    return names


def _is_module(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def _loss_modules(config: TrialConfig) -> list[str]:
    """Return the modules of the terms of a loss, and of what they learn."""
    loss = _loss({"loss": config.loss, "classes": 2, "ignore_index": 255, "class_frequencies": [0.5, 0.5]})
    rows = [LOSSES[name] for name in loss.terms]
    return [str(path).partition(":")[0] for row in rows for path in (row.fn, row.state) if path]


def _loss(settings: Mapping[str, Any]) -> SegmentationLoss:
    return build_loss(
        settings["loss"],
        classes=settings["classes"],
        ignore_index=settings["ignore_index"],
        class_frequencies=settings["class_frequencies"],
    )


def _network(settings: Mapping[str, Any], weights: Mapping[str, Tensor]) -> SegmentationNet:
    net = build_model(
        settings["model"],
        channels=settings["channels"],
        classes=settings["classes"],
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
    logits = torch.randn(2, classes, *size, generator=draw, dtype=torch.float64)
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
            outputs = _network(settings, weights).double()(images)
        found["network"] = {"images": images, "logits": outputs}
        found["weights"] = {key: tensor.contiguous() for key, tensor in weights.items()}
    return found


def _head(config: TrialConfig, left_out: Iterable[str]) -> str:
    origin = config.provenance
    lines = [f"The loss {config.loss['name']}, as a search found it; needs torch and numpy only."]
    if origin:
        value = origin.get("value")
        score = (
            "no value" if value is None or not math.isfinite(value) else f"{config.objectives[0].metric} {value:.4g}"
        )
        lines = [f"Trial {origin['trial']} of study {origin['study']}: {score}, loss {config.loss['name']}."]
        lines += [f"Mind: {text}." for text in origin.get("caveats", ())]
    lines += [f"Not in this file: {text}." for text in left_out]
    return "\n".join(lines).replace("\\", "/").replace('"""', "'''")


def _literal(text: str) -> str:
    if "'''" in text or text.endswith("\\"):
        return repr(text)
    return f"r'''{text}'''"


_FILE = '''"""{head}

    import exported                      # under the name that you gave this file
    loss = exported.loss()                # loss(logits, target): [B, C, *S] and [B, *S]; loss.on_epoch(epoch, epochs)
    network = exported.network()             # with its weights, where they are here

`python exported.py` compares values and gradients with those of the place where it was exported.
"""

import importlib.abc
import importlib.machinery
import importlib.util
import sys
from pathlib import Path

import torch

SETTINGS = {settings}

TENSORS = Path(__file__).with_name({beside!r})
TOLERANCE = {tolerance!r}
_PACKAGE = {package!r}
_SOURCES = {{}}


def loss():
    """Return the loss, a module; give what it learns to the optimizer: loss.parameters()."""
    return _module("losses.build").build_loss(
        SETTINGS["loss"],
        classes=SETTINGS["classes"],
        ignore_index=SETTINGS["ignore_index"],
        class_frequencies=SETTINGS["class_frequencies"],
    )


def network():
    """Return the network with its weights, ready to predict; raises LookupError where this file does not hold it."""
    if SETTINGS["model"] is None:
        raise LookupError("this file holds the loss only; its head says why")
    made = _module("models.build").build_model(
        SETTINGS["model"],
        channels=SETTINGS["channels"],
        classes=SETTINGS["classes"],
        spatial_dims=SETTINGS["spatial_dims"],
    )
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
    if not any(isinstance(finder, _Sources) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Sources())
    return importlib.import_module(f"{{_PACKAGE}}.{{name}}")


class _Sources(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds the modules that stand below."""

    def find_spec(self, name, path=None, target=None):
        key = name.partition(".")[2]
        if name != _PACKAGE and not (name.startswith(_PACKAGE + ".") and self._is_there(key)):
            return None
        is_package = name == _PACKAGE or any(other.startswith(key + ".") for other in _SOURCES)
        return importlib.machinery.ModuleSpec(name, self, is_package=is_package)

    def exec_module(self, module):
        text = _SOURCES.get(module.__name__.partition(".")[2], "")
        exec(compile(text, f"<{{module.__name__}}>", "exec"), module.__dict__)

    @staticmethod
    def _is_there(key):
        return key in _SOURCES or any(other.startswith(key + ".") for other in _SOURCES)


{sources}

if __name__ == "__main__":
    print(f"self-test passed: the largest relative difference is {{self_test():.2g}}")
'''

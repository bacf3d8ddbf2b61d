"""Every model in a size that runs in a blink, the values that are tried of its options, and what this machine lacks."""

from importlib.util import find_spec
from typing import Any

import pytest

from tuner.models.catalog import MODELS
from tuner.registry import Option

_UNET: dict[str, Any] = {"width": 4, "depth": 2}
_TRANSUNET: dict[str, Any] = {
    "hidden": 16,
    "layers": 1,
    "heads": 2,
    "mlp": 16,
    "stem_width": 4,
    "stem_units": "1-1-1",
    "decoder_width": 16,
    "grid": 3,
}

SMALL: dict[str, dict[str, Any]] = {
    "unet": _UNET,
    "resunet": _UNET,
    "transunet": _TRANSUNET,
    "transunet_tiny": _TRANSUNET,
    "monai_unet": _UNET,
    "dynunet": _UNET,
    "segresnet": {"width": 8, "depth": 2},
    "attention_unet": _UNET,
    "basic_unet_plusplus": {"width": 4},
    "mednext": {"width": 4},
    "flexible_unet": {"backbone": "resnet10", "decoder_width": 16},
    "unetr": {"width": 4, "hidden": 12, "heads": 2, "mlp": 12, "grid": 3},
    "swin_unetr": {"width": 12, "window": 4},
    "smp": {"encoder": "resnet18"},
}

TRIED: dict[str, list[Any]] = {
    "width": [4, 12],
    "depth": [2, 3],
    "residual_units": [0, 1, 3],
    "dropout": [0.0, 0.25],
    "drop_path": [0.0, 0.5],
    "hidden": [24],
    "layers": [3],
    "heads": [4],
    "mlp": [20],
    "stem_width": [6],
    "decoder_width": [32],
    "grid": [5],
    "backbone": ["resnet18", "efficientnet-b0"],
    "window": [3],
    "encoder": ["resnet34", "tu-resnet18"],
    "variant": ["S", "B"],
    "segresnet.width": [8, 12],
    "swin_unetr.width": [24],
    "architecture": ["unet", "fpn", "deeplabv3plus"],
}
"""Values of an option, by its name or by `model.name`; of any other, all its choices."""

HEAVY = {("flexible_unet", 3), ("swin_unetr", 3), ("basic_unet_plusplus", 3), ("mednext", 3)}
"""What takes seconds even in small, by name and number of dimensions."""

MISSING = [name for name in ("torchvision", "timm", "segmentation_models_pytorch") if find_spec(name) is None]
"""What the extra `smp` brings and is not here; its own tests say so."""

HERE = {name: entry for name, entry in MODELS.items() if not (entry.extra and MISSING)}
"""The models that can be built on this machine."""


def marks(name: str, dims: int = 2) -> list[pytest.MarkDecorator]:
    """Run what is heavy only before a release."""
    return [pytest.mark.slow] if (name, dims) in HEAVY else []


def each(*dims: int) -> pytest.MarkDecorator:
    """Parametrise over `name` and `dims`: every model in every number of dimensions that it is made for."""
    return pytest.mark.parametrize(
        ("name", "dims"),
        [
            pytest.param(name, d, id=f"{name} {d}-D", marks=marks(name, d))
            for name, entry in HERE.items()
            for d in dims or (2, 3)
            if d in entry.dims
        ],
    )


def values(name: str, option: Option) -> list[Any]:
    """Two or more legal values of an option."""
    chosen = TRIED.get(f"{name}.{option.name}", TRIED.get(option.name))
    if chosen is not None:
        return chosen
    return list(option.choices) if option.choices else [False, True]

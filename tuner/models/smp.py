"""Decoders on encoders that others have published: MONAI's FlexibleUNet, and segmentation-models-pytorch with timm."""

import warnings
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from tuner.errors import ConfigError, Problem, SpecError, closest
from tuner.models.cpu_kernels import use_cpu_kernels
from tuner.models.monai import Wrapped, first_dropout

LEVELS = 5
"""Halvings of the resolution in an encoder."""

_INSTALL = "pip install 'segmentation-tuner[smp]'"
_UNUSED = ("_conv_head", "_conv_head_padding", "_bn1", "_avg_pooling", "_fc", "_dropout")
"""What an encoder keeps of the classifier that it once was: never run, so never trained."""


def flexible_unet(
    channels: int, classes: int, spatial_dims: int, *, backbone: str, decoder_width: int, dropout: float
) -> Wrapped:
    """Build the registry's `flexible_unet`."""
    from monai.networks.nets import FlexibleUNet

    net = FlexibleUNet(
        channels,
        classes,
        backbone,
        pretrained=False,
        decoder_channels=tuple(decoder_width // 2**level for level in range(LEVELS)),
        spatial_dims=spatial_dims,
        dropout=dropout,
    )
    for name in _UNUSED:
        if hasattr(net.encoder, name):
            setattr(net.encoder, name, nn.Identity())
    use_cpu_kernels(net)
    classifier = net.segmentation_head[0]
    options = {
        "backbone": net.backbone,
        "decoder_width": net.decoder.blocks[0].convs.conv_0.conv.out_channels,
        "dropout": first_dropout(net.decoder),
    }
    return Wrapped(net, stride=2**LEVELS, classifier=classifier, options=options)


def smp(channels: int, classes: int, spatial_dims: int, *, architecture: str, encoder: str) -> Wrapped:
    """Build the registry's `smp`, for images (`spatial_dims` 2), with weights at random.

    Raises:
        ConfigError: segmentation-models-pytorch is not installed here, or cannot be imported.
        SpecError: There is no such encoder, or it does not go with the architecture.
    """
    library = _library()
    check_encoder(encoder, library.encoders.encoders, _timm_names)
    try:
        net = library.create_model(
            architecture, encoder_name=encoder, encoder_weights=None, in_channels=channels, classes=classes
        )
    except (ValueError, KeyError, NotImplementedError, RuntimeError) as error:
        raise SpecError(
            [Problem("model.encoder", f"{encoder!r} does not go with {architecture!r}: {error}", encoder)]
        ) from error
    stride = 2**LEVELS * (2 if architecture == "pan" else 1)  # its pyramid halves the coarsest map three times more
    freeze_unused(net, channels, edge=2 * stride)
    last = [m for m in net.segmentation_head.modules() if isinstance(m, nn.Conv2d)][-1]
    options = {"architecture": type(net).__name__.lower(), "encoder": net.name.partition("-")[2]}
    return Wrapped(net, stride=stride, classifier=last, options=options)


def freeze_unused(net: nn.Module, channels: int, *, edge: int) -> None:
    """Let no gradient be asked of what a decoder does not read: PSPNet leaves out the last stages of an encoder."""
    was_training = net.training
    parameters = list(net.parameters())
    logits = net.eval()(torch.zeros(1, channels, edge, edge))
    for parameter, gradient in zip(
        parameters, torch.autograd.grad(logits.sum(), parameters, allow_unused=True), strict=True
    ):
        parameter.requires_grad_(gradient is not None)
    net.train(was_training)


def check_encoder(name: str, own: Iterable[str], timm_names: Any) -> None:
    """Raise SpecError with the closest known name where there is no such encoder.

    Args:
        name: An encoder's name; `tu-` begins a name of timm.
        own: Names that segmentation-models-pytorch has itself.
        timm_names: Called without arguments, returns timm's names.
    """
    if name.startswith("tu-"):
        known = [f"tu-{each}" for each in timm_names()]
        base = name.split(".")[0]  # timm names a set of weights behind a point
    else:
        known, base = list(own), name
    if base in known:
        return
    near = closest(name, known)
    guess = f" Did you mean {near!r}?" if near else ""
    source = "timm" if name.startswith("tu-") else "segmentation-models-pytorch"
    raise SpecError([Problem("model.encoder", f"{source} has no encoder {name!r} ({len(known)} known).{guess}", name)])


def _library() -> Any:
    try:
        with warnings.catch_warnings():
            # timm uses what newer versions of torch call deprecated; nobody here can mend that
            warnings.simplefilter("ignore", FutureWarning)
            import segmentation_models_pytorch
    except Exception as error:
        raise ConfigError(
            f"the model `smp` needs segmentation-models-pytorch, timm and torchvision, which cannot be imported here "
            f"({type(error).__name__}: {error}).",
            hint=f"Install them: {_INSTALL} (torchvision of the same build, CPU or CUDA, as torch).",
            where="model.name",
        ) from error
    return segmentation_models_pytorch


def _timm_names() -> list[str]:
    import timm

    names: list[str] = timm.list_models()
    return names

"""MONAI's convolutional networks, wrapped. MONAI is imported when one is built, and no more of it than that one needs.

Of each the output at full resolution is the one that is scored. DynUNet may have coarser ones to train on.
"""

import math
from typing import Any, cast

from torch import Tensor, nn

from tuner.models.cpu_kernels import use_cpu_kernels
from tuner.models.monai_import import monai_network
from tuner.models.unet import norm_name
from tuner.registry import Scalar

CONVOLUTIONS = (nn.Conv2d, nn.Conv3d)
_NORMS = ("batch", "instance", "group")
_DROPOUTS = (nn.Dropout, nn.Dropout2d, nn.Dropout3d)


class Wrapped(nn.Module):
    """A network of MONAI's with what this project asks of one: `stride`, `classifier`, `effective_options()`.

    `options` are those that the builder read from the built layers. Of several outputs the first is taken.
    """

    def __init__(self, net: nn.Module, *, stride: int, classifier: nn.Module, options: dict[str, Scalar]) -> None:
        super().__init__()
        self.net = net
        self.stride = stride
        self._classifier = (classifier,)  # in a tuple, or it would be registered a second time
        self._options = options

    @property
    def classifier(self) -> nn.Module:
        """The layer that makes logits of features."""
        return self._classifier[0]

    def forward(self, images: Tensor) -> Tensor:
        """Map [B, channels, *S], S divisible by `stride`, to logits [B, classes, *S]."""
        found = self.net(images)
        return cast(Tensor, found[0] if isinstance(found, (list, tuple)) else found)

    def effective_options(self) -> dict[str, Scalar]:
        """Return the options that were read from the layers."""
        return dict(self._options)


class DeepDynUNet(Wrapped):
    """DynUNet with its heads for deep supervision, each at the resolution of its own level: MONAI enlarges them."""

    deep_supervision = True

    def forward(self, images: Tensor) -> Any:
        """Map as `Wrapped`; in training mode to a list of logits, the finest first, halved from one to the next."""
        if not self.training:
            return super().forward(images)
        net = cast(Any, self.net)
        full = net.output_block(net.skip_layers(images))
        return [full, *net.heads]


def norm_argument(norm: str, groups: int = 8) -> tuple[str, dict[str, object]]:
    """Return MONAI's argument for a normalisation with learned scale and shift."""
    if norm == "group":
        return "group", {"num_groups": groups}
    return norm, {} if norm == "batch" else {"affine": True}


def first_norm(net: nn.Module) -> str:
    """Name the first normalisation of a network."""
    return next(name for m in net.modules() if (name := norm_name(m)) in _NORMS)


def first_dropout(net: nn.Module) -> float:
    """Return the probability of the first dropout that there is, else 0."""
    return next((m.p for m in net.modules() if isinstance(m, _DROPOUTS)), 0.0)


def first_width(net: nn.Module) -> int:
    """Return the output channels of the first convolution."""
    return next(m.out_channels for m in net.modules() if isinstance(m, CONVOLUTIONS))


_MAX_CHANNELS = {2: 512, 3: 320}
"""nnU-Net's bound on the channels of a level, by the number of spatial dimensions."""

_NEXT: dict[str, dict[str, Any]] = {
    "S": {"expansion": (2, 2, 2, 2), "bottleneck": 2, "blocks": (2, 2, 2, 2), "bottom": 2},
    "B": {"expansion": (2, 3, 4, 4), "bottleneck": 4, "blocks": (2, 2, 2, 2), "bottom": 2},
    "M": {"expansion": (2, 3, 4, 4), "bottleneck": 4, "blocks": (3, 4, 4, 4), "bottom": 4},
    "L": {"expansion": (3, 4, 8, 8), "bottleneck": 8, "blocks": (3, 4, 8, 8), "bottom": 8},
}
"""MedNeXt's variants, table 1 of the paper: expansion and number of blocks of encoder and bottleneck."""


def dynunet(
    channels: int,
    classes: int,
    spatial_dims: int,
    *,
    width: int,
    depth: int,
    norm: str,
    residual: bool,
    dropout: float,
    deep_supervision: bool,
) -> Wrapped:
    """Build the registry's `dynunet`. The dropout that MONAI has behind the classifier is left out.

    With `deep_supervision` there is an output for each level of the decoder but the coarsest, which nnU-Net builds and
    gives the weight 0.
    """
    DynUNet = monai_network("dynunet", "DynUNet")

    most = _MAX_CHANNELS[spatial_dims]
    strides = [1, *[2] * depth]
    net = DynUNet(
        spatial_dims,
        channels,
        classes,
        kernel_size=[3] * (depth + 1),
        strides=strides,
        upsample_kernel_size=strides[1:],
        filters=[min(width * 2**level, most) for level in range(depth + 1)],
        norm_name=norm_argument(norm, math.gcd(8, width)),
        dropout=dropout or None,
        res_block=residual,
        **({"deep_supervision": True, "deep_supr_num": depth - 2} if deep_supervision else {}),
    )
    for block in (net.output_block, *(net.deep_supervision_heads if deep_supervision else ())):
        for name in list(dict(block.conv.named_children())):
            if name != "conv":
                setattr(block.conv, name, nn.Identity())
    use_cpu_kernels(net)
    options: dict[str, Scalar] = {
        "width": first_width(net),
        "depth": len(net.upsamples),
        "norm": first_norm(net),
        "residual": type(net.input_block).__name__ == "UnetResBlock",
        "dropout": first_dropout(net),
        "deep_supervision": hasattr(net, "deep_supervision_heads"),
    }
    made = DeepDynUNet if deep_supervision else Wrapped
    return made(net, stride=2**depth, classifier=net.output_block.conv.conv, options=options)


def segresnet(
    channels: int,
    classes: int,
    spatial_dims: int,
    *,
    width: int,
    depth: int,
    norm: str,
    dropout: float,
    upsampling: str,
) -> Wrapped:
    """Build the registry's `segresnet`: one block on the first level, four on the last, two between."""
    SegResNet = monai_network("segresnet", "SegResNet")

    net = SegResNet(
        spatial_dims,
        init_filters=width,
        in_channels=channels,
        out_channels=classes,
        dropout_prob=dropout or None,
        norm=norm_argument(norm, math.gcd(8, width)),
        blocks_down=(1, *[2] * (depth - 1), 4),
        blocks_up=(1,) * depth,
        upsample_mode="deconv" if upsampling == "transposed" else "nontrainable",
    )
    use_cpu_kernels(net)
    learned = any(isinstance(m, (nn.ConvTranspose2d, nn.ConvTranspose3d)) for m in net.modules())
    options: dict[str, Scalar] = {
        "width": first_width(net),
        "depth": len(net.up_layers),
        "norm": first_norm(net),
        "dropout": first_dropout(net),
        "upsampling": "transposed" if learned else "interpolated",
    }
    return Wrapped(net, stride=2**depth, classifier=net.conv_final[2].conv, options=options)


def attention_unet(
    channels: int, classes: int, spatial_dims: int, *, width: int, depth: int, dropout: float
) -> Wrapped:
    """Build the registry's `attention_unet`."""
    AttentionUnet = monai_network("attentionunet", "AttentionUnet")

    net = AttentionUnet(
        spatial_dims,
        channels,
        classes,
        channels=[width * 2**level for level in range(depth + 1)],
        strides=[2] * depth,
        dropout=dropout,
    )
    use_cpu_kernels(net)
    upward = [m for m in net.modules() if isinstance(m, (nn.ConvTranspose2d, nn.ConvTranspose3d))]
    options: dict[str, Scalar] = {"width": first_width(net), "depth": len(upward), "dropout": first_dropout(net)}
    return Wrapped(net, stride=2**depth, classifier=net.model[2].conv, options=options)


def basic_unet_plusplus(
    channels: int, classes: int, spatial_dims: int, *, width: int, norm: str, dropout: float, upsampling: str
) -> Wrapped:
    """Build the registry's `basic_unet_plusplus`. Heads of outputs that are not used are left out."""
    BasicUNetPlusPlus = monai_network("basic_unetplusplus", "BasicUNetPlusPlus")

    net = BasicUNetPlusPlus(
        spatial_dims,
        channels,
        classes,
        features=(width, width, 2 * width, 4 * width, 8 * width, width),
        norm=norm_argument(norm, math.gcd(8, width)),
        dropout=dropout,
        upsample="deconv" if upsampling == "transposed" else "nontrainable",
    )
    for name in ("final_conv_0_1", "final_conv_0_2", "final_conv_0_3"):
        setattr(net, name, nn.Identity())
    use_cpu_kernels(net)
    learned = any(isinstance(m, (nn.ConvTranspose2d, nn.ConvTranspose3d)) for m in net.modules())
    options: dict[str, Scalar] = {
        "width": first_width(net),
        "norm": first_norm(net),
        "dropout": first_dropout(net),
        "upsampling": "transposed" if learned else "interpolated",
    }
    return Wrapped(net, stride=16, classifier=net.final_conv_0_4, options=options)


def mednext(channels: int, classes: int, spatial_dims: int, *, width: int, variant: str, kernel: int) -> Wrapped:
    """Build the registry's `mednext`, with residual connections in the blocks that change the resolution as well."""
    MedNeXt = monai_network("mednext", "MedNeXt")

    sizes = _NEXT[variant]
    net = MedNeXt(
        spatial_dims,
        init_filters=width,
        in_channels=channels,
        out_channels=classes,
        encoder_expansion_ratio=sizes["expansion"],
        decoder_expansion_ratio=sizes["expansion"][::-1],
        bottleneck_expansion_ratio=sizes["bottleneck"],
        kernel_size=kernel,
        use_residual_connection=True,
        blocks_down=sizes["blocks"],
        blocks_bottleneck=sizes["bottom"],
        blocks_up=sizes["blocks"][::-1],
    )
    options: dict[str, Scalar] = {
        "width": net.stem.out_channels,
        "variant": _variant_of(net),
        "kernel": net.enc_stages[0][0].conv1.kernel_size[0],
    }
    return Wrapped(net, stride=16, classifier=net.out_0.conv_out, options=options)


def _variant_of(net: Any) -> str:
    """Name the variant whose blocks and expansions a built MedNeXt has."""
    blocks = tuple(len(stage) for stage in net.enc_stages)
    expansion = tuple(cast(nn.Conv2d, s[0].conv2).out_channels // s[0].conv2.in_channels for s in net.enc_stages)
    names = [name for name, sizes in _NEXT.items() if (sizes["blocks"], sizes["expansion"]) == (blocks, expansion)]
    return names[0] if names else "unknown"


class MonaiUNet(nn.Module):
    """MONAI's `UNet` with `width · 2^level` channels and stride 2 at each level."""

    def __init__(
        self,
        channels: int,
        classes: int,
        *,
        spatial_dims: int,
        width: int,
        depth: int,
        residual_units: int,
        norm: str,
        dropout: float,
    ) -> None:
        UNet = monai_network("unet", "UNet")

        super().__init__()
        self.stride = 2**depth
        self.unet = UNet(
            spatial_dims=spatial_dims,
            in_channels=channels,
            out_channels=classes,
            channels=[width * 2**level for level in range(depth + 1)],
            strides=[2] * depth,
            num_res_units=residual_units,
            norm=norm,
            dropout=dropout,
        )
        self.classifier_is_residual = residual_units > 0
        """Whether the last convolution's input is added to its output."""
        use_cpu_kernels(self.unet)

    def forward(self, images: Tensor) -> Tensor:
        """Map [B, channels, *S], S divisible by `stride`, to logits [B, classes, *S]."""
        logits: Tensor = self.unet(images)
        return logits

    def effective_options(self) -> dict[str, Scalar]:
        """Read the options from the layers."""
        convolutions = [m for m in self.modules() if isinstance(m, (nn.Conv2d, nn.Conv3d))]
        upward = [m for m in self.modules() if isinstance(m, (nn.ConvTranspose2d, nn.ConvTranspose3d))]
        norms = [m for m in self.modules() if _is_norm(m)]
        drops = [m.p for m in self.modules() if isinstance(m, (nn.Dropout, nn.Dropout2d, nn.Dropout3d))]
        first = self.unet.model[0]
        return {
            "width": convolutions[0].out_channels,
            "depth": len(upward),
            "residual_units": len(first.conv) if hasattr(first, "residual") else 0,
            "norm": norm_name(norms[0]),
            "dropout": drops[0] if drops else 0.0,
        }


def monai_unet(
    channels: int,
    classes: int,
    spatial_dims: int,
    *,
    width: int,
    depth: int,
    residual_units: int,
    norm: str,
    dropout: float,
) -> MonaiUNet:
    """Build the registry's `monai_unet`."""
    return MonaiUNet(
        channels,
        classes,
        spatial_dims=spatial_dims,
        width=width,
        depth=depth,
        residual_units=residual_units,
        norm=norm,
        dropout=dropout,
    )


def _is_norm(layer: nn.Module) -> bool:
    return norm_name(layer) in ("batch", "instance")

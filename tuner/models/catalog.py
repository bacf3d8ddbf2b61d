"""Declarations of the models and their options. Importing this imports neither torch nor MONAI."""

import re
from dataclasses import dataclass
from typing import Any

from tuner.registry import Option, Registry, Scalar, Search

WEIGHTS = Option(
    "weights",
    "str",
    None,
    "File of pretrained weights: .safetensors, .pt, .pth, .ckpt or .npz; absolute, or below the data root.",
    nullable=True,
)
"""An option of every model. Without a file it does not stand in the configuration at all."""

ENTRY = "entry"
"""The name of a model that is a function of the user's own, `model: {entry: package.module:function, ...}`."""

SPELLING = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
"""How a function of the user's own is named."""


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """A network by name. The code is named, not imported, so that the registry can be read without torch.

    `fn` takes the options as keyword arguments beside `channels`, `classes` and `spatial_dims`, and returns a module
    with `stride` (input sizes must be multiples of it) and `effective_options()`. `dims` are the numbers of spatial
    dimensions that it is made for, `extra` is the extra of this package that it needs, and `rule` names a function of
    `tuner.models.rules` that says what is wrong with options that do not go together.
    """

    name: str
    fn: str
    options: tuple[Option, ...]
    paper: str
    summary: str
    dims: tuple[int, ...] = (2, 3)
    extra: str = ""
    rule: str = ""

    @property
    def all_options(self) -> tuple[Option, ...]:
        """Its own options, and those of every model."""
        return (*self.options, WEIGHTS)

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "name": self.name,
            "summary": self.summary,
            "paper": self.paper,
            "spatial_dims": list(self.dims),
            "extra": self.extra or None,
            "options": [option.as_dict() for option in self.all_options],
        }

    @property
    def takes(self) -> str:
        """What it is trained on, in words."""
        return {(2, 3): "images and volumes", (2,): "images only", (3,): "volumes only"}[self.dims]


EXTRAS = (
    ModelSpec(
        name="smp",
        fn="tuner.models.smp:smp",
        options=(
            Option(
                "architecture",
                "str",
                "unet",
                "Decoder.",
                choices=(
                    *("unet", "unetplusplus", "manet", "linknet", "fpn", "pspnet"),
                    *("deeplabv3", "deeplabv3plus", "pan", "upernet", "segformer"),
                ),
                search=Search(choices=("unet", "fpn", "deeplabv3plus")),
            ),
            Option(
                "encoder",
                "str",
                "resnet34",
                "Encoder, by its name in segmentation-models-pytorch; `tu-` before a name of timm.",
            ),
        ),
        paper="Iakubovskii 2019, Segmentation Models PyTorch; Wightman 2019, PyTorch Image Models",
        summary="segmentation-models-pytorch: eleven decoders on hundreds of encoders; needs the extra `smp`.",
        dims=(2,),
        extra="smp",
    ),
)


NORMS = ("batch", "instance", "group")


def width(default: int, *, low: int = 4, choices: tuple[Scalar, ...] = (16, 32, 64)) -> Option:
    """Channels of the first level."""
    return Option(
        "width",
        "int",
        default,
        "Channels at full resolution; they double at each level.",
        low,
        256,
        search=Search(choices=choices),
    )


def depth(default: int, *, low: int = 1, choices: tuple[Scalar, ...] = (3, 4, 5)) -> Option:
    """Halvings of the resolution."""
    return Option(
        "depth", "int", default, "Number of times the resolution is halved.", low, 6, search=Search(choices=choices)
    )


def norm(default: str, *, choices: tuple[Scalar, ...] = NORMS) -> Option:
    """Kind of normalisation."""
    return Option(
        "norm",
        "str",
        default,
        "Normalisation after a convolution.",
        choices=choices,
        search=Search(choices=("batch", "instance")),
    )


def dropout(default: float, summary: str, high: float = 0.4) -> Option:
    """Probability of dropping."""
    return Option("dropout", "float", default, summary, 0.0, 0.9, search=Search(0.0, high))


CHANNEL_DROPOUT = dropout(0.0, "Probability with which a channel is dropped in training.")

DEEP_SUPERVISION = Option(
    "deep_supervision",
    "bool",
    False,
    "Trains coarser outputs of the decoder beside the full one, as nnU-Net does: weights 1, 1/2, 1/4, ….",
)
_DEEP_RULE = "tuner.models.rules:deep_enough"

UNIT_DROPOUT = dropout(0.0, "Probability with which a value is dropped in training.")

GRID = Option(
    "grid",
    "int",
    14,
    "Edge, in patches of 16 pixels, of the grid that the position embedding is learned on; it is resized to others.",
    1,
    128,
)


def upsampling(default: str) -> Option:
    """How the decoder doubles the resolution."""
    return Option(
        "upsampling",
        "str",
        default,
        "How the decoder doubles the resolution.",
        choices=("transposed", "interpolated"),
    )


_BACKBONES = (
    *("resnet10", "resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "resnet200"),
    *(f"efficientnet-b{number}" for number in range(9)),
    "efficientnet-l2",
)

CONVOLUTIONAL = (
    ModelSpec(
        name="monai_unet",
        fn="tuner.models.monai:monai_unet",
        options=(
            width(16),
            depth(4),
            Option("residual_units", "int", 2, "Convolutions in the residual unit of a level; 0: none.", 0, 4),
            norm("instance", choices=("batch", "instance")),
            UNIT_DROPOUT,
        ),
        paper="Kerfoot et al. 2019, doi 10.1007/978-3-030-12029-0_40",
        summary="MONAI's U-Net with residual units and strided convolutions; light and fast.",
    ),
    ModelSpec(
        name="dynunet",
        fn="tuner.models.monai:dynunet",
        options=(
            width(32),
            depth(5, low=2, choices=(4, 5)),
            norm("instance"),
            Option("residual", "bool", False, "Residual blocks, as in the winning network of BraTS 2021."),
            UNIT_DROPOUT,
            DEEP_SUPERVISION,
        ),
        paper="Isensee et al. 2021, arXiv 1904.08128",
        summary="The network of nnU-Net: strided convolutions, leaky ReLU, at most 512 channels (320 in volumes).",
        rule=_DEEP_RULE,
    ),
    ModelSpec(
        name="segresnet",
        fn="tuner.models.monai:segresnet",
        options=(
            width(32, low=8),
            depth(3, choices=(3, 4)),
            norm("group"),
            CHANNEL_DROPOUT,
            upsampling("interpolated"),
        ),
        paper="Myronenko 2018, arXiv 1810.11654",
        summary="Residual blocks, a heavy encoder, a light decoder that adds its skips; without the autoencoder.",
    ),
    ModelSpec(
        name="attention_unet",
        fn="tuner.models.monai:attention_unet",
        options=(width(32), depth(4), UNIT_DROPOUT),
        paper="Oktay et al. 2018, arXiv 1804.03999",
        summary="A U-Net whose skip connections are weighted by attention gates; batch normalisation.",
    ),
    ModelSpec(
        name="basic_unet_plusplus",
        fn="tuner.models.monai:basic_unet_plusplus",
        options=(width(32), norm("instance"), UNIT_DROPOUT, upsampling("transposed")),
        paper="Zhou et al. 2018, arXiv 1807.10165",
        summary="UNet++, four halvings with nested, dense skip connections; the deepest output is the one.",
    ),
    ModelSpec(
        name="mednext",
        fn="tuner.models.monai:mednext",
        options=(
            width(32, choices=(16, 32)),
            Option(
                "variant",
                "str",
                "S",
                "Number of blocks and their expansion: small, base, medium, large.",
                choices=("S", "B", "M", "L"),
                search=Search(choices=("S", "B")),
            ),
            Option(
                "kernel",
                "int",
                3,
                "Edge of the depthwise convolutions.",
                choices=(3, 5, 7),
                search=Search(choices=(3, 5)),
            ),
        ),
        paper="Roy et al. 2023, arXiv 2303.09975",
        summary="A U-Net of ConvNeXt blocks: depthwise convolutions, inverted bottlenecks, residual in every place.",
    ),
    ModelSpec(
        name="flexible_unet",
        fn="tuner.models.smp:flexible_unet",
        options=(
            Option(
                "backbone",
                "str",
                "resnet18",
                "Encoder; its weights begin at random (see `weights`).",
                choices=_BACKBONES,
                search=Search(choices=("resnet18", "resnet34", "efficientnet-b0")),
            ),
            Option("decoder_width", "int", 256, "Channels of the decoder's first level; halved at each.", 16, 1024),
            UNIT_DROPOUT,
        ),
        paper="He et al. 2016, arXiv 1512.03385; Tan and Le 2019, arXiv 1905.11946",
        summary="A U-Net decoder on a ResNet or EfficientNet encoder.",
    ),
)

TRANSFORMERS = (
    ModelSpec(
        name="unetr",
        fn="tuner.models.monai_transformers:unetr",
        options=(
            Option(
                "width",
                "int",
                16,
                "Channels of the decoder at full resolution.",
                4,
                128,
                search=Search(choices=(16, 32)),
            ),
            Option("hidden", "int", 768, "Channels of a token in the transformer.", 8, 2048),
            Option("heads", "int", 12, "Heads of the attention; they divide `hidden`.", 1, 64),
            Option("mlp", "int", 3072, "Hidden channels of a block's perceptron.", 8, 8192),
            norm("instance"),
            GRID,
            dropout(0.0, "Probability with which a value is dropped in the transformer in training.", 0.3),
        ),
        paper="Hatamizadeh et al. 2021, arXiv 2103.10504",
        summary="A transformer of twelve blocks over patches of 16 pixels, whose layers a convolutional decoder reads.",
        rule="tuner.models.rules:heads_divide_hidden",
    ),
    ModelSpec(
        name="swin_unetr",
        fn="tuner.models.monai_transformers:swin_unetr",
        options=(
            Option(
                "width",
                "int",
                24,
                "Channels of the first stage; they double at each.",
                choices=(12, 24, 36, 48, 60, 72, 84, 96),
                search=Search(choices=(24, 48)),
            ),
            Option("window", "int", 7, "Edge of the windows of attention, in tokens.", 2, 16),
            norm("instance"),
            Option("residual", "bool", False, "A residual convolution before each stage, as in its second version."),
            UNIT_DROPOUT,
            Option(
                "drop_path",
                "float",
                0.0,
                "Probability of skipping the last block in training; earlier ones less, down to 0.",
                0.0,
                0.9,
                search=Search(0.0, 0.3),
            ),
        ),
        paper="Hatamizadeh et al. 2022, arXiv 2201.01266",
        summary="A Swin transformer, attention in shifted windows, as the encoder of a residual U-Net.",
    ),
)

MONAI = (*CONVOLUTIONAL, *TRANSFORMERS)


_TRANSUNET = "Chen et al. 2021, arXiv 2102.04306"
_RULE = "tuner.models.rules:heads_divide_hidden"


def _transunet_options(
    *, hidden: int, layers: int, heads: int, mlp: int, stem_width: int, stem_units: str, decoder_width: int
) -> tuple[Option, ...]:
    return (
        Option("hidden", "int", hidden, "Channels of a token in the transformer.", 8, 2048),
        Option("layers", "int", layers, "Blocks of the transformer.", 1, 48),
        Option("heads", "int", heads, "Heads of the attention; they divide `hidden`.", 1, 64),
        Option("mlp", "int", mlp, "Hidden channels of a block's perceptron.", 8, 8192),
        Option("stem_width", "int", stem_width, "Channels of the stem's root; its stages have 4, 8 and 16x.", 4, 256),
        Option(
            "stem_units",
            "str",
            stem_units,
            "Bottlenecks in the three stages of the stem; 3-4-9 is R50.",
            choices=("3-4-9", "2-2-2", "1-1-1"),
        ),
        Option("decoder_width", "int", decoder_width, "Channels d of the decoder: d, d/2, d/4, d/16.", 16, 1024),
        GRID,
        dropout(0.1, "Probability with which a value is dropped in the transformer in training.", 0.3),
    )


SURVEY = (
    ModelSpec(
        name="unet",
        fn="tuner.models.unet:unet",
        options=(width(32), depth(4), norm("batch"), CHANNEL_DROPOUT, upsampling("transposed"), DEEP_SUPERVISION),
        paper="Ronneberger et al. 2015, arXiv 1505.04597",
        summary="The U-Net of the loss survey: two 3x3 convolutions a level, with normalisation and padding.",
        rule=_DEEP_RULE,
    ),
    ModelSpec(
        name="resunet",
        fn="tuner.models.unet:resunet",
        options=(width(64), depth(3), norm("batch"), CHANNEL_DROPOUT, upsampling("interpolated")),
        paper="Zhang et al. 2018, arXiv 1711.10684",
        summary="The deep residual U-Net: pre-activated residual units, strided convolutions instead of pooling.",
    ),
    ModelSpec(
        name="transunet",
        fn="tuner.models.transunet:transunet",
        options=_transunet_options(
            hidden=768, layers=12, heads=12, mlp=3072, stem_width=64, stem_units="3-4-9", decoder_width=256
        ),
        paper=_TRANSUNET,
        summary="R50-ViT-B/16 and a convolutional decoder, 105 million parameters; repeats grey images to 3 channels.",
        dims=(2,),
        rule=_RULE,
    ),
    ModelSpec(
        name="transunet_tiny",
        fn="tuner.models.transunet:transunet",
        options=_transunet_options(
            hidden=64, layers=2, heads=4, mlp=128, stem_width=8, stem_units="1-1-1", decoder_width=32
        ),
        paper=_TRANSUNET,
        summary="transunet in small, of the same build, 0.2 million parameters: for trials and machines without a GPU.",
        dims=(2,),
        rule=_RULE,
    ),
)


MODELS: Registry[ModelSpec] = Registry("model", SURVEY, MONAI, EXTRAS)

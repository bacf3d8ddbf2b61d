"""MONAI's networks."""

from tuner.models.entry import ModelEntry
from tuner.models.shared import CHANNEL_DROPOUT, GRID, UNIT_DROPOUT, depth, dropout, norm, upsampling, width
from tuner.registry import Option, Search

_BACKBONES = (
    *("resnet10", "resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "resnet200"),
    *(f"efficientnet-b{number}" for number in range(9)),
    "efficientnet-l2",
)

CONVOLUTIONAL = (
    ModelEntry(
        name="monai_unet",
        fn="tuner.models.monai_nets:monai_unet",
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
    ModelEntry(
        name="dynunet",
        fn="tuner.models.monai:dynunet",
        options=(
            width(32),
            depth(5, low=2, choices=(4, 5)),
            norm("instance"),
            Option("residual", "bool", False, "Residual blocks, as in the winning network of BraTS 2021."),
            UNIT_DROPOUT,
        ),
        paper="Isensee et al. 2021, arXiv 1904.08128",
        summary="The network of nnU-Net: strided convolutions, leaky ReLU, at most 512 channels (320 in volumes).",
    ),
    ModelEntry(
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
    ModelEntry(
        name="attention_unet",
        fn="tuner.models.monai:attention_unet",
        options=(width(32), depth(4), UNIT_DROPOUT),
        paper="Oktay et al. 2018, arXiv 1804.03999",
        summary="A U-Net whose skip connections are weighted by attention gates; batch normalisation.",
    ),
    ModelEntry(
        name="basic_unet_plusplus",
        fn="tuner.models.monai:basic_unet_plusplus",
        options=(width(32), norm("instance"), UNIT_DROPOUT, upsampling("transposed")),
        paper="Zhou et al. 2018, arXiv 1807.10165",
        summary="UNet++, four halvings with nested, dense skip connections; the deepest output is the one.",
    ),
    ModelEntry(
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
    ModelEntry(
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
    ModelEntry(
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
    ModelEntry(
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

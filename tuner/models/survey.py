"""The networks of the loss survey's experiments, written from their papers."""

from tuner.models.entry import ModelEntry
from tuner.models.shared import CHANNEL_DROPOUT, GRID, depth, dropout, norm, upsampling, width
from tuner.registry import Option

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
    ModelEntry(
        name="unet",
        fn="tuner.models.unet:unet",
        options=(width(32), depth(4), norm("batch"), CHANNEL_DROPOUT, upsampling("transposed")),
        paper="Ronneberger et al. 2015, arXiv 1505.04597",
        summary="The U-Net of the loss survey: two 3x3 convolutions a level, with normalisation and padding.",
    ),
    ModelEntry(
        name="resunet",
        fn="tuner.models.resunet:resunet",
        options=(width(64), depth(3), norm("batch"), CHANNEL_DROPOUT, upsampling("interpolated")),
        paper="Zhang et al. 2018, arXiv 1711.10684",
        summary="The deep residual U-Net: pre-activated residual units, strided convolutions instead of pooling.",
    ),
    ModelEntry(
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
    ModelEntry(
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

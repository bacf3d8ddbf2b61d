"""Every network that a study may name. Importing this imports neither torch nor MONAI."""

from tuner.models.entry import ModelEntry
from tuner.registry import Option, Registry, Search

NORMS = ("batch", "instance", "group")

WIDTH = Option(
    "width",
    "int",
    32,
    "Channels at full resolution; they double at each level.",
    4,
    256,
    search=Search(choices=(16, 32, 64)),
)
DEPTH = Option("depth", "int", 4, "Number of times the resolution is halved.", 1, 6, search=Search(choices=(3, 4, 5)))
NORM = Option(
    "norm",
    "str",
    "batch",
    "Normalisation after a convolution.",
    choices=NORMS,
    search=Search(choices=("batch", "instance")),
)
DROPOUT = Option(
    "dropout",
    "float",
    0.0,
    "Probability with which a channel is dropped in training.",
    0.0,
    0.9,
    search=Search(0.0, 0.4),
)

MODELS: Registry[ModelEntry] = Registry(
    "model",
    (
        ModelEntry(
            name="unet",
            fn="tuner.models.unet:unet",
            options=(
                WIDTH,
                DEPTH,
                NORM,
                DROPOUT,
                Option(
                    "upsampling",
                    "str",
                    "transposed",
                    "How the decoder doubles the resolution.",
                    choices=("transposed", "interpolated"),
                ),
            ),
            paper="Ronneberger et al. 2015, arXiv 1505.04597",
            summary="The U-Net of the loss survey: two 3x3 convolutions a level, with normalisation and padding.",
        ),
        ModelEntry(
            name="monai_unet",
            fn="tuner.models.monai_nets:monai_unet",
            options=(
                Option("width", "int", 16, WIDTH.summary, 4, 256, search=Search(choices=(16, 32, 64))),
                DEPTH,
                Option("residual_units", "int", 2, "Convolutions in the residual unit of a level; 0: none.", 0, 4),
                Option("norm", "str", "instance", NORM.summary, choices=NORMS[:2], search=NORM.search),
                DROPOUT,
            ),
            paper="Kerfoot et al. 2019, doi 10.1007/978-3-030-12029-0_40",
            summary="MONAI's U-Net with residual units and strided convolutions; light and fast.",
        ),
    ),
)

"""Options that several networks have."""

from tuner.registry import Option, Scalar, Search

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

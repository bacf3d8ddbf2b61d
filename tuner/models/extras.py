"""Networks of packages that an extra brings."""

from tuner.models.entry import ModelEntry
from tuner.registry import Option, Search

EXTRAS = (
    ModelEntry(
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

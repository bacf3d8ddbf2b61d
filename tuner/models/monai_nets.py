"""MONAI's networks. MONAI is imported when one is built: the import takes seconds."""

from torch import Tensor, nn

from tuner.models.cpu_kernels import quicken
from tuner.models.layers import norm_name
from tuner.registry import Scalar


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
        from monai.networks.nets import UNet

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
        quicken(self.unet)

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

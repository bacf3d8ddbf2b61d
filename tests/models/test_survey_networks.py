"""TransUNet and ResUNet against their papers: sizes, parts, and inputs of other sizes than they were made for."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.models.small import SMALL
from tuner.errors import SpecError
from tuner.models.build import build_model
from tuner.models.catalog import MODELS
from tuner.models.transunet import Attention, StandardConv, TransUNet, resize_positions
from tuner.registry import defaults


def transunet_size(classes: int) -> int:
    """Count the parameters of R50-ViT-B/16 with its decoder, from the numbers in the paper."""

    def unit(inside: int, outside: int, projects: bool) -> int:
        narrow = outside // 4
        convolutions = inside * narrow + 9 * narrow**2 + narrow * outside
        norms = 2 * (2 * narrow + outside)
        return convolutions + norms + projects * (inside * outside + 2 * outside)

    stem, inside = 7 * 7 * 3 * 64 + 2 * 64, 64
    for outside, units in ((256, 3), (512, 4), (1024, 9)):
        stem += unit(inside, outside, True) + (units - 1) * unit(outside, outside, False)
        inside = outside
    hidden, mlp = 768, 3072
    block = 4 * (hidden**2 + hidden) + 2 * hidden * mlp + mlp + hidden + 2 * 2 * hidden
    transformer = 1024 * hidden + hidden + 14 * 14 * hidden + 12 * block + 2 * hidden
    decoder, before = 9 * hidden * 512 + 2 * 512, 512
    for width, skip in ((256, 512), (128, 256), (64, 64), (16, 0)):
        decoder += 9 * (before + skip) * width + 9 * width**2 + 2 * 2 * width
        before = width
    return stem + transformer + decoder + 9 * 16 * classes + classes


def test_transunet_has_the_published_size() -> None:
    """105 million parameters with nine classes; one layer more or less would be another network than the survey's."""
    with torch.device("meta"):
        model = build_model({"name": "transunet"}, channels=1, classes=9, spatial_dims=2)
    count = sum(parameter.numel() for parameter in model.parameters())

    assert count == transunet_size(9) == 105_277_081


def test_transunet_at_224_pixels_has_the_published_shapes() -> None:
    """Maps of 64, 256, 512 and 1024 channels at 1/2 to 1/16, and 196 tokens of 768 channels."""
    with torch.device("meta"):
        net = build_model({"name": "transunet"}, channels=3, classes=9, spatial_dims=2).network
        assert isinstance(net, TransUNet)
        maps = net.stem(torch.empty(1, 3, 224, 224))
        logits = net(torch.empty(1, 3, 224, 224))

    assert [tuple(m.shape[1:]) for m in maps] == [(64, 112, 112), (256, 56, 56), (512, 28, 28), (1024, 14, 14)]
    assert net.positions.shape == (1, 196, 768)
    assert [level[0][0].in_channels for level in net.decoder.levels] == [1024, 512, 192, 64]  # type: ignore[index]
    assert logits.shape == (1, 9, 224, 224)


def test_the_tiny_one_is_of_the_same_build() -> None:
    """What is tested of the tiny one must hold for the large one."""
    tiny, large = MODELS["transunet_tiny"], MODELS["transunet"]

    assert tiny.fn == large.fn
    assert [o.name for o in tiny.options] == [o.name for o in large.options]
    assert all(defaults(tiny)[o.name] == o.default for o in large.options if o.name in ("grid", "dropout"))


def test_grey_images_are_repeated() -> None:
    """Three equal channels and a grey image are one image; the published weights take three."""
    config = {"name": "transunet", **SMALL["transunet"]}
    grey = build_model(config, channels=1, classes=2, spatial_dims=2).eval()
    colour = build_model(config, channels=3, classes=2, spatial_dims=2).eval()
    colour.load_state_dict(grey.state_dict())
    image = torch.randn(1, 1, 40, 48)

    assert torch.equal(grey(image), colour(image.expand(-1, 3, -1, -1)))


def test_attention_is_torchs() -> None:
    """Against torch's own multi-head attention with the same weights."""
    ours, theirs = Attention(12, 3, 0.0), nn.MultiheadAttention(12, 3, batch_first=True)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([ours.query.weight, ours.key.weight, ours.value.weight]))
        theirs.in_proj_bias.copy_(torch.cat([ours.query.bias, ours.key.bias, ours.value.bias]))
        theirs.out_proj.load_state_dict(ours.out.state_dict())
    tokens = torch.randn(2, 7, 12)

    torch.testing.assert_close(ours(tokens), theirs(tokens, tokens, tokens)[0])


def test_weights_are_standardised() -> None:
    """Scale and offset of the weights must not matter: that is what makes group normalisation work there."""
    layer = StandardConv(4, 6, 3, bias=False)
    image = torch.randn(1, 4, 8, 8)
    kernel = layer.weight.flatten(1).double()
    expected = (
        (kernel - kernel.mean(1, keepdim=True)) / (kernel.var(1, correction=0, keepdim=True) + 1e-5).sqrt()
    ).float()

    torch.testing.assert_close(layer(image), F.conv2d(image, expected.view_as(layer.weight)), rtol=1e-4, atol=1e-4)


def test_positions_keep_their_place() -> None:
    """Resizing must keep rows rows and columns columns: a ramp along one axis stays one."""
    rows = torch.arange(4.0).repeat_interleave(6).view(1, 24, 1)
    resized = resize_positions(rows, (4, 6), (8, 3)).view(8, 3)

    assert torch.equal(resize_positions(rows, (4, 6), (4, 6)), rows)
    assert torch.allclose(resized, resized[:, :1])
    assert (resized[1:, 0] >= resized[:-1, 0]).all()
    assert resize_positions(torch.randn(1, 24, 5), (2, 3, 4), (1, 5, 2)).shape == (1, 10, 5)


def test_heads_must_divide_the_hidden_channels() -> None:
    """Refused in words, before a tensor is made."""
    config = {"name": "transunet", **SMALL["transunet"], "heads": 3}
    with pytest.raises(SpecError, match=r"model.heads: 3 heads cannot share 16 .* 1, 2, 4, 8, 16 can"):
        build_model(config, channels=1, classes=2, spatial_dims=2)


@pytest.mark.parametrize("name", ["transunet", "transunet_tiny"])
def test_volumes_are_refused_in_words(name: str) -> None:
    """With what there is for volumes."""
    with pytest.raises(SpecError, match=rf"'{name}' is made for images only.*there are: unet, resunet, .*unetr"):
        build_model({"name": name}, channels=1, classes=2, spatial_dims=3)


def test_resunet_has_the_papers_size() -> None:
    """7.8 million weights in 3x3 convolutions, at width 64 and depth 3, with three channels and one output."""
    with torch.device("meta"):
        net = build_model({"name": "resunet"}, channels=3, classes=1, spatial_dims=2).network
    convolutions = [m for m in net.modules() if isinstance(m, nn.Conv2d)]
    wide = sum(m.weight.numel() for m in convolutions if m.kernel_size == (3, 3))
    strided = [m for m in convolutions if m.stride == (2, 2) and m.kernel_size == (3, 3)]

    assert wide == pytest.approx(7.8e6, rel=0.01)
    assert [m.out_channels for m in strided] == [128, 256, 512]
    assert sum(m.kernel_size == (3, 3) for m in convolutions) == 14

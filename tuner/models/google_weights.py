"""Google's weights of the hybrid Vision Transformer (`R50+ViT-B_16.npz`) under the names of our TransUNet.

The archive's convolution kernels are [height, width, in, out], its dense kernels [in, out], and those of the attention
keep the heads apart: [hidden, heads, channels] before, [heads, channels, hidden] behind. The class token, for which the
position embedding has a first row, has no use here, nor has the classifier.
"""

from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor

from tuner.models.transunet import TransUNet

_SIGN = "Transformer/encoder_norm/scale"
_ATTENTION = "MultiHeadDotProductAttention_1"

Change = Callable[[Tensor], Tensor]


def is_google(given: Mapping[str, Tensor]) -> bool:
    """Tell whether the names are those of the published archives."""
    return _SIGN in given


def renamed(given: Mapping[str, Tensor], network: TransUNet) -> dict[str, Tensor]:
    """Return the tensors under our names and in our layout; those that we have no place for keep their names."""
    found: dict[str, Tensor] = {}
    used = set()
    for ours, theirs, change in _table(network):
        if theirs in given:
            used.add(theirs)
            found[ours] = change(given[theirs])
    return found | {name: value for name, value in given.items() if name not in used}


def _table(network: TransUNet) -> Iterator[tuple[str, str, Change]]:
    """Yield our name, the archive's name, and what lies between them."""
    yield "stem.root.weight", "conv_root/kernel", _kernel
    yield from _scaled("stem.norm", "gn_root")
    for level, stage in enumerate(network.stem.stages):
        for unit in range(len(list(stage.children()))):
            ours, theirs = f"stem.stages.{level}.{unit}", f"block{level + 1}/unit{unit + 1}"
            for number in (1, 2, 3):
                yield f"{ours}.conv{number}.weight", f"{theirs}/conv{number}/kernel", _kernel
                yield from _scaled(f"{ours}.norm{number}", f"{theirs}/gn{number}")
            yield f"{ours}.shortcut.0.weight", f"{theirs}/conv_proj/kernel", _kernel
            yield from _scaled(f"{ours}.shortcut.1", f"{theirs}/gn_proj")
    yield "embedding.weight", "embedding/kernel", _kernel
    yield "embedding.bias", "embedding/bias", _flat
    yield "positions", "Transformer/posembed_input/pos_embedding", _without_class
    yield from _scaled("norm", "Transformer/encoder_norm")
    for number in range(len(network.blocks)):
        yield from _block(f"blocks.{number}", f"Transformer/encoderblock_{number}")


def _block(ours: str, theirs: str) -> Iterator[tuple[str, str, Change]]:
    yield from _scaled(f"{ours}.norm1", f"{theirs}/LayerNorm_0")
    yield from _scaled(f"{ours}.norm2", f"{theirs}/LayerNorm_2")
    for name in ("query", "key", "value"):
        yield f"{ours}.attention.{name}.weight", f"{theirs}/{_ATTENTION}/{name}/kernel", _into_heads
        yield f"{ours}.attention.{name}.bias", f"{theirs}/{_ATTENTION}/{name}/bias", _flat
    yield f"{ours}.attention.out.weight", f"{theirs}/{_ATTENTION}/out/kernel", _from_heads
    yield f"{ours}.attention.out.bias", f"{theirs}/{_ATTENTION}/out/bias", _flat
    for place, name in ((0, "Dense_0"), (3, "Dense_1")):
        yield f"{ours}.mlp.{place}.weight", f"{theirs}/MlpBlock_3/{name}/kernel", torch.t
        yield f"{ours}.mlp.{place}.bias", f"{theirs}/MlpBlock_3/{name}/bias", _flat


def _scaled(ours: str, theirs: str) -> Iterator[tuple[str, str, Change]]:
    yield f"{ours}.weight", f"{theirs}/scale", _flat
    yield f"{ours}.bias", f"{theirs}/bias", _flat


def _kernel(value: Tensor) -> Tensor:
    return value.permute(3, 2, 0, 1)


def _flat(value: Tensor) -> Tensor:
    return value.reshape(-1)


def _into_heads(value: Tensor) -> Tensor:
    return value.flatten(1).t()


def _from_heads(value: Tensor) -> Tensor:
    return value.flatten(0, 1).t()


def _without_class(value: Tensor) -> Tensor:
    """Leave out the class token's row, where the number of rows says that there is one."""
    edge = round((value.shape[1] - 1) ** 0.5)
    return value[:, 1:] if edge**2 == value.shape[1] - 1 else value

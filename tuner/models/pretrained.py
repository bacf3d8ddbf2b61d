"""Pretrained weights from local files: what fits is taken, what does not is said.

Files are read without executing anything of theirs: safetensors, torch's with `weights_only`, numpy's without
pickles.

Google's weights of the hybrid Vision Transformer (`R50+ViT-B_16.npz`) are renamed to TransUNet's parameters. The
archive's convolution kernels are [height, width, in, out], its dense kernels [in, out], and those of the attention
keep the heads apart: [hidden, heads, channels] before, [heads, channels, hidden] behind. The class token, for which
the position embedding has a first row, has no use here, nor has the classifier.
"""

import pickle
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from tuner.errors import DataError
from tuner.models.build import SegmentationNet
from tuner.models.transunet import TransUNet
from tuner.models.weights_path import WHERE

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
    yield from _scale("stem.norm", "gn_root")
    for level, stage in enumerate(network.stem.stages):
        for unit in range(len(list(stage.children()))):
            ours, theirs = f"stem.stages.{level}.{unit}", f"block{level + 1}/unit{unit + 1}"
            for number in (1, 2, 3):
                yield f"{ours}.conv{number}.weight", f"{theirs}/conv{number}/kernel", _kernel
                yield from _scale(f"{ours}.norm{number}", f"{theirs}/gn{number}")
            yield f"{ours}.shortcut.0.weight", f"{theirs}/conv_proj/kernel", _kernel
            yield from _scale(f"{ours}.shortcut.1", f"{theirs}/gn_proj")
    yield "embedding.weight", "embedding/kernel", _kernel
    yield "embedding.bias", "embedding/bias", _flat
    yield "positions", "Transformer/posembed_input/pos_embedding", _without_class
    yield from _scale("norm", "Transformer/encoder_norm")
    for number in range(len(network.blocks)):
        yield from _block(f"blocks.{number}", f"Transformer/encoderblock_{number}")


def _block(ours: str, theirs: str) -> Iterator[tuple[str, str, Change]]:
    yield from _scale(f"{ours}.norm1", f"{theirs}/LayerNorm_0")
    yield from _scale(f"{ours}.norm2", f"{theirs}/LayerNorm_2")
    for name in ("query", "key", "value"):
        yield f"{ours}.attention.{name}.weight", f"{theirs}/{_ATTENTION}/{name}/kernel", _into_heads
        yield f"{ours}.attention.{name}.bias", f"{theirs}/{_ATTENTION}/{name}/bias", _flat
    yield f"{ours}.attention.out.weight", f"{theirs}/{_ATTENTION}/out/kernel", _from_heads
    yield f"{ours}.attention.out.bias", f"{theirs}/{_ATTENTION}/out/bias", _flat
    for place, name in ((0, "Dense_0"), (3, "Dense_1")):
        yield f"{ours}.mlp.{place}.weight", f"{theirs}/MlpBlock_3/{name}/kernel", torch.t
        yield f"{ours}.mlp.{place}.bias", f"{theirs}/MlpBlock_3/{name}/bias", _flat


def _scale(ours: str, theirs: str) -> Iterator[tuple[str, str, Change]]:
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


SHOWN = 6
"""Names that a message lists of each kind."""

_INSIDE = ("state_dict", "model_state_dict", "model", "network", "net", "weights")
"""Keys under which checkpoints keep the weights."""

_FILE_PREFIXES = ("", "module.", "model.", "network.", "net.", "encoder.", "backbone.")
"""What other trainers put before a name."""


@dataclass(frozen=True, slots=True)
class Fit:
    """How a file's tensors fit a network: names by what became of them."""

    matched: tuple[str, ...]
    other_shape: tuple[str, ...]
    missing: tuple[str, ...]
    unused: tuple[str, ...]

    def text(self, source: str) -> str:
        """Say it in one line."""
        total = len(self.matched) + len(self.other_shape) + len(self.missing)
        parts = [f"{source}: {len(self.matched)} of {total} tensors taken"]
        for names, words in (
            (self.other_shape, "of another shape, left at random"),
            (self.missing, "not in the file, left at random"),
            (self.unused, "of the file not used"),
        ):
            if names:
                more = ", …" if len(names) > SHOWN else ""
                parts.append(f"{len(names)} {words} ({', '.join(names[:SHOWN])}{more})")
        return "; ".join(parts)


def load_pretrained(model: SegmentationNet, path: Path, *, name: str) -> Fit:
    """Load the weights of a file into a network and return what fitted.

    Args:
        model: A network as `build_model` makes it.
        path: The file.
        name: How the configuration names the file.

    Raises:
        DataError: The file cannot be read as weights, or not one tensor fits.
    """
    given = read_weights(path)
    network = cast(Any, model.network)
    if is_google(given):
        if not isinstance(network, TransUNet):
            raise DataError(
                f"{path} holds the weights of a Vision Transformer by Google's names; they fit `transunet` only.",
                where=WHERE,
            )
        given = renamed(given, network)
    fit = _take(network, given)
    if not fit.matched:
        raise DataError(f"not one tensor fits {model.name}: {fit.text(str(path))}.", where=WHERE)
    model.weights = name
    return fit


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a file, by name. Raises DataError when it holds none, or more than weights."""
    try:
        if path.suffix == ".safetensors":
            found: Any = load_file(path)
        elif path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as archive:
                found = {key: torch.from_numpy(np.array(archive[key])) for key in archive.files}
        else:
            found = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise DataError(
            f"{path} holds more than weights, and is not read: {_first_line(error)}",
            hint="Where you trust it, load it and save its `state_dict()` alone.",
            where=WHERE,
        ) from error
    except (OSError, ValueError, RuntimeError, EOFError, KeyError, SafetensorError) as error:
        raise DataError(
            f"{path} cannot be read as weights: {type(error).__name__}: {_first_line(error)}", where=WHERE
        ) from error
    tensors = _tensors(found)
    if not tensors:
        raise DataError(f"{path} holds no tensors by name.", where=WHERE)
    return tensors


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0] or "it is empty"


def _tensors(found: Any) -> dict[str, Tensor]:
    for _ in range(3):
        if not isinstance(found, Mapping):
            return {}
        tensors = {str(k): v for k, v in found.items() if torch.is_tensor(v)}
        if tensors:
            return tensors
        found = next((found[key] for key in _INSIDE if key in found), None)
    return {}


def _take(network: Any, given: Mapping[str, Tensor]) -> Fit:
    """Copy what fits into the network, by the pair of prefixes under which most names agree."""
    own: dict[str, Tensor] = network.state_dict()
    theirs, ours = max(_prefixes(own), key=lambda pair: _agreeing(own, given, *pair))
    adapt = getattr(network, "adapted", lambda name, value: value)
    taken: dict[str, Tensor] = {}
    other, missing, used = [], [], set()
    for name, tensor in own.items():
        source = theirs + name.removeprefix(ours)
        if not name.startswith(ours) or source not in given:
            missing.append(name)
            continue
        used.add(source)
        value = adapt(name, given[source])
        if value.shape == tensor.shape:
            taken[name] = value.to(tensor.dtype)
        else:
            other.append(f"{name} {tuple(value.shape)} for {tuple(tensor.shape)}")
    network.load_state_dict(taken, strict=False)
    unused = [name for name in given if name not in used]
    return Fit(tuple(taken), tuple(other), tuple(missing), tuple(unused))


def _prefixes(own: Mapping[str, Tensor]) -> Iterator[tuple[str, str]]:
    """Yield pairs of a file's prefix and a network's: a checkpoint of ours, a bare encoder, a wrapped model."""
    starts = {""}
    for name in own:
        parts = name.split(".")
        starts |= {".".join(parts[:depth]) + "." for depth in range(1, min(4, len(parts)))}
    for ours in sorted(starts, key=len):
        for theirs in _FILE_PREFIXES:
            yield theirs, ours
        if ours:
            yield f"network.{ours}", ours


def _agreeing(own: Mapping[str, Tensor], given: Mapping[str, Tensor], theirs: str, ours: str) -> int:
    names = (name for name in own if name.startswith(ours))
    return sum(
        (found := given.get(theirs + name.removeprefix(ours))) is not None and found.shape == own[name].shape
        for name in names
    )

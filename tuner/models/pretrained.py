"""Pretrained weights from a local file: what fits is taken, and what does not is said.

Files are read without executing anything of theirs: safetensors, torch's with `weights_only`, numpy's without pickles.
"""

import pickle
from collections.abc import Iterator, Mapping
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
from tuner.models.google_weights import is_google, renamed
from tuner.models.transunet import TransUNet
from tuner.models.weights_path import WHERE

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

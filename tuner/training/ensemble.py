"""Ensembles: trained networks whose probabilities are averaged, plane by plane."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tuner.config.trial import TrainConfig, TrialConfig
from tuner.data.arrays import Ragged, SampleArray
from tuner.data.preparation import PreparedData
from tuner.errors import RequestError
from tuner.training.batches import Samples
from tuner.training.components import PlacedModel
from tuner.training.ensemble_folder import read_ensemble
from tuner.training.evaluate import predict
from tuner.training.predict import TrainedRun, open_run, read_run
from tuner.training.run_dir import DataCard
from tuner.training.sliding_window import Labels, in_size_of, plane_logits, slide


@dataclass(frozen=True)
class TrainedEnsemble:
    """Several networks of one kind of data, on one device."""

    folder: Path
    members: tuple[TrainedRun, ...]
    weights: tuple[float, ...]
    """Of the members; their sum is 1."""

    @property
    def facts(self) -> DataCard:
        """What all members know of their data."""
        return self.members[0].facts

    @property
    def config(self) -> TrialConfig:
        """The configuration of the first member."""
        return self.members[0].config

    @property
    def net(self) -> PlacedModel:
        """The network of the first member: its device is that of all."""
        return self.members[0].net

    def predict(self, image: NDArray[np.float32], stop: Callable[[], bool] = lambda: False) -> Labels | None:
        """Predict an image [C, D, H, W] by the weighted mean of the members' probabilities, plane by plane.

        Returns:
            The class of every pixel, [D, H, W], or the code of its regions; None when `stop` said so.
        """
        planes: list[Labels] = []
        of_members = [plane_logits(run.net, image, run.geometry, stop) for run in self.members]
        for logits in zip(*of_members, strict=False):  # who is stopped ends sooner
            mean: Tensor | None = None
            for run, weight, found in zip(self.members, self.weights, logits, strict=True):
                if found is None:
                    return None
                part = weight * probabilities(run.net, found, 0)
                mean = part if mean is None else mean + part
            assert mean is not None
            planes.append(decide(self.net, mean, 0).cpu().numpy())
        return in_size_of(image, planes, self.net)


def probabilities(net: PlacedModel, logits: Tensor, dim: int) -> Tensor:
    """Return the probability of every class (they add up to 1 along `dim`), or of every region by itself."""
    return torch.softmax(logits.float(), dim) if net.regions is None else torch.sigmoid(logits.float())


def decide(net: PlacedModel, mean: Tensor, dim: int) -> Tensor:
    """Return the predicted class of every pixel, or the code of its regions, from probabilities."""
    return net.decide(mean - 0.5, dim)


def open_ensemble(
    folder: Path,
    device: str,
    *,
    overlap: float | None = None,
    threads: int | None = None,
    allow_entry: Collection[str] = (),
) -> TrainedEnsemble:
    """Build the networks of an ensemble; arguments and errors as those of `open_run`.

    Raises:
        RequestError: A file of a member is missing, or the members are of different data.
    """
    named = read_ensemble(folder)
    check_same_data({path.name: read_run(path)[1] for path, _ in named}, where=str(folder))
    runs = [open_run(path, device, overlap=overlap, threads=threads, allow_entry=allow_entry) for path, _ in named]
    return TrainedEnsemble(folder, tuple(runs), tuple(weight for _, weight in named))


def check_same_data(cards: Mapping[str, DataCard], *, where: str | None = None) -> None:
    """Refuse networks whose outputs cannot be averaged.

    Raises:
        RequestError: Classes, regions, size or preparation of the data differ; with what was found.
    """
    first_name, first = next(iter(cards.items()))
    for name, card in cards.items():
        for what, of in _COMPARED.items():
            if of(card) != of(first):
                raise RequestError(
                    f"outputs of different data cannot be averaged: {what} of {first_name}: {_shown(of(first))}; "
                    f"of {name}: {_shown(of(card))}.",
                    hint="Choose among trials of the same data: --trials N,M.",
                    where=where,
                )


_COMPARED: Mapping[str, Callable[[DataCard], Any]] = {
    "classes": lambda card: list(card.class_names),
    "regions": lambda card: (
        None if card.regions is None else dict(zip(card.regions.names, card.regions.members, strict=True))
    ),
    "size of the samples": lambda card: list(card.sample_shape),
    "prepared data": lambda card: card.fingerprint[:16],
}


def _shown(value: Any) -> str:
    return "none" if value is None else str(value)[:300]


def predict_split(
    net: PlacedModel, data: PreparedData, train: TrainConfig, out: SampleArray, stop: Callable[[], bool]
) -> bool:
    """Write the probabilities of every validation sample into `out`, [N, C, *S]; False when `stop` said so."""
    net.model.eval()
    patch = train.patch_shape(data.spatial_dims)
    if patch is None:
        assert not isinstance(out, Ragged)

        def keep(logits: Tensor, found: Tensor, labels: Tensor, index: Tensor) -> None:
            out[index.numpy()] = probabilities(net, logits, 1).cpu().numpy()

        samples = Samples(data.validation, net.device)
        return predict(net, samples, batch_size=train.batch_size, stop=stop, on_logits=keep) is not None
    for number, image in enumerate(data.validation.images):
        found = slide(net, image, patch=patch, overlap=train.overlap, batch_size=train.batch_size, stop=stop)
        for planes in found:
            if planes is None:
                return False
            out[number][:, planes.place] = probabilities(net, planes.logits, 0).cpu().numpy()
    return True

"""`tuner predict`: the best weights of a finished run on further images, without its data set."""

import logging
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import perf_counter
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from tuner.config.trial import TrialConfig, load_config
from tuner.config.yaml_reader import read_yaml
from tuner.data.inference_inputs import NewCase, form_of, orientation_note, place_note, read_case
from tuner.data.mask_writer import write_mask
from tuner.data.regions import Regions
from tuner.errors import ConfigError, DiskFullError, RequestError, TunerError
from tuner.training.components import AllowedSources, PlacedModel, build_network
from tuner.training.device import free_memory, is_out_of_memory, release_frames
from tuner.training.loop import configure_torch
from tuner.training.run_dir import BEST, METRICS, DataCard, read_data_card
from tuner.training.sliding_window import Geometry, Labels, predict_image

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainedRun:
    """A network with its best weights, and what it knows of its data."""

    folder: Path
    config: TrialConfig
    facts: DataCard
    net: PlacedModel
    geometry: Geometry

    def predict(self, image: NDArray[np.float32], stop: Callable[[], bool] = lambda: False) -> Labels | None:
        """Predict an image [C, D, H, W], see `predict_image`."""
        return predict_image(self.net, image, self.geometry, stop)


class Predictor(Protocol):
    """What makes masks: a run, or an ensemble of several."""

    @property
    def folder(self) -> Path:
        """Where it was read from."""

    @property
    def facts(self) -> DataCard:
        """What it knows of its data."""

    @property
    def net(self) -> PlacedModel:
        """A network: its device is where everything is computed."""

    def predict(self, image: NDArray[np.float32], stop: Callable[[], bool] = lambda: False) -> Labels | None:
        """Return the class of every pixel of an image [C, D, H, W], or the code of its regions, [D, H, W]."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """What became of one image."""

    case: NewCase
    mask: Path | None
    """None where it failed."""
    message: str | None
    """Why it failed."""
    shape: tuple[int, ...] = ()
    """[D, H, W]"""
    pixels: tuple[int, ...] = ()
    """Number of pixels by class."""
    seconds: float = 0.0
    note: str | None = None
    """What its user should know of the mask: how it lies, and what became of an EXIF orientation."""
    regions: Mapping[str, Path] = field(default_factory=dict)
    """By region a mask of its own, of 0 and 1, where that was asked for."""


def read_run(folder: Path) -> tuple[TrialConfig, DataCard]:
    """Read what a folder that `train` wrote says of itself; no weights yet.

    Raises:
        RequestError: It is not there, is no training, or has no weights.
        ConfigError, SpecError: A file in it is damaged.
    """
    if not folder.is_dir():
        what = "it is a file" if folder.exists() else "there is no such folder"
        raise RequestError(f"{what}.", hint="RUN is a folder that `tuner train -o RUN` wrote.", where=str(folder))
    path = folder / "config.yaml"
    if not path.is_file():
        raise RequestError(
            "the folder is no training: it has no config.yaml.",
            hint="RUN is a folder that `tuner train -o RUN` wrote, or the folder of a trial.",
            where=str(folder),
        )
    config = load_config(read_yaml(path).content, where=str(path))
    if not (folder / BEST).is_file():
        own = "a program" if config.train.command is not None else "a function"
        ended = (folder / METRICS).is_file() and (folder / METRICS).stat().st_size > 0
        lost = "it was removed, or not copied with the rest" if ended else "no epoch of it is finished yet"
        why = f"it was trained by {own} of your own" if config.train.is_own else lost
        raise RequestError(f"the run has no {BEST}: {why}.", where=str(folder))
    facts = read_data_card(folder)
    form_of(facts.reading)
    if len(facts.reading["labels"]) != len(facts.class_names):
        raise ConfigError("it has another number of labels than of classes.", where=str(folder))
    return config, facts


def open_run(
    folder: Path,
    device: str,
    *,
    overlap: float | None = None,
    threads: int | None = None,
    allow_entry: Collection[str] = (),
) -> TrainedRun:
    """Build the network of a run and give it its best weights.

    Args:
        folder: What `train` wrote.
        device: `cpu`, `mps` or `cuda:N`.
        overlap: Of sliding windows; None: as the run's own validation had it.
        threads: CPU threads; None: as many as the run was trained with.
        allow_entry: Packages from which `model.entry` may be imported.

    Raises:
        ConfigError: The weights are not those of this network. Further errors as `read_run`.
    """
    config, facts = read_run(folder)
    configure_torch(config.train if threads is None else config.train.model_copy(update={"threads": threads}))
    net = build_network(config, facts, device, AllowedSources(allow_entry=allow_entry), pretrained=False)
    _load_weights(net, folder / BEST)
    geometry = Geometry.of(config.train, facts.sample_shape)
    if overlap is not None:
        geometry = replace(geometry, overlap=overlap)
    return TrainedRun(folder, config, facts, net, geometry)


def predict_cases(
    run: Predictor,
    cases: Iterable[NewCase],
    out: Path,
    *,
    stop: Callable[[], bool] = lambda: False,
    each_region: bool = False,
) -> Iterator[Prediction]:
    """Write the mask of each image and say what became of it; one that fails does not stop the others.

    Regions are written as a label map, see `Regions.label_map`; with `each_region` also as a mask of 0 and 1 each, in a
    folder of the region's name.

    Raises:
        DiskFullError: There is no space left, for this mask and so for the others.
    """
    for case in cases:
        began = perf_counter()
        try:
            image = read_case(case, run.facts.reading)
            labels = run.predict(image, stop)
            if labels is None:
                return
            regions = run.facts.regions
            by_region: dict[str, Path] = {}
            if regions is not None:
                if each_region:
                    by_region = _write_regions(out, case, labels, regions, run.facts.reading)
                labels = regions.label_map(labels)
            labels = labels.astype(np.uint8, copy=False)
            mask = write_mask(out, case, labels, run.facts.reading, background=run.facts.background)
        except DiskFullError:
            raise
        except TunerError as error:
            yield Prediction(case, None, str(error))
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            release_frames(error)  # before memory is given back: what they hold could not be
            free_memory(run.net.device)
            size = " × ".join(map(str, image.shape[1:]))
            yield Prediction(case, None, f"{case.paths[0]}: no memory left on {run.net.device} for {size} pixels")
        else:
            counts = np.bincount(labels.ravel(), minlength=len(run.facts.class_names))
            notes = (orientation_note(case, run.facts.reading), place_note(case, run.facts.reading))
            note = "; ".join(filter(None, notes)) or None
            seconds = perf_counter() - began
            yield Prediction(case, mask, None, labels.shape, tuple(map(int, counts)), seconds, note, by_region)


def region_folders(regions: Regions) -> dict[str, str]:
    """Return by region the name of the folder of its masks: letters, digits and `._-` of its own name."""
    found: dict[str, str] = {}
    for number, name in enumerate(regions.names):
        folder = re.sub(r"[^\w.-]+", "_", name).strip(".") or f"region_{number}"
        found[name] = f"{folder}_{number}" if folder in found.values() else folder
    return found


def _write_regions(
    out: Path, case: NewCase, codes: NDArray[Any], regions: Regions, reading: Mapping[str, Any]
) -> dict[str, Path]:
    of_mask = {**reading, "labels": [0, 1]}
    return {
        name: write_mask(out / folder, case, regions.mask(codes, number).astype(np.uint8), of_mask)
        for number, (name, folder) in enumerate(region_folders(regions).items())
    }


def _load_weights(net: PlacedModel, path: Path) -> None:
    try:
        with safe_open(path, framework="pt") as file:
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
        net.model.load_state_dict(weights)
    except (OSError, SafetensorError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ConfigError(
            f"the weights are damaged, or not those of this network: {reason}", where=str(path)
        ) from error

"""Run directory: epoch reports (metrics.jsonl), weights, log, and data.json, which lets a run read further images."""

import json
import logging
import os
import platform
import socket
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from types import TracebackType
from typing import Any, cast

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as save_tensors
from torch import Tensor

from tuner import __version__
from tuner.atomic_io import append_lines, read_lines, space_needed, write_file, write_json, write_lines
from tuner.config.trial import TrialConfig
from tuner.config.yaml_reader import dump_yaml
from tuner.data.preparation import PreparedData
from tuner.errors import ConfigError
from tuner.training.device import device_name
from tuner.training.epoch_report import EpochReport, is_better

FACTS = "data.json"
_FORMAT = 1


@dataclass(frozen=True)
class DataCard:
    """The data of a run, in words and numbers."""

    dataset: str
    fingerprint: str
    sample_shape: tuple[int, ...]
    """[C, *S]; zeros for *S where samples keep the sizes that they have"""
    class_names: tuple[str, ...]
    background: bool
    validation_protocol: str
    validation_cases: tuple[str, ...]
    reading: Mapping[str, Any] = field(default_factory=dict)
    """How an image is read and normalised, and the label id of each class (`tuner.data.inference_inputs`)."""
    class_frequencies: tuple[float, ...] | None = None
    """Share of each class in the training cases, as the loss was given it; None in runs of earlier versions."""
    ignore_index: int = 255

    @property
    def channels(self) -> int:
        """Channels of an image."""
        return self.sample_shape[0]

    @property
    def classes(self) -> int:
        """Number of classes, the background included."""
        return len(self.class_names)

    @property
    def spatial_dims(self) -> int:
        """2 for pictures and slices, 3 for volumes."""
        return len(self.sample_shape) - 1


def write_data_card(folder: Path, data: PreparedData) -> None:
    """Write `data.json` into the folder of a training."""
    facts = DataCard(
        dataset=data.name,
        fingerprint=data.fingerprint,
        sample_shape=data.sample_shape,
        class_names=data.class_names,
        background=data.background,
        validation_protocol=data.validation_protocol,
        validation_cases=data.validation.cases,
        reading=data.reading,
        class_frequencies=tuple(float(share) for share in data.class_frequencies),
        ignore_index=data.ignore_index,
    )
    write_json(folder / FACTS, {"format": _FORMAT, **asdict(facts)})


def read_data_card(folder: Path) -> DataCard:
    """Read `data.json` of a run; it is data, and nothing in it is believed before it is looked at.

    Raises:
        ConfigError: It is missing, or is none.
    """
    path = folder / FACTS
    try:
        found = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise ConfigError(
            f"the run has no {FACTS}, which says how its images were read.",
            hint="It was trained by an earlier version, or by a function of your own: train it again.",
            where=str(folder),
        ) from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot be read as JSON: {error}.", where=str(path)) from error
    problem = _problem(found)
    if problem:
        raise ConfigError(f"is damaged, or was written by another version: {problem}.", where=str(path))
    return DataCard(
        dataset=found["dataset"],
        fingerprint=found["fingerprint"],
        sample_shape=tuple(found["sample_shape"]),
        class_names=tuple(found["class_names"]),
        background=found["background"],
        validation_protocol=str(found.get("validation_protocol", "")),
        validation_cases=tuple(map(str, found.get("validation_cases", ()))),
        reading=found["reading"],
    )


def _problem(found: Any) -> str | None:
    if not isinstance(found, dict) or found.get("format") != _FORMAT:
        return f"format {found.get('format') if isinstance(found, dict) else found!r}, not {_FORMAT}"
    shape, names = found.get("sample_shape"), found.get("class_names")
    if not isinstance(shape, list) or len(shape) not in (3, 4) or not all(_is_size(extent) for extent in shape):
        return f"sample_shape is {shape!r}"
    if not isinstance(names, list) or not 2 <= len(names) <= 255 or not all(isinstance(name, str) for name in names):
        return "class_names are no list of 2 to 255 names"
    kinds = {"dataset": str, "fingerprint": str, "background": bool, "reading": dict}
    wrong = [key for key, kind in kinds.items() if not isinstance(found.get(key), kind)]
    return f"{', '.join(wrong)} missing or of another kind" if wrong else None


def _is_size(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 1 << 16


METRICS = "metrics.jsonl"
CASES = "cases.jsonl"
BEST = "best.safetensors"
LOG = "log.txt"
LOGGER = logging.getLogger("tuner.training")
"""Everything below it is written to `log.txt`, whatever the process shows of it elsewhere."""
MAX_OUTPUT = 64 << 20
"""Characters of a program's output that an attempt keeps in its log."""
PACKAGES = ("torch", "monai", "numpy", "scipy", "safetensors")


class RunDirectory:
    """Writes the folder; entering it opens the log, leaving it closes the log."""

    def __init__(self, path: Path, config: TrialConfig, device: str) -> None:
        self.path = path
        self.config = config
        self.device = device
        self.best: EpochReport | None = None
        self._handler: logging.Handler | None = None
        self._level = logging.NOTSET
        self._written = 0

    def __enter__(self) -> "RunDirectory":
        with space_needed(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
        write_file(self.path / "config.yaml", dump_yaml(self.config.as_dict()).encode())
        write_json(self.path / "environment.json", environment(self.config, self.device))
        with space_needed(self.path / LOG):
            self._handler = logging.FileHandler(self.path / LOG)
        self._handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(message)s"))
        self._level = LOGGER.level
        if not LOGGER.isEnabledFor(logging.INFO):
            LOGGER.setLevel(logging.INFO)
        LOGGER.addHandler(self._handler)
        return self

    def write_output(self, line: str) -> None:
        """Write a line that a program of the user's has printed to the log, as it is."""
        if self._handler is None or self._written > MAX_OUTPUT:
            return
        self._written += len(line) + 1
        text = line if self._written <= MAX_OUTPUT else f"… more than {MAX_OUTPUT >> 20} MiB; nothing further is kept"
        self._handler.handle(logging.LogRecord(LOGGER.name, logging.INFO, __file__, 0, text, None, None))

    def note_precision(self, used: str) -> None:
        """Write down in what precision the trial is trained, where its configuration leaves that to the device."""
        if used != self.config.train.precision:
            write_json(self.path / "environment.json", environment(self.config, self.device) | {"precision": used})

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._handler is not None:
            LOGGER.removeHandler(self._handler)
            LOGGER.setLevel(self._level)
            with suppress(OSError):  # on a full disk its last lines are lost, which is nothing to fail a trial for
                self._handler.close()

    def resume(self, epoch: int) -> list[EpochReport]:
        """Return the reports of the first `epoch` epochs, which are finished, and drop what was written after them."""
        lines = [line for line in read_lines(self.path / METRICS) if line["epoch"] <= epoch]
        cases = [line for line in read_lines(self.path / CASES) if line["epoch"] <= epoch]
        for name, kept in ((METRICS, lines), (CASES, cases)):
            write_lines(self.path / name, kept)  # in one step: whoever is killed here must find them again
        self.best = None
        reports = [EpochReport.from_dict(line, [c for c in cases if c["epoch"] == line["epoch"]]) for line in lines]
        for report in reports:
            self._judge(report)
        return reports

    def add(self, report: EpochReport) -> bool:
        """Write a report down; True when it is the best so far."""
        append_lines(self.path / CASES, ({"epoch": report.epoch, **case.as_dict()} for case in report.cases))
        append_lines(self.path / METRICS, [report.as_dict()])
        return self._judge(report)

    def write_best(self, weights: Mapping[str, Tensor], epoch: int) -> None:
        """Keep the weights of the best epoch."""
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
        write_file(self.path / BEST, save_tensors(tensors, metadata={"epoch": str(epoch)}))

    def best_epoch_on_disk(self) -> int | None:
        """Return the epoch that `best.safetensors` is of; None when it is not there or damaged."""
        try:
            with safe_open(self.path / BEST, framework="pt") as tensors:
                return int(tensors.metadata()["epoch"])
        except (OSError, SafetensorError, KeyError, TypeError, ValueError):
            return None

    def read_best(self) -> dict[str, Tensor]:
        """Return the weights of the best epoch, on the CPU."""
        with safe_open(self.path / BEST, framework="pt") as tensors:
            return {name: tensors.get_tensor(name) for name in tensors.keys()}  # noqa: SIM118 (not a mapping)

    def _judge(self, report: EpochReport) -> bool:
        objective = self.config.objectives[0]
        value = report.metrics.get(objective.metric)
        if value is None:
            return False
        best = self.best.metrics[objective.metric] if self.best else None
        if not is_better(value, best, objective.direction):
            return False
        self.best = report
        return True


def environment(config: TrialConfig, device: str) -> dict[str, Any]:
    """Say what the numbers of a trial depend on beside its configuration: versions, device, host, threads."""
    versions = {"tuner": __version__, "python": platform.python_version()}
    versions |= {package: metadata.version(package) for package in PACKAGES}
    return {
        "versions": versions,
        "device": device,
        "device_name": device_name(device),
        "cuda": torch.version.cuda,
        "cudnn": cast(Any, torch.backends.cudnn).version() if torch.cuda.is_available() else None,
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "platform": platform.platform(),
        "threads": torch.get_num_threads(),
        "precision": config.train.precision,
        "command": Path(sys.argv[0]).name,
    }

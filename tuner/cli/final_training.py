"""The training behind `tuner train`: what makes it differ from its trial is said before it starts. Imports torch."""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from types import FrameType
from typing import Any

from tuner.cli import output
from tuner.config.command import command_text
from tuner.config.trial import TrialConfig
from tuner.data.preparation import PreparedData, prepare, test_cases
from tuner.settings import Settings
from tuner.training.command import program_place
from tuner.training.device import device_name, resolve_device
from tuner.training.epoch_report import EpochReport
from tuner.training.final import train_final
from tuner.training.run_dir import PACKAGES


def train_here(
    config: TrialConfig, settings: Settings, *, device: str, folder: Path, epochs_changed: bool
) -> dict[str, Any]:
    """Train in this process; return the document of `metrics.json`. Raises KeyboardInterrupt when it was stopped."""
    place = resolve_device(device)
    seed = _seed(config)
    places: dict[str, Any] = {"data_root": settings.data_root, "cache": settings.cache, "seed": seed}
    data = prepare(config.dataset, **places) if config.has_data else None
    for text in differences(config, data, place, epochs_changed=epochs_changed):
        output.tell(f"warning: {text}")
    output.tell(_introduction(config, data, place))
    with _listening() as interrupted:
        result = train_final(
            config,
            data=data,
            tests=() if data is None else test_cases(config.dataset, **places),
            device=place,
            folder=folder,
            stop=lambda: bool(interrupted),
            allow_entry=settings.allow_entry,
            data_root=settings.data_root,
            on_epoch=_Teller(config),
            place=program_place(settings),
        )
    if result is None:
        raise KeyboardInterrupt
    return result


def _introduction(config: TrialConfig, data: PreparedData | None, place: str) -> str:
    if config.train.command is not None:
        return f"Running on {place}: {command_text(config.train.command)}"
    if data is None:
        return f"Training by {config.train.entry}: at most {config.train.epochs} epochs, {place}"
    return (
        f"Training {config.loss_name} on {config.dataset['name']}: {config.train.epochs} epochs, {place}, "
        f"{len(data.train.labels)} training and {len(data.validation.labels)} validation samples"
    )


def differences(config: TrialConfig, data: PreparedData | None, device: str, *, epochs_changed: bool) -> list[str]:
    """Say why this training cannot give the value of the trial that the configuration comes from."""
    origin = config.provenance
    if not origin:
        return []
    found = []
    wanted = origin.get("data_fingerprint")
    if wanted and data is not None and wanted != data.fingerprint:
        found.append(f"the data is not the same: fingerprint {data.fingerprint[:16]}, the trial's was {wanted[:16]}")
    if epochs_changed:
        found.append("--epochs changes the schedule; the value will not be that of the trial")
    versions = origin.get("versions") or {}
    for package in PACKAGES:
        here = metadata.version(package)
        if package in versions and versions[package] != here:
            found.append(f"{package} is {here}; the trial was trained with {versions[package]}")
    if "device" in versions and (versions["device"].split(":")[0], versions.get("device_name")) != (
        device.split(":")[0],
        device_name(device),
    ):
        found.append(f"the trial was trained on {versions['device']} ({versions.get('device_name')})")
    return found


@contextmanager
def _listening() -> Iterator[list[int]]:
    """Collect Ctrl-C and SIGTERM while the body runs; the second one ends it at once."""
    seen: list[int] = []

    def take(number: int, frame: FrameType | None) -> None:
        seen.append(number)
        if len(seen) > 1:
            raise KeyboardInterrupt

    before = {number: signal.signal(number, take) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield seen
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Teller:
    """Says a line for each epoch."""

    def __init__(self, config: TrialConfig) -> None:
        self._config = config
        self._began = time.monotonic()

    def __call__(self, report: EpochReport) -> None:
        epochs = self._config.train.epochs
        metrics = "  ".join(f"{key} {value:.4g}" for key, value in report.metrics.items() if value is not None)
        loss = "" if report.train_loss is None else f"loss {report.train_loss:.4g}  "
        left = (time.monotonic() - self._began) / report.epoch * (epochs - report.epoch)
        rest = f"  about {output.duration(left)} left" if left else ""
        output.tell(f"epoch {report.epoch}/{epochs}  {loss}{metrics}{rest}")


def _seed(config: TrialConfig) -> int:
    """Return the study's seed, which divided the cases; a configuration of one's own has only that of the training."""
    seed = config.provenance.get("seed")
    return int(seed) if isinstance(seed, int) else config.train.seed or 0

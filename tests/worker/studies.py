"""Small studies that workers serve in tests."""

from pathlib import Path
from typing import Any

from tuner.config.study import StudySpec, load_spec
from tuner.config.yaml_reader import parse_yaml
from tuner.launch.new_study import create_study
from tuner.settings import Settings
from tuner.storage.storage import Storage
from tuner.worker.worker import Worker

TINY = """
name: tiny
dataset: {name: phantom, size: 32, cases: 4, slices: 4, validation: 0.25}
model: {name: unet, width: 4}
train: {epochs: 3, batch_size: 4, threads: 1, precision: float32}
search:
  loss: [cross_entropy, dice, dice_cross_entropy]
  train.lr: {low: 1.0e-3, high: 1.0e-1, log: true}
budget: {trials: 4}
"""


def tiny(*overrides: str, **values: Any) -> StudySpec:
    """Return a study of seconds."""
    return load_spec(parse_yaml(TINY), overrides, values)


def entry(name: str) -> str:
    """Return the override that lets a training of `trainings.py` stand in."""
    return f"train.entry=tests.worker.trainings:{name}"


def settings(folder: Path, url: str) -> Settings:
    """Return places below a test's own folder."""
    return Settings(
        storage=url,
        artifacts=folder / "artifacts",
        data_root=None,
        cache=folder / "cache",
        allow_entry=("tests",),
    )


def create(store: Storage, spec: StudySpec) -> None:
    """Store a study as `launch` does."""
    create_study(store, spec)


def work(store: Storage, places: Settings, **options: Any) -> int:
    """Serve the study in this process until it is done."""
    return Worker(store, places, study="tiny", device="cpu", poll_s=0.05, **options).run()

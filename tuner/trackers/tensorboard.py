"""TensorBoard: event files, read by `tensorboard --logdir DIR`."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter

from tuner.trackers.tracking import TrackedTrial


class TensorBoardTracker:
    """A folder of event files for each trial; an attempt that goes on adds a file to it."""

    def __init__(self, *, dir: str) -> None:
        self._root = Path(dir).absolute()
        self._writer: Any = None
        self._params: dict[str, Any] = {}

    def begin(self, trial: TrackedTrial) -> None:
        """Open the folder; the configuration stands under Text, what was searched under HParams."""
        self._writer = SummaryWriter(str(self._root / trial.study / f"{trial.number:04d}"))
        self._writer.add_text("config", f"```json\n{json.dumps(trial.config, indent=2, default=str)}\n```")
        self._params = {name: "null" if value is None else value for name, value in trial.params.items()}

    def log_epoch(self, epoch: int, values: Mapping[str, float]) -> None:
        """Write scalars with the epoch as step."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, epoch)
        self._writer.flush()

    def end(self, state: str, value: float | None, files: Sequence[Path]) -> None:
        """Write the hyperparameters with the trial's value, and its pictures."""
        from PIL import Image

        self._writer.add_text("state", state)
        if value is not None:
            self._writer.add_hparams(self._params, {"value": value}, run_name=".")
        for file in files:
            if file.suffix == ".png":
                import numpy as np

                with Image.open(file) as picture:
                    self._writer.add_image(file.stem, np.asarray(picture.convert("RGB")), dataformats="HWC")
        self._writer.close()

    def log_verdict(self, study: str, document: Mapping[str, Any]) -> None:
        """Write the verdict as text."""
        with SummaryWriter(str(self._root / study / "verdict")) as writer:
            writer.add_text("verdict", str(document["text"]).replace("\n", "\n\n"))
            for entry in document["configurations"]:
                if entry["mean"] is not None:
                    writer.add_scalar(f"confirmed/{entry['name']}", entry["mean"], 0)

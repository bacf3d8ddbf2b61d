"""Weights & Biases: a run for each trial, offline unless it is asked for."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import wandb

from tuner.trackers.tracking import TrackedTrial


class WandbTracker:
    """Runs of a trial have one id: an attempt that goes on continues it, offline as another folder of the same id."""

    def __init__(self, *, project: str | None, mode: str, dir: str) -> None:
        self._project = project
        self._places: dict[str, Any] = {
            "mode": mode,
            "dir": str(Path(dir).absolute()),
            "settings": wandb.Settings(silent=True, console="off", x_disable_stats=True),
        }
        self._run: Any = None

    def begin(self, trial: TrackedTrial) -> None:
        """Open the run, with what was searched and every option of the training as its configuration."""
        self._run = wandb.init(
            project=self._project or trial.study.partition("/")[0],
            group=trial.study,
            name=trial.name,
            id=trial.name,
            resume="allow",
            reinit="create_new",
            tags=[trial.loss] if trial.loss else None,
            config={**trial.params, "config": dict(trial.config)},
            **self._places,
        )

    def log_epoch(self, epoch: int, values: Mapping[str, float]) -> None:
        """Log the values with the epoch as step."""
        self._run.log(dict(values), step=epoch)

    def end(self, state: str, value: float | None, files: Sequence[Path]) -> None:
        """Note state and value in the summary, keep the files, and close the run."""
        self._run.summary.update({"state": state, "value": value})
        for file in files:
            self._run.save(str(file), base_path=str(file.parent), policy="now")
        self._run.finish(exit_code=1 if state == "FAIL" else 0)

    def log_verdict(self, study: str, document: Mapping[str, Any]) -> None:
        """Log the verdict as a run of its own."""
        run = wandb.init(
            project=self._project or study,
            group=study,
            name=f"{study} verdict",
            id=f"{study}-verdict",
            resume="allow",
            reinit="create_new",
            job_type="verdict",
            **self._places,
        )
        means = {f"confirmed/{entry['name']}": entry["mean"] for entry in document["configurations"]}
        run.summary.update({"verdict": document["text"], "leader": document["leader"], **means})
        run.finish()

"""MLflow: a run for each trial, by its client, which holds no state of the process."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from time import time
from typing import Any

from mlflow.entities import Metric, Param
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from tuner.trackers.tracking import TrackedTrial

_STATUS = {"COMPLETE": "FINISHED", "PRUNED": "FINISHED", "FAIL": "FAILED"}
_MAX_PARAM = 6000
"""Characters of a parameter's value."""


class MlflowTracker:
    """An attempt that goes on continues the run of the trial, which is found by its tag."""

    def __init__(self, *, uri: str | None, experiment: str | None) -> None:
        self._client = MlflowClient(tracking_uri=uri)
        self._experiment = experiment
        self._run = ""

    def begin(self, trial: TrackedTrial) -> None:
        """Open the run, with every option of the training as a parameter."""
        self._run = self._open(trial.study, trial.name, {"tuner.study": trial.study, "tuner.trial": str(trial.number)})
        params = {**trial.params, "config": json.dumps(trial.config, default=str)}
        given = [Param(name, str(value)[:_MAX_PARAM]) for name, value in params.items()]
        self._client.log_batch(self._run, params=given)

    def log_epoch(self, epoch: int, values: Mapping[str, float]) -> None:
        """Log metrics with the epoch as step."""
        now = round(1000 * time())
        self._client.log_batch(self._run, metrics=[Metric(name, value, now, epoch) for name, value in values.items()])

    def end(self, state: str, value: float | None, files: Sequence[Path]) -> None:
        """Log the value and the files, and end the run."""
        if value is not None:
            self._client.log_metric(self._run, "value", value)
        self._client.set_tag(self._run, "tuner.state", state)
        for file in files:
            self._client.log_artifact(self._run, str(file))
        self._client.set_terminated(self._run, _STATUS.get(state, "KILLED"))

    def log_verdict(self, study: str, document: Mapping[str, Any]) -> None:
        """Log the verdict as a run of its own: means as metrics, the whole as artifacts."""
        run = self._open(study, f"{study} verdict", {"tuner.study": study, "tuner.trial": "verdict"})
        for entry in document["configurations"]:
            if entry["mean"] is not None:
                self._client.log_metric(run, f"confirmed/{entry['name']}", entry["mean"])
        self._client.log_text(run, str(document["text"]), "verdict.txt")
        self._client.log_dict(run, dict(document), "verdict.json")
        self._client.set_terminated(run)

    def _open(self, study: str, name: str, tags: Mapping[str, str]) -> str:
        title = self._experiment or study
        found = self._client.get_experiment_by_name(title)
        try:
            experiment = self._client.create_experiment(title) if found is None else found.experiment_id
        except MlflowException:  # made by another worker meanwhile
            made = self._client.get_experiment_by_name(title)
            if made is None:
                raise
            experiment = made.experiment_id
        words = " and ".join(f"tags.`{key}` = '{value}'" for key, value in tags.items())
        known = self._client.search_runs([experiment], words, max_results=1)
        if known:
            run = str(known[0].info.run_id)
            self._client.update_run(run, status="RUNNING")
            return run
        made_run = self._client.create_run(experiment, run_name=name, tags=dict(tags))
        return str(made_run.info.run_id)

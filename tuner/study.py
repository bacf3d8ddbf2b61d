"""Studies from Python: run one to the end of its budget, read a stored one.

study = run_study({"dataset": "phantom", "budget": {"trials": 12}}, storage="sqlite:///tuner.db")
print(study.best()["config"])
"""

import os
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuner.analysis.confirmation import verdict_document
from tuner.analysis.export import export_trial
from tuner.artifacts.remote import artifacts_of
from tuner.config.study import load_spec
from tuner.config.yaml_reader import YamlDocument, read_yaml
from tuner.errors import NoSuccessError, RequestError
from tuner.launch.launcher import LAUNCHERS, worker_specs
from tuner.launch.placement import placement_for
from tuner.launch.study_setup import Request, Resources, StudyHandle, create_or_resume_study, find_study
from tuner.launch.supervisor import Supervisor
from tuner.notifications import notify_while
from tuner.report.notebook import study_html
from tuner.settings import Settings
from tuner.storage.storage import Storage

if TYPE_CHECKING:
    import pandas

OVER = ("done", "stopped")
TABLE_COLUMNS = (
    "number", "state", "value", "loss", "reason", "attempts", "epochs", "duration_s", "worker", "started", "finished",
)  # fmt: skip
"""Columns of `Study.trials_dataframe` before those of metrics and parameters."""
POLL_S = 0.2
DRAIN_S = 60.0


@dataclass(frozen=True, slots=True)
class Study:
    """A stored study; every call reads it as it is then."""

    name: str
    settings: Settings

    def status(self) -> dict[str, Any]:
        """Return the document of `tuner status --json`."""
        with Storage.open(self.settings.storage, read_only=True) as store:
            return store.queries.status(self.name)

    def trials(self, **query: Any) -> list[dict[str, Any]]:
        """Return the rows of `tuner trials --json`; `query`: state, loss, sort, order, limit, offset."""
        with Storage.open(self.settings.storage, read_only=True) as store:
            return store.queries.trials(self.name, **query)

    def best(self) -> dict[str, Any]:
        """Return the document of `tuner best --json`. Raises NoSuccessError where no trial is complete yet."""
        with Storage.open(self.settings.storage, read_only=True) as store:
            found = store.queries.best(self.name)
            if found is None:
                raise NoSuccessError(f"study {self.name!r} has no complete trial yet.")
            config = export_trial(store, self.name, number=found["number"]).as_dict()
        return {**found, "config": config}

    def best_config(self) -> dict[str, Any]:
        """Return what `tuner export` writes: the configuration of the confirmed leader, else of the best trial.

        Raises NoSuccessError or NotFoundError where no trial is complete yet.
        """
        with Storage.open(self.settings.storage, read_only=True) as store:
            return export_trial(store, self.name, artifacts=artifacts_of(self.settings)).as_dict()

    def verdict(self) -> dict[str, Any]:
        """Return the document of `tuner verdict --json`: what may be said now, before or after a confirmation."""
        with Storage.open(self.settings.storage, read_only=True) as store:
            return verdict_document(store, artifacts_of(self.settings), self.name)

    def trials_dataframe(self, **query: Any) -> "pandas.DataFrame":
        """Return the trials as a pandas table, with a column for each metric (at the best epoch) and each parameter.

        `query` as for `trials`. Raises RequestError where pandas is not installed.
        """
        try:
            import pandas
        except ImportError:
            raise RequestError("a table of trials needs pandas.", hint="pip install pandas") from None
        with Storage.open(self.settings.storage, read_only=True) as store:
            space = store.studies.get(self.name).space
            rows = store.queries.trials(self.name, **query)
            measured = store.queries.best_epochs(self.name)
        metrics = dict.fromkeys(key for found in measured.values() for key in found["metrics"])
        lines = [
            {key: row[key] for key in TABLE_COLUMNS}
            | {key: measured.get(row["number"], {"metrics": {}})["metrics"].get(key) for key in metrics}
            | {dimension.name: row["params"].get(dimension.name) for dimension in space if dimension.name != "loss"}
            for row in rows
        ]
        names = [*TABLE_COLUMNS, *metrics, *(d.name for d in space if d.name != "loss")]
        return pandas.DataFrame(lines, columns=names).set_index("number")

    def _repr_html_(self) -> str:
        """Return what a notebook shows: what is best, how the losses stand, their trials, the best curves."""
        with Storage.open(self.settings.storage, read_only=True) as store:
            statement = verdict_document(store, artifacts_of(self.settings), self.name)["text"]
            return study_html(store, self.name, statement)


def load_study(name: str, *, storage: str | None = None, artifacts: Path | str | None = None) -> Study:
    """Return a stored study. The storage is that of `tuner` without flags where none is named.

    Raises NotFoundError if it has no such study, StorageError if it does not answer.
    """
    settings = Settings.resolve(os.environ, storage=storage, artifacts=artifacts)
    with Storage.open(settings.storage, read_only=True) as store:
        store.studies.get(name)
    return Study(name, settings)


def run_study(
    spec: Mapping[str, Any] | Path | str,
    *,
    storage: str | None = None,
    artifacts: Path | str | None = None,
    data_root: Path | str | None = None,
    cache: Path | str | None = None,
    overrides: Sequence[str] = (),
    workers: int | None = None,
    devices: str | None = None,
    workers_per_device: str | None = None,
    launcher: str | None = None,
    on_message: Callable[[str], None] = lambda text: None,
    say: Callable[[str], None] | None = None,
) -> Study:
    """Create a study, or continue it where it stopped, and return it when its budget is used up.

    What `tuner launch` does, without its display: Ctrl-C has the running trials given back with their checkpoints.

    Args:
        spec: Path of a study file, or its content.
        storage: As after `--storage`; likewise `artifacts`, `data_root`, `cache`, `workers`, `devices`,
            `workers_per_device` and `launcher`.
        artifacts: Folder of the trials' files.
        data_root: Folder of the data sets.
        cache: Folder of prepared data.
        overrides: `KEY=VALUE`, as after `--set`.
        workers: How many in all.
        devices: `auto`, `cpu`, `cuda:0,cuda:1`.
        workers_per_device: How many on each device.
        launcher: `local`, `inline`, `ray`, or `none`, which only fills the queue.
        on_message: Told in words what is going on.
        say: Its earlier name, until 0.3.

    Raises:
        RequestError: The request was wrong; nothing was created, changed or started.
        RunError: Workers keep dying.
    """
    if say is not None:
        warnings.warn("run_study(say=) is called on_message= now; say= goes in 0.3", DeprecationWarning, stacklevel=2)
        on_message = say
    document = YamlDocument(spec, {}, None) if isinstance(spec, Mapping) else read_yaml(Path(spec))
    settings = Settings.resolve(os.environ, storage=storage, artifacts=artifacts, data_root=data_root, cache=cache)
    if launcher is not None:
        LAUNCHERS.find(launcher, where="launcher")
    resources = Resources(workers=workers, devices=devices, per_device=workers_per_device, launcher=launcher)
    request = Request(spec=load_spec(document, list(overrides)), settings=settings, resources=resources)
    record = find_study(settings.storage, request.spec.name)
    asked = resources.over(record.resources if record else {})
    with placement_for(asked, settings, on_message) as placement:
        opened = create_or_resume_study(replace(request, ask=placement.ask), on_message=on_message)
        study = Study(opened.record.name, settings)
        if LAUNCHERS[str(opened.resources.launcher)].fn is None:
            return study
        orders = worker_specs(
            settings,
            study.name,
            devices=opened.machine.slots,
            threads=opened.spec.base.train.threads or opened.machine.threads,
        )
        starter = placement.launcher(opened.record, threads=orders[0].threads, on_message=on_message)
        assert starter is not None
        _supervise(opened, Supervisor(starter, orders, on_message=on_message), settings)
    return study


def _supervise(opened: StudyHandle, crew: Supervisor, settings: Settings) -> None:
    """Keep the workers until the study is over."""
    name = opened.record.name
    with Storage.open(settings.storage) as store, notify_while(store, settings, name):

        def work_left() -> bool:
            return store.queries.phase(name)[0] not in OVER

        try:
            while work_left():
                crew.ensure_running(work_left)
                time.sleep(POLL_S)
            crew.release_waiting()
            crew.wait(DRAIN_S)
        finally:
            if crew.alive:
                crew.drain()
                if not crew.wait(DRAIN_S):
                    crew.kill()
                store.workers.requeue_lost(store.studies.get(name).study_id)

"""Trackers: what they were told is read back by their own readers, and one that fails costs nothing."""

import contextlib
import json
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from tuner.config.study import load_spec
from tuner.config.yaml_reader import parse_yaml
from tuner.errors import SpecError
from tuner.study import Study, run_study
from tuner.trackers import tracking
from tuner.trackers.tracking import TrackedTrial, TrialTracking

pytestmark = pytest.mark.filterwarnings("ignore")
"""Their packages warn of what they do themselves."""

STUDY: dict[str, Any] = {
    "name": "tracked",
    "dataset": {"name": "phantom", "size": 16, "cases": 4, "slices": 2, "validation": 0.5},
    "model": {"name": "unet", "width": 4, "depth": 2},
    "train": {"epochs": 2, "batch_size": 4},
    "search": {"loss": ["dice"], "train.lr": {"low": 1e-3, "high": 1e-2}},
    "pruner": "none",
    "budget": {"trials": 2},
}


@pytest.fixture(scope="module")
def tracked(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Study]:
    """Run two trials with every tracker."""
    folder = tmp_path_factory.mktemp("tracked")
    spec = STUDY | {
        "trackers": [
            {"name": "tensorboard", "dir": str(folder / "tb")},
            {"name": "mlflow", "uri": f"sqlite:///{folder}/mlflow.db", "experiment": "losses"},
            {"name": "wandb", "dir": str(folder), "project": "losses"},
        ]
    }
    with contextlib.chdir(folder):  # MLflow keeps artifacts in the current folder where its server is a database
        study = run_study(
            spec,
            storage=f"sqlite:///{folder}/tuner.db",
            artifacts=folder / "artifacts",
            cache=folder / "cache",
            workers=1,
            devices="cpu",
            launcher="inline",
        )
    return folder, study


def values(folder: Path) -> dict[int, list[float]]:
    """Return dice of every epoch of every trial, as its own files have it."""
    files = (folder / "artifacts" / "tracked").glob("*/metrics.jsonl")
    return {
        int(file.parent.name): [json.loads(line)["metrics"]["dice"] for line in file.read_text().splitlines()]
        for file in files
    }


def wandb_records(file: Path) -> Iterator[bytes]:
    """Yield the records of a file of Weights & Biases: blocks of 32 KiB, parts with heads of 7 bytes (LevelDB)."""
    content = file.read_bytes()
    place, record = 7, b""
    while place + 7 <= len(content):
        if (1 << 15) - place % (1 << 15) < 7:
            place += (1 << 15) - place % (1 << 15)
            continue
        length, kind = int.from_bytes(content[place + 4 : place + 6], "little"), content[place + 6]
        record += content[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield record
            record = b""


def test_tensorboard_reads_the_epochs(tracked: tuple[Path, Study]) -> None:
    """Scalars by epoch, the configuration, the hyperparameters."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder, _ = tracked
    for number, expected in values(folder).items():
        events = EventAccumulator(str(folder / "tb" / "tracked" / f"{number:04d}"))
        events.Reload()
        scalars = events.Scalars("dice")
        assert [event.step for event in scalars] == [1, 2]
        assert [event.value for event in scalars] == pytest.approx(expected, rel=1e-6)
        assert {"config/text_summary", "state/text_summary"} <= set(events.Tags()["tensors"])


def test_mlflow_reads_runs_parameters_curves_and_files(tracked: tuple[Path, Study]) -> None:
    """A run for each trial, finished."""
    from mlflow.tracking import MlflowClient

    folder, _ = tracked
    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    experiment = client.get_experiment_by_name("losses")
    assert experiment is not None
    runs = {int(run.data.tags["tuner.trial"]): run for run in client.search_runs([experiment.experiment_id])}
    expected = values(folder)
    assert set(runs) == set(expected)
    for number, run in runs.items():
        history = client.get_metric_history(run.info.run_id, "dice")
        assert [(point.step, point.value) for point in history] == list(enumerate(expected[number], start=1))
        assert (run.info.status, run.data.params["loss"]) == ("FINISHED", "dice")
        assert json.loads(run.data.params["config"])["train"]["epochs"] == 2
        assert run.data.metrics["value"] == max(expected[number])
        assert "metrics.jsonl" in {item.path for item in client.list_artifacts(run.info.run_id)}


def test_wandb_reads_its_offline_files(tracked: tuple[Path, Study]) -> None:
    """A folder for each trial, to be sent by `wandb sync`."""
    from wandb.proto import wandb_internal_pb2

    folder, _ = tracked
    found: dict[str, list[float]] = {}
    for file in folder.glob("wandb/offline-run-*/run-*.wandb"):
        curve = found.setdefault(file.stem.removeprefix("run-"), [])
        for data in wandb_records(file):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(data)
            items = {item.key or "/".join(item.nested_key): item.value_json for item in record.history.item}
            if "dice" in items:
                curve.append(json.loads(items["dice"]))
    assert found == {f"tracked-{number:04d}": curve for number, curve in values(folder).items()}


class Recorder:
    """A tracker that notes its calls, and fails or hangs where it is told to."""

    def __init__(self, fails_at: str = "", hangs_at: str = "") -> None:
        self.calls: list[str] = []
        self.fails_at, self.hangs_at = fails_at, hangs_at

    def _note(self, call: str) -> None:
        self.calls.append(call)
        if call == self.hangs_at:
            threading.Event().wait(30)
        if call == self.fails_at:
            raise ConnectionError("the tracking server is away")

    def begin(self, trial: TrackedTrial) -> None:
        self._note("begin")

    def log_epoch(self, epoch: int, values: Mapping[str, float]) -> None:
        self._note(f"epoch {epoch}")

    def end(self, state: str, value: float | None, files: Sequence[Path]) -> None:
        self._note("end")

    def log_verdict(self, study: str, document: Mapping[str, Any]) -> None:
        self._note("verdict")


def track(monkeypatch: pytest.MonkeyPatch, folder: Path, *recorders: Recorder) -> None:
    """Track a trial of two epochs."""
    monkeypatch.setattr(tracking, "make_trackers", lambda _: [("recorder", recorder) for recorder in recorders])
    trial = TrackedTrial("tracked", 0, "dice", {"loss": "dice"}, {})
    told = TrialTracking([], trial, folder)
    for epoch in (1, 2):
        told.log_epoch(epoch, {"dice": 0.5, "hd95": None}, {}, train_loss=0.1, lr=0.01)
    told.end("COMPLETE", 0.5)


def test_a_tracker_that_fails_is_told_nothing_more_and_the_others_are(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither an exception nor a warning for each epoch."""
    broken, sound = Recorder(fails_at="epoch 1"), Recorder()
    track(monkeypatch, tmp_path, broken, sound)
    assert broken.calls == ["begin", "epoch 1"]
    assert sound.calls == ["begin", "epoch 1", "epoch 2", "end"]
    assert [record.message for record in caplog.records].count(caplog.records[0].message) == 1
    assert "ConnectionError: the tracking server is away" in caplog.text


def test_a_tracker_that_hangs_holds_nothing_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Only the end waits, and not for ever."""
    monkeypatch.setattr(tracking, "CLOSE_S", 0.2)
    began = time.monotonic()
    track(monkeypatch, tmp_path, Recorder(hangs_at="begin"))
    assert time.monotonic() - began < 10


def test_a_missing_package_is_said_and_the_trial_goes_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The name of the extra is in the message."""
    monkeypatch.setitem(__import__("sys").modules, "wandb", None)
    monkeypatch.delitem(__import__("sys").modules, "tuner.trackers.wandb", raising=False)
    assert tracking.make_trackers([{"name": "wandb", "project": None, "mode": "offline", "dir": "."}]) == []
    assert "pip install 'segmentation-tuner[wandb]'" in caplog.text


def test_the_section_is_checked() -> None:
    """Unknown names with the closest, values with what is legal, a name once."""
    text = "dataset: phantom\ntrackers: [mlflo, {name: wandb, mode: away}, tensorboard, tensorboard]\n"
    with pytest.raises(SpecError) as refused:
        load_spec(parse_yaml(text))
    assert [str(problem) for problem in refused.value.problems] == [
        "trackers[0]: unknown tracker 'mlflo'. Did you mean 'mlflow'? Known: mlflow, tensorboard, wandb.",
        "trackers[1].mode: 'away' is not one of offline, online (line 2)",
        "trackers[3]: the tracker 'tensorboard' stands twice",
    ]


def test_the_verdict_is_told_to_every_tracker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Text and means, each read back by its tracker."""
    from mlflow.tracking import MlflowClient
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    uri = f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.chdir(tmp_path)
    document = {
        "text": "dice is better than focal.",
        "leader": "dice",
        "configurations": [{"name": "dice", "mean": 0.7}, {"name": "focal", "mean": None}],
    }
    sections = [{"name": "tensorboard", "dir": "tb"}, {"name": "mlflow", "uri": uri, "experiment": None}]
    tracking.log_verdict(sections, "organs", document)

    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("organs")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    assert (run.info.status, run.data.metrics) == ("FINISHED", {"confirmed/dice": 0.7})
    events = EventAccumulator(str(tmp_path / "tb" / "organs" / "verdict"))
    events.Reload()
    assert [event.value for event in events.Scalars("confirmed/dice")] == pytest.approx([0.7])
    assert events.Tensors("verdict/text_summary")[0].tensor_proto.string_val == [b"dice is better than focal."]

"""Training as a whole: what it reports and writes, and that an interruption changes no number."""

import gc
import json
import logging
import random
import signal
import subprocess
import sys
import time
import weakref
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from tests.conftest import REPOSITORY
from tests.training.samples import CLASSES, make_config, make_data
from tuner.config.trial import TrialConfig
from tuner.data.preparation import PreparedData
from tuner.metrics.catalog import METRICS
from tuner.training.epoch_report import Diverged, EpochReport
from tuner.training.trainer import train

Configure = Callable[..., TrialConfig]


def never() -> bool:
    return False


def run(config: TrialConfig, data: PreparedData, folder: Path, stop: Callable[[], bool] = never) -> list[EpochReport]:
    return list(train(config, data=data, device="cpu", folder=folder, stop=stop))


def numbers(reports: list[EpochReport]) -> list[tuple[Any, ...]]:
    """Everything that a report says but how long it took and who trained it."""
    return [(r.epoch, r.train_loss, r.lr, r.metrics, r.per_class, r.cases, r.one_class) for r in reports]


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def end_state(folder: Path) -> dict[str, Any]:
    """What must be equal bit for bit after an interruption."""
    measured = ("seconds", "peak_memory")
    metrics = [{k: v for k, v in line.items() if k not in measured} for line in lines(folder / "metrics.jsonl")]
    with np.load(folder / "predictions.npz") as file:
        predictions = {name: file[name].tolist() for name in file.files}
    return {
        "metrics": metrics,
        "cases": lines(folder / "cases.jsonl"),
        "weights": {k: v.tolist() for k, v in load_file(folder / "best.safetensors").items()},
        "confusion": np.load(folder / "confusion.npy").tolist(),
        "predictions": predictions,
        "last": {k: v.tolist() for k, v in torch.load(folder / "last.ckpt", weights_only=True)["model"].items()},
    }


def test_the_folder_holds_what_the_contract_names(config: Configure, data: PreparedData, tmp_path: Path) -> None:
    """Other programs read these files by name and shape."""
    folder = tmp_path / "trial"
    reports = run(config(), data, folder)

    names = {path.name for path in folder.iterdir()}
    assert names == {
        *("config.yaml", "metrics.jsonl", "cases.jsonl", "confusion.npy", "best.safetensors", "last.ckpt"),
        *("predictions.npz", "predictions.png", "calibration.json", "environment.json", "data.json", "log.txt"),
    }
    assert [line["epoch"] for line in lines(folder / "metrics.jsonl")] == [1, 2, 3]
    first = lines(folder / "metrics.jsonl")[0]
    assert {"train_loss", "lr", "seconds", "metrics", "per_class"} <= first.keys()
    if sys.platform == "linux":
        assert first["peak_memory"]["of"] == "process"
        assert first["peak_memory"]["bytes"] > 2**25
    assert len(lines(folder / "cases.jsonl")) == 3 * len(data.validation.cases)
    assert np.load(folder / "confusion.npy").shape == (3, 3)
    assert np.load(folder / "confusion.npy").sum() == data.validation.labels.size
    calibration = json.loads((folder / "calibration.json").read_bytes())
    assert calibration["predictions"] == sum(calibration["count"]) == data.validation.labels.size
    best = next(report for report in reports if report.epoch == calibration["epoch"])
    assert (calibration["ece"], calibration["nll"]) == (best.metrics["ece"], best.metrics["nll"])
    with np.load(folder / "predictions.npz") as predictions:
        assert tuple(predictions.files) == data.validation.cases
        assert predictions[data.validation.cases[0]].shape == (4, 32, 32)
        assert predictions[data.validation.cases[0]].dtype == np.uint8
    with Image.open(folder / "predictions.png") as picture:
        assert picture.width > 800
    assert [report.epoch for report in reports] == [1, 2, 3]


def test_every_metric_is_reported_per_class_and_case(config: Configure, data: PreparedData, tmp_path: Path) -> None:
    """A study must be rankable by another metric later, without training again."""
    report = run(config(epochs=1), data, tmp_path)[0]

    assert set(report.metrics) == set(METRICS)
    assert set(report.per_class) == set(METRICS) - {"nll"}
    assert all(tuple(values) == CLASSES[1:] for values in report.per_class.values())
    assert [case.case for case in report.cases] == list(data.validation.cases)
    assert all(set(case.metrics) == set(METRICS) for case in report.cases)


def test_it_learns(config: Configure, data: PreparedData, tmp_path: Path) -> None:
    """A trainer that only looks busy would pass most other tests."""
    reports = run(config(epochs=12, lr=0.02, model={"width": 8, "dropout": 0.0}), data, tmp_path)

    assert (reports[-1].metrics["dice"] or 0) > 0.6
    assert (reports[-1].train_loss or 9) < 0.6 * (reports[0].train_loss or 0)


def test_the_same_configuration_trains_alike(config: Configure, data: PreparedData, tmp_path: Path) -> None:
    """Reproducibility starts here: equal seeds, equal numbers; another seed, others."""
    first, again = (run(config(), data, tmp_path / name) for name in ("first", "again"))
    other = run(config(seed=8), data, tmp_path / "other")

    assert numbers(first) == numbers(again)
    assert numbers(first) != numbers(other)


STOPPED_AT = {"first epoch": 2, "middle": 9, "late": 15}
TRAININGS: dict[str, dict[str, Any]] = {
    "adamw": {},
    "sgd": {"optimizer": "sgd", "schedule": "polynomial", "validate_every": 2},
    "float32": {"precision": "float32", "model": {"norm": "instance"}, "clip_norm": None},
}


@pytest.mark.parametrize(
    ("options", "at"),
    [
        # each moment and each configuration once; all pairs before a release
        pytest.param(options, at, id=f"{name}-{when}", marks=[] if row == column else [pytest.mark.slow])
        for row, (name, options) in enumerate(TRAININGS.items())
        for column, (when, at) in enumerate(STOPPED_AT.items())
    ],
)
def test_a_stopped_training_continues_bit_for_bit(
    options: dict[str, Any], at: int, data: PreparedData, tmp_path: Path
) -> None:
    """An interrupted trial must end with the numbers of one that was not interrupted."""
    config = make_config(**options)
    whole = run(config, data, tmp_path / "whole")
    asked = count()

    before = run(config, data, tmp_path / "parts", stop=lambda: next(asked) >= at)
    after = run(config, data, tmp_path / "parts")

    assert len(before) < len(whole)
    assert numbers(before) == numbers(whole)[: len(before)]
    assert numbers(after) == numbers(whole)
    assert [report.replayed for report in after] == [True] * len(before) + [False] * (len(whole) - len(before))
    assert end_state(tmp_path / "parts") == end_state(tmp_path / "whole")


def test_killed_processes_change_no_number(tmp_path: Path) -> None:
    """`kill -9` at any moment may cost time, never a number, never a reported epoch."""
    folder, chance = tmp_path / "killed", random.Random(3)
    reported: set[int] = set()
    for kills in range(20):
        with subprocess.Popen(
            [sys.executable, "-m", "tests.training.trainee", str(folder)],
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            seen = []
            for line in process.stdout or ():
                epoch, replayed = json.loads(line)
                seen.append(epoch)
                reported.add(epoch)
                if not replayed and kills < 2:
                    time.sleep(chance.uniform(0, 0.25))
                    process.send_signal(signal.SIGKILL)
                    break
        if process.returncode == 0:
            break
        assert process.returncode == -signal.SIGKILL
    whole = run(make_config(epochs=6), make_data(tmp_path), tmp_path / "whole")

    assert kills == 2
    assert seen == [1, 2, 3, 4, 5, 6] == sorted(reported)
    assert len(whole) == 6
    assert end_state(folder) == end_state(tmp_path / "whole")


def test_a_report_comes_after_its_checkpoint(config: Configure, data: PreparedData, tmp_path: Path) -> None:
    """What a user saw must be resumable: whoever has the report of an epoch finds it in last.ckpt."""
    for report in train(config(), data=data, device="cpu", folder=tmp_path, stop=never):
        state = torch.load(tmp_path / "last.ckpt", weights_only=True)

        assert state["epoch"] == report.epoch
        assert not list(tmp_path.glob(".*"))


def test_epochs_behind_the_checkpoint_are_trained_again(config: Configure, data: PreparedData, tmp_path: Path) -> None:
    """A process may die between the line of an epoch and its checkpoint; the line must not stay twice."""
    reports = train(config(), data=data, device="cpu", folder=tmp_path / "cut", stop=never)
    next(reports)
    first_checkpoint = (tmp_path / "cut" / "last.ckpt").read_bytes()
    next(reports)
    reports.close()
    (tmp_path / "cut" / "last.ckpt").write_bytes(first_checkpoint)
    with (tmp_path / "cut" / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 3, "train_lo')

    continued = run(config(), data, tmp_path / "cut")
    whole = run(config(), data, tmp_path / "whole")

    assert numbers(continued) == numbers(whole)
    assert end_state(tmp_path / "cut") == end_state(tmp_path / "whole")


def test_best_weights_that_were_not_written_are_restored(config: Configure, data: PreparedData, tmp_path: Path) -> None:
    """A process may die between the checkpoint and the best weights of the same epoch."""
    whole = run(config(), data, tmp_path)
    best = max(whole, key=lambda report: report.metrics["dice"] or 0)
    if best.epoch != 3:
        pytest.fail("this test needs a best last epoch; change its learning rate")
    expected = end_state(tmp_path)
    for name in ("best.safetensors", "predictions.npz", "predictions.png", "confusion.npy"):
        (tmp_path / name).unlink()

    run(config(), data, tmp_path)

    assert end_state(tmp_path) == expected


def test_a_damaged_checkpoint_starts_over_and_says_so(config: Configure, data: PreparedData, tmp_path: Path) -> None:
    """A broken file costs time; it must neither stop the trial nor be trusted."""
    whole = run(config(), data, tmp_path)
    content = (tmp_path / "last.ckpt").read_bytes()
    (tmp_path / "last.ckpt").write_bytes(content[: len(content) // 2])

    again = run(config(), data, tmp_path)

    assert numbers(again) == numbers(whole)
    assert not any(report.replayed for report in again)
    assert "starts from the beginning" in (tmp_path / "log.txt").read_text()


def test_another_configuration_does_not_continue(config: Configure, data: PreparedData, tmp_path: Path) -> None:
    """Weights of other parameters under a trial's name would be a wrong number."""
    run(config(), data, tmp_path)
    other = run(config(lr=1e-3), data, tmp_path)

    assert not any(report.replayed for report in other)
    assert len(lines(tmp_path / "metrics.jsonl")) == 3


def test_best_weights_are_those_of_the_best_epoch(config: Configure, data: PreparedData, tmp_path: Path) -> None:
    """The value of a trial and its weights must belong together, also for a metric that is minimised."""
    seen: dict[int, dict[str, torch.Tensor]] = {}
    settings = config(metric="hd95", epochs=5, lr=0.02)
    reports = []
    for report in train(settings, data=data, device="cpu", folder=tmp_path, stop=never):
        seen[report.epoch] = torch.load(tmp_path / "last.ckpt", weights_only=True)["model"]
        reports.append(report)
    best = min(reports, key=lambda report: report.metrics["hd95"] or 1e9)
    weights = load_file(tmp_path / "best.safetensors")

    assert all(torch.equal(weights[name], tensor) for name, tensor in seen[best.epoch].items())


def test_epochs_without_validation_have_no_metrics(config: Configure, data: PreparedData, tmp_path: Path) -> None:
    """`validate_every` saves time; the last epoch is validated whatever it says."""
    reports = run(config(epochs=5, validate_every=2), data, tmp_path)

    assert [bool(report.metrics) for report in reports] == [False, True, False, True, True]


def test_a_loss_that_is_not_finite_is_a_verdict(config: Configure, data: PreparedData, tmp_path: Path) -> None:
    """Diverged trials are not errors: the sampler learns from them."""
    with pytest.raises(Diverged, match="epoch 1: the training loss is"):
        run(config(augment="none"), spoiled(data), tmp_path)


def test_one_class_everywhere_is_told(config: Configure, data: PreparedData, tmp_path: Path) -> None:
    """A collapsed network has a fine loss; only this flag gives it away."""
    empty = replace(data, train=replace(data.train, labels=np.zeros_like(data.train.labels)))
    collapsed = run(config(epochs=6, lr=0.02), empty, tmp_path / "collapsed")
    sound = run(config(epochs=6, lr=0.02), data, tmp_path / "sound")

    assert collapsed[-1].one_class
    assert not sound[-1].one_class


def test_closing_frees_the_network(config: Configure, data: PreparedData, tmp_path: Path) -> None:
    """A pruned trial must give its memory to the next one at once."""
    reports = train(config(), data=data, device="cpu", folder=tmp_path, stop=never)
    next(reports)
    networks = [weakref.ref(o) for o in gc.get_objects() if type(o).__name__ == "SegmentationNet"]
    assert networks
    reports.close()
    gc.collect()

    assert not any(network() for network in networks)
    assert (tmp_path / "predictions.png").exists()


def test_the_log_is_closed(config: Configure, data: PreparedData, tmp_path: Path) -> None:
    """A worker trains hundreds of trials: none may leave a handler behind."""
    before = list(logging.getLogger("tuner.training").handlers)
    run(config(epochs=1), data, tmp_path)

    assert logging.getLogger("tuner.training").handlers == before
    assert "epoch 1  loss" in (tmp_path / "log.txt").read_text()


def test_volumes_train_too(config: Configure, tmp_path: Path) -> None:
    """The same code must serve 3-D."""
    data = make_data(tmp_path, size=16, volumes=True)
    reports = run(config(epochs=2, batch_size=2), data, tmp_path / "trial")

    assert len(reports) == 2
    with np.load(tmp_path / "trial" / "predictions.npz") as predictions:
        assert predictions[data.validation.cases[0]].shape == (4, 16, 16)


def test_threads_are_obeyed(config: Configure, data: PreparedData, tmp_path: Path) -> None:
    """The number of threads changes the numbers: a worker must use the stored one."""
    before = torch.get_num_threads()
    try:
        run(config(threads=2, epochs=1), data, tmp_path)
        assert torch.get_num_threads() == 2
        assert json.loads((tmp_path / "environment.json").read_text())["threads"] == 2
    finally:
        torch.set_num_threads(before)


def spoiled(data: PreparedData) -> PreparedData:
    """Give one training image an infinite pixel."""
    data.train.images[3, 0, 5, 5] = np.inf
    return data

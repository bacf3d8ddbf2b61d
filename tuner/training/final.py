"""What `tuner train` does: a configuration from scratch, and the test cases scored with its best weights."""

import json
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tuner.config import TrialConfig
from tuner.data.prepared import PreparedData
from tuner.data.resize import resize_images, resize_labels
from tuner.data.source import TestCase
from tuner.errors import DataError
from tuner.metrics.catalogue import METRICS
from tuner.metrics.score import mean_scores, score_case, without_absent
from tuner.training.checkpoint import LAST
from tuner.training.evaluate import Labels, by_class
from tuner.training.record import BEST, TrialFolder
from tuner.training.reports import EpochReport
from tuner.training.storage import space_needed, write_json
from tuner.training.trainer import train
from tuner.training.trial import Trial, build_trial

RESULT = "metrics.json"


def train_final(
    config: TrialConfig,
    *,
    data: PreparedData,
    tests: Iterable[TestCase],
    device: str,
    folder: Path,
    stop: Callable[[], bool] = lambda: False,
    allow_entry: Collection[str] = (),
    on_epoch: Callable[[EpochReport], None] = lambda report: None,
) -> dict[str, Any] | None:
    """Train from scratch, score the test cases, and write what a trial writes, and `metrics.json`.

    Args:
        config: What `export` wrote.
        data: What `prepare` made of `config.dataset`.
        tests: What `test_cases` yields; none when there are no test cases.
        device: `cpu`, `mps` or `cuda:N`.
        folder: Where everything is written; a checkpoint in it is removed.
        stop: Asked between steps; when it says yes, nothing more is written and None is returned.
        allow_entry: Packages from which `train.entry` may be imported.
        on_epoch: Told of every epoch.

    Returns:
        The document of `metrics.json`: `value` (first objective at the best validated epoch), `metrics` (all of that
        epoch), `test` (None without test cases or without weights of ours).

    Raises:
        DataError: No validation case holds any class, so no epoch has a value.
    """
    with space_needed(folder):
        for name in (LAST, BEST, RESULT):
            (folder / name).unlink(missing_ok=True)
    for report in train(config, data=data, device=device, folder=folder, stop=stop, allow_entry=allow_entry):
        on_epoch(report)
    record = TrialFolder(folder, config, device)
    finished = record.resume(config.train.epochs)
    if stop() and len(finished) < config.train.epochs:
        return None
    if record.best is None:
        raise DataError(f"no epoch has a value of {config.objectives[0].metric!r}: validation holds no class to score.")
    document = {
        "value": record.best.metrics[config.objectives[0].metric],
        "metrics": dict(record.best.metrics),
        "per_class": {name: dict(values) for name, values in record.best.per_class.items()},
        "epoch": record.best.epoch,
        "validation_protocol": data.validation_protocol,
        "test": score_tests(config, data=data, tests=tests, device=device, record=record),
    }
    write_json(folder / RESULT, document)
    written: dict[str, Any] = json.loads((folder / RESULT).read_bytes())
    return written


def score_tests(
    config: TrialConfig, *, data: PreparedData, tests: Iterable[TestCase], device: str, record: TrialFolder
) -> dict[str, Any] | None:
    """Score the best weights on test cases, each as a whole and at its original size."""
    if not (record.path / BEST).exists():
        return None
    trial = build_trial(config, data, device)
    trial.model.load_state_dict(record.read_best())
    scores, names = [], []
    occurring = np.zeros(data.classes, bool)
    for case in tests:
        predicted = predict_case(trial, case, data, batch_size=config.train.batch_size)
        names.append(case.name)
        occurring |= np.bincount(case.label.ravel(), minlength=256)[: data.classes] > 0
        scores.append(
            score_case(
                predicted,
                case.label,
                data.classes,
                data.ignore_index,
                tuple(METRICS),
                spacing=case.spacing,
                background=data.background,
            )
        )
    if not scores:
        return None
    if not data.background:
        scores = without_absent(scores, occurring.tolist())
    means, per_class = mean_scores(scores)
    return {
        "metrics": means,
        "per_class": by_class(per_class, data.scored_names),
        "cases": [
            {"case": name, "metrics": by_class(score, data.scored_names)}
            for name, score in zip(names, scores, strict=True)
        ],
    }


@torch.no_grad()
def predict_case(trial: Trial, case: TestCase, data: PreparedData, *, batch_size: int) -> Labels:
    """Predict a case in the size that the network was trained with, and take the labels back to its own size.

    Returns:
        Labels in the shape of `case.label`.
    """
    trial.model.eval()
    slices = case.image[:, None] if case.image.ndim == 3 else case.image
    samples = slices if data.stacked else case.image[None]
    size = data.train.images.shape[-2:]
    resized = torch.from_numpy(resize_images(np.ascontiguousarray(samples, np.float32), (size[0], size[1])))
    found = [
        trial.logits(trial.to_device(batch)).argmax(1).to(torch.uint8).cpu()
        for batch in torch.split(resized, batch_size)
    ]
    predicted = resize_labels(torch.cat(found).numpy(), (case.label.shape[-2], case.label.shape[-1]))
    return np.asarray(predicted if data.stacked else predicted[0], np.uint8)

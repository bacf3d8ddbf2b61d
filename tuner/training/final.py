"""`tuner train`: a configuration from scratch, and test cases scored with its best weights."""

import json
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tuner.atomic_io import space_needed, write_json
from tuner.config.trial import TrialConfig
from tuner.data.images import resize_labels
from tuner.data.preparation import PreparedData
from tuner.data.source import TestCase
from tuner.errors import DataError
from tuner.metrics.calibration import CalibrationCounter, CalibrationCounts
from tuner.metrics.catalog import MASK_METRICS
from tuner.metrics.scoring import mean_scores, score_case, without_absent
from tuner.training.checkpoint import LAST
from tuner.training.command import ProgramPlace
from tuner.training.components import AllowedSources, PlacedModel, build_network
from tuner.training.epoch_report import EpochReport
from tuner.training.evaluate import by_class, calibration_counter, score_regions, whole_case
from tuner.training.program import PRINTED
from tuner.training.program_reports import MAX_EPOCH, REPORTS
from tuner.training.run_dir import BEST, RunDirectory
from tuner.training.run_dir import METRICS as METRICS_FILE
from tuner.training.sliding_window import Geometry, Labels, predict_image
from tuner.training.trainer import train

RESULT = "metrics.json"


def train_final(
    config: TrialConfig,
    *,
    data: PreparedData | None,
    tests: Iterable[TestCase],
    device: str,
    folder: Path,
    stop: Callable[[], bool] = lambda: False,
    allow_entry: Collection[str] = (),
    data_root: Path | None = None,
    on_epoch: Callable[[EpochReport], None] = lambda report: None,
    place: ProgramPlace | None = None,
) -> dict[str, Any] | None:
    """Train from scratch, score the test cases, and write what a trial writes, and `metrics.json`.

    Args:
        config: What `export` wrote.
        data: What `prepare` made of `config.dataset`; None where a training of the user's own has none.
        tests: What `test_cases` yields; none when there are no test cases.
        device: `cpu`, `mps` or `cuda:N`.
        folder: Where everything is written; a checkpoint in it is removed.
        stop: Asked between steps; when it says yes, nothing more is written and None is returned.
        allow_entry: Packages from which `train.entry` and `model.entry` may be imported.
        data_root: Where `model.weights` lies, unless it is a whole path.
        on_epoch: Told of every epoch.
        place: What `train.command` may run here.

    Returns:
        The document of `metrics.json`: `value` (first objective at the best validated epoch), `metrics` (all of that
        epoch), `test` (None without test cases or without weights of ours).

    Raises:
        DataError: No validation case holds any class, so no epoch has a value.
    """
    with space_needed(folder):
        # of a training of the user's own, what it continues from is not known: its folder must be new
        for name in (LAST, BEST, RESULT, *((PRINTED, REPORTS, METRICS_FILE) if config.train.is_own else ())):
            (folder / name).unlink(missing_ok=True)
    reports = train(
        config,
        data=data,
        device=device,
        folder=folder,
        stop=stop,
        allow_entry=allow_entry,
        data_root=data_root,
        place=place,
    )
    for report in reports:
        on_epoch(report)
    record = RunDirectory(folder, config, device)
    finished = record.resume(MAX_EPOCH if config.train.command is not None else config.train.epochs)
    if stop() and len(finished) < config.train.epochs:
        return None
    if record.best is None:
        why = "no report has one" if config.train.is_own else "validation holds no class to score"
        raise DataError(f"no epoch has a value of {config.objectives[0].metric!r}: {why}.")
    document = {
        "value": record.best.metrics[config.objectives[0].metric],
        "metrics": dict(record.best.metrics),
        "per_class": {name: dict(values) for name, values in record.best.per_class.items()},
        "epoch": record.best.epoch,
        "validation_protocol": None if data is None else data.validation_protocol,
        "test": None
        if data is None
        else score_tests(config, data=data, tests=tests, device=device, record=record, allow_entry=allow_entry),
    }
    write_json(folder / RESULT, document)
    written: dict[str, Any] = json.loads((folder / RESULT).read_bytes())
    return written


def score_tests(
    config: TrialConfig,
    *,
    data: PreparedData,
    tests: Iterable[TestCase],
    device: str,
    record: RunDirectory,
    allow_entry: Collection[str] = (),
) -> dict[str, Any] | None:
    """Score the best weights on test cases, each as a whole and at its original size."""
    if not (record.path / BEST).exists():
        return None
    net = build_network(config, data, device, AllowedSources(allow_entry=allow_entry), pretrained=False)
    net.model.load_state_dict(record.read_best())
    geometry = Geometry.of(config.train, data.sample_shape)
    scores, names = [], []
    counts: list[CalibrationCounts] = []
    occurring = np.zeros(data.classes, bool)
    for case in tests:
        counter = calibration_counter(data, 1, device)
        predicted = predict_case(net, case, data, geometry, counter)
        counts.append(counter.counts())
        names.append(case.name)
        if data.regions is not None:
            scores.append(score_regions(predicted, case.label, data, case.spacing))
            continue
        occurring |= np.bincount(case.label.ravel(), minlength=256)[: data.classes] > 0
        scores.append(
            score_case(
                predicted,
                case.label,
                data.classes,
                data.ignore_index,
                MASK_METRICS,
                spacing=case.spacing,
                background=data.background,
            )
        )
    if not scores:
        return None
    if not data.background and data.regions is None:
        scores = without_absent(scores, occurring.tolist())
    means, per_class = mean_scores(scores)
    return {
        "metrics": means | CalibrationCounts.together(counts).scores(),
        "per_class": by_class(per_class, data.scored_names),
        "cases": [
            {"case": name, "metrics": by_class(score, data.scored_names) | whole_case(count.scores())}
            for name, score, count in zip(names, scores, counts, strict=True)
        ],
    }


def predict_case(
    net: PlacedModel,
    case: TestCase,
    data: PreparedData,
    geometry: Geometry,
    counter: CalibrationCounter | None = None,
) -> Labels:
    """Predict a case in the size that the network was trained with, and take the labels back to its own size.

    `counter` counts the case as its first unit: like its label, a pixel's probabilities are those of the pixel of the
    sample that its centre lies in.

    Returns:
        Labels (or codes of regions) in the shape of `case.label`.
    """
    image = case.image
    if data.stacked:
        image = image[None] if image.ndim == 3 else np.moveaxis(image, 1, 0)
    elif data.spatial_dims == 2:
        image = image[:, None]
    truth = case.label.reshape(image.shape[1:])
    height, width = image.shape[-2], image.shape[-1]

    def count(number: int, logits: Tensor) -> None:
        if counter is not None:
            found = torch.from_numpy(resize_labels(logits.cpu().numpy(), (height, width)))
            labels = torch.from_numpy(truth[number].astype(np.int64))
            counter.add(found[None].to(net.device), labels[None].to(net.device), torch.zeros(1, dtype=torch.int64))

    predicted = predict_image(net, image, geometry, on_plane=count)
    assert predicted is not None  # nobody asked it to stop
    return predicted.reshape(case.label.shape)

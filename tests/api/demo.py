"""A storage like that of a lab: studies in every phase, filled through the store, artifacts of some trials."""

import io
import json
import math
import os
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from sqlalchemy import create_engine, text

from tuner.artifacts.local import Artifacts
from tuner.config.study import StudySpec, load_spec
from tuner.config.yaml_reader import YamlDocument
from tuner.data.preparation import PreparedData, prepare
from tuner.launch.new_study import new_study as study_to_create
from tuner.registry import Scalar
from tuner.search.space import Dimension, SearchSpace
from tuner.storage.records import Claim, EpochRow, NewStudy, Outcome
from tuner.storage.states import Reason, State
from tuner.storage.storage import Storage

ORGANS = ("aorta", "gallbladder", "left kidney", "right kidney", "liver", "pancreas", "spleen", "stomach")
STRENGTH = {
    "cross_entropy": 0.70, "topk": 0.72, "focal": 0.69, "dice": 0.74, "log_cosh_dice": 0.73, "jaccard": 0.74,
    "tversky": 0.75, "focal_tversky": 0.765, "lovasz_softmax": 0.745, "combo": 0.755, "exponential_logarithmic": 0.71,
    "unified_focal": 0.76, "dice_cross_entropy": 0.775, "dice_focal": 0.77,
}  # fmt: skip
DATASET: dict[str, Any] = {"name": "phantom", "size": 64, "validation": 0.25}


def spec_of(name: str, *, trials: int = 60, epochs: int = 12, objectives: tuple[str, ...] = ("dice",)) -> StudySpec:
    """Return a study over fourteen losses."""
    content = {
        "name": name,
        "dataset": DATASET,
        "model": {"name": "unet", "width": 8},
        "train": {"epochs": epochs, "batch_size": 8, "threads": 1},
        "search": {
            "loss": list(STRENGTH),
            "train.lr": {"low": 1e-4, "high": 1e-2, "log": True},
            "train.weight_decay": {"low": 1e-6, "high": 1e-2, "log": True},
            "train.batch_size": [4, 8, 16],
        },
        "objectives": [{"metric": metric} for metric in objectives],
        "budget": {"trials": trials},
    }
    return load_spec(YamlDocument(content, {}, None))


def new_study(spec: StudySpec, **resources: Any) -> NewStudy:
    """Return what the store takes."""
    return study_to_create(spec, resources=resources, version="demo")


def point(space: SearchSpace, given: Mapping[str, Scalar], dice: random.Random) -> dict[str, Scalar]:
    """Fill in a point at random."""
    params = dict(given)
    for dimension in space:
        if dimension.when is None or params.get(dimension.when[0]) == dimension.when[1]:
            params.setdefault(dimension.name, _draw(dimension, dice))
    return params


def _draw(dimension: Dimension, dice: random.Random) -> Scalar:
    if dimension.kind == "categorical":
        return dice.choice(dimension.choices)
    if dimension.log:
        value = math.exp(dice.uniform(math.log(dimension.low), math.log(dimension.high)))
    else:
        value = dice.uniform(dimension.low, dimension.high)
    return round(value) if dimension.kind == "int" else value


def epoch_row(epoch: int, epochs: int, params: Mapping[str, Scalar], dice: random.Random) -> EpochRow:
    """Return an epoch of a curve that its loss and learning rate decide."""
    ceiling = (
        STRENGTH.get(str(params.get("loss")), 0.7) - 0.05 * (math.log10(float(params["train.lr"] or 1e-3)) + 2.7) ** 2
    )
    value = max(0.02, ceiling * (1 - math.exp(-3.2 * epoch / epochs)) + dice.gauss(0, 0.006))
    classes = {o: min(0.99, max(0.0, value * (0.75 + 0.06 * i) + dice.gauss(0, 0.01))) for i, o in enumerate(ORGANS)}
    hd95 = 40 * (1 - value) + abs(dice.gauss(0, 1.0))
    return EpochRow(
        epoch=epoch,
        value=value,
        metrics={"dice": value, "iou": value / (2 - value), "hd95": hd95},
        per_class={"dice": classes, "hd95": {o: hd95 * (0.8 + 0.05 * i) for i, o in enumerate(ORGANS)}},
        train_loss=1.4 * math.exp(-2 * epoch / epochs) + 0.1 + abs(dice.gauss(0, 0.01)),
        lr=float(params["train.lr"] or 0) * (1 - epoch / (epochs + 1)),
        seconds=2.4 + dice.random(),
    )


def fill(store: Storage, name: str, *, finish: int, running: int = 0, artifacts: Artifacts | None = None,
         data: PreparedData | None = None, seed: int = 0) -> None:  # fmt: skip
    """Run a study as workers would: complete, prune, fail, retry, and leave some trials running."""
    dice = random.Random(seed)
    record = store.studies.get(name)
    epochs = int(record.spec["train"]["epochs"])
    workers = [
        store.workers.register(
            pid=os.getpid(), device=f"cuda:{i % 2}", study=name, version="demo", host=f"node{i // 2 + 1}"
        )
        for i in range(4)
    ]
    best_of: dict[int, list[float]] = {}
    for turn in range(finish + running):
        claim = store.trials.claim(record.study_id, workers[turn % 4])
        if claim is None:
            return
        params = point(record.space, claim.params, dice)
        store.trials.set_params(claim, params, record.space)
        rows = [epoch_row(e, epochs, params, dice) for e in range(1, epochs + 1)]
        if turn >= finish:
            for row in rows[: 3 + turn % 6]:
                store.epochs.report(claim, row)
            continue
        _end(store, claim, rows, turn, best_of, artifacts, data, dice)


def _end(store: Storage, claim: Claim, rows: list[EpochRow], turn: int, best_of: dict[int, list[float]],
         artifacts: Artifacts | None, data: PreparedData | None, dice: random.Random) -> None:  # fmt: skip
    if turn % 17 == 11:
        for row in rows[:2]:
            store.epochs.report(claim, row)
        store.trials.finish(
            claim, Outcome(State.FAIL, Reason.ERROR, "RuntimeError: the label 9 is no class of phantom")
        )
        return
    if turn % 19 == 13:
        store.trials.finish(claim, Outcome(State.PRUNED, Reason.DIVERGED, "epoch 1: train_loss is nan"))
        return
    if turn % 23 == 7:
        store.epochs.report(claim, rows[0])
        store.trials.finish(claim, Outcome(State.FAIL, Reason.INTERRUPTED, "stopped", retry=True))
        return
    for row in rows:
        store.epochs.report(claim, row)
        seen = best_of.setdefault(row.epoch, [])
        seen.append(float(row.value or 0))
        if row.epoch >= 4 and len(seen) > 10 and (row.value or 0) < sorted(seen)[len(seen) // 3]:
            store.trials.finish(
                claim, Outcome(State.PRUNED, Reason.PRUNED, "below its peers", last=(row.epoch, float(row.value or 0)))
            )
            return
    best = max(rows, key=lambda row: float(row.value or 0))
    metrics = [o["metric"] for o in store.studies.get(claim.study_name).objectives]
    values = tuple(float(best.metrics[m] or 0) for m in metrics)
    store.trials.finish(claim, Outcome(State.COMPLETE, values=values, last=(best.epoch, values[0])))
    if artifacts is not None and data is not None:
        write_artifacts(artifacts, claim, rows, best, data, dice)


def write_artifacts(artifacts: Artifacts, claim: Claim, rows: list[EpochRow], best: EpochRow, data: PreparedData,
                    dice: random.Random) -> None:  # fmt: skip
    """Write what a trial leaves, its predictions being the truth with mistakes in it."""
    folder = artifacts.create(claim.study_name, claim.number)
    split = data.validation
    noise = np.random.default_rng(claim.number)
    predictions = {}
    for index, case in enumerate(split.cases):
        truth = np.array(split.labels[split.case_of == index])
        shift = 1 + int(4 * (1 - float(best.value or 0)))
        wrong = np.roll(truth, (noise.integers(-shift, shift + 1), noise.integers(-shift, shift + 1)), (-2, -1))
        wrong[wrong == noise.integers(1, 9)] = noise.integers(0, 9)
        predictions[case] = wrong
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **predictions)
    (folder / "predictions.npz").write_bytes(buffer.getvalue())
    Image.fromarray(np.uint8(255 * np.clip(split.images[0, 0], 0, 1))).save(folder / "predictions.png")
    counts = np.zeros((9, 9), np.int64)
    for index, case in enumerate(split.cases):
        truth = np.array(split.labels[split.case_of == index]).ravel()
        np.add.at(counts, (truth[truth < 9], predictions[case].ravel()[truth < 9]), 1)
    np.save(folder / "confusion.npy", counts)
    lines = [
        {"epoch": best.epoch, "case": case, "metrics": {"dice": {o: dice.uniform(0.5, 0.95) for o in ORGANS}}}
        for case in split.cases
    ]
    (folder / "cases.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    metrics = [{"epoch": r.epoch, "train_loss": r.train_loss, "metrics": dict(r.metrics)} for r in rows]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in metrics))
    (folder / "log.txt").write_text(
        "".join(f"12:00:{r.epoch:02d} INFO epoch {r.epoch}: dice {r.value:.4f}\n" for r in rows)
    )
    (folder / "environment.json").write_text(json.dumps({"device": "cuda:0", "host": "node1"}))
    (folder / "config.yaml").write_text("loss: {name: dice}\n")


def spread_times(url: str, name: str) -> None:
    """Let the trials of a study lie behind each other as if each epoch took seconds; for the timeline only."""
    engine = create_engine(url)
    with engine.begin() as connection:
        rows = connection.execute(
            text(
                "SELECT a.trial_id, a.worker_id, a.finished_at IS NOT NULL, a.last_epoch "
                "FROM tuner_attempts a JOIN tuner_studies s "
                "ON s.study_id = a.study_id WHERE s.name = :name AND a.claimed_at IS NOT NULL ORDER BY a.trial_id"
            ),
            {"name": name},
        ).all()
        now = connection.execute(text("SELECT (julianday('now') - 2440587.5) * 86400.0")).scalar_one()
        clock: dict[str, float] = {}
        for trial_id, worker, ended, epochs in rows:
            start = clock.get(worker, now - 2600 + 13 * len(clock)) + 4
            end = start + 30 + 13 * (epochs or 3)
            clock[worker] = end if trial_id % 11 else end + 90
            values = {"start": start, "end": end if ended else None, "id": trial_id}
            connection.execute(
                text("UPDATE tuner_attempts SET claimed_at = :start, finished_at = :end WHERE trial_id = :id"), values
            )
    engine.dispose()


def build(url: str, folder: Path) -> None:
    """Fill a storage: `organs` runs, `goals` has two objectives and is done, `fresh` is queued, `rested` is paused."""
    cache = folder / "cache"
    data = prepare(DATASET, data_root=None, cache=cache, seed=0)
    artifacts = Artifacts(folder / "artifacts")
    with Storage.open(url, create=True) as store:
        store.studies.create(new_study(spec_of("goals", trials=24, objectives=("dice", "hd95"))))
        fill(store, "goals", finish=30, seed=2)
        store.studies.create(new_study(spec_of("rested", trials=30)))
        fill(store, "rested", finish=9, seed=3)
        store.studies.pause("rested")
        store.studies.create(new_study(spec_of("fresh", trials=20)))
        resources = {"fingerprint": data.fingerprint, "protocol": data.validation_protocol}
        store.studies.create(new_study(spec_of("organs", trials=60), **resources))
        fill(store, "organs", finish=52, running=4, artifacts=artifacts, data=data, seed=1)
    if url.startswith("sqlite"):
        spread_times(url, "organs")

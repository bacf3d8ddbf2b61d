"""A study of every loss, done, with twenty of its losses confirmed: the longest pages that a study usually has."""

import json
import random
from dataclasses import replace
from pathlib import Path

from tests.api import demo
from tuner.artifacts.local import Artifacts
from tuner.config.confirm_section import ConfirmSection
from tuner.config.confirmation import CASES_LEFT_OUT
from tuner.config.study import StudySpec, load_spec
from tuner.config.yaml_reader import YamlDocument
from tuner.data.preparation import PreparedData, prepare
from tuner.launch.confirmation import advance
from tuner.losses.catalog.registry import LOSSES
from tuner.metrics.catalog import METRICS
from tuner.storage.records import Outcome
from tuner.storage.states import State
from tuner.storage.storage import Storage

NAME = "survey"
FINALISTS = 20


def survey_spec(trials: int, epochs: int = 2) -> StudySpec:
    """Return a study in which every loss competes that can stand alone."""
    losses = [name for name, entry in LOSSES.items() if entry.standalone]
    content = {
        "name": NAME,
        "dataset": demo.DATASET,
        "model": {"name": "unet", "width": 8},
        "train": {"epochs": epochs, "batch_size": 8, "threads": 1},
        "search": {
            "loss": losses,
            "train.lr": {"low": 1e-4, "high": 1e-2, "log": True},
            "train.weight_decay": {"low": 1e-6, "high": 1e-2, "log": True},
            "train.batch_size": [4, 8, 16],
        },
        "objectives": [{"metric": "dice"}],
        "budget": {"trials": trials},
    }
    return load_spec(YamlDocument(content, {}, None))


def build(folder: Path, *, trials: int = 70, seeds: int = 3) -> str:
    """Fill a storage in `folder`; returns its address."""
    url = f"sqlite:///{folder / 'tuner.db'}"
    data = prepare(demo.DATASET, data_root=None, cache=folder / "cache", seed=0)
    artifacts = Artifacts(folder / "artifacts")
    resources = {"fingerprint": data.fingerprint, "protocol": data.validation_protocol}
    with Storage.open(url, create=True) as store:
        store.studies.create(demo.new_study(survey_spec(trials), **resources))
        demo.fill(store, NAME, finish=2 * trials, artifacts=artifacts, data=data, seed=5)
        advance(store, artifacts, NAME, ConfirmSection(top=FINALISTS, baseline=None, seeds=seeds))
        _train_again(store, artifacts, data)
    demo.spread_times(url, NAME)
    return url


def _train_again(store: Storage, artifacts: Artifacts, data: PreparedData) -> None:
    """Do what workers do with the queue of a confirmation; some losses are told apart, some are not."""
    dice = random.Random(6)
    child = store.confirmations.find(NAME)
    assert child is not None
    worker = store.workers.register(pid=1, device="cpu", study=NAME, version="demo", host="node1")
    strength: dict[str, float] = {}
    while (claim := store.trials.claim(child.study_id, worker)) is not None:
        name = str(claim.params["configuration"])
        level = strength.setdefault(name, 0.6 + 0.01 * len(strength)) + dice.gauss(0, 0.01)
        row = demo.epoch_row(1, 1, {"train.lr": 2e-3, "loss": name}, dice)
        store.epochs.report(claim, replace(row, value=level))
        store.trials.finish(claim, Outcome(State.COMPLETE, values=(level,), last=(1, level)))
        demo.write_artifacts(artifacts, claim, [row], row, data, dice)
        folder = artifacts.create(claim.study_name, claim.number)
        of_cases = []
        for case in data.validation.cases:
            scores = {metric: {o: level + dice.gauss(0, 0.02) for o in demo.ORGANS} for metric in METRICS}
            of_cases.append({"epoch": 1, "case": case, "metrics": scores})
        (folder / "cases.jsonl").write_text("".join(json.dumps(line) + "\n" for line in of_cases))
        (folder / CASES_LEFT_OUT).write_text(json.dumps({"cases": [], "groups": {}}))
        (folder / "metrics.jsonl").write_text(json.dumps({"epoch": 1, "seconds": row.seconds}) + "\n")

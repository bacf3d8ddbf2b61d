"""Label noise in a report: the metric against the rate, and which losses are told apart."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.api.demo import new_study
from tuner.analysis.robustness import robustness_of
from tuner.artifacts.local import Artifacts
from tuner.config.study import load_spec
from tuner.config.yaml_reader import YamlDocument, read_yaml
from tuner.report.render import render_markdown
from tuner.report.robustness_figure import draw_robustness, robustness_blocks
from tuner.storage.records import EpochRow, Outcome
from tuner.storage.states import Reason, State
from tuner.storage.storage import Storage

STUDY = {
    "name": "robust",
    "dataset": {"name": "phantom"},
    "train": {"epochs": 1},
    "search": {
        "loss": ["dice", "focal"],
        "options": "default",
        "dataset.label_noise.kind": ["drop", "flip"],
        "dataset.label_noise.rate": [0.0, 0.2, 0.4],
        "train.seed": [0, 1, 2, 3, 4],
    },
    "sampler": {"name": "grid"},
    "pruner": {"name": "none"},
    "budget": {"trials": 60},
}
CASES = 8


def finish(store: Storage, folder: Path, fall: Mapping[str, float]) -> None:
    """Complete every trial; Dice falls with the rate by `fall` of its loss; focal collapses once at 40 % of drop."""
    record = store.studies.get("robust")
    while (claim := store.trials.claim(record.study_id, "worker")) is not None:
        params: dict[str, Any] = dict(claim.params)
        loss, rate, seed = params["loss"], params["dataset.label_noise.rate"], params["train.seed"]
        if (loss, rate, seed, params["dataset.label_noise.kind"]) == ("focal", 0.4, 4, "drop"):
            store.trials.finish(claim, Outcome(State.FAIL, Reason.DIVERGED, "not finite"))
            continue
        rng = np.random.default_rng([seed, round(10 * rate), loss == "dice"])
        values = 0.8 - fall[loss] * rate + 0.005 * rng.standard_normal(CASES)
        path = folder / "robust" / str(claim.number)
        path.mkdir(parents=True)
        lines = [
            {"epoch": 1, "case": f"case{k}", "metrics": {"dice": {"liver": float(v), "aorta": None}}}
            for k, v in enumerate(values)
        ]
        (path / "cases.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        mean = float(values.mean())
        store.epochs.report(claim, EpochRow(1, mean, {"dice": mean}, {}, 1.0, 1e-3, 1.0))
        store.trials.finish(claim, Outcome(State.COMPLETE, values=(mean,), last=(1, mean)))


@pytest.fixture
def store(tmp_path: Path) -> Any:
    """A study over label noise, nothing of it trained."""
    with Storage.open(f"sqlite:///{tmp_path / 'tuner.db'}", create=True) as opened:
        opened.studies.create(new_study(load_spec(YamlDocument(STUDY, {}, None))))
        yield opened


def test_losses_are_told_apart_at_a_fifth(store: Storage, tmp_path: Path) -> None:
    """By runs with equal seeds, for each kind of noise, with the error of all claims together."""
    finish(store, tmp_path, {"dice": 0.1, "focal": 0.8})

    found = robustness_of(store, Artifacts(tmp_path), "robust")

    assert found is not None
    assert [(curve.kind, curve.judged_rate) for curve in found.curves] == [("drop", 0.2), ("flip", 0.2)]
    for curve in found.curves:
        assert curve.verdict is not None
        assert curve.verdict.alpha == 0.025
        assert (curve.verdict.leader, curve.verdict.pairs[0].verdict) == ("dice", "a_better")
        assert [point.rate for point in curve.points] == [0.0, 0.2, 0.4]
    collapsed = {c.name: c.runs_collapsed for c in found.curves[0].points[2].configurations}
    assert collapsed == {"dice": 0, "focal": 1}
    text = render_markdown(robustness_blocks(found))
    assert "At 20 %: dice and focal: dice is better" in text
    assert draw_robustness(found).to_svg().count(b"<circle") == 12 + 4


def test_equal_losses_are_not_told_apart(store: Storage, tmp_path: Path) -> None:
    """Values that differ by chance alone make no claim."""
    finish(store, tmp_path, {"dice": 0.1, "focal": 0.1})

    found = robustness_of(store, Artifacts(tmp_path), "robust")

    assert found is not None
    assert all(c.verdict and c.verdict.pairs[0].verdict not in ("a_better", "b_better") for c in found.curves)


def test_nothing_is_said_before_trials_have_ended(store: Storage, tmp_path: Path) -> None:
    """Nor of a study that is about something else."""
    assert robustness_of(store, Artifacts(tmp_path), "robust") is None


@pytest.mark.parametrize("name", ["robustness-phantom", "robustness-synapse"])
def test_the_shipped_studies_hold_their_whole_grid(name: str) -> None:
    """Every loss, kind, rate and seed has one trial."""
    spec = load_spec(read_yaml(Path("studies") / f"{name}.yaml"))
    points = spec.queue()

    assert len(points) == spec.total
    assert len({json.dumps(point, sort_keys=True) for point in points}) == spec.total
    assert all("dataset.label_noise.rate" in point for point in points)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_phantom_study_in_small(tmp_path: Path) -> None:
    """The shipped study with real trainings of two losses, two kinds, two rates and three seeds, to its figure."""
    environment = {**os.environ, "TUNER_CACHE": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1"}
    small = (
        "dataset.size=32", "dataset.cases=8", "dataset.slices=4", "model.width=4", "train.epochs=2", "train.threads=1",
        "search.loss=[cross_entropy, dice]", "search.dataset.label_noise.kind=[drop, shift]",
        "search.dataset.label_noise.rate=[0.0, 0.2]", "search.train.seed=[0, 1, 2]",
    )  # fmt: skip
    sets = [word for text in small for word in ("--set", text)]

    def tuner(*words: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "tuner", *words],
            cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=1800, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{words}\n{done.stderr}"
        return done.stdout

    launched = ("launch", "--dataset", "robustness-phantom", "--trials", "24", "--devices", "cpu")
    inline = ("--launcher", "inline")
    tuner(*launched, *inline, *sets)
    document = json.loads(tuner("status", "robustness-phantom", "--json"))
    tuner("report", "robustness-phantom", "-o", "robustness.html")

    assert (document["trials"]["total"], document["trials"]["failed"]) == (24, 0)
    assert document["confirmation"] is None
    text = (tmp_path / "robustness.html").read_text(encoding="utf-8")
    assert "At 20 %" in text
    assert "told apart" in text or "is better" in text

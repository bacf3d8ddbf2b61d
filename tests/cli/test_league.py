"""`tuner league` over three data sets: from confirmations as they are stored, and from real trainings to the end."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.cli.shell import Shell
from tuner.artifacts.local import Artifacts
from tuner.config.confirm_section import ConfirmSection
from tuner.config.study import load_spec
from tuner.config.yaml_reader import YamlDocument
from tuner.launch.confirmation import advance
from tuner.launch.new_study import create_study
from tuner.storage.records import EpochRow, Outcome
from tuner.storage.states import State
from tuner.storage.storage import Storage

URL = "sqlite:///tuner.db"
DATA = {"flat": {"anatomy_seed": 1}, "volumes": {"dimensions": 3}, "noisy": {"noise": 0.2}}
GAIN = {"dice": 0.1, "focal": 0.04, "tversky": 0.0}
CASES, SEEDS = 6, 3


def study(name: str, hours: float) -> dict[str, object]:
    return {
        "name": name,
        "dataset": {"name": "phantom", "size": 32, "cases": 12, "slices": 4, "validation": 0.5, **DATA[name]},
        "model": {"name": "unet", "width": 4},
        "train": {"epochs": 2, "batch_size": 4, "threads": 1, "precision": "float32"},
        "search": {"loss": list(GAIN), "train.lr": {"low": 1e-3, "high": 1e-1, "log": True}},
        "budget": {"hours_per_loss": hours},
    }


def complete(store: Storage, folder: Path, name: str, rng: np.random.Generator) -> None:
    """End every trial or run that waits, with scores in the files that a training leaves."""
    record = store.studies.get(name)
    while (claim := store.trials.claim(record.study_id, "w1")) is not None:
        params = dict(claim.params)
        if not claim.has_params:
            params |= {"train.lr": 0.01 * float(rng.uniform(0.5, 2))}
            params |= {d.name: d.nearest(None) for d in record.space.active(params) if d.name not in params}
            assert store.trials.set_params(claim, params, record.space)
        loss = str(params.get("loss") or params["configuration"]).split(" ")[0]
        values = 0.6 + GAIN[loss] + 0.02 * rng.standard_normal(CASES)
        path = folder / name / str(claim.number)
        path.mkdir(parents=True)
        lines = [
            {"epoch": 1, "case": f"case{k}", "metrics": {"dice": {"liver": float(v)}}} for k, v in enumerate(values)
        ]
        (path / "cases.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        (path / "search_cases.json").write_text(json.dumps({"cases": [f"case{k}" for k in range(CASES)]}))
        mean = float(values.mean())
        store.epochs.report(claim, EpochRow(1, mean, {"dice": mean}, {}, 1.0, 1e-3, 700.0))
        store.trials.finish(claim, Outcome(State.COMPLETE, values=(mean,), last=(1, mean)))


def test_three_confirmed_studies_are_ranked_at_equal_device_time(tuner: Shell, here: Path) -> None:
    """Ranks, intervals and regret as text, JSON and three kinds of files; nothing is claimed from three data sets."""
    files, rng = Artifacts(here / "artifacts"), np.random.default_rng(0)
    with Storage.open(URL, create=True) as store:
        for name in DATA:
            create_study(store, load_spec(YamlDocument(study(name, 0.5), {}, None)))
            complete(store, here / "artifacts", name, rng)
            assert advance(store, files, name, ConfirmSection(top=3, seeds=SEEDS, baseline=None))
            complete(store, here / "artifacts", f"{name}/confirmation", rng)

    told = tuner("league", *DATA, "-o", "league.html")
    for ending in ("md", "png"):
        assert tuner("league", *DATA, "-o", f"league.{ending}").code == 0
    document = tuner("league", *DATA, "--json").json()

    assert told.code == 0, told.err
    first, second, third = told.out.splitlines()[:3]
    assert first == "Mean ranks over 3 data sets, at equal device time (1: best): dice 1.00, focal 2.00, tversky 3.00."
    assert second == "Each search gave every loss 0.5 h of training."
    assert third == "Nothing is claimed from 3 data sets; a claim needs 5."
    assert [row["loss"] for row in document["losses"]] == list(GAIN)
    assert all(row["regret_of_defaults"] >= 0 for row in document["losses"])
    assert (document["claims"], document["hours_per_loss"]) == ([], [0.5] * 3)
    assert "at equal device time" in Path("league.html").read_text(encoding="utf-8")
    assert "| dice | 1.00 |" in Path("league.md").read_text(encoding="utf-8")
    assert Path("league.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_three_data_sets_searched_confirmed_and_ranked(tuner: Shell, here: Path) -> None:
    """From the study files to the league with real trainings: slices, volumes and noisy slices."""
    for name in DATA:
        path = here / f"{name}.yaml"
        path.write_text(json.dumps({**study(name, 1 / 3600), "confirm": {"top": 3, "seeds": SEEDS, "baseline": None}}))
        launched = tuner("launch", str(path), "--launcher", "inline", "--devices", "cpu")
        assert launched.code == 0, launched.err

    ranked = tuner("league", *DATA, "-o", "league.html")
    document = tuner("league", *DATA, "--json").json()

    assert ranked.code == 0, ranked.err
    assert sorted(row["loss"] for row in document["losses"]) == sorted(GAIN)
    assert sum(row["mean_rank"] for row in document["losses"]) == pytest.approx(6)
    assert "at equal device time" in document["text"]

"""What must hold when a study has ended, whatever happened on the way: the one checker of all fault tests.

Every trial of the budget stands in exactly one final state; counts are exact; epochs have neither gaps nor doubles;
values are those of the artifacts; what was reported was never trained again; a continued trial has the numbers of an
undisturbed one.
"""

import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tuner.config.study import StudySpec
from tuner.data.preparation import prepare
from tuner.settings import Settings
from tuner.storage.storage import Storage

ENDED = ("COMPLETE", "PRUNED", "FAIL")
NUMBERS = ("epoch", "train_loss", "metrics", "per_class", "lr")
"""What two trainings of one configuration must have in common, bit for bit."""


@dataclass(frozen=True, slots=True)
class Figures:
    """What was checked."""

    trials: int
    attempts: int
    continued: int
    """Trials that took more than one attempt."""
    kept: int
    """Epochs that a later attempt took over from an earlier one."""
    repeated: int
    """Trials whose numbers were compared with an undisturbed training."""


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Return the whole lines of a file; a killed process may have left half of one behind them."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]]


def check(store: Storage, places: Settings, spec: StudySpec, *, again: Path, most: int = 3) -> Figures:
    """Check everything; `again` is a folder for undisturbed trainings, of which at most `most` are made."""
    rows = store.queries.trials(spec.name, limit=100_000)
    every = store.queries.trials(spec.name, all_attempts=True, limit=100_000)
    places_of = _by_slot(every)
    _check_counts(store, spec.name, rows, every)
    for attempts in places_of.values():
        _check_place(attempts)
    _check_what_samplers_see(store, spec.name, every)
    final = {row["number"] for row in rows}
    for row in every:
        _check_epochs(store, places, spec, row, is_final=row["number"] in final)
    _check_best(store, places, spec, rows)
    kept = sum(_check_continued(store, places, spec, attempts) for attempts in places_of.values())
    continued = [row for row in rows if row["attempts"] > 1]
    repeated = [row for row in continued if row["state"] == "COMPLETE"][:most]
    for row in repeated:
        _check_numbers(places, spec, row, again / str(row["number"]))
    return Figures(len(rows), len(every), len(continued), kept, len(repeated))


def _by_slot(every: list[dict[str, Any]]) -> dict[int, list[dict[str, Any]]]:
    places = defaultdict(list)
    for row in sorted(every, key=lambda row: row["attempts"]):
        places[row["slot"]].append(row)
    return places


def _check_counts(store: Storage, name: str, rows: list[dict[str, Any]], every: list[dict[str, Any]]) -> None:
    counts = store.queries.status(name)["trials"]
    states = [row["state"] for row in rows]
    assert counts == {
        "total": store.studies.get(name).total,
        "waiting": 0,
        "running": 0,
        "complete": states.count("COMPLETE"),
        "pruned": states.count("PRUNED"),
        "failed": 0,
    }
    assert counts["complete"] + counts["pruned"] == counts["total"] == len(rows)
    assert sorted(row["slot"] for row in rows) == list(range(counts["total"]))
    assert sorted(row["number"] for row in every) == list(range(len(every)))


def _check_place(attempts: list[dict[str, Any]]) -> None:
    """One place of the budget: its attempts in a row, all with the same parameters, only the last one counts."""
    assert [row["attempts"] for row in attempts] == list(range(1, len(attempts) + 1))
    assert [row["state"] for row in attempts[:-1]] == ["FAIL"] * (len(attempts) - 1)
    assert attempts[-1]["state"] in ("COMPLETE", "PRUNED")
    chosen = [row["params"] for row in attempts if row["params"]]
    assert all(params == chosen[-1] for params in chosen)


def _check_what_samplers_see(store: Storage, name: str, every: list[dict[str, Any]]) -> None:
    history = store.epochs.history(store.studies.get(name).study_id)
    ended = sorted(row["number"] for row in every if row["state"] in ("COMPLETE", "PRUNED"))
    assert sorted(trial.number for trial in history.finished) == ended
    assert history.running == []


def _check_epochs(store: Storage, places: Settings, spec: StudySpec, row: dict[str, Any], *, is_final: bool) -> None:
    """No gap, no double; what the database says of an epoch is what the artifacts say."""
    stored = store.queries.epochs(spec.name, row["number"])
    lines = read_lines(_folder(places, spec, row) / "metrics.jsonl")
    assert [epoch["epoch"] for epoch in stored] == list(range(1, len(stored) + 1)), row
    assert len(lines) >= len(stored), row
    assert [(e["metrics"], e["train_loss"], _seconds(e)) for e in stored] == [
        (line["metrics"], line["train_loss"], _seconds(line)) for line in lines[: len(stored)]
    ], row
    if is_final:
        assert len(stored) == len(lines)
    if row["state"] == "COMPLETE":
        assert len(stored) == spec.base.train.epochs
        assert row["value"] == max(line["metrics"]["dice"] for line in lines if line["metrics"])


def _check_best(store: Storage, places: Settings, spec: StudySpec, rows: list[dict[str, Any]]) -> None:
    values = [
        max(line["metrics"]["dice"] for line in read_lines(_folder(places, spec, row) / "metrics.jsonl"))
        for row in rows
        if row["state"] == "COMPLETE"
    ]
    assert store.queries.status(spec.name)["best"]["value"] == max(values)


def _check_continued(store: Storage, places: Settings, spec: StudySpec, attempts: list[dict[str, Any]]) -> int:
    """Whatever an earlier attempt reported stands in the later ones as it was; return how many epochs were kept.

    The time that an epoch took is part of its line, so that an epoch which was trained again shows.
    """
    kept = 0
    last = attempts[-1]
    lines = read_lines(_folder(places, spec, last) / "metrics.jsonl")
    for earlier in attempts[:-1]:
        reported = [(e["epoch"], _seconds(e)) for e in store.queries.epochs(spec.name, earlier["number"])]
        assert [(line["epoch"], _seconds(line)) for line in lines[: len(reported)]] == reported, (earlier, last)
        kept = max(kept, len(reported))
    return kept


def _check_numbers(places: Settings, spec: StudySpec, row: dict[str, Any], folder: Path) -> None:
    lines = read_lines(_folder(places, spec, row) / "metrics.jsonl")
    again = undisturbed(spec, row["params"], places, folder)
    for key in NUMBERS:
        assert [line[key] for line in lines] == [line[key] for line in again], (row["number"], key)


def undisturbed(spec: StudySpec, params: dict[str, Any], places: Settings, folder: Path) -> list[dict[str, Any]]:
    """Train one configuration from its beginning to its end, and return its lines."""
    from tuner.training.trainer import train

    config = spec.config(params)
    data = prepare(config.dataset, data_root=None, cache=places.cache, seed=spec.seed)
    for _ in train(config, data=data, device="cpu", folder=folder, stop=lambda: False):
        pass
    return read_lines(folder / "metrics.jsonl")


def _seconds(epoch: dict[str, Any]) -> float:
    return round(float(epoch["seconds"]), 4)  # as exact as files have it


def _folder(places: Settings, spec: StudySpec, row: dict[str, Any]) -> Path:
    return places.artifacts / spec.name / str(row["number"])

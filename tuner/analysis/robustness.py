"""Losses under label noise: how the metric falls with the rate of wrong training labels, and who is told apart.

Reads a study over `dataset.label_noise.kind`, `dataset.label_noise.rate` and `train.seed` whose losses have published
options. Runs are trainings with equal seeds, cases the validation cases: claims are about new trainings.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tuner.analysis.pairwise_tests import ALPHA
from tuner.analysis.score_table import Candidate, ScoreTable
from tuner.analysis.seed_spread import SEED
from tuner.analysis.verdict import ConfigurationResult, Verdict, default_margin, judge
from tuner.artifacts.local import Artifacts
from tuner.errors import DataError, NotFoundError
from tuner.storage.storage import Storage

KIND, RATE = "dataset.label_noise.kind", "dataset.label_noise.rate"
JUDGED_RATE = 0.2
COLLAPSED = ("diverged", "collapsed")
"""Reasons of failed trials that are results: scored with 0."""

Row = Mapping[str, Any]
Scores = Mapping[str, float]
"""Metric by case; NaN where it is undefined."""


@dataclass(frozen=True, slots=True)
class NoisePoint:
    """Every loss at one rate."""

    rate: float
    configurations: tuple[ConfigurationResult, ...]


@dataclass(frozen=True, slots=True)
class NoiseCurves:
    """One kind of label noise."""

    kind: str
    points: tuple[NoisePoint, ...]
    """By rate."""
    verdict: Verdict | None
    """At the rate nearest to `JUDGED_RATE`; None where that is 0, or only one loss was trained."""
    judged_rate: float


@dataclass(frozen=True, slots=True)
class Robustness:
    """What a study says of losses under label noise."""

    metric: str
    losses: tuple[str, ...]
    curves: tuple[NoiseCurves, ...]


def robustness_of(storage: Storage, artifacts: Artifacts, name: str) -> Robustness | None:
    """Return the curves of a study over label noise; None of another study, and before enough of it has ended.

    The family-wise error is divided by the number of kinds, so that it holds for all claims together.
    """
    record = storage.studies.get(name)
    if record.space.find(RATE) is None or record.space.find(SEED) is None:
        return None
    metric, direction = record.objectives[0]["metric"], record.objectives[0]["direction"]
    if direction != "maximize":
        return None  # a training that failed has no worst value of a distance
    rows = [row for row in storage.queries.trials(name) if _has_ended(row)]
    cells: dict[tuple[str, float], dict[tuple[str, Any], Row]] = {}
    for row in rows:
        params = row["params"]
        cell = cells.setdefault((str(params.get(KIND, _base_kind(record.spec))), float(params[RATE])), {})
        cell.setdefault((row["loss"], params.get(SEED)), row)
    kinds = sorted({kind for kind, rate in cells if rate > 0})
    reader = _ScoreReader(artifacts, name, metric)
    curves = []
    for kind in kinds:
        rates = sorted(rate for of, rate in cells if of == kind)
        judged = min(rates, key=lambda rate: abs(rate - JUDGED_RATE))
        verdicts = {rate: _judge(cells[kind, rate], reader, ALPHA / len(kinds)) for rate in rates}
        points = tuple(NoisePoint(rate, found.configurations) for rate, found in verdicts.items() if found)
        verdict = verdicts[judged] if judged > 0 else None
        if points:
            curves.append(NoiseCurves(kind, points, verdict if verdict and verdict.pairs else None, judged))
    losses = dict.fromkeys(result.name for curve in curves for p in curve.points for result in p.configurations)
    return Robustness(metric, tuple(sorted(losses)), tuple(curves)) if curves else None


def _base_kind(spec: Mapping[str, Any]) -> str:
    noise = spec.get("dataset", {}).get("label_noise") or {}
    return str(noise.get("kind", "none"))


def _has_ended(row: Row) -> bool:
    scored = row["state"] == "COMPLETE" and row["value"] is not None
    return row["loss"] is not None and (scored or (row["state"] == "FAIL" and row["reason"] in COLLAPSED))


def _judge(cell: Mapping[tuple[str, Any], Row], reader: "_ScoreReader", alpha: float) -> Verdict | None:
    """Judge the losses of one kind and rate by the seeds that all of them have; None without such a seed."""
    losses = sorted({loss for loss, _ in cell})
    seeds = [seed for seed in dict.fromkeys(s for _, s in cell) if all((loss, seed) in cell for loss in losses)]
    found = {(loss, seed): reader.scores(cell[loss, seed]) for loss in losses for seed in seeds}
    cases = sorted({case for scores in found.values() if scores for case in scores})
    if not seeds or not cases:
        return None
    values = np.zeros((len(losses), len(seeds), len(cases)))
    for c, loss in enumerate(losses):
        for r, seed in enumerate(seeds):
            scores = found[loss, seed]
            if scores is not None:
                values[c, r] = [scores.get(case, np.nan) for case in cases]
    collapsed = np.array([[found[loss, seed] is None for seed in seeds] for loss in losses])
    try:
        table = ScoreTable.without_undefined(
            [Candidate(loss, loss=loss) for loss in losses],
            [str(seed) for seed in seeds],
            cases,
            values,
            metric=reader.metric,
            collapsed=collapsed,
        )
    except DataError:
        return None
    return judge(table, random_cases=False, alpha=alpha, margin=default_margin(reader.metric), draws=0)


class _ScoreReader:
    """Reads the scores of trials by case, at their best epochs."""

    def __init__(self, artifacts: Artifacts, study: str, metric: str) -> None:
        self._artifacts, self._study, self.metric = artifacts, study, metric

    def scores(self, row: Row) -> Scores | None:
        """Return the mean over classes by case; None of a training that diverged, or whose file is not here."""
        if row["state"] != "COMPLETE":
            return None
        try:
            with self._artifacts.open(self._study, row["number"], "cases.jsonl") as file:
                lines = [json.loads(line) for line in file]
        except (NotFoundError, ValueError):
            return {}
        return {
            line["case"]: _mean(list(line["metrics"][self.metric].values()))
            for line in lines
            if line["epoch"] == row["best_epoch"]
        }


def _mean(values: Sequence[float | None]) -> float:
    counted = [value for value in values if value is not None]
    return sum(counted) / len(counted) if counted else float("nan")

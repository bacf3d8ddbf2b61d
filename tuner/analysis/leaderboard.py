"""Leaderboard: ranking of losses, repeats, remaining time; from rows of the storage only."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

from tuner.analysis.seed_spread import seed_spread, unconfirmed_statement
from tuner.data.splits import FOLD
from tuner.losses.catalog.registry import LOSSES
from tuner.registry import Scalar
from tuner.search.space import Dimension, SearchSpace

if TYPE_CHECKING:
    from tuner.analysis.verdict import Verdict

Row = Mapping[str, Any]
"""A trial as `Store.trials` returns it."""

FEW_TRIALS = 20
"""A study with fewer finished trials has hardly looked around."""
FEW_TRIALS_OF_LOSS = 3
"""A loss with fewer finished trials was hardly tuned."""
EDGE = 0.02
"""Share of a range, at each end, that counts as its edge."""


@dataclass(frozen=True, slots=True)
class LeaderboardRow:
    """How one loss stands in a study."""

    loss: str
    family: str
    finished: int
    complete: int
    pruned: int
    failed: int
    best: float | None
    best_trial: int | None
    median: float | None
    default: float | None
    """Value of the trial with its published defaults; None when there was none, or it did not complete."""


def leaderboard(rows: Sequence[Row], direction: str, *, defaults: int = 0) -> list[LeaderboardRow]:
    """Return the losses that were tried, best first.

    Args:
        rows: Trials of the budget, the newest attempt of each.
        direction: `maximize` or `minimize`.
        defaults: So many first places of the budget hold published defaults.
    """
    by_loss: dict[str, list[Row]] = {}
    for row in rows:
        if row["loss"] is not None and row["state"] in ("COMPLETE", "PRUNED", "FAIL"):
            by_loss.setdefault(row["loss"], []).append(row)
    standings = [_standing(loss, trials, direction, defaults) for loss, trials in by_loss.items()]
    return sorted(standings, key=lambda standing: (standing.best is None, _rank(standing.best, direction)))


def families(standings: Sequence[LeaderboardRow], direction: str) -> list[LeaderboardRow]:
    """Return the best standing of each family, best first."""
    best: dict[str, LeaderboardRow] = {}
    for standing in standings:
        best.setdefault(standing.family, standing)
    return sorted(best.values(), key=lambda standing: (standing.best is None, _rank(standing.best, direction)))


def family_of(loss: str) -> str:
    """Return the family of a loss; `sum` for a weighted sum of the user's own."""
    return LOSSES[loss].family if loss in LOSSES else "sum"


def caveats(
    space: SearchSpace,
    objective: Mapping[str, str],
    rows: Sequence[Row],
    chosen: Row,
    *,
    study_seed: int = 0,
    protocol: str | None = None,
    verdict: "Verdict | None" = None,
) -> list[str]:
    """Say what speaks against trusting a trial's configuration, a sentence each.

    Args:
        space: What was searched.
        objective: `{"metric", "direction"}` of the first objective.
        rows: Trials of the budget.
        chosen: The trial that is exported.
        study_seed: Seed of trainings that name none.
        protocol: How validation cases were chosen.
        verdict: Of the study's confirmation, where there is one.
    """
    found = [_at_edge(dimension, chosen["params"]) for dimension in space.active(chosen["params"])]
    said = [text for text in found if text]
    finished = [row for row in rows if row["state"] in ("COMPLETE", "PRUNED")]
    if len(finished) < FEW_TRIALS:
        said.append(f"few trials: {len(finished)} finished; with more, another configuration may have the best value")
    same = [row for row in finished if row["loss"] == chosen["loss"]]
    if space.find("loss") is not None and len(same) < FEW_TRIALS_OF_LOSS <= len(finished):
        said.append(f"the loss {chosen['loss']} was tried only {'once' if len(same) == 1 else 'twice'}")
    said += _standing_of(objective, rows, chosen)
    said.append(_confirmation(rows, chosen, study_seed, verdict))
    if protocol == "test":
        said.append("validated on the test cases (dataset.validation: test): this is no test result any more")
    if space.find(FOLD) is not None:
        said.append(f"{FOLD} was searched: folds are not equally hard; hold means over all folds against each other")
    return said


def remaining_seconds(
    rows: Sequence[Row], *, left: int, workers: int, loss_time: Mapping[str, Any] | None = None
) -> float | None:
    """Estimate how long the rest of the budget takes, from the trials that have ended; None before the first one.

    Args:
        rows: Trials of the budget, running ones with their time so far.
        left: Trials that wait or run.
        workers: Workers that share them.
        loss_time: Of the study's document; where the budget is a training time, it says what is left.
    """
    if loss_time is not None:
        most = loss_time["hours_per_loss"]
        hours = sum(max(most - had, 0.0) for had in loss_time["hours"].values())
        return 3600 * hours / workers if workers and left else None
    ended = [row["duration_s"] for row in rows if row["finished"] and row["duration_s"] is not None]
    if not ended or not workers:
        return None
    mean: float = sum(ended) / len(ended)
    running: list[float] = [row["duration_s"] or 0.0 for row in rows if row["state"] == "RUNNING"]
    waiting = max(0, left - len(running))
    work = waiting * mean + sum(max(mean - spent, 0.0) for spent in running)
    return work / min(workers, max(left, 1))


def best_default(standings: Sequence[LeaderboardRow], direction: str) -> LeaderboardRow | None:
    """Return the loss whose published defaults did best; None when no default completed."""
    with_default = [standing for standing in standings if standing.default is not None]
    return min(with_default, key=lambda standing: _rank(standing.default, direction), default=None)


def _standing(loss: str, trials: Sequence[Row], direction: str, defaults: int) -> LeaderboardRow:
    states = [row["state"] for row in trials]
    complete = [row for row in trials if row["state"] == "COMPLETE" and row["value"] is not None]
    best = min(complete, key=lambda row: _rank(row["value"], direction), default=None)
    published = [row["value"] for row in complete if row["slot"] < defaults]
    return LeaderboardRow(
        loss=loss,
        family=family_of(loss),
        finished=len(trials),
        complete=states.count("COMPLETE"),
        pruned=states.count("PRUNED"),
        failed=states.count("FAIL"),
        best=best["value"] if best else None,
        best_trial=best["number"] if best else None,
        median=float(median(row["value"] for row in complete)) if complete else None,
        default=published[0] if published else None,
    )


def _rank(value: float | None, direction: str) -> float:
    if value is None:
        return math.inf
    return -value if direction == "maximize" else value


def _at_edge(dimension: Dimension, params: Mapping[str, Scalar]) -> str | None:
    value = params.get(dimension.name)
    if dimension.kind == "categorical" or isinstance(value, (bool, str)) or value is None:
        return None
    low, high, at = float(dimension.low), float(dimension.high), float(value)
    if dimension.log:
        low, high, at = math.log(low), math.log(high), math.log(at)
    share = (at - low) / (high - low)
    if EDGE <= share <= 1 - EDGE:
        return None
    end = "lower" if share < EDGE else "upper"
    limits = f"{dimension.low:g} to {dimension.high:g}"
    return f"{dimension.name} = {value:.4g} lies on the {end} edge of what was searched ({limits}); widen it"


def _standing_of(objective: Mapping[str, str], rows: Sequence[Row], chosen: Row) -> list[str]:
    metric, direction = objective["metric"], objective["direction"]
    others = [row for row in rows if row["state"] == "COMPLETE" and row["number"] != chosen["number"]]
    if not others or chosen["value"] is None:
        return []
    best = min(others, key=lambda row: _rank(row["value"], direction))
    if _rank(best["value"], direction) >= _rank(chosen["value"], direction):
        return []
    loss = f" ({best['loss']})" if best["loss"] else ""
    return [f"the best value seen is another trial's: {metric} {best['value']:.4g}, trial {best['number']}{loss}"]


def _confirmation(rows: Sequence[Row], chosen: Row, study_seed: int, verdict: "Verdict | None") -> str:
    if verdict is None:
        told = unconfirmed_statement(seed_spread(rows, study_seed=study_seed))
        return told[0].lower() + told[1:].removesuffix(".")
    if chosen["number"] in {result.trial for result in verdict.configurations}:
        return "confirmation: " + verdict.text.replace("\n", " ").removesuffix(".")
    return "not confirmed: this trial was no finalist of the confirmation"

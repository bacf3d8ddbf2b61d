"""Losses ranked over several confirmed studies, each on another data set.

On each data set the losses that all studies have judged are ranked by their means over fresh runs (1: best).
Intervals of mean ranks: bootstrap of data sets, and within each of runs, and of cases where they are random. Claims:
Friedman's test in Iman and Davenport's form, then Nemenyi's critical difference (Demšar, J. Mach. Learn. Res. 7, 2006),
from `MIN_DATA_SETS` data sets on.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import numpy as np
from scipy import stats

from tuner.analysis.pairwise_tests import ALPHA, compact_letters
from tuner.analysis.score_table import Floats, ScoreTable
from tuner.errors import RequestError

MIN_DATA_SETS = 5
DRAWS = 2000


@dataclass(frozen=True, slots=True)
class DataSetScores:
    """One confirmed study."""

    study: str
    fingerprint: str | None
    """Of its data; None where nobody knows it."""
    table: ScoreTable
    """Configurations have their losses."""
    random_cases: bool
    regrets: Mapping[str, float]
    """By loss, how much the best trial of the search is better than the published defaults, in the metric's unit."""
    hours_per_loss: float | None = None
    """Training time that its search gave each loss; None where it counted trials."""


@dataclass(frozen=True, slots=True)
class LeagueLoss:
    """One loss; losses are ordered by their mean ranks."""

    loss: str
    mean_rank: float
    rank_interval: tuple[float, float]
    """Of 95 %."""
    ranks: tuple[float, ...]
    """On each data set."""
    groups: str
    regret_of_defaults: float | None
    """Mean over the data sets that tell it."""


@dataclass(frozen=True, slots=True)
class LeagueClaim:
    """A pair of losses whose mean ranks differ by more than the critical difference."""

    better: str
    worse: str
    difference: float


@dataclass(frozen=True, slots=True)
class League:
    """Losses ranked over data sets."""

    data_sets: tuple[str, ...]
    """Names of the studies."""
    metric: str
    losses: tuple[LeagueLoss, ...]
    claims: tuple[LeagueClaim, ...]
    critical_difference: float | None
    """Of mean ranks; None where nothing is claimed: too few data sets."""
    p: float | None
    """Of Friedman's test that all losses rank alike."""
    alpha: float
    left_out: tuple[str, ...]
    """Losses that not all studies have judged."""
    hours_per_loss: tuple[float | None, ...]
    """Training time that each search gave every loss; None where it counted trials."""
    text: str

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON document of `league`."""
        return asdict(self)


def rank_losses(
    data_sets: Sequence[DataSetScores], *, alpha: float = ALPHA, seed: int = 0, draws: int = DRAWS
) -> League:
    """Rank the losses that all data sets have judged.

    Raises:
        RequestError: Fewer than two data sets or common losses, another metric, or the same data twice.
    """
    _check(data_sets)
    found = [_means_by_loss(item) for item in data_sets]
    everything = dict.fromkeys(loss for item in found for loss in item)
    common = [loss for loss in everything if all(loss in item for item in found)]
    if len(common) < 2:
        raise RequestError(
            f"the studies have judged {len(common)} losses in common; ranks need 2. "
            + "; ".join(f"{d.study}: {', '.join(item)}" for d, item in zip(data_sets, found, strict=True))
            + ".",
            hint="Confirm the same losses in each: `tuner confirm NAME --trials N,M` names the trials.",
        )
    values = [np.stack([item[loss] for loss in common]) for item in found]
    ranks = np.stack([_ranks(v.mean(axis=(1, 2)), d) for v, d in zip(values, data_sets, strict=True)])
    low, high = _bootstrap(values, data_sets, seed, draws)
    mean = ranks.mean(axis=0)
    p, critical = _friedman(ranks, alpha)
    order = np.argsort(mean, kind="stable").tolist()
    apart = [
        (i, j)
        for i, j in combinations(range(len(order)), 2)
        if critical is not None and p is not None and p < alpha and mean[order[j]] - mean[order[i]] > critical
    ]
    letters = compact_letters(len(order), apart)
    losses = tuple(
        LeagueLoss(
            common[c],
            float(mean[c]),
            (float(low[c]), float(high[c])),
            tuple(ranks[:, c].tolist()),
            letters[place],
            _regret([d.regrets[common[c]] for d in data_sets if common[c] in d.regrets]),
        )
        for place, c in enumerate(order)
    )
    claims = tuple(
        LeagueClaim(losses[i].loss, losses[j].loss, losses[j].mean_rank - losses[i].mean_rank) for i, j in apart
    )
    return League(
        data_sets=tuple(item.study for item in data_sets),
        metric=data_sets[0].table.metric,
        losses=losses,
        claims=claims,
        critical_difference=critical,
        p=p,
        alpha=alpha,
        left_out=tuple(loss for loss in everything if loss not in common),
        hours_per_loss=tuple(item.hours_per_loss for item in data_sets),
        text=_text(data_sets, losses, claims, p, critical),
    )


def _check(data_sets: Sequence[DataSetScores]) -> None:
    if len(data_sets) < 2:
        raise RequestError("a league needs studies on several data sets; one is a verdict (`tuner verdict`).")
    metrics = dict.fromkeys(item.table.metric for item in data_sets)
    if len(metrics) > 1:
        raise RequestError(f"the studies are about different metrics: {', '.join(metrics)}.")
    seen: dict[str, str] = {}
    for item in data_sets:
        before = seen.setdefault(item.fingerprint or item.study, item.study)
        if before != item.study:
            raise RequestError(
                f"{before!r} and {item.study!r} are on the same data; a data set counts once.",
                hint="Name one study for each data set.",
            )


def _means_by_loss(item: DataSetScores) -> dict[str, Floats]:
    """Return [R, K] scores of each loss; of several configurations of one loss those with the best mean."""
    sign = 1.0 if item.table.direction == "maximize" else -1.0
    found: dict[str, Floats] = {}
    for c, candidate in enumerate(item.table.configurations):
        if item.table.failed[c].any():
            continue
        loss, values = candidate.loss or candidate.name, item.table.values[c]
        if loss not in found or sign * values.mean() > sign * found[loss].mean():
            found[loss] = values
    return found


def _ranks(means: Floats, item: DataSetScores) -> Floats:
    """Return ranks along the last axis, 1 for the best."""
    oriented = -means if item.table.direction == "maximize" else means
    return np.asarray(stats.rankdata(np.round(oriented, 12), axis=-1), dtype=np.float64)


def _bootstrap(
    values: Sequence[Floats], data_sets: Sequence[DataSetScores], seed: int, draws: int
) -> tuple[Floats, Floats]:
    rng = np.random.default_rng(seed)
    drawn = []
    for of, item in zip(values, data_sets, strict=True):
        _, runs, cases = of.shape
        weights = rng.multinomial(runs, np.full(runs, 1 / runs), size=draws) / runs
        if item.random_cases:
            of_case = rng.multinomial(cases, np.full(cases, 1 / cases), size=draws) / cases
            means = np.einsum("crb,br->bc", of @ of_case.T, weights)
        else:
            means = weights @ of.mean(axis=2).T
        drawn.append(_ranks(means, item))
    ranks = np.stack(drawn)  # [data sets, draws, losses]
    chosen = rng.integers(0, len(values), size=(draws, len(values)))
    means = ranks[chosen, np.arange(draws)[:, None]].mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975], axis=0)
    return low, high


def _friedman(ranks: Floats, alpha: float) -> tuple[float | None, float | None]:
    """Return p of Iman and Davenport's F, and Nemenyi's critical difference; None with too few data sets."""
    count, losses = ranks.shape
    if count < MIN_DATA_SETS:
        return None, None
    mean = ranks.mean(axis=0)
    chi2 = 12 * count / (losses * (losses + 1)) * float(((mean - (losses + 1) / 2) ** 2).sum())
    rest = count * (losses - 1) - chi2
    p = 0.0 if rest <= 1e-9 else float(stats.f.sf((count - 1) * chi2 / rest, losses - 1, (losses - 1) * (count - 1)))
    q = float(stats.studentized_range.ppf(1 - alpha, losses, 1e6)) / math.sqrt(2)
    return p, q * math.sqrt(losses * (losses + 1) / (6 * count))


def _regret(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _text(
    data_sets: Sequence[DataSetScores],
    losses: Sequence[LeagueLoss],
    claims: Sequence[LeagueClaim],
    p: float | None,
    critical: float | None,
) -> str:
    count = len(data_sets)
    ranked = ", ".join(f"{item.loss} {item.mean_rank:.2f}" for item in losses)
    hours = [item.hours_per_loss for item in data_sets]
    different = [f"{h:g}" for h in dict.fromkeys(hours) if h is not None]
    equal = ", at equal device time" if None not in hours else ""
    lines = [f"Mean ranks over {count} data sets{equal} (1: best): {ranked}."]
    if equal:
        lines.append(f"Each search gave every loss {' or '.join(different)} h of training.")
    if critical is None or p is None:
        lines.append(f"Nothing is claimed from {count} data sets; a claim needs {MIN_DATA_SETS}.")
    elif not claims:
        lines.append(
            f"No loss ranks significantly better than another (Friedman p = {p:.2g}, "
            f"critical difference {critical:.2f})."
        )
    else:
        told = "; ".join(f"{claim.better} ranks better than {claim.worse}" for claim in claims)
        lines.append(f"{told} (Friedman p = {p:.2g}, critical difference {critical:.2f}).")
    return "\n".join(lines)

"""Statistics of paired runs on common cases: mean squares, tests of all pairs, variance components, groups.

Shapes: C configurations, M = C (C − 1) / 2 pairs, R runs, K cases. Arrays may have leading dimensions [*B], for
simulations.

The model is that of multi-reader multi-case studies in radiology with trainings in the place of readers (Dorfman,
Berbaum, Metz, Invest. Radiol. 27, 1992; Obuchowski, Rockette, Commun. Stat. 24, 1995; Hillis, Stat. Med. 26, 2007):
random runs, random or fixed cases. Critical values are Banerjee's bound (Sankhya 22, 1960) instead of a t with
estimated degrees of freedom. `docs/statistics.md` has the assumptions and the measured error rates.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, special

from tuner.analysis.score_table import Direction, Flags, Floats
from tuner.errors import RequestError

ALPHA = 0.05
BOOTSTRAP_DRAWS = 5000
LOOKS_UNTIL_SURE = (3, 5, 8)
"""Runs after which `until sure` looks."""
POWER = 0.8

_ROUNDING = 64 * np.finfo(np.float64).eps
_LOG_MIN_P = -300.0  # p below 1e-130 is not told; beyond it the squares of t would overflow
_GRID = 4096


# --- the test of a pair ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class MeanSquares:
    """Mean squares of the two-way layout run × case with one value per cell; each [*B].

    `run` is NaN with one run, `case` with one case, `residual` with one of either.
    """

    mean: Floats
    run: Floats
    case: Floats
    residual: Floats
    runs: int
    cases: int


def mean_squares(values: Floats) -> MeanSquares:
    """Return mean and mean squares of values [*B, R, K]: scores, or paired differences of scores."""
    runs, cases = values.shape[-2:]
    of_run, of_case = values.mean(axis=-1), values.mean(axis=-2)
    mean = of_run.mean(axis=-1)
    rest = values - of_run[..., :, None] - of_case[..., None, :] + mean[..., None, None]
    unknown = np.full_like(mean, np.nan)
    between_runs = cases * ((of_run - mean[..., None]) ** 2).sum(axis=-1) / (runs - 1) if runs > 1 else unknown
    between_cases = runs * ((of_case - mean[..., None]) ** 2).sum(axis=-1) / (cases - 1) if cases > 1 else unknown
    both = runs > 1 and cases > 1
    residual = np.einsum("...rk,...rk->...", rest, rest) / ((runs - 1) * (cases - 1)) if both else unknown
    return MeanSquares(mean, between_runs, between_cases, residual, runs, cases)


@dataclass(frozen=True, slots=True)
class MeanEstimate:
    """A mean over runs and cases with its standard error and the weights of its critical value; each [*B]."""

    mean: Floats
    standard_error: Floats
    run_share: Floats
    """MS_R / S: the part of the variance that rests on R − 1 degrees of freedom; the rest has K − 1."""
    run_freedom: int
    case_freedom: int

    def critical_value(self, alpha: ArrayLike) -> Floats:
        """Return Banerjee's bound: the multiple of the standard error that is exceeded by chance in ≤ alpha."""
        of_run = special.stdtrit(self.run_freedom, np.asarray(alpha) / 2)
        of_case = special.stdtrit(max(self.case_freedom, 1), np.asarray(alpha) / 2)
        return np.asarray(np.sqrt(self.run_share * of_run**2 + (1 - self.run_share) * of_case**2))

    def half_width(self, alpha: ArrayLike) -> Floats:
        """Return half of the width of the interval of confidence 1 − alpha."""
        return self.critical_value(alpha) * self.standard_error

    def p_value(self) -> Floats:
        """Return p of `mean = 0`: the alpha at which the interval ends at 0. Where nothing varies, p is 1."""
        known = self.standard_error > 0
        ratio = np.divide(np.abs(self.mean), self.standard_error, out=np.zeros_like(self.mean), where=known)
        p = _solve_p(ratio**2, np.where(known, self.run_share, 1.0), self.run_freedom, max(self.case_freedom, 1))
        return np.where(np.isnan(self.standard_error), np.nan, p)


def estimate_mean(squares: MeanSquares, *, random_cases: bool, scale: ArrayLike = 0.0) -> MeanEstimate:
    """Return the estimate of a mean for new trainings, and new cases where `random_cases`.

    Args:
        squares: Mean squares [*B]. With one run, and with one random case, the standard error is NaN.
        random_cases: Whether the claim is about new cases; else the cases are fixed.
        scale: [*B] largest absolute score: a variance that rounding explains is none.
    """
    x = np.maximum(squares.case - squares.residual, 0.0) if random_cases else np.zeros_like(squares.mean)
    total = squares.run + x
    count = squares.runs * squares.cases
    total = np.where(total <= count * (_ROUNDING * np.asarray(scale)) ** 2, 0.0, total)
    share = np.divide(squares.run, total, out=np.ones_like(squares.mean), where=total > 0)
    error = np.sqrt(total / count)
    return MeanEstimate(squares.mean, error, np.clip(share, 0.0, 1.0), squares.runs - 1, squares.cases - 1)


@lru_cache(maxsize=64)
def _quantile_grid(run_freedom: int, case_freedom: int) -> tuple[Floats, Floats, Floats]:
    """Return log alpha (descending) and the squares of both two-sided t quantiles there."""
    logs = np.linspace(0.0, _LOG_MIN_P, _GRID)
    half = np.exp(logs) / 2
    return logs, special.stdtrit(run_freedom, half) ** 2, special.stdtrit(case_freedom, half) ** 2


def _solve_p(square: Floats, share: Floats, run_freedom: int, case_freedom: int) -> Floats:
    """Solve `square = share · t²[1 − p/2; run_freedom] + (1 − share) · t²[1 − p/2; case_freedom]` for p, each [*B].

    The right side falls in p: bisection on a grid of log p brackets the root, Newton's steps end it.
    """
    if run_freedom < 1:
        return np.full_like(square, np.nan)
    logs, of_run, of_case = _quantile_grid(run_freedom, case_freedom)
    low, high = np.zeros(square.shape, dtype=np.int64), np.full(square.shape, _GRID - 1)
    for _ in range(_GRID.bit_length()):
        middle = (low + high) // 2
        beyond = share * of_run[middle] + (1 - share) * of_case[middle] > square
        low, high = np.where(beyond, low, middle), np.where(beyond, middle, high)
    found = logs[high]
    for _ in range(3):
        p = np.exp(found)
        t_run, t_case = special.stdtrit(run_freedom, p / 2), special.stdtrit(case_freedom, p / 2)
        reached = np.sqrt(share * t_run**2 + (1 - share) * t_case**2)
        # d(t²) / d(log p) = t p / density(t), t being negative
        of_squares = share * t_run / _density(t_run, run_freedom)
        of_squares += (1 - share) * t_case / _density(t_case, case_freedom)
        slope = np.divide(p * of_squares, 2 * reached, out=np.full_like(reached, -1.0), where=reached > 0)
        found = np.clip(found - (reached - np.sqrt(square)) / slope, logs[high], logs[low])
    return np.where(square > 0, np.exp(found), 1.0)


def _density(t: Floats, freedom: int) -> Floats:
    constant = special.gammaln((freedom + 1) / 2) - special.gammaln(freedom / 2) - 0.5 * math.log(freedom * math.pi)
    return np.asarray(np.exp(constant - (freedom + 1) / 2 * np.log1p(t * t / freedom)))


def adjust_holm(p: Floats, family: int | None = None) -> Floats:
    """Return Holm's adjusted p [*B, M] (Scand. J. Stat. 6, 1979): family-wise error over `family` ≥ M hypotheses.

    Hypotheses of the family that are not in `p` count as not rejected, and so does NaN.
    """
    count = p.shape[-1]
    filled = np.where(np.isnan(p), 1.0, p)
    order = np.argsort(filled, axis=-1, kind="stable")
    factors = max(family or count, count) - np.arange(count)
    ordered = np.minimum(np.maximum.accumulate(np.take_along_axis(filled, order, -1) * factors, axis=-1), 1.0)
    adjusted = np.empty_like(filled)
    np.put_along_axis(adjusted, order, ordered, axis=-1)
    return np.where(np.isnan(p), np.nan, adjusted)


def alpha_of_look(look: int, alpha: float = ALPHA) -> float:
    """Return what look j = 1, 2, … may spend, alpha / (j (j + 1)): all looks ever taken spend alpha together."""
    if look < 1:
        raise RequestError(f"look {look}; looks are counted from 1.")
    return alpha / (look * (look + 1))


def alpha_until_sure(alpha: float = ALPHA) -> float:
    """Return what each of the planned looks `LOOKS_UNTIL_SURE` spends."""
    return alpha / len(LOOKS_UNTIL_SURE)


@dataclass(frozen=True, slots=True)
class PairTests:
    """Tests of all pairs; each [*B, M], pairs in the order of `itertools.combinations`."""

    estimate: MeanEstimate
    p: Floats
    p_adjusted: Floats
    squares: MeanSquares

    def within(self, margin: float, alpha: float) -> Flags:
        """Tell where the interval of confidence 1 − 2 alpha lies inside ±margin: two one-sided tests."""
        edge = np.abs(self.estimate.mean) + self.estimate.half_width(2 * alpha)
        return np.asarray(edge < margin)  # NaN is not


def compare_pairs(values: Floats, *, random_cases: bool = True, family: int | None = None) -> PairTests:
    """Test every pair of configurations.

    Args:
        values: [*B, C, R, K] finite scores.
        random_cases: Whether the claim is about new cases as well as new trainings.
        family: Number of pairs for Holm where it is more than M: those of the first look.
    """
    first, second = _pair_indices(values.shape[-3])
    per_pair = max(1, values[..., 0, :, :].size)
    chunk = max(1, 4_000_000 // per_pair)
    scale = np.abs(values).max(axis=(-1, -2))
    parts = []
    for start in range(0, len(first), chunk):
        a, b = first[start : start + chunk], second[start : start + chunk]
        parts.append(mean_squares(values[..., a, :, :] - values[..., b, :, :]))
    squares = _concatenate(parts)
    estimate = estimate_mean(
        squares, random_cases=random_cases, scale=np.maximum(scale[..., first], scale[..., second])
    )
    p = estimate.p_value()
    return PairTests(estimate, p, adjust_holm(p, family), squares)


def _pair_indices(count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    first, second = np.triu_indices(count, 1)
    return first, second


def _concatenate(parts: Sequence[MeanSquares]) -> MeanSquares:
    mean, run, case, residual = (
        np.concatenate([getattr(part, name) for part in parts], axis=-1) for name in ("mean", "run", "case", "residual")
    )
    return MeanSquares(mean, run, case, residual, parts[0].runs, parts[0].cases)


# --- components of variance and the number of runs ------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class VarianceComponents:
    """Variances between runs, between cases, and what remains; None where the table does not tell them apart."""

    run: float | None
    case: float | None
    residual: float | None


def variance_components(squares: MeanSquares) -> VarianceComponents:
    """Return the components by the method of moments from mean squares [N], averaged over N; negative ones are 0."""
    residual = float(np.mean(squares.residual))
    if not math.isfinite(residual):
        return VarianceComponents(None, None, None)
    return VarianceComponents(
        run=max(float(np.mean(squares.run)) - residual, 0.0) / squares.cases,
        case=max(float(np.mean(squares.case)) - residual, 0.0) / squares.runs,
        residual=residual,
    )


def detectable_difference(
    components: VarianceComponents,
    *,
    runs: int,
    cases: int,
    pairs: int = 1,
    alpha: float = ALPHA,
    random_cases: bool = True,
    power: float = POWER,
) -> float | None:
    """Return the true difference that a test with so many runs finds with probability `power`.

    Args:
        components: Of the *differences* of a pair. Where only repeats of single configurations are known, the run and
            residual variances of a difference are twice theirs, and cases have to be fixed.
        runs: R, at least 2.
        cases: K.
        pairs: Number of pairs that are compared; the first step of Holm is planned for.
        alpha: Level of the look.
        random_cases: Whether the claim is to be about new cases.
        power: Probability of finding it.

    Returns:
        The difference in the unit of the metric; None where the components or the numbers do not suffice.
    """
    if components.run is None or components.case is None or components.residual is None:
        return None
    if runs < 2 or (random_cases and cases < 2):
        return None
    of_run = cases * components.run + components.residual
    x = runs * components.case if random_cases else 0.0
    total = of_run + x
    if total <= 0:
        return 0.0
    error, share = np.asarray(math.sqrt(total / (runs * cases))), np.asarray(of_run / total)
    estimate = MeanEstimate(np.zeros(()), error, share, runs - 1, cases - 1)
    critical = float(estimate.critical_value(alpha / pairs))
    # the estimated variance varies like chi² with Satterthwaite's degrees of freedom: good for planning, not for claims
    freedom = total**2 / (of_run**2 / (runs - 1) + (x**2 / (cases - 1) if x else 0.0))
    quantiles = (np.arange(200) + 0.5) / 200
    bound = critical * np.sqrt(special.chdtri(freedom, quantiles) / freedom)

    def excess_power(shift: float) -> float:
        return float(np.mean(special.ndtr(shift - bound) + special.ndtr(-shift - bound))) - power

    highest = float(bound.max()) + 10.0
    return float(optimize.brentq(excess_power, 0.0, highest, xtol=1e-6)) * float(estimate.standard_error)


# --- groups and the probability of being best -----------------------------------------------------------------------


def compact_letters(count: int, told_apart: Iterable[tuple[int, int]]) -> list[str]:
    """Return letters for each of `count` configurations, ordered best first: two share one iff they are not told apart.

    Greedy covering of the pairs that are not told apart by cliques (compact letter display: Piepho, J. Comput. Graph.
    Stat. 13, 2004).
    """
    apart = {frozenset(pair) for pair in told_apart}
    joined = [{j for j in range(count) if j != i and frozenset((i, j)) not in apart} for i in range(count)]
    cliques: list[list[int]] = []
    covered: set[frozenset[int]] = set()
    for i in range(count):
        for j in [j for j in sorted(joined[i]) if j > i] or [i]:
            alone = i == j and not joined[i]
            if not alone and (i == j or frozenset((i, j)) in covered):
                continue
            clique = {i, j}
            common = (joined[i] & joined[j]) if i != j else set()
            while common:
                clique.add(next_one := min(common))
                common &= joined[next_one]
            cliques.append(sorted(clique))
            covered |= {frozenset(pair) for pair in combinations(sorted(clique), 2)}
    letters = [""] * count
    for place, members in enumerate(sorted(_without_redundant(cliques))):
        for member in members:
            letters[member] += _letter(place)
    return letters


def _without_redundant(cliques: list[list[int]]) -> list[list[int]]:
    kept = list(cliques)
    for clique in cliques:
        others = [set(other) for other in kept if other is not clique]
        pairs = [set(pair) for pair in combinations(clique, 2)] or [set(clique)]
        if all(any(pair <= other for other in others) for pair in pairs):
            kept = [other for other in kept if other is not clique]
    return kept


def _letter(place: int) -> str:
    if place < 26:
        return chr(ord("a") + place)
    return chr(ord("A") + place - 26) if place < 52 else chr(0x3B1 + place - 52)


def probability_best(
    values: Floats, direction: Direction, *, random_cases: bool = True, seed: int = 0, draws: int = BOOTSTRAP_DRAWS
) -> Floats:
    """Return for each configuration [C] the share of bootstrap draws in which its mean is the best.

    Pigeonhole bootstrap (Owen, Ann. Appl. Stat. 1, 2007): runs, and random cases, are resampled independently of each
    other, by the same draw for all configurations; ties are shared. A description, not a claim.

    Args:
        values: [C, R, K].
        direction: Whether higher or lower is better.
        random_cases: Whether cases are resampled too.
        seed: Of the draws. The result depends on neither the order nor the names of configurations, runs and cases.
        draws: Number of them.
    """
    count, runs, cases = values.shape
    values = values[:, np.argsort(values.mean(axis=(0, 2)), kind="stable")]
    values = values[:, :, np.argsort(values.mean(axis=(0, 1)), kind="stable")]
    generator = np.random.default_rng(seed)
    of_run = generator.multinomial(runs, np.full(runs, 1 / runs), size=draws) / runs
    if random_cases:
        of_case = generator.multinomial(cases, np.full(cases, 1 / cases), size=draws) / cases
        means = np.einsum("crb,br->cb", values @ of_case.T, of_run)
    else:
        means = values.mean(axis=2) @ of_run.T
    means = means if direction == "maximize" else -means
    top = means.max(axis=0)
    best = means >= top - _ROUNDING * np.abs(values).max()
    return np.asarray((best / best.sum(axis=0)).mean(axis=1).reshape(count))

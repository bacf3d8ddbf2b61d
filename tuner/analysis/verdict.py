"""Verdict on a table of scores: which configurations differ, by how much, and what that generalises to."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from statistics import median
from typing import Any, Literal

import numpy as np

from tuner.analysis.pairwise_tests import (
    ALPHA,
    BOOTSTRAP_DRAWS,
    POWER,
    MeanEstimate,
    VarianceComponents,
    adjust_holm,
    alpha_of_look,
    compact_letters,
    compare_pairs,
    detectable_difference,
    estimate_mean,
    mean_squares,
    probability_best,
    variance_components,
)
from tuner.analysis.score_table import Direction, ScoreTable
from tuner.errors import RequestError
from tuner.metrics.catalog import METRICS

Outcome = Literal["a_better", "b_better", "equivalent", "undecided"]
Reason = Literal["one_run", "few_runs", "few_cases", "failed_runs", "unstable", "not_significant"]
Generalisation = Literal["new trainings and new cases", "new trainings", "nothing"]

MIN_RUNS = 3
MIN_CASES = 6
UNIT_MARGIN = 0.01
"""Margin of equivalence of metrics that lie in 0…1."""
PLANNED_RUNS = (3, 5, 8, 12, 20)


# --- the verdict ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ConfigurationResult:
    """One configuration of a verdict."""

    name: str
    loss: str | None
    trial: int | None
    runs: int
    cases: int
    mean: float | None
    interval: tuple[float, float] | None
    sd_runs: float | None
    """Standard deviation of the means of its runs."""
    runs_failed: int
    runs_collapsed: int
    seen_in_search: float | None
    seconds: float | None
    memory_bytes: int | None
    memory_of: str | None
    probability_best: float | None
    groups: str
    """Letters; empty where the configuration gets no verdict because runs failed."""
    run_means: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class PairResult:
    """One pair of a verdict; `difference` is mean of a − mean of b."""

    a: str
    b: str
    difference: float | None
    interval: tuple[float, float] | None
    """Of confidence 95 %, for this pair alone."""
    interval_adjusted: tuple[float, float] | None
    """Of confidence 1 − alpha of this look for all pairs together, by Bonferroni."""
    p: float | None
    p_adjusted: float | None
    verdict: Outcome
    within_margin: bool
    """Whether a significant difference is smaller than the margin, its interval of 1 − 2 alpha included."""
    reason: Reason | None


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Cases that no mean rests on."""

    cases: int
    why: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What may be said of a table of scores; configurations are in the order of their means, best first."""

    metric: str
    direction: Direction
    alpha: float
    margin: float | None
    generalises_to: Generalisation
    configurations: tuple[ConfigurationResult, ...]
    pairs: tuple[PairResult, ...]
    variance: VarianceComponents
    """Of the scores, averaged over the configurations; those with collapsed runs only where there are no others."""
    left_out: LeftOut
    leader: str
    not_separable_from_leader: tuple[str, ...]
    text: str
    look: int | None
    alpha_of_look: float
    variance_of_differences: VarianceComponents
    """Of the paired differences of the same, averaged over the pairs: what `detectable_difference` plans with."""
    detectable: Mapping[int, float]
    """By number of runs: the difference that is found with probability `POWER`."""

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON document of `compare`, `confirm` and `verdict`."""
        return asdict(self)

    def pair(self, a: str, b: str) -> PairResult:
        """Return the pair of two names, in the order of the verdict. Raises KeyError."""
        for pair in self.pairs:
            if {pair.a, pair.b} == {a, b}:
                return pair
        raise KeyError((a, b))

    @property
    def is_decided(self) -> bool:
        """Whether every pair has a verdict."""
        return all(pair.verdict != "undecided" for pair in self.pairs)


def default_margin(metric: str) -> float | None:
    """Return the margin of equivalence of a metric: `UNIT_MARGIN` where it lies in 0…1, else none."""
    return UNIT_MARGIN if metric in METRICS and METRICS[metric].unit == "1" else None


def judge(
    table: ScoreTable,
    *,
    random_cases: bool = True,
    alpha: float = ALPHA,
    margin: float | None = None,
    look: int | None = None,
    level: float | None = None,
    family: int | None = None,
    seed: int = 0,
    draws: int = BOOTSTRAP_DRAWS,
) -> Verdict:
    """Judge every pair of a table.

    Args:
        table: The scores.
        random_cases: Whether claims are about new cases too; cases that took part in choosing the configurations are
            to be fixed.
        alpha: Family-wise error over all pairs, and over all looks.
        margin: Differences below it do not matter; None: no equivalence is claimed.
        look: Which look at growing data this is, from 1; None: the only one. It spends `alpha_of_look`.
        level: What this look spends, where looks are planned otherwise (`alpha_until_sure`).
        family: Number of pairs of the first look, where configurations have been dropped since.
        seed: Of the bootstrap.
        draws: Of the bootstrap; with 0 no probability of being best is given.

    Raises:
        RequestError: alpha does not lie between 0 and 0.5, the margin is not positive, or the look below 1.
    """
    if not 0 < alpha < 0.5:
        raise RequestError(f"alpha is {alpha:g}; it lies between 0 and 0.5, usually at {ALPHA:g}.", where="alpha")
    if margin is not None and not (margin > 0 and math.isfinite(margin)):
        raise RequestError(f"the margin is {margin:g}; it is a positive difference of the metric.", where="margin")
    if level is None:
        level = alpha if look is None else alpha_of_look(look, alpha)
    table = _order(table)
    tests = _Judged(table, random_cases, level, margin, family)
    return tests.verdict(alpha, look, seed, draws)


def _order(table: ScoreTable) -> ScoreTable:
    """Order configurations by their means, best first; those without a mean last, ties by name."""
    sign = -1.0 if table.direction == "maximize" else 1.0
    means = {name: _mean_of_complete(table, c) for c, name in enumerate(table.names)}

    def rank(name: str) -> tuple[bool, float, str]:
        mean = means[name]
        return mean is None, 0.0 if mean is None else sign * round(mean, 12), name

    return table.select(sorted(table.names, key=rank))


def _mean_of_complete(table: ScoreTable, c: int) -> float | None:
    complete = ~table.failed[c]
    return float(table.values[c, complete].mean()) if complete.any() else None


class _Judged:
    """A table whose configurations are ordered, its tests, and the documents made of both."""

    def __init__(
        self, table: ScoreTable, random_cases: bool, level: float, margin: float | None, family: int | None
    ) -> None:
        self.table, self.random_cases, self.level, self.margin = table, random_cases, level, margin
        count = len(table.configurations)
        self.family = max(family or 0, count * (count - 1) // 2)
        self.sound = np.flatnonzero(~table.failed.any(axis=1))
        self.runs = [int((~failed).sum()) for failed in table.failed]
        self.tests = (
            compare_pairs(table.values[self.sound], random_cases=random_cases, family=self.family)
            if len(self.sound) > 1
            else None
        )
        sound_pairs = combinations(self.sound.tolist(), 2)
        self.at = {pair: n for n, pair in enumerate(sound_pairs)}
        self.stable = self._stable()
        self.equivalent = self.tests.within(margin, level) if self.tests is not None and margin is not None else None

    def _stable(self) -> dict[tuple[int, int], bool]:
        """Tell of pairs with collapsed runs whether they differ significantly, and alike, without these runs."""
        if self.tests is None or not self.table.collapsed[self.sound].any():
            return {}
        p, sign = self.tests.p.copy(), np.sign(self.tests.estimate.mean)
        touched = {}
        for (a, b), n in self.at.items():
            kept = ~(self.table.collapsed[a] | self.table.collapsed[b])
            if kept.all():
                continue
            touched[a, b] = n
            if kept.sum() < MIN_RUNS:
                p[n] = 1.0
                continue
            alone = compare_pairs(self.table.values[[a, b]][:, kept], random_cases=self.random_cases)
            p[n] = alone.p[0] if np.sign(alone.estimate.mean[0]) == sign[n] else 1.0
        adjusted = adjust_holm(p, self.family)
        return {pair: bool(adjusted[n] < self.level) for pair, n in touched.items()}

    def verdict(self, alpha: float, look: int | None, seed: int, draws: int) -> Verdict:
        """Return the document."""
        table = self.table
        pairs = tuple(self._pair(a, b) for a, b in combinations(range(len(table.configurations)), 2))
        claimed = {(pair.a, pair.b) for pair in pairs if pair.verdict in ("a_better", "b_better")}
        leader = table.names[int(self.sound[0])] if len(self.sound) else table.names[0]
        variance, of_differences = self._components()
        detectable = self._detectable(of_differences)
        result = Verdict(
            metric=table.metric,
            direction=table.direction,
            alpha=alpha,
            margin=self.margin,
            generalises_to=self._generalisation(),
            configurations=self._configurations(claimed, seed, draws),
            pairs=pairs,
            variance=variance,
            left_out=LeftOut(sum(table.left_out.values()), dict(table.left_out)),
            leader=leader,
            not_separable_from_leader=tuple(
                name
                for name in table.names
                if name != leader and (leader, name) not in claimed and (name, leader) not in claimed
            ),
            text="",
            look=look,
            alpha_of_look=self.level,
            variance_of_differences=of_differences,
            detectable=detectable,
        )
        return replace(result, text=describe(result))

    def _generalisation(self) -> Generalisation:
        if len(self.table.runs) < MIN_RUNS or (self.random_cases and len(self.table.cases) < MIN_CASES):
            return "nothing"
        return "new trainings and new cases" if self.random_cases else "new trainings"

    def _pair(self, a: int, b: int) -> PairResult:
        names = self.table.names[a], self.table.names[b]
        n = self.at.get((a, b))
        if n is None or self.tests is None:
            both = ~(self.table.failed[a] | self.table.failed[b])
            difference = float((self.table.values[a, both] - self.table.values[b, both]).mean()) if both.any() else None
            too_little = self._too_little(a, b) or "failed_runs"
            return PairResult(*names, difference, None, None, None, None, "undecided", False, too_little)
        tests = self.tests
        difference = float(tests.estimate.mean[n])
        p, adjusted = _number(tests.p[n]), _number(tests.p_adjusted[n])
        outcome, reason = self._outcome(a, b, n, difference, adjusted)
        inside = bool(self.equivalent[n]) if self.equivalent is not None else False
        return PairResult(
            *names,
            difference,
            _interval(tests.estimate, n, ALPHA),
            _interval(tests.estimate, n, self.level / self.family),
            p,
            adjusted,
            outcome,
            within_margin=outcome in ("a_better", "b_better") and inside,
            reason=reason,
        )

    def _too_little(self, a: int, b: int) -> Reason | None:
        runs = min(self.runs[a], self.runs[b])
        if runs < MIN_RUNS:
            return "one_run" if runs < 2 else "few_runs"
        return "few_cases" if self.random_cases and len(self.table.cases) < MIN_CASES else None

    def _outcome(
        self, a: int, b: int, n: int, difference: float, adjusted: float | None
    ) -> tuple[Outcome, Reason | None]:
        reason = self._too_little(a, b)
        if reason is not None:
            return "undecided", reason
        significant = adjusted is not None and adjusted < self.level
        stable = self.stable.get((a, b), True)
        if significant and stable:
            return ("a_better" if (difference > 0) == (self.table.direction == "maximize") else "b_better"), None
        if self.equivalent is not None and self.equivalent[n]:
            if len(self.table.cases) >= MIN_CASES:
                return "equivalent", None
            return "undecided", "few_cases"
        return "undecided", "unstable" if significant else "not_significant"

    def _configurations(self, claimed: set[tuple[str, str]], seed: int, draws: int) -> tuple[ConfigurationResult, ...]:
        table = self.table
        sound = self.sound.tolist()
        apart = [
            (i, j)
            for i, j in combinations(range(len(sound)), 2)
            if (table.names[sound[i]], table.names[sound[j]]) in claimed
        ]
        letters = dict(zip(sound, compact_letters(len(sound), apart), strict=True))
        best: dict[int, float] = {}
        if len(table.runs) > 1 and sound and draws > 0:
            chances = probability_best(
                table.values[sound], table.direction, random_cases=self.random_cases, seed=seed, draws=draws
            )
            best = dict(zip(sound, chances.tolist(), strict=True))
        return tuple(self._configuration(c, letters.get(c, ""), best.get(c)) for c in range(len(table.configurations)))

    def _configuration(self, c: int, letters: str, chance: float | None) -> ConfigurationResult:
        table, candidate = self.table, self.table.configurations[c]
        values = table.values[c, ~table.failed[c]]
        estimate = squares = None
        if len(values):
            squares = mean_squares(values[None])
            estimate = estimate_mean(squares, random_cases=self.random_cases, scale=np.abs(values).max())
        return ConfigurationResult(
            name=candidate.name,
            loss=candidate.loss,
            trial=candidate.trial,
            runs=self.runs[c],
            cases=len(table.cases),
            mean=None if squares is None else float(squares.mean[0]),
            interval=None if estimate is None else _interval(estimate, 0, ALPHA),
            sd_runs=None if squares is None else _number(np.sqrt(squares.run[0] / squares.cases)),
            runs_failed=int(table.failed[c].sum()),
            runs_collapsed=int(table.collapsed[c].sum()),
            seen_in_search=candidate.seen_in_search,
            seconds=candidate.seconds,
            memory_bytes=candidate.memory_bytes,
            memory_of=candidate.memory_of,
            probability_best=chance,
            groups=letters,
            run_means=tuple(values.mean(axis=1).tolist()),
        )

    def _components(self) -> tuple[VarianceComponents, VarianceComponents]:
        """Return the components of scores and of differences; from what did not collapse, where there is such."""
        unknown = VarianceComponents(None, None, None)
        if not len(self.sound):
            return unknown, unknown
        calm = [c for c in self.sound.tolist() if not self.table.collapsed[c].any()]
        values = self.table.values[calm or self.sound]
        own = variance_components(mean_squares(values))
        if self.tests is None:
            return own, unknown
        whole = len(calm) in (len(self.sound), 0, 1)
        squares = self.tests.squares if whole else compare_pairs(values).squares
        return own, variance_components(squares)

    def _detectable(self, components: VarianceComponents) -> dict[int, float]:
        planned = {
            runs: detectable_difference(
                components,
                runs=runs,
                cases=len(self.table.cases),
                pairs=self.family,
                alpha=self.level,
                random_cases=self.random_cases,
            )
            for runs in sorted({*PLANNED_RUNS, len(self.table.runs)})
            if runs >= MIN_RUNS
        }
        return {runs: difference for runs, difference in planned.items() if difference is not None}


def _number(value: Any) -> float | None:
    return float(value) if math.isfinite(value) else None


def _interval(estimate: MeanEstimate, n: int, alpha: float) -> tuple[float, float] | None:
    if estimate.run_freedom < 1:
        return None
    half = float(estimate.half_width(alpha)[n])
    mean = float(estimate.mean[n])
    return (mean - half, mean + half) if math.isfinite(half) else None


# --- in words -------------------------------------------------------------------------------------------------------

_WHY: dict[str, str] = {
    "one_run": "each was trained once, and one training does not tell how much another seed would change",
    "few_runs": f"fewer than {MIN_RUNS} runs",
    "few_cases": f"fewer than {MIN_CASES} cases",
    "failed_runs": "runs failed",
    "unstable": "the difference vanishes without the runs that collapsed",
    "not_significant": "the difference is within what other seeds and cases may bring",
}


def decimals(verdict: Verdict) -> int:
    """Return with how many decimals the numbers of a verdict are written: two digits of the narrowest interval."""
    halves = [(pair.interval[1] - pair.interval[0]) / 2 for pair in verdict.pairs if pair.interval is not None]
    halves += [(c.interval[1] - c.interval[0]) / 2 for c in verdict.configurations if c.interval is not None]
    known = [half for half in halves if half > 0]
    if not known:
        return 3
    return min(max(1 - math.floor(math.log10(min(known))), 0), 6)


def describe(verdict: Verdict) -> str:
    """Return the verdict in sentences, one a line; no claim that the numbers do not carry."""
    digits = decimals(verdict)
    lines = [_headline(verdict, digits), *_exceptions(verdict)]
    equivalent = [pair for pair in verdict.pairs if pair.verdict == "equivalent"]
    if equivalent and verdict.margin is not None:
        words = ", ".join(f"{pair.a} and {pair.b}" for pair in equivalent[:6])
        more = f" and {len(equivalent) - 6} more pairs" if len(equivalent) > 6 else ""
        lines.append(f"Equivalent within ±{verdict.margin:g}: {words}{more}.")
    lines.append(_scope(verdict))
    moved = _seed_spread(verdict)
    if moved is not None:
        lines.append(f"Another seed moves the mean of a configuration by about ±{moved:.{digits}f}.")
    lines += _plan(verdict, digits)
    return "\n".join(line for line in lines if line)


def _headline(verdict: Verdict, digits: int) -> str:
    others = [c.name for c in verdict.configurations if c.name != verdict.leader]
    if not others:
        return f"{verdict.leader} is the only configuration; there is nothing to compare it with."
    open_ones = verdict.not_separable_from_leader
    beaten = [name for name in others if name not in open_ones]
    if not beaten:
        reasons = {verdict.pair(verdict.leader, name).reason for name in open_ones} - {None}
        why = f": {_WHY[next(iter(reasons))]}" if len(reasons) == 1 else ""  # type: ignore[index]
        if all(verdict.pair(verdict.leader, name).verdict == "equivalent" for name in open_ones):
            why = ": no difference between them matters"
        claims = any(pair.verdict in ("a_better", "b_better") for pair in verdict.pairs)
        best = f"{verdict.leader} has the best mean {verdict.metric}"
        if claims or len(others) == 1:
            return f"{best}, and is not told apart from {_list(open_ones)}{why}."
        return f"No configuration is told apart from another{why}. {best}."
    if len(beaten) == 1:
        pair = verdict.pair(verdict.leader, beaten[0])
        told = f"{verdict.leader} is better than {beaten[0]}: {_pair_words(pair, digits)}"
    elif not open_ones:
        told = f"{verdict.leader} is better than each of the {len(beaten)} others"
    else:
        told = f"{verdict.leader} is better than {_list(beaten)}"
    slight = [name for name in beaten if verdict.pair(verdict.leader, name).within_margin]
    if slight:
        told += f"; the difference from {_list(slight)} is smaller than the margin of {verdict.margin:g}"
    rest = f" It is not told apart from {_list(open_ones)}." if open_ones else ""
    return f"{told}.{rest}"


def _pair_words(pair: PairResult, digits: int) -> str:
    difference = abs(pair.difference or 0.0)
    words = f"by {difference:.{digits}f}"
    if pair.interval is not None:
        low, high = sorted(abs(end) for end in pair.interval)
        words += f" (95 % interval {low:.{digits}f} to {high:.{digits}f}"
        adjusted = format_p(pair.p_adjusted)
        words += f", adjusted p {adjusted if adjusted.startswith('<') else f'= {adjusted}'})"
    return words


def format_p(p: float | None) -> str:
    """Write a p value."""
    if p is None:
        return "-"
    return "< 0.0001" if p < 1e-4 else f"{p:.2g}" if p < 0.1 else f"{p:.2f}"


def _list(names: Sequence[str], limit: int = 6) -> str:
    told = list(names[:limit])
    if len(names) > limit:
        return f"{', '.join(told)} and {len(names) - limit} others"
    return told[0] if len(told) == 1 else f"{', '.join(told[:-1])} and {told[-1]}"


def _exceptions(verdict: Verdict) -> list[str]:
    lines = []
    for c in verdict.configurations:
        total = c.runs + c.runs_failed
        if c.runs_failed:
            lines.append(f"{c.name} gets no verdict: {c.runs_failed} of its {total} runs failed.")
        if c.runs_collapsed:
            lines.append(f"{c.name} collapsed in {c.runs_collapsed} of {total} runs, which count in its mean.")
    if verdict.left_out.cases:
        why = "; ".join(f"{count}: {reason}" for reason, count in verdict.left_out.why.items())
        lines.append(f"{verdict.left_out.cases} cases were left out of everything ({why}).")
    return lines


def _scope(verdict: Verdict) -> str:
    first = verdict.configurations[0]
    runs = max(c.runs + c.runs_failed for c in verdict.configurations)
    size = f"{runs} paired {'run' if runs == 1 else 'runs'} on {first.cases} {'case' if first.cases == 1 else 'cases'}"
    if not verdict.pairs:
        return f"From {size}."
    if verdict.generalises_to == "nothing":
        needs = f"a claim needs {MIN_RUNS} runs, and {MIN_CASES} cases where it is about new cases"
        return f"Nothing is claimed from {size}: {needs}."
    about = {
        "new trainings": "new trainings on this training set, judged on these cases",
        "new trainings and new cases": "new trainings on this training set and new cases like these",
    }[verdict.generalises_to]
    pairs = "pair" if len(verdict.pairs) == 1 else "pairs"
    spent = f"family-wise error {verdict.alpha:g} over {len(verdict.pairs)} {pairs}"
    if verdict.alpha_of_look != verdict.alpha:
        spent += f", of which this look spends {verdict.alpha_of_look:.2g}"
    return f"From {size}. Claims are about {about}; {spent}."


def _seed_spread(verdict: Verdict) -> float | None:
    known = [c.sd_runs for c in verdict.configurations if c.sd_runs is not None]
    return median(known) if known else None


def _plan(verdict: Verdict, digits: int) -> list[str]:
    if verdict.is_decided or not verdict.detectable:
        return []
    have = max(c.runs + c.runs_failed for c in verdict.configurations)
    wanted = [have] if have in verdict.detectable else []
    wanted += [runs for runs in verdict.detectable if runs > have][:2]
    if not wanted:
        return []
    first, *further = (f"{verdict.detectable[runs]:.{digits}f}" for runs in wanted)
    told = f"{wanted[0]} runs will see differences above {first}"
    told += "".join(f", {runs} above {value}" for runs, value in zip(wanted[1:], further, strict=True))
    return [f"{told} (with a probability of {100 * POWER:.0f} %)."]

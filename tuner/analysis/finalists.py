"""Who is trained again, with which seeds, how long that takes, and which differences it can see."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from statistics import mean
from typing import Any

from tuner.analysis.pairwise_tests import (
    ALPHA,
    LOOKS_UNTIL_SURE,
    VarianceComponents,
    alpha_of_look,
    detectable_difference,
)
from tuner.analysis.seed_spread import seed_spread
from tuner.analysis.verdict import default_margin
from tuner.config.confirm_section import ConfirmSection
from tuner.config.confirmation import MAX_RUNS, ConfirmationPlan, Finalist
from tuner.config.study import StudySpec
from tuner.config.trial import TrialConfig, loss_section
from tuner.data.splits import FOLD
from tuner.errors import ConflictError, Problems, RequestError, UnknownNameError
from tuner.losses.catalog.registry import LOSSES
from tuner.storage.records import StudyRecord

Row = Mapping[str, Any]
"""A trial as `Storage.queries.trials` returns it."""
PUBLISHED = "published options"
NO_LOSS = "none"
"""Loss of a configuration of a study that is about none."""


def plan_confirmation(
    record: StudyRecord,
    spec: StudySpec,
    rows: Sequence[Row],
    section: ConfirmSection,
    *,
    earlier: ConfirmationPlan | None = None,
    spent: Sequence[float] = (),
    expected: Mapping[int, float] | None = None,
) -> ConfirmationPlan:
    """Choose the finalists of a search and the seeds of their runs.

    The best trial of each of the best losses, or the trials that are named, and the baseline: the published options of
    a loss, all else as in the best trial of that loss, where there is none as in the best of all. Of two finalists that
    are the same the first one stays.

    Args:
        record: The study.
        spec: Its specification.
        rows: Its trials, the newest attempt of each.
        section: What is asked for.
        earlier: The confirmation that this one replaces: none of its seeds is used again.
        spent: Levels of the looks at all earlier confirmations.
        expected: Means over seeds that the sampler expects of complete trials, by number. Where there are any they
            rank the trials, since the best of many values is chosen for its luck as well; else the values do.

    Raises:
        ConflictError: No trial is complete, or one that is named is not.
        UnknownNameError: There is no loss of the baseline's name.
        RequestError: There is one finalist only, with `until: sure`; or own trainings are to be judged on test cases.
    """
    objective = record.objectives[0]
    ranked = _rank(rows, objective["direction"], expected or {})
    if not ranked:
        raise ConflictError(
            f"no trial of {record.name!r} is complete; there is nothing to confirm.",
            hint=f"`tuner status {record.name}` says how the study stands.",
        )
    chosen = _named(record.name, rows, section.trials) if section.trials is not None else _best(ranked, section.top)
    finalists = [_of_trial(spec, row) for row in chosen]
    is_about_losses = spec.space.find("loss") is not None or bool(spec.base.loss)
    if section.baseline is not None and (is_about_losses or "baseline" in section.model_fields_set):
        finalists = _with_baseline(spec, ranked, finalists, section.baseline)
    if section.until is not None and len(finalists) < 2:
        raise RequestError(
            "there is one finalist only, and nothing to be sure of.",
            hint="Take more by --top or --trials, or a baseline.",
            where="--until",
        )
    if section.on == "test" and spec.base.train.is_own:
        by = "train.entry" if spec.base.train.entry is not None else "train.command"
        raise RequestError(
            f"test cases are predicted with the product's own networks; this study trains by `{by}`.",
            hint="Confirm it on its validation.",
            where="--on",
        )
    if section.folds is not None and not spec.base.has_data:
        raise RequestError(
            "the study names no data set whose cases could be divided into folds.",
            hint="Judge on seeds alone, or search a parameter of your own for the fold.",
            where="--folds",
        )
    margin = default_margin(objective["metric"]) if section.margin is None else section.margin
    return ConfirmationPlan(
        finalists=tuple(_distinct(finalists)),
        section=section,
        first_seed=first_fresh_seed(spec, rows, earlier),
        metric=objective["metric"],
        direction=objective["direction"],
        alpha=ALPHA,
        margin=margin,
        spent=tuple(spent),
    )


def first_fresh_seed(spec: StudySpec, rows: Iterable[Row], earlier: ConfirmationPlan | None = None) -> int:
    """Return a seed from which on no trial of the search has used any, nor can in what it searches.

    Nor can a run of the `earlier` confirmation, whose own seeds lie behind those of any before it.
    """
    used = {spec.seed, spec.base.train.seed or 0}
    used |= {int(row["params"]["train.seed"]) for row in rows if "train.seed" in row["params"]}
    dimension = spec.space.find("train.seed")
    if dimension is not None:
        used |= {int(c) for c in dimension.choices if isinstance(c, int)} | {int(dimension.high)}
    if earlier is not None:
        used |= set(range(earlier.seed(1), earlier.seed(MAX_RUNS) + 1))
    first = max(used) + 1
    if first + MAX_RUNS < 2**63:
        return first
    return next(s for s in count() if used.isdisjoint(range(s, s + MAX_RUNS)))


def _rank(rows: Sequence[Row], direction: str, expected: Mapping[int, float]) -> list[Row]:
    """Return the complete trials, the best first; after those of which a mean is expected the others, by value.

    A sampler models the best and the newest of many trials; the others are neither.
    """
    complete = [row for row in rows if row["state"] == "COMPLETE" and row["value"] is not None]
    sign = -1.0 if direction == "maximize" else 1.0

    def rank(row: Row) -> tuple[bool, float, int]:
        mean = expected.get(row["number"])
        return mean is None, sign * (row["value"] if mean is None else mean), row["number"]

    return sorted(complete, key=rank)


def _best(ranked: Sequence[Row], top: int) -> list[Row]:
    """Return the best trial of each loss; of a study about no loss, of each configuration, whatever its seed."""
    best: dict[Any, Row] = {}
    for row in ranked:
        point = tuple(sorted((k, v) for k, v in row["params"].items() if k != "train.seed"))
        best.setdefault(row["loss"] or point, row)
    return list(best.values())[:top]


def _named(study: str, rows: Sequence[Row], numbers: Sequence[int]) -> list[Row]:
    known = {row["number"]: row for row in rows}
    problems = []
    for number in numbers:
        row = known.get(number)
        if row is None:
            problems.append(f"trial {number} does not exist")
        elif row["state"] != "COMPLETE":
            problems.append(f"trial {number} is {row['state']}, not COMPLETE")
    if problems:
        raise ConflictError(
            f"study {study!r}: {'; '.join(problems)}.", hint=f"`tuner trials {study}` lists them.", where="--trials"
        )
    return [known[number] for number in numbers]


def _of_trial(spec: StudySpec, row: Row) -> Finalist:
    config = _comparable(spec, spec.config(row["params"]))
    name = row["loss"] or config.loss_name or f"trial {row['number']}"
    loss = config.loss_name or NO_LOSS
    return Finalist(name, loss, row["number"], row["value"], baseline=False, config=config.as_dict())


def _comparable(spec: StudySpec, config: TrialConfig) -> TrialConfig:
    """Return a configuration without its seed, and validated on the cases that all are."""
    train = config.train.model_copy(update={"seed": None})
    changes: dict[str, Any] = {"train": train, "provenance": {}}
    if spec.space.find(FOLD) is not None:
        changes["dataset"] = {**config.dataset, "validation": spec.base.dataset["validation"]}
    return config.model_copy(update=changes)


def _with_baseline(spec: StudySpec, ranked: Sequence[Row], finalists: list[Finalist], loss: str) -> list[Finalist]:
    reference = next((row for row in ranked if row["loss"] == loss), ranked[0])
    config = _comparable(spec, spec.config(reference["params"]))
    config = config.model_copy(update={"loss": _published(spec, loss)})
    content = config.as_dict()
    for place, finalist in enumerate(finalists):
        if finalist.config == content:
            finalists[place] = replace(finalist, baseline=True)
            return finalists
    same = next((row for row in ranked if _comparable(spec, spec.config(row["params"])).as_dict() == content), None)
    number, seen = (None, None) if same is None else (same["number"], same["value"])
    return [*finalists, Finalist(f"{loss} ({PUBLISHED})", loss, number, seen, baseline=True, config=content)]


def _published(spec: StudySpec, loss: str) -> dict[str, Any]:
    """Return a loss with its published options. Raises RequestError, UnknownNameError, SpecError."""
    if spec.space.find("loss") is None and not spec.base.loss:
        raise RequestError("the study is about no loss.", hint="Leave the baseline out.", where="--baseline")
    given: Any = loss
    if loss in spec.search.sums:
        given = {loss: list(spec.search.sums[loss])}
    elif loss not in LOSSES:
        known = [*LOSSES, *spec.search.sums]
        raise UnknownNameError(kind="loss", name=loss, known=known, where="--baseline")
    problems = Problems()
    section = loss_section(given, problems)
    problems.refuse(where="--baseline")
    return section


def _distinct(finalists: Sequence[Finalist]) -> list[Finalist]:
    """Leave out what stands twice, and give those of one loss names of their own."""
    kept: list[Finalist] = []
    for finalist in finalists:
        if all(finalist.config != other.config for other in kept):
            kept.append(finalist)
    names = [finalist.name for finalist in kept]
    return [
        finalist
        if names.count(finalist.name) == 1
        else replace(finalist, name=f"{finalist.name}, trial {finalist.trial}")
        for finalist in kept
    ]


# --- what it will take, and what it can see -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a confirmation will take and see."""

    trainings: int
    """That are still to be done; with `until: sure` at most."""
    hours: float | None
    """Of training, all workers together; None where no trial tells."""
    detectable: Mapping[int, float]
    """By number of runs, the true difference that is found with a probability of 80 %; empty where nothing tells."""
    source: str
    """What the differences are estimated from, in words."""


def estimate(
    plan: ConfirmationPlan,
    rows: Sequence[Row],
    *,
    trainings: int,
    study_seed: int,
    known: Mapping[int, float] | None = None,
) -> Estimate:
    """Say what a confirmation will take and which differences it can see.

    Args:
        plan: Who is trained again.
        rows: Trials of the search.
        trainings: How many are still to be done.
        study_seed: Seed of trials that name none.
        known: `Verdict.detectable` of an earlier look at the same finalists.
    """
    by_number = {row["number"]: row["duration_s"] for row in rows if row["state"] == "COMPLETE"}
    complete = [seconds for seconds in by_number.values() if seconds is not None]
    each = [by_number[f.trial] for f in plan.finalists if f.trial in by_number] or complete
    hours = trainings * mean(each) / 3600 if each else None
    if known:
        return Estimate(trainings, hours, dict(known), "the runs of the last look")
    spread = seed_spread(rows, study_seed=study_seed)
    if spread is None:
        return Estimate(trainings, hours, {}, "no configuration of the search was trained twice")
    return Estimate(trainings, hours, _seen(plan, spread.deviation), spread.source)


def _seen(plan: ConfirmationPlan, sd_runs: float) -> dict[int, float]:
    """Return what so many runs can see where the means of the runs of a configuration vary by `sd_runs`.

    Cases are fixed: nothing is known of how differences vary between them.
    """
    pairs = math.comb(len(plan.finalists), 2)
    if not pairs:
        return {}
    components = VarianceComponents(2 * sd_runs**2, 0.0, 0.0)
    looked = sorted({*LOOKS_UNTIL_SURE, plan.section.most_seeds})
    found = {
        runs: detectable_difference(
            components, runs=runs, cases=2, pairs=pairs, alpha=alpha_of_look(1, plan.alpha), random_cases=False
        )
        for runs in looked
        if runs >= 3
    }
    return {runs: difference for runs, difference in found.items() if difference is not None}

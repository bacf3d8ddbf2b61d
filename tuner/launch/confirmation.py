"""A confirmation step by step: who is trained again, how often before the next look, and when it is over.

Everything that is decided is stored before it is begun, so whoever asks again goes on from there: `advance` after a
look that is due plans the next one, and changes nothing while runs are still to be done.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tuner.analysis.confirmation import Confirmation, RunFiles, judge_looks, read_confirmation
from tuner.analysis.finalists import Estimate, Row, estimate, plan_confirmation
from tuner.analysis.pairwise_tests import LOOKS_UNTIL_SURE
from tuner.analysis.verdict import Verdict
from tuner.config.confirm_section import ConfirmSection, section_problems
from tuner.config.confirmation import SECTION, ConfirmationPlan
from tuner.config.study import StudySpec, load_spec
from tuner.config.yaml_reader import YamlDocument
from tuner.errors import ConflictError, SpecError, TunerError
from tuner.launch.new_study import new_confirmation
from tuner.storage.records import ConfirmationRun, Look, StudyRecord
from tuner.storage.storage import Storage
from tuner.worker.searcher import expected_means

_MAY_CHANGE = ("seeds", "until")
_SPENT = 1e-12


@dataclass(frozen=True, slots=True)
class Wish:
    """What is asked of the confirmation of a study, checked against what there is."""

    record: StudyRecord
    spec: StudySpec
    rows: tuple[Row, ...]
    """Trials of the search."""
    section: ConfirmSection
    plan: ConfirmationPlan
    """As it is stored, with more seeds where these are asked for."""
    found: Confirmation | None
    replaces: str | None = None
    """Identity of the confirmation that a new one takes the place of."""
    expected: Mapping[int, float] = field(default_factory=dict)
    """Means over seeds by which the finalists were chosen now, by trial; empty where values chose them."""

    @property
    def name(self) -> str:
        """Name of the study."""
        return self.record.name


@dataclass(frozen=True, slots=True)
class Step:
    """Runs to be done before the next look."""

    look: Look
    runs: tuple[ConfirmationRun, ...]
    """All that the look needs; those that are there already are not done again."""


def read_wish(storage: Storage, name: str, given: ConfirmSection, *, renew: bool = False) -> Wish:
    """Check what is asked for. `given` has only the fields that somebody has named.

    Without an earlier confirmation, what was not named is as the study file says. With one, its finalists and all else
    stay; only the number of seeds, and until when to go on, may change; with `renew` a new confirmation takes its
    place, unless finalists and options are still the same.

    Raises:
        NotFoundError: There is no such study.
        ConflictError: The search is not over, no trial of it is complete, or the earlier confirmation is another one.
        RequestError: Something asked for cannot be.
    """
    record = storage.studies.get(name)
    spec = load_spec(YamlDocument(record.spec, {}, f"study {name}"))
    found = read_confirmation(storage, name)
    stored = (spec.confirm or ConfirmSection()) if found is None else found.plan.section
    section = given.over(stored)
    problems = section_problems(section)
    if problems:
        raise SpecError([f"confirm.{problem}" for problem in problems])
    if found is not None and not renew:
        _check_same(name, given, found.plan.section)
        return Wish(record, spec, tuple(storage.queries.trials(name)), section, found.plan, found)
    phase = storage.queries.phase(name)[0]
    if phase not in ("done", "stopped", "paused"):
        raise ConflictError(
            f"the search of {name!r} is not over ({phase}); its finalists are not known yet.",
            hint=f"Wait for it, or end it by `tuner stop {name}`.",
        )
    rows = tuple(storage.queries.trials(name))
    expected = expected_means(storage, record, spec)
    if found is not None:
        renewed = _renewed(record, spec, rows, section, found, expected)
        if renewed is None:
            return Wish(record, spec, rows, section, found.plan, found)
        return Wish(record, spec, rows, section, renewed, None, found.record.identity, expected)
    plan = plan_confirmation(record, spec, rows, section, expected=expected)
    return Wish(record, spec, rows, section, plan, None, expected=expected)


def _renewed(
    record: StudyRecord,
    spec: StudySpec,
    rows: Sequence[Row],
    section: ConfirmSection,
    found: Confirmation,
    expected: Mapping[int, float],
) -> ConfirmationPlan | None:
    """Return the plan of a confirmation that replaces an earlier one; None where it would be the same."""
    before = found.plan
    spent = (*before.spent, *(look.level for look in found.looks_due))
    plan = plan_confirmation(record, spec, rows, section, earlier=before, spent=spent, expected=expected)
    chosen = section.model_dump(exclude=set(_MAY_CHANGE))
    is_same = chosen == before.section.model_dump(exclude=set(_MAY_CHANGE))
    return None if is_same and _same_finalists(plan, before) else plan


def _same_finalists(one: ConfirmationPlan, other: ConfirmationPlan) -> bool:
    """Tell whether the same configurations are judged, whether they come from the storage or not."""
    return {json.dumps(f.config, sort_keys=True) for f in one.finalists} == {
        json.dumps(f.config, sort_keys=True) for f in other.finalists
    }


def others_today(storage: Storage, name: str) -> tuple[str, ...]:
    """Return the names of the finalists that the confirmation of a study would have today, if these are others.

    Empty where they are the same, and without a confirmation.
    """
    found = read_confirmation(storage, name)
    if found is None:
        return ()
    record = storage.studies.get(name)
    spec = load_spec(YamlDocument(record.spec, {}, f"study {name}"))
    try:
        expected = expected_means(storage, record, spec)
        plan = plan_confirmation(record, spec, storage.queries.trials(name), found.plan.section, expected=expected)
    except TunerError:  # what was judged then could not be chosen today, which is no fault of the verdict
        return ()
    if _same_finalists(plan, found.plan):
        return ()
    return tuple(f.name if f.trial is None else f"{f.name} (trial {f.trial})" for f in plan.finalists)


def next_step(wish: Wish, artifacts: RunFiles) -> Step | None:
    """Return what is to be done next: the pending look or a new one; None when nothing is left of what was asked for.

    Raises:
        ConflictError: The error rate is spent.
        DataError: Scores of earlier runs cannot be read.
    """
    plan, section = wish.plan, wish.section
    stops = look_stops(section)
    if wish.found is None:
        runs = stops[0]
        return _step(plan, Look(1, runs, _level((), section, plan), plan.names, _pairs(plan.names)))
    looks, due = wish.found.looks, wish.found.looks_due
    newest = looks[-1]
    if len(due) < len(looks):
        more = next((stop for stop in stops if stop >= newest.runs), newest.runs)
        if section.until is None and more > newest.runs:  # nobody has seen what it would have shown
            return _step(plan, Look(newest.look, more, newest.level, newest.configurations, newest.pairs))
        return _step(plan, newest)
    more = next((stop for stop in stops if stop > newest.runs), newest.runs)
    if more <= newest.runs:
        return None
    names = newest.configurations
    if section.until is not None:
        verdict = judge_looks(wish.found, artifacts)
        assert verdict is not None
        names = still_open(verdict, names)
        if len(names) < 2:
            return None
    return _step(plan, Look(newest.look + 1, more, _level(looks, section, plan), names, newest.pairs))


def enqueue(storage: Storage, wish: Wish, step: Step) -> int:
    """Store a step: the confirmation itself where it is the first one, the runs that are missing, and the look.

    Returns how many trainings were added. A pause or stop of an earlier confirmation is taken back.
    """
    record, plan = wish.record, wish.plan
    if wish.found is None:
        new = new_confirmation(record, {SECTION: plan.as_dict()}, plan.space)
        storage.confirmations.create(record.name, new, step.runs, step.look, replaces=wish.replaces)
        return len(step.runs)
    section = wish.section.model_dump(mode="json", exclude_unset=True)
    return storage.confirmations.add(record.name, step.runs, step.look, {"section": section})


def advance(storage: Storage, artifacts: RunFiles, name: str, given: ConfirmSection, *, renew: bool = False) -> bool:
    """Plan and queue what is to be done next; tell whether there is anything.

    Raises as `read_wish` and `next_step`.
    """
    wish = read_wish(storage, name, given, renew=renew)
    step = next_step(wish, artifacts)
    if step is None:
        return False
    enqueue(storage, wish, step)
    return True


def retry_failed(storage: Storage, name: str) -> int:
    """Put the runs of a confirmation that failed back into the queue; return how many."""
    found = storage.confirmations.find(name)
    return 0 if found is None else len(storage.studies.retry(found.name))


def forecast(wish: Wish, artifacts: RunFiles) -> Estimate:
    """Say what is still to be done, and which differences can be seen. Raises DataError."""
    plan, most = wish.plan, look_stops(wish.section)[-1]
    names, over, verdict = plan.names, 0, None
    if wish.found is not None:
        due = wish.found.looks_due
        names = due[-1].configurations if due else names
        over = sum(row["state"] in ("COMPLETE", "PRUNED", "FAIL") for row in wish.found.rows.values())
        over -= sum(
            row["state"] in ("COMPLETE", "PRUNED", "FAIL")
            for run, row in wish.found.rows.items()
            if run.configuration not in names
        )
        verdict = judge_looks(wish.found, artifacts)
    trainings = max(most * len(names) * (plan.section.folds or 1) - over, 0)
    known = verdict.detectable if verdict else None
    return estimate(plan, wish.rows, trainings=trainings, study_seed=wish.spec.seed, known=known)


def look_stops(section: ConfirmSection) -> tuple[int, ...]:
    """Return after how many runs there is a look."""
    most = section.most_seeds
    if section.until is None:
        return (most,)
    return (*(stop for stop in LOOKS_UNTIL_SURE if stop < most), most)


def still_open(verdict: Verdict, names: Sequence[str]) -> tuple[str, ...]:
    """Return the configurations of a look between which something is undecided, without those that are beaten."""
    beaten = set()
    for pair in verdict.pairs:
        if pair.verdict == "a_better":
            beaten.add(pair.b)
        elif pair.verdict == "b_better":
            beaten.add(pair.a)
    left = [name for name in names if name not in beaten]
    undecided = [p for p in verdict.pairs if p.verdict == "undecided" and p.a in left and p.b in left]
    return tuple(left) if undecided else ()


def _check_same(name: str, given: ConfirmSection, stored: ConfirmSection) -> None:
    lines = [
        f"{key}: {getattr(stored, key)!r} stored, {getattr(given, key)!r} asked for"
        for key in sorted(given.model_fields_set)
        if key not in _MAY_CHANGE and getattr(given, key) != getattr(stored, key)
    ]
    if lines:
        raise ConflictError(
            f"there is a confirmation of {name!r} already, with another specification:\n  " + "\n  ".join(lines),
            hint="Only --seeds and --until may change: whoever sees results and then chooses what is judged finds "
            "differences that are not there. --renew begins another confirmation, on what is left of the error rate.",
        )


def _step(plan: ConfirmationPlan, look: Look) -> Step:
    folds: list[int | None] = [None] if plan.section.folds is None else list(range(plan.section.folds))
    runs = [
        ConfirmationRun(name, run, fold)
        for run in range(1, look.runs + 1)
        for name in look.configurations
        for fold in folds
    ]
    return Step(look, tuple(runs))


def _level(looks: Sequence[Look], section: ConfirmSection, plan: ConfirmationPlan) -> float:
    """Return what the next look may spend, so that all together never spend more than alpha.

    Those at earlier confirmations count as well. Planned looks spend what these have left in equal parts; else look j
    spends its part of what is left, alpha / (j (j + 1)) where all before it have done so. Raises ConflictError when
    nothing is left.
    """
    whole, left = plan.alpha - sum(plan.spent), plan.alpha - sum(plan.spent) - sum(look.level for look in looks)
    if section.until is not None and whole > _SPENT:
        part = whole / len(look_stops(section))
        if all(abs(look.level - part) < _SPENT for look in looks):
            return part
    count = len(plan.spent) + len(looks)
    if left < _SPENT:
        raise ConflictError(
            f"{count} looks have spent the error rate of {plan.alpha:g}; no further one could claim anything.",
            hint="What the last one says stays. A new study can be confirmed anew.",
        )
    return left / (count + 2)


def _pairs(names: Sequence[str]) -> int:
    return len(names) * (len(names) - 1) // 2

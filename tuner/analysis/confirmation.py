"""What a confirmation has found: its runs as a table of scores, and the verdict after its newest look.

A look is due when all runs that it needs are over; nothing is judged on a half-finished round. Reading a verdict never
spends error rate: looks are planned when runs are queued (`tuner.launch.confirmation`).
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, BinaryIO, Protocol

import numpy as np

from tuner.analysis.leaderboard import leaderboard
from tuner.analysis.pairwise_tests import compact_letters
from tuner.analysis.score_table import Candidate, Direction, Flags, ScoreTable
from tuner.analysis.seed_spread import best_seen_statement, confirm_command, seed_spread, unconfirmed_statement
from tuner.analysis.verdict import ConfigurationResult, Verdict, describe, judge
from tuner.config.confirmation import CASES_LEFT_OUT, TEST_CASES, ConfirmationPlan, Finalist
from tuner.errors import DataError, NotFoundError
from tuner.metrics.catalog import METRICS
from tuner.storage.records import ConfirmationRun, Look, StudyRecord
from tuner.storage.states import Reason
from tuner.storage.storage import Storage

_OVER = ("COMPLETE", "PRUNED", "FAIL")
_COLLAPSED = (Reason.DIVERGED, Reason.COLLAPSED)
_NO_CASE = "all"
"""Name of the case of trainings of the user's own, which report values and no cases."""

Row = Mapping[str, Any]
ClassValues = Mapping[str, float | None]
CaseValues = dict[str, ClassValues]
"""Scored sample, then class, then value."""


class RunFiles(Protocol):
    """What is needed of `tuner.artifacts.local.Artifacts`."""

    @property
    def place(self) -> str:
        """Where the files are."""

    def open(self, study: str, number: int, name: str) -> BinaryIO:
        """Open a file of a trial. Raises NotFoundError."""


@dataclass(frozen=True, slots=True)
class Confirmation:
    """A stored confirmation and how its runs stand."""

    record: StudyRecord
    plan: ConfirmationPlan
    rows: Mapping[ConfirmationRun, Row]
    """The newest attempt of each training."""
    looks: tuple[Look, ...]

    def runs_over(self, configurations: Sequence[str]) -> int:
        """Return how many runs, from the first one on, are over for all of these configurations."""
        trainings: dict[int, list[bool]] = {}
        for run, row in self.rows.items():
            if run.configuration in configurations:
                trainings.setdefault(run.run, []).append(row["state"] in _OVER)
        wanted = len(configurations) * (self.plan.section.folds or 1)
        count = 0
        while len(trainings.get(count + 1, ())) == wanted and all(trainings[count + 1]):
            count += 1
        return count

    @property
    def looks_due(self) -> tuple[Look, ...]:
        """Looks all of whose runs are over, in order; later ones are planned."""
        found = []
        for look in self.looks:
            if self.runs_over(look.configurations) < look.runs:
                break
            found.append(look)
        return tuple(found)


def read_confirmation(storage: Storage, name: str) -> Confirmation | None:
    """Return the confirmation of a study, None when it has none. Raises NotFoundError for an unknown study."""

    def read() -> Confirmation | None:
        record = storage.confirmations.find(name)
        if record is None:
            return None
        rows = {ConfirmationRun.of(row["params"]): row for row in storage.queries.trials(record.name)}
        return Confirmation(record, ConfirmationPlan.of(record.spec), rows, storage.confirmations.looks(name))

    return storage.read_snapshot(read)


def verdict_of(storage: Storage, artifacts: RunFiles, name: str) -> Verdict | None:
    """Return the verdict after the newest look at the confirmation of a study; None before the first one.

    Raises:
        NotFoundError: There is no such study.
        DataError: Scores of a run are missing, or a metric is undefined on too many cases.
    """
    found = read_confirmation(storage, name)
    return None if found is None else judge_looks(found, artifacts)


def judge_looks(found: Confirmation, artifacts: RunFiles) -> Verdict | None:
    """Return the verdict after the newest look that is due; None before the first one. Raises DataError."""
    verdict = None
    for look in found.looks_due:
        table = _table(found, artifacts, configurations=look.configurations, runs=look.runs)
        newest = judge(
            table,
            random_cases=found.plan.random_cases,
            alpha=found.plan.alpha,
            margin=found.plan.margin,
            look=len(found.plan.spent) + look.look,
            level=look.level,
            family=look.pairs,
        )
        verdict = newest if verdict is None else _with_dropped(newest, verdict)
    return verdict


def load_scores(
    storage: Storage,
    artifacts: RunFiles,
    name: str,
    *,
    metric: str | None = None,
    label: str | None = None,
    configurations: Sequence[str] | None = None,
    runs: int | None = None,
) -> ScoreTable:
    """Return the scores of a confirmation.

    Args:
        storage: The storage.
        artifacts: Files of the trials.
        name: The study.
        metric: Instead of the first objective.
        label: Of this class only; of all classes else.
        configurations: Names of those that are wanted; those of the newest look that is due else.
        runs: How many, from the first one on; all that are over for these configurations else.

    Raises:
        NotFoundError: There is no such study, or it has no confirmation of which a run is over.
        DataError: Scores of a run are missing, or undefined on too many cases.
    """
    found = read_confirmation(storage, name)
    if found is None:
        raise NotFoundError(f"study {name!r} has no confirmation yet.", hint=f"`tuner confirm {name}` makes one.")
    if configurations is None:
        due = found.looks_due
        configurations = due[-1].configurations if due else found.plan.names
    count = found.runs_over(configurations) if runs is None else runs
    if not 1 <= count <= found.runs_over(configurations):
        raise NotFoundError(
            f"{found.runs_over(configurations)} runs of the confirmation of {name!r} are over.",
            hint=f"`tuner status {name}` says how it stands.",
        )
    return _table(found, artifacts, configurations=configurations, runs=count, metric=metric, label=label)


# --- the table ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Run:
    """One run of one configuration, its folds together."""

    cases: CaseValues
    groups: Mapping[str, str]
    left_out: frozenset[str]
    """Groups that took part in choosing the finalists."""
    collapsed: bool
    failed: bool
    seconds: float | None
    memory: Mapping[str, int]
    """The most bytes that its trainings have held, by what was measured (`tuner.training.peak_memory`)."""


def _table(
    found: Confirmation,
    artifacts: RunFiles,
    *,
    configurations: Sequence[str],
    runs: int,
    metric: str | None = None,
    label: str | None = None,
) -> ScoreTable:
    plan = found.plan
    name = metric or plan.metric
    direction: Direction = METRICS[name].direction if name in METRICS else "maximize"
    if name == plan.metric and plan.direction == "minimize":
        direction = "minimize"
    numbers = range(1, runs + 1)
    read = [[_run(found, artifacts, c, run, name, label) for run in numbers] for c in configurations]
    cases, values = _values(read, direction, skip_chosen=plan.section.folds is not None)
    # what a search shows of a metric of probabilities is that of all pixels together, and no mean over cases
    is_comparable = name == plan.metric and label is None and not (name in METRICS and METRICS[name].of_probabilities)
    candidates = []
    for c, row in zip(configurations, read, strict=True):
        finalist = plan.finalist(c)
        timed = [run.seconds for run in row if run.seconds is not None]
        held = [item for run in row for item in run.memory.items()]
        kinds = {of for of, _ in held}
        candidates.append(
            Candidate(
                c,
                loss=finalist.loss,
                trial=finalist.trial,
                seen_in_search=finalist.seen_in_search if is_comparable else None,
                seconds=sum(timed) / len(timed) if timed else None,
                memory_bytes=max(size for _, size in held) if len(kinds) == 1 else None,
                memory_of=kinds.pop() if len(kinds) == 1 else None,
            )
        )
    flags: list[Flags] = [
        np.array([[getattr(run, key) for run in row] for row in read], dtype=bool) for key in ("collapsed", "failed")
    ]
    values[flags[1]] = np.nan
    return ScoreTable.without_undefined(
        candidates,
        [f"seed {plan.seed(run)}" for run in numbers],
        cases,
        values,
        metric=name if label is None else f"{name} of {label}",
        direction=direction,
        collapsed=flags[0] & ~flags[1],
        failed=flags[1],
    )


def _values(
    read: Sequence[Sequence[_Run]], direction: Direction, *, skip_chosen: bool
) -> tuple[list[str], "np.ndarray[Any, np.dtype[np.float64]]"]:
    """Return names of the cases, and values [C, R, K]; NaN where nothing is defined.

    A class counts in a case where every run has a value of it, which holds at least where the truth has the class: so
    all configurations are judged on the same. Samples of one group are one case.
    """
    scored = [run for row in read for run in row if not run.failed]
    samples = sorted({sample for run in scored for sample in run.cases})
    groups = {sample: group for run in scored for sample, group in run.groups.items()}
    chosen = frozenset().union(*(run.left_out for run in scored)) if skip_chosen else frozenset()
    samples = [sample for sample in samples if groups.get(sample, sample) not in chosen]
    if not samples:
        return [_NO_CASE], np.full((len(read), len(read[0]), 1), np.nan)
    cases = list(dict.fromkeys(groups.get(sample, sample) for sample in samples))
    of_case: dict[str, list[int]] = {}
    for k, sample in enumerate(samples):
        of_case.setdefault(groups.get(sample, sample), []).append(k)
    by_sample = np.full((len(read), len(read[0]), len(samples)), np.nan)
    for k, sample in enumerate(samples):
        having = [run.cases[sample] for run in scored if sample in run.cases]
        counted = [c for c in having[0] if all(values.get(c) is not None for values in having)]
        column = by_sample[:, :, k]
        for c, row in enumerate(read):
            for r, run in enumerate(row):
                if counted and sample in run.cases:
                    column[c, r] = sum(run.cases[sample][label] or 0.0 for label in counted) / len(counted)
        if counted:  # runs that ended before they were validated have the worst value that there is
            worst = 0.0 if direction == "maximize" else float(np.nanmax(column))
            for c, row in enumerate(read):
                for r, run in enumerate(row):
                    if not run.failed and sample not in run.cases:
                        column[c, r] = worst
    values = np.stack([_mean_of_defined(by_sample[:, :, of_case[case]]) for case in cases], axis=-1)
    return cases, values


def _mean_of_defined(values: "np.ndarray[Any, np.dtype[np.float64]]") -> "np.ndarray[Any, np.dtype[np.float64]]":
    """Return the mean over the last axis without NaN; NaN where there is nothing else."""
    known = ~np.isnan(values)
    count = known.sum(axis=-1)
    total = np.where(known, values, 0.0).sum(axis=-1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _run(
    found: Confirmation, artifacts: RunFiles, configuration: str, run: int, metric: str, label: str | None
) -> _Run:
    folds = found.plan.section.folds
    places = [ConfirmationRun(configuration, run, fold) for fold in (range(folds) if folds else [None])]
    rows = [found.rows[place] for place in places]
    failed = any(_has_failed(row) for row in rows)
    collapsed = any(row["reason"] in _COLLAPSED for row in rows)
    cases: CaseValues = {}
    groups: dict[str, str] = {}
    left_out: set[str] = set()
    seconds: list[float] = []
    memory: dict[str, int] = {}
    train = found.plan.finalist(configuration).config["train"]
    own_training = train.get("entry") is not None or train.get("command") is not None
    for row in () if failed else rows:
        reader = _Reader(found, artifacts, row, configuration, run)
        reports = reader.lines("metrics.jsonl", is_needed=False)
        seconds.append(sum(float(line["seconds"]) for line in reports))
        for peak in (line["peak_memory"] for line in reports if line.get("peak_memory")):
            memory[peak["of"]] = max(memory.get(peak["of"], 0), int(peak["bytes"]))
        if own_training:
            fold = row["params"].get("fold")
            scored = own_cases(reader, row, metric)
            if scored:
                cases |= scored if fold is None else {f"fold {fold}, {case}": v for case, v in scored.items()}
            elif row["best_value"] is not None:
                cases[_NO_CASE if fold is None else f"fold {fold}"] = {"": float(row["best_value"])}
            continue
        about = reader.document(CASES_LEFT_OUT)
        groups |= about.get("groups", {})
        left_out |= set(about.get("cases", ()))
        for line in _scored_lines(reader, row, on_test=found.plan.section.on == "test"):
            values = line["metrics"].get(metric)
            if values is None:
                raise DataError(f"the runs have no {metric!r}; they have {', '.join(line['metrics'])}.")
            cases[line["case"]] = values if label is None else {label: values.get(label)}
    return _Run(cases, groups, frozenset(left_out), collapsed, failed, sum(seconds) if any(seconds) else None, memory)


def own_cases(reader: "_Reader", row: Row, metric: str) -> CaseValues:
    """Return what a training of the user's own has reported of its cases: with its best epoch, else last of all."""
    lines = [line for line in reader.lines("cases.jsonl", is_needed=False) if line["metrics"].get(metric)]
    epochs = {line["epoch"] for line in lines}
    chosen = row["best_epoch"] if row["best_epoch"] in epochs else max(epochs, default=None)
    return {line["case"]: line["metrics"][metric] for line in lines if line["epoch"] == chosen}


def _scored_lines(reader: "_Reader", row: Row, *, on_test: bool) -> Iterable[Row]:
    """Yield the scores of the best validated epoch; nothing when there was none."""
    if row["best_epoch"] is None:
        return ()
    if on_test:
        return reader.lines(TEST_CASES)
    return reader.lines("cases.jsonl", epoch=row["best_epoch"])


def _has_failed(row: Row) -> bool:
    """Tell whether a training gave no scores: lost, an error, out of memory. Diverged and collapsed ones have some."""
    return bool(row["state"] == "FAIL" or (row["state"] == "PRUNED" and row["reason"] not in _COLLAPSED))


@dataclass(frozen=True, slots=True)
class _Reader:
    """Reads the files of one training."""

    found: Confirmation
    artifacts: RunFiles
    row: Row
    configuration: str
    run: int

    def lines(self, name: str, *, epoch: int | None = None, is_needed: bool = True) -> list[dict[str, Any]]:
        """Return JSON lines, of one epoch where it is named. Raises DataError where a needed file is not there."""
        content = self._content(name, is_needed=is_needed)
        if epoch is None:
            return [json.loads(line) for line in content.splitlines()]
        mark = f'{{"epoch": {epoch},'.encode()  # a long training has many lines, and one epoch is wanted
        found = [json.loads(line) for line in content.splitlines() if line.startswith(mark)]
        if is_needed and not found:
            raise self._missing(name)
        return found

    def document(self, name: str) -> dict[str, Any]:
        """Return a JSON document. Raises DataError where it is not there."""
        found: dict[str, Any] = json.loads(self._content(name))
        return found

    def _content(self, name: str, *, is_needed: bool = True) -> bytes:
        try:
            with self.artifacts.open(self.found.record.name, self.row["number"], name) as file:
                return file.read()
        except NotFoundError as error:
            if not is_needed:
                return b""
            raise self._missing(name) from error

    def _missing(self, name: str) -> DataError:
        return DataError(
            f"the scores of run {self.run} of {self.configuration!r} are not there: {name}.",
            hint="Name the folder of the trials' files by --artifacts or TUNER_ARTIFACTS.",
            where=f"{self.artifacts.place}/{self.found.record.name}/{self.row['number']}",
        )


# --- several looks --------------------------------------------------------------------------------------------------


def _with_dropped(newest: Verdict, before: Verdict) -> Verdict:
    """Add to a verdict on the configurations that are left what earlier looks have said of the others."""
    left = {c.name for c in newest.configurations}
    dropped = tuple(c for c in before.configurations if c.name not in left)
    if not dropped:
        return newest
    pairs = newest.pairs + tuple(pair for pair in before.pairs if not {pair.a, pair.b} <= left)
    configurations = newest.configurations + dropped
    names = [c.name for c in configurations]
    apart = {frozenset((pair.a, pair.b)) for pair in pairs if pair.verdict in ("a_better", "b_better")}
    sound = [name for name, c in zip(names, configurations, strict=True) if c.groups]
    letters = compact_letters(
        len(sound),
        [(i, j) for i in range(len(sound)) for j in range(i) if frozenset((sound[i], sound[j])) in apart],
    )
    group = dict(zip(sound, letters, strict=True))
    joined = replace(
        newest,
        configurations=tuple(
            replace(c, groups=group.get(c.name, ""), probability_best=c.probability_best if c.name in left else 0.0)
            for c in configurations
        ),
        pairs=pairs,
        not_separable_from_leader=tuple(
            name for name in names if name != newest.leader and frozenset((newest.leader, name)) not in apart
        ),
    )
    return replace(joined, text=describe(joined))


# --- the leader ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Leader:
    """The configuration with the best mean over fresh seeds."""

    finalist: Finalist
    result: ConfigurationResult
    verdict: Verdict

    def as_dict(self) -> dict[str, Any]:
        """Return what an exported configuration says of it."""
        result, verdict = self.result, self.verdict
        return {
            "name": result.name,
            "mean": result.mean,
            "interval": None if result.interval is None else list(result.interval),
            "runs": result.runs,
            "cases": result.cases,
            "seen_in_search": result.seen_in_search,
            "generalises_to": verdict.generalises_to,
            "not_separable": list(verdict.not_separable_from_leader),
            "text": verdict.text.partition("\n")[0],
        }


def confirmed_leader(found: Confirmation, verdict: Verdict) -> Leader | None:
    """Return the leader of a verdict on a confirmation; None where it claims nothing."""
    if verdict.generalises_to == "nothing":
        return None
    result = next(c for c in verdict.configurations if c.name == verdict.leader)
    return Leader(found.plan.finalist(verdict.leader), result, verdict) if result.groups else None


# --- before a confirmation ------------------------------------------------------------------------------------------


def unconfirmed(storage: Storage, name: str) -> dict[str, Any]:
    """Return what may be said without a confirmation, in the form of a verdict that claims nothing."""
    record, rows = storage.studies.get(name), storage.queries.trials(name, state="COMPLETE")
    objective = record.objectives[0]
    standings = [s for s in leaderboard(rows, objective["direction"]) if s.best is not None]
    complete = [row["value"] for row in rows if row["value"] is not None]
    if not complete:
        text = "No trial is complete yet."
    else:
        if standings:
            loss, value = standings[0].loss, standings[0].best
        else:  # a study about no loss
            loss, value = None, max(complete) if objective["direction"] == "maximize" else min(complete)
        spread = seed_spread(rows, study_seed=record.seed)
        told = f"{best_seen_statement(loss, value)} {unconfirmed_statement(spread)}"
        text = f"{told} `{confirm_command(name)}`"
    nothing = {"run": None, "case": None, "residual": None}
    return {
        "metric": objective["metric"],
        "direction": objective["direction"],
        "alpha": None,
        "margin": None,
        "generalises_to": "nothing",
        "configurations": [
            {
                "name": s.loss,
                "loss": s.loss,
                "trial": s.best_trial,
                "runs": 0,
                "cases": 0,
                "mean": None,
                "interval": None,
                "sd_runs": None,
                "runs_failed": 0,
                "runs_collapsed": 0,
                "seen_in_search": s.best,
                "seconds": None,
                "memory_bytes": None,
                "memory_of": None,
                "probability_best": None,
                "groups": "",
            }
            for s in standings
        ],
        "pairs": [],
        "variance": nothing,
        "left_out": {"cases": 0, "why": {}},
        "leader": standings[0].loss if standings else None,
        "not_separable_from_leader": [s.loss for s in standings[1:]],
        "text": text,
    }


def verdict_document(storage: Storage, artifacts: RunFiles, name: str) -> dict[str, Any]:
    """Return the document of `tuner verdict --json`: the verdict, or what may be said without one.

    `confirmation` says how the confirmation stands; null when there is none. Raises as `verdict_of`.
    """
    verdict = verdict_of(storage, artifacts, name)
    found = unconfirmed(storage, name) if verdict is None else verdict.as_dict()
    whole: dict[str, Any] = _finite(found | {"confirmation": storage.queries.status(name)["confirmation"]})
    return whole


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value

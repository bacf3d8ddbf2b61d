"""Table of scores by configuration, run and case: what a verdict is computed from; read from a CSV file."""

import csv
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from tuner.errors import DataError, NotFoundError, RequestError, closest

Direction = Literal["maximize", "minimize"]
Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

COLUMNS = ("configuration", "run", "case", "value")
COLLAPSED = "collapsed"
"""Optional column: whether this run diverged or collapsed; the same in every row of the run."""
MAX_LEFT_OUT = 0.2
"""Largest share of the cases that may be left out as undefined."""
UNDEFINED = "the metric is undefined in at least one run"
_MAX_PROBLEMS = 8
_TRUE, _FALSE = ("1", "true", "yes"), ("", "0", "false", "no")


@dataclass(frozen=True, slots=True)
class Candidate:
    """A configuration that is judged, with what is known of it beside its scores."""

    name: str
    loss: str | None = None
    trial: int | None = None
    seen_in_search: float | None = None
    """Value of its trial in the search, which chose it: biased upwards."""
    seconds: float | None = None
    """Mean time of a training."""
    memory_bytes: int | None = None
    """The most that a training has held; None where it is not known, or where devices of two kinds have trained."""
    memory_of: str | None = None
    """`cuda`: tensors on the device. `process`: the whole process of a training on a CPU."""


@dataclass(frozen=True, eq=False)
class ScoreTable:
    """Scores of C configurations in R paired runs on K cases.

    Run r has the same training seed, division into folds and order of the data for every configuration; case k is the
    same patient, recording or image group for all.

    Attributes:
        configurations: C of them, with names of their own.
        runs: R names.
        cases: K names.
        values: [C, R, K], finite but where `failed`.
        metric: Name of the metric, for the output.
        direction: Whether higher or lower values are better.
        collapsed: [C, R] runs that diverged or collapsed; they are results, and scored.
        failed: [C, R] runs that gave no scores (an error, out of memory); such a configuration gets no verdict.
        left_out: Number of cases that were left out of all runs of all configurations, by reason.

    Raises:
        DataError: A name stands twice, shapes differ, or a value of a run that did not fail is not finite.
    """

    configurations: tuple[Candidate, ...]
    runs: tuple[str, ...]
    cases: tuple[str, ...]
    values: Floats
    metric: str = "dice"
    direction: Direction = "maximize"
    collapsed: Flags = field(default_factory=lambda: np.zeros((0, 0), dtype=bool))
    failed: Flags = field(default_factory=lambda: np.zeros((0, 0), dtype=bool))
    left_out: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        names = [candidate.name for candidate in self.configurations]
        for kind, words in (("configuration", names), ("run", self.runs), ("case", self.cases)):
            _refuse_doubles(kind, words)
        shape = (len(names), len(self.runs), len(self.cases))
        if self.values.shape != shape or 0 in shape:
            raise DataError(
                f"values of shape {self.values.shape} for {shape[0]} configurations, {shape[1]} runs and {shape[2]} "
                "cases; at least one of each is needed."
            )
        for name in ("collapsed", "failed"):
            if getattr(self, name).size == 0:
                object.__setattr__(self, name, np.zeros(shape[:2], dtype=bool))
            elif getattr(self, name).shape != shape[:2]:
                raise DataError(f"{name} has shape {getattr(self, name).shape}, the table {shape[:2]} runs.")
        bad = ~np.isfinite(self.values) & ~self.failed[..., None]
        if bad.any():
            c, r, k = np.argwhere(bad)[0]
            raise DataError(
                f"the value of {names[c]!r}, run {self.runs[r]!r}, case {self.cases[k]!r} is {self.values[c, r, k]}.",
                hint="Leave such a case out of all configurations (`without_undefined`), or say that the run failed.",
            )

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the configurations."""
        return tuple(candidate.name for candidate in self.configurations)

    @classmethod
    def without_undefined(
        cls,
        configurations: Sequence[Candidate],
        runs: Sequence[str],
        cases: Sequence[str],
        values: Floats,
        *,
        metric: str = "dice",
        direction: Direction = "maximize",
        collapsed: Flags | None = None,
        failed: Flags | None = None,
    ) -> Self:
        """Return a table of the cases that are defined in every run of every configuration that did not fail.

        A case on which the metric is undefined (NaN: its class is absent in truth and prediction) in one run is left
        out of all, so that all means, pairs and groups rest on one set of cases; how many is kept in `left_out`.

        Raises:
            DataError: More than `MAX_LEFT_OUT` of the cases would be left out.
        """
        none = np.zeros(values.shape[:2], dtype=bool)
        failed = none if failed is None else failed
        undefined: Flags = np.asarray((np.isnan(values) & ~failed[..., None]).any(axis=(0, 1)))
        count = int(undefined.sum())
        if count > MAX_LEFT_OUT * len(cases):
            raise DataError(
                f"{metric} is undefined on {count} of {len(cases)} cases; at most {MAX_LEFT_OUT:.0%} may be left out.",
                hint="Score these cases by the truth alone (absent in the truth and predicted: 0), or judge by another "
                "metric.",
            )
        return cls(
            tuple(configurations),
            tuple(runs),
            tuple(case for case, out in zip(cases, undefined, strict=True) if not out),
            values[:, :, ~undefined],
            metric=metric,
            direction=direction,
            collapsed=none if collapsed is None else collapsed,
            failed=failed,
            left_out={UNDEFINED: count} if count else {},
        )

    def select(self, names: Sequence[str]) -> Self:
        """Return the table of these configurations. Raises DataError for one that it does not have."""
        missing = [name for name in names if name not in self.names]
        if missing:
            raise DataError(f"no configuration {missing[0]!r} in the table; it has {', '.join(self.names)}.")
        rows = [self.names.index(name) for name in names]
        return replace(
            self,
            configurations=tuple(self.configurations[row] for row in rows),
            values=self.values[rows],
            collapsed=self.collapsed[rows],
            failed=self.failed[rows],
        )


def read_score_table(
    path: Path, *, metric: str, direction: Direction, unit: bool = False, leave_out_undefined: bool = False
) -> ScoreTable:
    """Read a CSV file with the columns `configuration, run, case, value`, a row for each score.

    Args:
        path: The file, UTF-8; the separator is a comma, semicolon or tab.
        metric: Name of the metric.
        direction: Whether higher or lower is better.
        unit: Whether the metric lies in 0…1: other values (percentages) are then refused.
        leave_out_undefined: Whether empty values and NaN leave their case out; they are refused otherwise.

    Raises:
        NotFoundError: There is no such file.
        DataError: Columns are missing or unknown, a row is missing or stands twice, configurations have different
            runs, or a value is not a finite number; with the line of the file.
    """
    rows = _read_rows(path, unit=unit, leave_out_undefined=leave_out_undefined)
    names = list(dict.fromkeys(row.configuration for row in rows))
    runs = sorted({row.run for row in rows}, key=_natural)
    cases = sorted({row.case for row in rows}, key=_natural)
    _check_runs(path, rows, names)
    values = np.full((len(names), len(runs), len(cases)), np.nan)
    lines = np.zeros(values.shape, dtype=np.int64)
    collapsed = np.zeros(values.shape[:2], dtype=bool)
    at_name, at_run, at_case = ({word: n for n, word in enumerate(words)} for words in (names, runs, cases))
    doubled = []
    for row in rows:
        place = at_name[row.configuration], at_run[row.run], at_case[row.case]
        if lines[place]:
            doubled.append(f"line {row.line} repeats line {lines[place]}: {row.key}.")
            continue
        lines[place], values[place] = row.line, row.value
        if row.collapsed and not collapsed[place[:2]]:
            collapsed[place[:2]] = True
    _refuse(path, doubled, "Each configuration, run and case has one row.")
    missing = np.argwhere(lines == 0)
    _refuse(
        path,
        [f"no row for configuration {names[c]!r}, run {runs[r]!r}, case {cases[k]!r}." for c, r, k in missing],
        "Every configuration needs every case in every run; leave a case out for all, or for none.",
    )
    _check_collapsed(path, rows)
    try:
        return ScoreTable.without_undefined(
            [Candidate(name) for name in names],
            runs,
            cases,
            values,
            metric=metric,
            direction=direction,
            collapsed=collapsed,
        )
    except DataError as error:
        raise DataError(error.message, hint=error.hint, where=str(path)) from None


class _Row(NamedTuple):  # a table may have a hundred thousand
    line: int
    configuration: str
    run: str
    case: str
    value: float
    collapsed: bool

    @property
    def key(self) -> str:
        return f"configuration {self.configuration!r}, run {self.run!r}, case {self.case!r}"


def _read_rows(path: Path, *, unit: bool, leave_out_undefined: bool) -> list[_Row]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            first = file.readline()
            separator = next((mark for mark in ",;\t" if mark in first), ",")
            file.seek(0)
            lines = csv.reader(file, delimiter=separator, strict=True)
            columns = [name.strip() for name in next(lines, [])]
            _check_columns(path, columns)
            rows, problems = [], []
            for cells in lines:
                if not any(cell.strip() for cell in cells):
                    continue
                try:
                    rows.append(_read_row(columns, cells, lines.line_num, unit, leave_out_undefined))
                except ValueError as error:
                    problems.append(f"line {lines.line_num}: {error}")
    except FileNotFoundError:
        raise NotFoundError("there is no such file.", where=str(path)) from None
    except UnicodeDecodeError as error:
        raise DataError(f"not a text in UTF-8: {error.reason}.", where=str(path)) from None
    except csv.Error as error:
        raise DataError(f"not a CSV file: {error}.", where=f"{path}:{lines.line_num}") from None
    except OSError as error:
        raise RequestError(f"it cannot be read: {error.strerror}.", where=str(path)) from None
    _refuse(
        path,
        problems,
        "A value is a finite number; a case that is undefined is left out of all configurations by hand, or by "
        "--leave-out-undefined.",
    )
    if not rows:
        raise DataError("the table has no row.", hint=f"Columns: {', '.join(COLUMNS)}.", where=str(path))
    return rows


def _check_columns(path: Path, columns: Sequence[str]) -> None:
    allowed = (*COLUMNS, COLLAPSED)
    problems = [f"column {name!r} is missing." for name in COLUMNS if name not in columns]
    for name in dict.fromkeys(columns):
        if columns.count(name) > 1:
            problems.append(f"column {name!r} stands {columns.count(name)} times.")
        if name not in allowed:
            near = closest(name.lower(), allowed)
            problems.append(f"unknown column {name!r}" + (f"; did you mean {near!r}?" if near else "."))
    hint = f"The columns are {', '.join(COLUMNS)}, a row for each score, and where known {COLLAPSED} (0 or 1)."
    _refuse(path, problems, hint, line=1)


def _read_row(columns: Sequence[str], cells: Sequence[str], line: int, unit: bool, undefined: bool) -> _Row:
    if len(cells) != len(columns):
        raise ValueError(f"{len(cells)} cells for {len(columns)} columns.")
    texts = dict(zip(columns, map(str.strip, cells), strict=True))
    configuration, run, case, text = texts["configuration"], texts["run"], texts["case"], texts["value"]
    if not (configuration and run and case):
        raise ValueError(f"{next(name for name in COLUMNS if not texts[name])} is empty.")
    if text.lower() in ("", "nan", "na", "none", "null"):
        if not undefined:
            raise ValueError(f"value is {text or 'empty'}.")
        value = float("nan")
    else:
        try:
            value = float(text)
        except ValueError:
            raise ValueError(f"value {text!r} is not a number.") from None
        if not math.isfinite(value):
            raise ValueError(f"value is {text}.")
        if unit and not 0 <= value <= 1:
            raise ValueError(
                f"value {text} of a metric that lies in 0…1; divide percentages by 100, or name another --metric."
            )
    mark = texts.get(COLLAPSED, "").lower()
    if mark not in (*_TRUE, *_FALSE):
        raise ValueError(f"{COLLAPSED} is {mark!r}; 0 or 1 would be right.")
    return _Row(line, configuration, run, case, value, mark in _TRUE)


def _check_runs(path: Path, rows: Sequence[_Row], names: Sequence[str]) -> None:
    runs: dict[str, set[str]] = {name: set() for name in names}
    for row in rows:
        runs[row.configuration].add(row.run)
    everything = set().union(*runs.values())
    problems = [
        f"configuration {name!r} has {len(runs[name])} runs and lacks "
        f"{', '.join(repr(run) for run in sorted(everything - runs[name], key=_natural))}."
        for name in names
        if runs[name] != everything
    ]
    _refuse(
        path,
        problems,
        "Runs are paired: every configuration needs the same ones, where run r has the same seed and folds for all.",
    )


def _check_collapsed(path: Path, rows: Sequence[_Row]) -> None:
    marks: dict[tuple[str, str], _Row] = {}
    for row in rows:
        first = marks.setdefault((row.configuration, row.run), row)
        if first.collapsed != row.collapsed:
            raise DataError(
                f"{COLLAPSED} is {int(row.collapsed)} here and {int(first.collapsed)} in line {first.line} of the "
                "same run; a run collapsed as a whole or not.",
                where=f"{path}:{row.line}",
            )


def _refuse(path: Path, problems: Sequence[str], hint: str, line: int | None = None) -> None:
    if not problems:
        return
    told = list(problems[:_MAX_PROBLEMS])
    if len(problems) > _MAX_PROBLEMS:
        told.append(f"and {len(problems) - _MAX_PROBLEMS} more like these.")
    lead = f"{len(problems)} problems:\n  " if len(problems) > 1 else ""
    where = str(path) if line is None else f"{path}:{line}"
    raise DataError(lead + "\n  ".join(told), hint=hint, where=where)


def _refuse_doubles(kind: str, words: Sequence[str]) -> None:
    seen: set[str] = set()
    for word in words:
        if word in seen:
            raise DataError(f"{kind} {word!r} stands twice in the table of scores.")
        seen.add(word)


def _natural(word: str) -> list[tuple[int, int, str]]:
    """Order names so that `run 2` comes before `run 10`."""
    parts = re.split(r"(\d+)", word)
    return [(1, int(part), "") if part.isdecimal() else (0, 0, part) for part in parts if part] + [(2, 0, word)]

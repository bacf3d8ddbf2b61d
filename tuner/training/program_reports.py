"""Reports of a program: JSON lines on its stdout, or in `reports.jsonl` of its folder, as reports of epochs.

A line is `{"epoch": 3, "dice": 0.71}`, epochs from 1, with `train_loss`, `lr`, `seconds`, `per_class` (metric, then
class, then value) and `cases` (case, then metric, then a value, or class and value) where the program knows them.
"""

import json
import logging
import math
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from time import perf_counter
from typing import Any

from tuner.config.trial import REPORT_FACTS, TrialConfig
from tuner.errors import RunError
from tuner.training.epoch_report import WHOLE_CASE, CaseScore, Diverged, EpochReport, check_finite
from tuner.training.program import PRINTED, Lines

logger = logging.getLogger(__name__)

REPORTS = "reports.jsonl"
MAX_CASES = 100_000
MAX_EPOCH = 2**31
"""Programs may number their reports as they like: `train.epochs` is how many of them are read."""


class ReportError(RunError):
    """A program reports what cannot be a report, or contradicts itself."""

    code = "bad_report"


class ReportReader:
    """Reads the reports of one attempt, and knows those that are stored.

    Args:
        config: Of the trial; its objectives must be finite, at most `train.epochs` reports are read.
        folder: Of the trial.
        stored: Reports of earlier attempts.
    """

    def __init__(self, config: TrialConfig, folder: Path, stored: Iterable[EpochReport]) -> None:
        self._objectives = {objective.metric for objective in config.objectives}
        self._most = config.train.epochs
        self._known = {report.epoch: report for report in stored}
        self._earlier = frozenset(self._known)
        self._began = perf_counter()
        self._printed, self._file = _ReportFile(folder / PRINTED), _ReportFile(folder / REPORTS)
        self._warned: set[str] = set()
        self.lines_passed_over = 0
        self.goes_beyond = False
        """It reports more than is read."""

    @property
    def is_full(self) -> bool:
        """Whether as many reports are there as are read."""
        return len(self._known) >= self._most

    @property
    def count(self) -> int:
        """Reports that are there, those of earlier attempts included."""
        return len(self._known)

    def catch_up(self) -> Iterator[EpochReport]:
        """Yield what earlier attempts have reported and nobody has read: their worker was gone."""
        for item in self._items(ended=True):
            try:
                report = self.accept(item)
            except (ReportError, Diverged) as error:
                self._warn(f"an earlier attempt: {error}")
                continue
            if report is not None:
                yield report
        self._earlier = frozenset(self._known)
        self._began = perf_counter()

    def new_reports(self, *, ended: bool = False) -> Iterator[EpochReport]:
        """Yield what is new; a last line without an end only when the program has ended.

        Raises ReportError, Diverged.
        """
        for item in self._items(ended=ended):
            report = self.accept(item)
            if report is not None:
                yield report

    def _items(self, *, ended: bool) -> Iterator[object]:
        for file, place in ((self._printed, "stdout"), (self._file, REPORTS)):
            for line in file.new_lines(ended=ended):
                if not line.strip():
                    continue
                try:
                    item = json.loads(line)
                except (ValueError, RecursionError):
                    self._pass_over(f"a line of {place} is no JSON, and no report: {line.strip()[:200]}")
                    continue
                if file is self._file or (isinstance(item, dict) and "epoch" in item):
                    yield item

    @property
    def bytes_read(self) -> int:
        """Bytes of reports that were read."""
        return self._printed.offset + self._file.offset

    def accept(self, item: object) -> EpochReport | None:
        """Return a report that is new; None for one that is stored already. Raises ReportError, Diverged."""
        report = self._read(item)
        known = self._known.get(report.epoch)
        if known is not None:
            if _same(known, report):
                return None
            if report.epoch in self._earlier:
                self._warn(
                    f"epoch {report.epoch}: trained again after an interruption, with other values; those stored stay"
                )
                return None
            raise ReportError(
                f"epoch {report.epoch} was reported as {_words(known)}, and again as {_words(report)}; "
                "an epoch is reported once."
            )
        newest = max(self._known, default=0)
        if report.epoch < newest:
            raise ReportError(f"epoch {report.epoch} was reported after epoch {newest}; epochs go forward.")
        if self.is_full:
            self.goes_beyond = True
            return None
        check_finite(report)
        self._known[report.epoch] = report
        self._began = perf_counter()
        return report

    def _read(self, item: object) -> EpochReport:
        if not isinstance(item, Mapping):
            raise ReportError(f'a report is a JSON object as in {{"epoch": 1, "dice": 0.7}}, not {str(item)[:100]}')
        epoch = item.get("epoch")
        if (
            not isinstance(epoch, (int, float))
            or isinstance(epoch, bool)
            or not 1 <= epoch < MAX_EPOCH
            or epoch != int(epoch)
        ):
            raise ReportError(f"a report needs `epoch`, a whole number from 1, not {epoch!r}: {str(item)[:100]}")
        where = f"epoch {int(epoch)}: "
        metrics = {}
        for name, value in item.items():
            if name in REPORT_FACTS:
                continue
            if isinstance(value, (int, float, bool, type(None))) or name in self._objectives:
                metrics[str(name)] = self._metric(str(name), value, where)
            else:
                self._warn(f"{name!r} of a report is {type(value).__name__}, no number, and is not kept")
        seconds = _number(item.get("seconds"), where + "seconds")
        return EpochReport(
            epoch=int(epoch),
            train_loss=_number(item.get("train_loss"), where + "train_loss"),
            lr=_finite(_number(item.get("lr"), where + "lr")),
            seconds=perf_counter() - self._began if _finite(seconds) is None else max(0.0, seconds or 0.0),
            metrics=metrics,
            per_class=_per_class(item.get("per_class"), where),
            cases=_cases(item.get("cases"), where),
        )

    def _metric(self, name: str, value: Any, where: str) -> float | None:
        """Return a metric; one that is no objective may be undefined."""
        number = _number(value, where + name)
        return number if name in self._objectives else _finite(number)

    def _pass_over(self, what: str) -> None:
        self.lines_passed_over += 1
        self._warn(what)

    def _warn(self, what: str) -> None:
        if len(self._warned) < 20 and what not in self._warned:
            self._warned.add(what)
            logger.warning("%s", what)


class _ReportFile:
    """`reports.jsonl`, read as it grows; no link is followed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.offset = 0
        self._lines = Lines()
        self._cut_half_line()

    def new_lines(self, *, ended: bool) -> Iterator[str]:
        """Yield the lines that are new."""
        with (
            suppress(OSError),
            os.fdopen(os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file,
        ):
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode):
                return
            if found.st_size < self.offset:  # written anew
                self.offset, self._lines = 0, Lines()
            file.seek(self.offset)
            while chunk := file.read(1 << 20):
                self.offset += len(chunk)
                yield from self._lines.add(chunk)
        if ended and (rest := self._lines.end()) is not None:
            yield rest

    def _cut_half_line(self) -> None:
        """Remove half a line that a killed attempt has left: the next report would be written behind it."""
        with (
            suppress(OSError),
            os.fdopen(os.open(self._path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK), "r+b") as file,
        ):
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                return
            content = file.read()
            whole = content.rfind(b"\n") + 1
            rest = content[whole:]
            if rest and not _is_json(rest):
                file.truncate(whole)
            elif rest:
                file.write(b"\n")


def _is_json(text: bytes) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _per_class(given: Any, where: str) -> dict[str, dict[str, float | None]]:
    if given is None:
        return {}
    if not isinstance(given, Mapping) or not all(isinstance(values, Mapping) for values in given.values()):
        raise ReportError(f"{where}per_class maps a metric to its values by class, not {str(given)[:100]}")
    return {
        str(name): {str(label): _finite(_number(v, f"{where}per_class.{name}.{label}")) for label, v in values.items()}
        for name, values in given.items()
    }


def _cases(given: Any, where: str) -> tuple[CaseScore, ...]:
    if given is None:
        return ()
    if not isinstance(given, Mapping) or not all(isinstance(metrics, Mapping) for metrics in given.values()):
        raise ReportError(f"{where}cases maps a case to its metrics, not {str(given)[:100]}")
    if len(given) > MAX_CASES:
        raise ReportError(f"{where}{len(given)} cases; at most {MAX_CASES}")
    scores = []
    for case, metrics in given.items():
        by_class = {
            str(name): values if isinstance(values, Mapping) else {WHOLE_CASE: values}
            for name, values in metrics.items()
        }
        scores.append(CaseScore(str(case), _per_class(by_class, f"{where}cases.{case}: ")))
    return tuple(scores)


def _number(value: Any, name: str) -> float | None:
    if value is None:
        return None
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        raise ReportError(f"{name} is {str(value)[:100]!r}, which is not a number.") from None


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _same(one: EpochReport, other: EpochReport) -> bool:
    return _content(one) == _content(other)


def _content(report: EpochReport) -> dict[str, Any]:
    """Return what is compared: all but the time."""
    cases = {case.case: {name: dict(values) for name, values in case.metrics.items()} for case in report.cases}
    content = {key: value for key, value in report.as_dict().items() if key not in ("seconds", "one_class")}
    return {**content, "cases": cases}


def _words(report: EpochReport) -> str:
    values = {"train_loss": report.train_loss, **report.metrics}
    return ", ".join(f"{name} {value:.6g}" for name, value in values.items() if value is not None) or "nothing"

"""Tables of a report, and test scores from the stored weights of chosen trials. Scoring imports torch."""

import json
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from pathlib import Path

from tuner.artifacts.local import Artifacts
from tuner.atomic_io import write_json
from tuner.data.preparation import prepare, test_cases
from tuner.errors import ConflictError
from tuner.metrics.catalog import METRICS
from tuner.report.blocks import Band, Table
from tuner.report.collect import Entry, Group, Line, ReportData, StudyData, classes_of, mean_of, rank
from tuner.settings import Settings
from tuner.training.device import resolve_device
from tuner.training.final import score_tests
from tuner.training.run_dir import BEST, RunDirectory

FAMILY_TITLES = {
    "pixel": "Pixel level",
    "region": "Region level",
    "boundary": "Boundary level",
    "combination": "Combination",
    "sum": "Weighted sums of this study",
}
Scores = Mapping[tuple[str, int], Mapping[str, float | None]]
"""Test scores of trials, by study and number."""


def main_table(material: ReportData, lines: Sequence[Line], tests: Scores) -> Table:
    """Return the survey's table: loss by family, defaults against tuned, further metrics, trials, device time."""
    metric = material.metric
    further = [name for name in METRICS if name != metric and any(li.best and li.best.metric(name) for li in lines)]
    tested = [name for name in METRICS if any(scores.get(name) is not None for scores in tests.values())]
    columns = ["loss", f"{metric}, defaults", f"{metric}, tuned", "gain"]
    columns += [*further, *(f"test {name}" for name in tested), "trials", "device time"]
    directions = [material.direction] * 2 + [""] + [METRICS[name].direction for name in (*further, *tested)]
    rows: list[list[str] | Band] = []
    values: dict[tuple[int, int], float] = {}
    for family, members in groupby(lines, key=lambda line: line.family):
        rows.append(Band(FAMILY_TITLES[family]))
        for line in members:
            found = [
                line.default.mean if line.default else None,
                line.tuned.mean if line.tuned else None,
                _gain(line, material.direction),
                *(line.best.metric(name) if line.best else None for name in further),
                *(_test(line.best, tests, name) for name in tested),
            ]
            values |= {(len(rows), 1 + n): value for n, value in enumerate(found) if value is not None}
            texts = [
                with_deviation(line.default),
                with_deviation(line.tuned),
                signed(found[2]),
                *map(number, found[3:]),
            ]
            rows.append([line.loss, *texts, _trials(line), span(line.spent.seconds)])
    marked = {place for n, d in enumerate(directions, start=1) if d for place in _best(values, n, d)}
    return Table(columns, rows, _caption(material, lines, bool(tested)), frozenset(marked))


def class_table(material: ReportData, lines: Sequence[Line]) -> Table | None:
    """Return the first objective of every class; None when the trials say nothing about classes."""
    classes = classes_of(lines, material.metric)
    if not classes:
        return None
    rows: list[list[str] | Band] = []
    values: dict[tuple[int, int], float] = {}
    for family, members in groupby(lines, key=lambda line: line.family):
        rows.append(Band(FAMILY_TITLES[family]))
        for line in members:
            found = [line.best.of_class(material.metric, name) if line.best else None for name in classes]
            values |= {(len(rows), 1 + n): value for n, value in enumerate(found) if value is not None}
            rows.append([line.loss, *map(number, found)])
    marked = {place for n in range(1, len(classes) + 1) for place in _best(values, n, material.direction)}
    caption = f"{material.metric} of every class, the better of tuned options and published defaults."
    return Table(["loss", *classes], rows, caption, frozenset(marked))


def with_deviation(group: Group | None) -> str:
    """Write `mean ± deviation (n)`; a single trial has neither deviation nor number."""
    if group is None:
        return "–"
    if group.deviation is None:
        return number(group.mean)
    return f"{group.mean:.4f} ± {group.deviation:.4f} ({len(group.entries)})"


def number(value: float | None) -> str:
    """Write a metric."""
    if value is None:
        return "–"
    return f"{value:.4f}" if abs(value) < 10 else f"{value:.1f}"


def signed(value: float | None) -> str:
    """Write a difference."""
    return "–" if value is None else f"{value:+.4f}"


def span(seconds: float) -> str:
    """Write device time: hours as the survey would, less where there is less."""
    if seconds >= 3600:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 60:.1f} min" if seconds >= 60 else f"{seconds:.0f} s"


def _gain(line: Line, direction: str) -> float | None:
    if line.default is None or line.tuned is None:
        return None
    difference = line.tuned.mean - line.default.mean
    return difference if direction == "maximize" else -difference


def _trials(line: Line) -> str:
    spent = line.spent
    rest = [f"{count} {word}" for count, word in ((spent.pruned, "pruned"), (spent.failed, "failed")) if count]
    return f"{spent.complete}" + (f" + {', '.join(rest)}" if rest else "")


def _best(values: Mapping[tuple[int, int], float], column: int, direction: str) -> list[tuple[int, int]]:
    found = {place: value for place, value in values.items() if place[1] == column}
    if len(found) < 2:
        return []
    wanted = min(rank(value, direction) for value in found.values())
    return [place for place, value in found.items() if rank(value, direction) == wanted]


def _test(group: Group | None, tests: Scores, metric: str) -> float | None:
    entries = group.entries if group else ()
    return mean_of(tests.get((entry.study, entry.number), {}).get(metric) for entry in entries)


def _caption(material: ReportData, lines: Sequence[Line], tested: bool) -> str:
    texts = [f"{material.metric} on the validation cases at each trial's best epoch ({material.direction})."]
    if any(group and group.deviation is not None for line in lines for group in (line.default, line.tuned)):
        texts.append("Mean ± standard deviation over repeats with other seeds or folds (their number).")
    if any(line.tuned and len(line.tuned.entries) == 1 for line in lines):
        texts.append("Tuned: the best of the loss's trials, so a little optimistic; gain: over its published defaults.")
    if tested:
        texts.append("Test: the weights of the better of the two on the test cases, which no search has seen.")
    texts.append("Marked: the best of a column. Device time counts every attempt.")
    return " ".join(texts)


TEST = "test.json"
"""Where a trial's test scores are kept, so that they are computed once."""


def score_entries(
    material: ReportData,
    entries: Sequence[Entry],
    settings: Settings,
    artifacts: Artifacts,
    *,
    device: str = "auto",
    on_message: Callable[[str], None] = lambda text: None,
) -> dict[tuple[str, int], Mapping[str, float | None]]:
    """Score the best weights of trials on the test cases: `{(study, number): metrics}`.

    Raises:
        DataError: The data set is not there.
        ConflictError: It has no test cases, or its validation cases are test cases.
    """
    place = resolve_device(device)
    chapters = {chapter.record.name: chapter for chapter in material.chapters}
    found: dict[tuple[str, int], Mapping[str, float | None]] = {}
    for count, entry in enumerate(entries, start=1):
        chapter, folder = chapters[entry.study], artifacts.fetched(entry.study, entry.number, (TEST, BEST))
        kept = folder / TEST
        if not (folder / BEST).is_file():
            on_message(f"trial {entry.number} of {entry.study}: its weights are not here; it is not tested")
            continue
        if not kept.is_file():
            on_message(f"testing {count}/{len(entries)}: {entry.loss}, trial {entry.number}")
            write_json(kept, _scores(chapter, entry, folder, settings, place))
            artifacts.keep(entry.study, entry.number, TEST)
        found[entry.study, entry.number] = json.loads(kept.read_bytes())["metrics"]
    return found


def _scores(chapter: StudyData, entry: Entry, folder: Path, settings: Settings, device: str) -> Mapping[str, object]:
    params = next(row["params"] for row in chapter.rows if row["number"] == entry.number)
    config, seed = chapter.spec.config(params), chapter.spec.seed
    if chapter.record.resources.get("protocol") == "test":
        raise ConflictError(f"{entry.study!r} was validated on its test cases; there is nothing left to test on.")
    data = prepare(config.dataset, data_root=settings.data_root, cache=settings.cache, seed=seed)
    tests = test_cases(config.dataset, data_root=settings.data_root, cache=settings.cache, seed=seed)
    record = RunDirectory(folder, config, device)
    scores = score_tests(config, data=data, tests=tests, device=device, record=record)
    if scores is None:
        raise ConflictError(f"the data set {config.dataset['name']!r} has no test cases.", hint="Leave --test out.")
    return scores

"""Results of earlier studies and tables, mapped onto the space of a new study: what `launch --warm-start` is told.

They steer the sampler and are never trials of the study. What cannot be mapped is counted by its reason.
"""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tuner.analysis.data_facts import measure_facts, similarity
from tuner.config.point_file import as_value, read_rows
from tuner.config.study import StudySpec, load_spec
from tuner.config.yaml_reader import YamlDocument
from tuner.data.preparation import prepare
from tuner.errors import ConfigError, NotFoundError, SpecError
from tuner.registry import Scalar
from tuner.search.curve_table import COLUMNS, read_curves
from tuner.search.task_prior import shipped_prior
from tuner.settings import Settings
from tuner.storage.records import PriorResult
from tuner.storage.storage import Storage

MOST = 1000
"""Results that are kept."""
ALIKE = ("dice", "iou")
"""Metrics under which the same configurations are good."""
DATABASES = (".db", ".sqlite", ".sqlite3")


@dataclass(frozen=True, slots=True)
class _Result:
    params: Mapping[str, Any]
    value: float | None
    fingerprint: str | None = None


def read_warm_start(
    sources: Sequence[str], spec: StudySpec, *, settings: Settings, fingerprint: str | None
) -> tuple[list[PriorResult], list[str]]:
    """Return the results that fit the study's space, and a line for each source that says how many do.

    Args:
        sources: Names of studies of the storage, files of `db backup`, CSV files with a value and parameters, `auto`.
        spec: The new study.
        settings: Its storage, and where its data lies.
        fingerprint: Of its data; results of other data are marked.

    Raises:
        SpecError: A source holds no results, or the study has several objectives.
        ConfigError: A file cannot be read.
        NotFoundError: There is neither such a study nor such a file.
    """
    if len(spec.objectives) > 1:
        raise SpecError([f"it is for one objective, and the study has {len(spec.objectives)}"], where="--warm-start")
    kept: list[PriorResult] = []
    told = []
    for source in sources:
        found, why = [], Counter[str]()
        results, name = (
            _similar_tasks(spec, settings) if source == "auto" else (_results(source, spec, settings), source)
        )
        for result in results:
            params, reason = _map(spec, result)
            if params is None or result.value is None:
                why[reason or "without a value"] += 1
                continue
            same = fingerprint is not None and result.fingerprint == fingerprint
            found.append(PriorResult(params, result.value, same))
        if not found and not why:
            raise SpecError([f"{source}: it holds no result"], where="--warm-start")
        left_out = "; left out: " + ", ".join(f"{n} ({reason})" for reason, n in why.most_common()) if why else ""
        other = sum(not r.same_data for r in found)
        data = f", {other} of other data" if other else ""
        told.append(f"warm start: {len(found)} of {len(found) + sum(why.values())} results of {name}{data}{left_out}")
        kept += found
    if len(kept) > MOST:
        told.append(f"warm start: the newest {MOST} of {len(kept)} results are kept")
    return kept[-MOST:], told


def _similar_tasks(spec: StudySpec, settings: Settings) -> tuple[list[_Result], str]:
    """Return the results of those tasks of the shipped prior that the study's data resembles, and a name for them."""
    prior = shipped_prior()
    metric = spec.objectives[0].metric
    if metric not in ALIKE:
        known = ", ".join(ALIKE)
        raise SpecError(
            [f"auto: what ships was measured by {known}; the objective here is {metric}"], where="--warm-start"
        )
    data = prepare(spec.base.dataset, data_root=settings.data_root, cache=settings.cache, seed=spec.seed)
    facts = measure_facts(data)
    weights = {task.name: similarity(facts, task.facts) for task in prior.tasks}
    chosen = [task for task in prior.tasks if weights[task.name] >= max(weights.values(), default=0.0) / 2]
    results = [_Result(row.params, row.value) for task in chosen for row in task.rows]
    names = ", ".join(f"{task.name} (similarity {weights[task.name]:.2f})" for task in chosen)
    return results, f"auto: LossBench's {names}"


def _results(source: str, spec: StudySpec, settings: Settings) -> Iterator[_Result]:
    path = Path(source)
    if path.suffix.lower() in DATABASES and path.is_file():
        with Storage.open(f"sqlite:///{path}", read_only=True) as store:
            for document in store.queries.studies():
                if not document["foreign"]:
                    yield from _of_study(store, document["name"], spec)
    elif path.suffix.lower() in (".csv", ".gz"):
        yield from _of_table(path, spec)
    else:
        with Storage.open(settings.storage, read_only=True) as store:
            try:
                yield from _of_study(store, source, spec)
            except NotFoundError as error:
                raise NotFoundError(f"--warm-start: {error.message}", hint=error.hint, where=error.where) from error


def _of_study(store: Storage, name: str, spec: StudySpec) -> Iterator[_Result]:
    record = store.studies.get(name)
    theirs = load_spec(YamlDocument(record.spec, {}, f"study {name}"))
    same_metric = theirs.objectives[0].metric == spec.objectives[0].metric
    fixed = theirs.base.parameters()  # what they fixed may be searched here
    for trial in store.queries.trials(name):
        value = trial["value"] if same_metric else None
        yield _Result({**fixed, **trial["params"]}, value, record.resources.get("fingerprint"))


def _of_table(path: Path, spec: StudySpec) -> Iterator[_Result]:
    if path.suffix == ".gz" or _header(path) == set(COLUMNS):
        sign = 1.0 if spec.directions[0] == "maximize" else -1.0
        for curve in read_curves(path):
            value = None if math.isnan(curve.best) else sign * curve.best
            yield _Result({"loss": curve.loss, **curve.params}, value)
        return
    rows = read_rows(path, spec.space, strict=False)
    if rows and "value" not in rows[0].cells:
        raise SpecError(["a table of results has a column `value`"], where=str(path))
    for row in rows:
        try:
            value = float(row.cells["value"]) if row.cells["value"] else None
        except ValueError as error:
            raise SpecError(
                [f"line {row.line}: value: {row.cells['value']!r} is not a number"], where=str(path)
            ) from error
        yield _Result(row.params, value if value is not None and math.isfinite(value) else None)


def _header(path: Path) -> set[str]:
    try:
        with path.open(encoding="utf-8-sig") as file:
            return set(file.readline().strip().split(","))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the table cannot be read: {error}", where=str(path)) from error


def _map(spec: StudySpec, result: _Result) -> tuple[dict[str, Scalar] | None, str | None]:
    """Return the point of the new space that a result lies at, or the reason why there is none."""
    point: dict[str, Scalar] = {}
    if spec.space.find("loss") is None:
        ours = spec.base.parameters().get("loss")
        if ours is not None and result.params.get("loss") not in (None, ours):
            return None, f"the loss is not {ours}"
    for dimension in spec.space:
        if dimension.when is not None and point.get(dimension.when[0]) != dimension.when[1]:
            continue
        if dimension.name not in result.params:
            return None, f"{dimension.name} is missing"
        value = as_value(dimension, result.params[dimension.name])
        if not dimension.contains(value):
            return None, f"{dimension.name} lies outside"
        point[dimension.name] = value
    return point, None

"""Study files that come over the network: checked as any other, and kept below the data root."""

from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import tuner
from api.config import Service
from tuner.config.study import StudySpec, load_spec
from tuner.config.yaml_reader import YamlDocument, dump_yaml, parse_yaml
from tuner.errors import SpecError
from tuner.launch.study_setup import weights_names
from tuner.registry import Scalar
from tuner.storage.records import NewStudy, StudyRecord

MAX_TRIALS = 100_000
"""Trials that one request may add: each is a row that is written at once."""


def read_posted(content: Any, data_root: Path | None) -> StudySpec:
    """Check a study file. Raises SpecError with every problem; nothing named in it is imported or opened."""
    spec = load_spec(YamlDocument(content, {}, None))
    problems = [
        f"dataset.{key}: {value!r} leads out of the data root; name a folder below it"
        for key, value in _texts(spec.base.dataset)
        if _escapes(value, data_root)
    ]
    problems += [
        f"model.weights: {value!r} leads out of the data root; name a file below it"
        for value in weights_names(spec)
        if _escapes(value, data_root)
    ]
    if spec.total > MAX_TRIALS:
        problems.append(
            f"budget.trials: {spec.total}; at most {MAX_TRIALS} over the network; `tuner launch` takes more"
        )
    if problems:
        raise SpecError(problems)
    return spec


def read_posted_text(text: str, data_root: Path | None) -> StudySpec:
    """Check a study file in YAML, as the form of the pages shows it."""
    return read_posted(parse_yaml(text, source="the study file").content, data_root)


def store_study(service: Service, spec: StudySpec) -> StudyRecord:
    """Store a study with its whole budget. Raises ConflictError when the name is taken."""
    return service.store.studies.create(
        NewStudy(
            name=spec.name,
            spec=spec.as_dict(),
            space=spec.space,
            objectives=[{"metric": o.metric, "direction": o.direction} for o in spec.objectives],
            queue=spec.queue(),
            seed=spec.seed,
            retries=spec.budget.retries,
            timeout_s=spec.budget.timeout,
            version=tuner.__version__,
        )
    )


def stored_spec(record: StudyRecord) -> StudySpec:
    """Return the specification of a stored study; read once, and again when its first worker has settled it."""
    return _specs(_version(record), _Unhashed(record))


def spec_yaml(record: StudyRecord) -> str:
    """Return the specification of a stored study as YAML; written once."""
    return _written(_version(record), _Unhashed(record))


def configuration(record: StudyRecord, params: Mapping[str, Scalar]) -> dict[str, Any]:
    """Return the complete configuration of a trial with these parameters."""
    return stored_spec(record).config(params).as_dict()


def _version(record: StudyRecord) -> tuple[str, ...]:
    """Return what tells one specification from another: `Store.resolve_train` changes two keys of it, once."""
    train = record.spec.get("train") or {}
    return record.identity, str(train.get("threads")), str(train.get("precision"))


class _Unhashed:
    """Carries a record past the cache's key."""

    def __init__(self, record: StudyRecord) -> None:
        self.record = record

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Unhashed)

    def __hash__(self) -> int:
        return 0


@lru_cache(maxsize=64)
def _specs(version: tuple[str, ...], carried: _Unhashed) -> StudySpec:
    record = carried.record
    return load_spec(YamlDocument(record.spec, {}, f"study {record.name}"))


@lru_cache(maxsize=64)
def _written(version: tuple[str, ...], carried: _Unhashed) -> str:
    return dump_yaml(carried.record.spec)


def _texts(section: Any, path: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(section, str):
        yield path, section
    elif isinstance(section, Mapping):
        for key, value in section.items():
            yield from _texts(value, f"{path}.{key}".lstrip("."))
    elif isinstance(section, (list, tuple)):
        for value in section:
            yield from _texts(value, path)


def _escapes(value: str, data_root: Path | None) -> bool:
    """Tell whether a text, taken as a path, leads out of the data root."""
    if "\x00" in value or value.startswith("~") or "\\" in value:
        return True
    if "/" not in value and value not in ("..", "."):
        return False
    root = (data_root or Path("/nowhere")).resolve()
    return not (root / value).resolve().is_relative_to(root)

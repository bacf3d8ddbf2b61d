"""Study files posted over the network: checked like any other, and kept below the data root."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from threading import Lock
from typing import Any

from cachetools import LRUCache, cached

from api.config import Service
from tuner.config.study import StudySpec, load_spec
from tuner.config.yaml_reader import YamlDocument, dump_yaml, parse_yaml
from tuner.errors import Problem, Problems, SpecError
from tuner.launch.new_study import create_study
from tuner.registry import Scalar
from tuner.storage.records import StudyRecord

MAX_DEEP = 20
MAX_VALUES = 4000
"""Keys and values: a study that names every loss with a range for each option has a quarter of them."""
MAX_CASES = 20_000
MAX_KEY = 200
MAX_TEXT = 10_000
MAX_TRIALS = 100_000
"""Trials that one request may add: each is a row that is written at once."""


def read_posted(content: Any, data_root: Path | None) -> StudySpec:
    """Check a study file. Raises SpecError with every problem; nothing named in it is imported or opened."""
    check_size(content)
    spec = load_spec(YamlDocument(content, {}, None))
    if spec.base.train.command is not None:
        raise SpecError(
            [
                Problem(
                    "train.command",
                    "a program is not taken over the network; `tuner launch` starts it where it may run",
                )
            ]
        )
    problems = Problems(
        Problem(key, f"{value!r} leads out of the data root; name what lies below it", value)
        for key, value in _texts_of(spec)
        if _escapes(value, data_root)
    )
    if spec.budget.hours_per_loss is None and spec.total > MAX_TRIALS:
        problems.add(
            "budget.trials",
            f"{spec.total}; at most {MAX_TRIALS} over the network; `tuner launch` takes more",
            spec.total,
        )
    problems.refuse()
    return spec


def check_size(content: Any) -> None:
    """Raise SpecError where checking the content would take long: its depth, its values, its texts.

    Lists of cases (`dataset.validation`) may be long; all that is named elsewhere is compared with what is known.
    """
    values, cases, left = 0, 0, [(content, 0, False)]
    while left:
        item, depth, in_cases = left.pop()
        if depth > MAX_DEEP:
            raise SpecError([f"nested more than {MAX_DEEP} deep; a study file has three or four levels"])
        parts: list[Any] = []
        if isinstance(item, Mapping):
            long = next((key for key in item if len(str(key)) > MAX_KEY), None)
            if long is not None:
                raise SpecError([f"a key of {len(str(long))} characters; at most {MAX_KEY}"])
            left += [(value, depth + 1, in_cases or key == "validation") for key, value in item.items()]
            parts = list(item)
        elif isinstance(item, (list, tuple)):
            left += [(value, depth + 1, in_cases) for value in item]
        elif isinstance(item, (str, bytes)) and len(item) > MAX_TEXT:
            raise SpecError([f"a text of {len(item)} characters; at most {MAX_TEXT}"])
        elif isinstance(item, int) and abs(item) >= 2**64:
            raise SpecError(["a number of more than 64 bits"])
        values += len(parts) + (not in_cases)
        cases += in_cases
        if values > MAX_VALUES or cases > MAX_CASES:
            raise SpecError([f"more than {MAX_VALUES} keys and values (or {MAX_CASES} cases) in one study file"])


def read_posted_text(text: str, data_root: Path | None) -> StudySpec:
    """Check a study file in YAML, as the form of the pages shows it."""
    return read_posted(parse_yaml(text, source="the study file").content, data_root)


def store_study(service: Service, spec: StudySpec) -> StudyRecord:
    """Store a study with its whole budget, with the regions that files below the data root declare, as `launch` does.

    Raises ConflictError when the name is taken, SpecError where a loss has no meaning for regions.
    """
    # what prepares data is loaded by those that post, not by every start of the service
    from tuner.launch.study_setup import with_declared_regions

    settings = service.config.settings
    root = settings.data_root
    spec = with_declared_regions(spec, settings)
    return create_study(service.store, spec, resources={"data_root": str(root)} if root else {})


def repeats_of(spec: StudySpec) -> str | None:
    """Say how many trials can only repeat points that were tried; None when none has to, as at a launch."""
    from tuner.launch.repeats_note import repeats_note  # imports Optuna, which reading does without

    note = repeats_note(spec, spec.total)
    return None if note is None else note.removeprefix("note: ")


def _version(record: StudyRecord) -> tuple[str, ...]:
    """Return what tells one specification from another.

    `Studies.resolve_train` changes two keys of it, once, `Studies.change_loss_time` the budget,
    `Studies.rename` the name.
    """
    train = record.spec.get("train") or {}
    return (
        record.identity,
        record.name,
        str(train.get("threads")),
        str(train.get("precision")),
        str(record.spec.get("budget")),
    )


@cached(LRUCache(64), key=_version, lock=Lock())
def stored_spec(record: StudyRecord) -> StudySpec:
    """Return the specification of a stored study; read once, and again when its first worker has settled it."""
    return load_spec(YamlDocument(record.spec, {}, f"study {record.name}"))


@cached(LRUCache(64), key=_version, lock=Lock())
def spec_yaml(record: StudyRecord) -> str:
    """Return the specification of a stored study as YAML; written once."""
    return dump_yaml(record.spec)


def configuration(record: StudyRecord, params: Mapping[str, Scalar]) -> dict[str, Any]:
    """Return the complete configuration of a trial with these parameters."""
    return stored_spec(record).config(params).as_dict()


def _texts_of(spec: StudySpec) -> Iterator[tuple[str, str]]:
    """Yield every text with its dotted key that can come into a configuration, however it got into the study.

    Names (of losses, models, options' choices) are no paths and have been checked; all others may become one.
    """
    yield from _texts(spec.base.dataset, "dataset")
    yield from _texts({key: value for key, value in spec.base.model.items() if key != "entry"}, "model")
    yield from _texts(spec.base.loss, "loss")
    yield from _texts(spec.base.train.model_dump(exclude={"entry"}), "train")
    for key, value in spec.search.raw.items():
        yield from _texts(value, f"search.{key}")


def _texts(section: Any, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(section, str):
        yield path, section
    elif isinstance(section, Mapping):
        for key, value in section.items():
            yield from _texts(value, f"{path}.{key}")
    elif isinstance(section, (list, tuple)):
        for value in section:
            yield from _texts(value, path)


def _escapes(value: str, data_root: Path | None) -> bool:
    """Tell whether a text, taken as a path, leads out of the data root, links followed."""
    if any(sign in value for sign in "\x00\\\r\n") or value.startswith("~") or ".." in value.split("/"):
        return True
    root = (data_root or Path("/nowhere")).resolve()
    try:
        return not (root / value).resolve().is_relative_to(root)
    except (OSError, RuntimeError, ValueError):  # a name that is too long, links in a circle, what no path can hold
        return True

"""A study file that is being written: fields of the form change keys of it, and it says what the fields hold.

The file is the one truth: whatever was written into it by hand stays when a field changes. Only comments are lost.
"""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

from tuner.config.study import find_study_file
from tuner.config.trial import TrainConfig
from tuner.config.yaml_reader import dump_yaml
from tuner.data.catalog import DATASETS
from tuner.errors import Problem, SpecError
from tuner.losses.catalog.registry import FAMILIES, LOSSES, competing, competing_name
from tuner.models.catalog import MODELS
from tuner.registry import Scalar
from tuner.storage.records import StudyRecord

SECTIONS = ("dataset", "model", "loss", "train", "search", "sampler", "pruner", "budget", "confirm")
NAMED = ("dataset", "model", "sampler", "pruner")
"""Sections that may stand as a name alone."""
MAX_CHANGES = 50
START: Mapping[str, Any] = {
    "dataset": {"name": "phantom"},
    "model": {"name": "unet"},
    "train": {"epochs": 20, "batch_size": 8},
    "search": {
        "loss": [competing_name(entry.name) for entry in LOSSES.values() if entry.survey],
        "train.lr": {"low": 1e-4, "high": 1e-2, "log": True},
    },
    "objectives": [{"metric": "dice"}],
    "budget": {"trials": 40},
}
"""The file that an empty form stands for."""


def new_draft() -> str:
    """Return the study file of an empty form."""
    return dump_yaml({**START, "search": {**START["search"], "loss": short_losses(losses_of(START))}})


def shipped_draft(name: str) -> str:
    """Return a study file of the package. Raises UnknownNameError."""
    return dump_yaml(find_study_file(name).content)


def copied_draft(record: StudyRecord, name: str) -> str:
    """Return the file of a stored study under another name; threads and precision are left to those who train."""
    content = deepcopy(record.spec)
    train = content.get("train")
    if isinstance(train, dict):
        for key in ("threads", "precision"):
            train.pop(key, None)
    content["name"] = name
    return dump_yaml(without_defaults(content))


def without_defaults(content: dict[str, Any]) -> dict[str, Any]:
    """Leave out keys of `train` and of options that have their defaults: what is left is what somebody chose."""
    defaults: dict[str, dict[str, Any]] = {
        "train": {name: field.default for name, field in TrainConfig.model_fields.items()}
    }
    for section, registry in (("dataset", DATASETS), ("model", MODELS)):
        part = content.get(section)
        name = part.get("name") if isinstance(part, Mapping) else None
        if isinstance(name, str) and name in registry:
            defaults[section] = {option.name: option.default for option in registry[name].options}
    for section, known in defaults.items():
        part = content.get(section)
        if isinstance(part, dict):
            content[section] = {
                key: value for key, value in part.items() if key not in known or known[key] != value or key == "name"
            }
    said = {
        section: {key: value for key, value in part.items() if value is not None} if isinstance(part, Mapping) else part
        for section, part in content.items()
    }
    return {section: part for section, part in said.items() if part not in (None, {})}


def changed(content: Any, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return a study file with some dotted keys set, or removed where the value is None; the rest as it was.

    Raises SpecError where the file is no mapping, or a section is none.
    """
    if content is None:
        content = {}
    if not isinstance(content, Mapping):
        raise SpecError(["a study file is a mapping of sections"])
    found: dict[str, Any] = dict(content)
    for path, value in changes.items():
        section, dot, key = path.partition(".")
        if not dot:
            _put(found, section, value)
            continue
        part = found.get(section)
        if isinstance(part, str) and section in NAMED:
            part = {"name": part}
        if part is None:
            part = {}
        if not isinstance(part, Mapping):
            raise SpecError([Problem(section, f"{part!r} is no mapping; the field {path} cannot change it", part)])
        own = dict(part)
        if path == "search.loss" and isinstance(value, list):
            value = [*short_losses(value), *_own_sums(own.get("loss"))]
        _put(own, key, value)
        if section in ("dataset", "model"):
            own = {"name": START[section]["name"], **own}
            own = _of_its_kind(section, own) if key == "name" else own
        found[section] = own
    return {key: value for key, value in found.items() if value != {} or key == "dataset"}


def fields_of(content: Any) -> dict[str, Any]:
    """Return what the fields of the form hold, by dotted key; of what no field can hold, nothing."""
    found: dict[str, Any] = {}
    if not isinstance(content, Mapping):
        return found
    for section, part in content.items():
        if section in NAMED and isinstance(part, str):
            found[f"{section}.name"] = part
        elif section in SECTIONS and isinstance(part, Mapping):
            found |= {f"{section}.{key}": value for key, value in part.items()}
        elif section == "objectives" and isinstance(part, Sequence) and not isinstance(part, str):
            found["objectives"] = [o.get("metric") if isinstance(o, Mapping) else o for o in part]
        elif isinstance(part, (str, int, float)):
            found[str(section)] = part
    found["search.loss"] = losses_of(content)
    return found


def field_text(value: Any) -> str:
    """Return the text of a field, as the form's script writes it: flow syntax of YAML, nothing for None."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {field_text(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(field_text, value)) + "]"
    return str(value)


def losses_of(content: Mapping[str, Any]) -> list[str]:
    """Return the losses that compete, families written out; weighted sums of the user's own are left out."""
    search = content.get("search")
    given = search.get("loss") if isinstance(search, Mapping) else None
    if isinstance(given, str):
        given = [given]
    found: list[str] = []
    for item in given if isinstance(given, list) else []:
        if item == "all":
            found += competing()
        elif item in FAMILIES:
            found += competing(item)
        elif isinstance(item, str):
            found += [name for name in LOSSES if item in (name, competing_name(name))]
    return list(dict.fromkeys(found))


def short_losses(losses: Sequence[str]) -> list[str]:
    """Name whole families where all their losses compete."""
    plain = {competing_name(name): name for name in LOSSES}
    chosen_names = {plain.get(name, name) for name in losses}
    found: list[str] = []
    for family in FAMILIES:
        chosen = [name for name, entry in LOSSES.items() if entry.family == family and name in chosen_names]
        members = competing(family)
        if members and set(members) <= set(chosen):
            found.append(family)
            chosen = [name for name in chosen if name not in members]
        found += [competing_name(name) for name in chosen]
    whole = [family for family in FAMILIES if competing(family)]
    if set(whole) <= set(found):
        found = ["all", *(name for name in found if name not in whole)]
    return found


def _own_sums(given: Any) -> list[Any]:
    return [item for item in given if isinstance(item, Mapping)] if isinstance(given, list) else []


def _put(part: dict[str, Any], key: str, value: Any) -> None:
    if value is None:
        part.pop(key, None)
    else:
        part[key] = value


def _of_its_kind(section: str, part: dict[str, Any]) -> dict[str, Any]:
    """Leave out options that the data set or model of today does not have."""
    name = part.get("name")
    registry: Any = DATASETS if section == "dataset" else MODELS
    if not isinstance(name, str) or name not in registry:
        return part
    known: set[Scalar] = {option.name for option in registry[name].options} | {"name", "validation", "label_noise"}
    return {key: value for key, value in part.items() if key in known}

"""A study that exists already: what may change when it is launched again, and what is refused."""

from collections.abc import Mapping
from typing import Any

from tuner.config.study import StudySpec
from tuner.config.trial import flatten
from tuner.errors import ConflictError
from tuner.storage.records import StudyRecord

OPEN = ("train.threads", "train.precision")
"""Resolved when a study is created; null and `auto` then mean what is stored."""
CHANGEABLE = ("budget.timeout", "budget.trials", "budget.trials_per_loss")
"""May change; the number of trials may only rise, which is looked at by itself."""


def check_same(record: StudyRecord, spec: StudySpec, *, trials_given: bool = False) -> None:
    """Refuse a specification that differs from the stored one, key by key. Raises ConflictError.

    A number of trials that stands in the file only, as it stood when the study was created, does not count as a wish to
    lower a budget that was raised since.
    """
    found = differences(record.spec, spec.as_dict())
    stored_trials = record.spec["budget"]
    asked = spec.budget.model_dump(mode="json")
    same_budget = all(asked[key] == stored_trials.get(key) for key in ("trials", "trials_per_loss"))
    if (trials_given or not same_budget) and spec.total < record.total:
        found.append(f"budget.trials: {record.total} stored, {spec.total} asked for (a budget may rise, not fall)")
    if found:
        raise ConflictError(
            f"there is a study {record.name!r} already, with another specification:\n  " + "\n  ".join(found),
            hint=f"Go on with the stored one by `tuner resume {record.name}`, or choose another name by --name.",
        )


def new_total(record: StudyRecord, spec: StudySpec) -> int | None:
    """Return the number of trials that the budget rises to; None when it stays."""
    return spec.total if spec.total > record.total else None


def differences(stored: Mapping[str, Any], asked: Mapping[str, Any]) -> list[str]:
    """Write a line for each key in which two specifications differ and may not."""
    before, after = _flat(stored), _flat(asked)
    lines = []
    for key in sorted(before.keys() | after.keys()):
        old, new = before.get(key), after.get(key)
        if key in CHANGEABLE or (key in OPEN and new in (None, "auto")) or _same(old, new):
            continue
        lines.append(f"{key}: {_shown(before, key)} stored, {_shown(after, key)} asked for")
    return lines


def _flat(spec: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for section, content in spec.items():
        if isinstance(content, Mapping):
            flat |= flatten(content, section)
        else:
            flat[section] = content
    return flat


def _same(old: Any, new: Any) -> bool:
    if isinstance(old, bool) or isinstance(new, bool):
        return old is new
    if isinstance(old, (list, tuple)) and isinstance(new, (list, tuple)):
        return len(old) == len(new) and all(_same(a, b) for a, b in zip(old, new, strict=True))
    return bool(old == new)


def _shown(flat: Mapping[str, Any], key: str) -> str:
    return repr(flat[key]) if key in flat else "nothing"

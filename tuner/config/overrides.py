"""What flags change of a study file: `--set KEY=VALUE`, dotted keys, durations."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from tuner.config.yaml_reader import parse_yaml
from tuner.errors import SpecError

_DURATION = re.compile(r"(?:(\d+(?:\.\d+)?)d)?(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m(?:in)?)?(?:(\d+(?:\.\d+)?)s?)?")


def overridden(content: Mapping[str, Any], overrides: Sequence[str], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a study file's content with `KEY=VALUE` texts, then dotted keys with values, laid over it."""
    raw = _copy(content)
    for text in overrides:
        key, value = _parse_override(text)
        _override(raw, key, value)
    for key, value in values.items():
        _override(raw, key, value)
    return raw


def seconds(value: object, where: str, problems: list[str]) -> float | None:
    """Read a duration: a number of seconds, or `90s`, `30m`, `2h`, `1d12h`; None stays None."""
    if value is None:
        return None
    if isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0:
        return float(value)
    match = _DURATION.fullmatch(value.strip().lower()) if isinstance(value, str) and value.strip() else None
    if match and any(match.groups()):
        days, hours, minutes, rest = (float(part or 0) for part in match.groups())
        total = 86400 * days + 3600 * hours + 60 * minutes + rest
        if total > 0:
            return total
    problems.append(f"{where}: {value!r} is not a duration; write seconds, or 90s, 30m, 2h, 1d12h")
    return None


def _parse_override(text: str) -> tuple[str, Any]:
    key, separator, value = text.partition("=")
    if not separator or not key.strip():
        raise SpecError([f"{text!r} is not KEY=VALUE, as in `--set train.lr=0.001`"], where="--set")
    return key.strip(), parse_yaml(value, source=f"--set {key.strip()}").content


def _override(raw: dict[str, Any], key: str, value: Any) -> None:
    """Set one dotted key. Setting a key that is searched fixes it; `search.` and the rest is one searched key."""
    if key.startswith("search."):
        searched = key.removeprefix("search.")
        raw["search"] = {**(raw.get("search") or {}), searched: value}
        if searched == "loss":
            raw.pop("loss", None)
        return
    search = raw.get("search")
    if isinstance(search, Mapping):
        if key.startswith("loss.") and "loss" in search:
            raw["search"] = {**search, key: value}
            return
        if key in ("loss", "loss.name") and "loss" in search:
            raw["search"] = _fix_loss(search, value)
            return
        raw["search"] = {k: v for k, v in search.items() if k != key}
    parts = key.split(".")
    target = raw
    for part in parts[:-1]:
        below = target.get(part)
        if isinstance(below, str):
            below = {"name": below}
        target[part] = dict(below) if isinstance(below, Mapping) else {}
        target = target[part]
    target[parts[-1]] = value


def _fix_loss(search: Mapping[str, Any], value: Any) -> dict[str, Any]:
    """Let one loss compete alone; its options stay searched, those of the others go."""
    options = dict(value) if isinstance(value, Mapping) and "name" in value else {}
    name = options.pop("name", value)
    label = next(iter(value), None) if isinstance(value, Mapping) and "name" not in value else name
    kept = {k: v for k, v in search.items() if not k.startswith("loss.") or k.split(".")[1] == label}
    return {**kept, "loss": [name], **{f"loss.{name}.{key}": option for key, option in options.items()}}


def _copy(content: Mapping[str, Any]) -> dict[str, Any]:
    return {str(k): _copy(v) if isinstance(v, Mapping) else v for k, v in content.items()}

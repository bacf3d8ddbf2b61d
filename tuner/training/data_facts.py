"""`data.json`: what a run knew of its data, so that its network can be given further images without the data set."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tuner.atomic_io_part import write_json
from tuner.data.preparation import PreparedData
from tuner.errors import ConfigError

FACTS = "data.json"
_FORMAT = 1


@dataclass(frozen=True)
class DataFacts:
    """The data of a run, in words and numbers."""

    dataset: str
    fingerprint: str
    sample_shape: tuple[int, ...]
    """[C, *S]; zeros for *S where samples keep the sizes that they have"""
    class_names: tuple[str, ...]
    background: bool
    validation_protocol: str
    validation_cases: tuple[str, ...]
    reading: Mapping[str, Any] = field(default_factory=dict)
    """How an image is read and normalised, and the label id of each class (`tuner.data.inference_inputs`)."""

    @property
    def channels(self) -> int:
        """Channels of an image."""
        return self.sample_shape[0]

    @property
    def spatial_dims(self) -> int:
        """2 for pictures and slices, 3 for volumes."""
        return len(self.sample_shape) - 1


def write_facts(folder: Path, data: PreparedData) -> None:
    """Write `data.json` into the folder of a training."""
    facts = DataFacts(
        dataset=data.name,
        fingerprint=data.fingerprint,
        sample_shape=data.sample_shape,
        class_names=data.class_names,
        background=data.background,
        validation_protocol=data.validation_protocol,
        validation_cases=data.validation.cases,
        reading=data.reading,
    )
    write_json(folder / FACTS, {"format": _FORMAT, **asdict(facts)})


def read_facts(folder: Path) -> DataFacts:
    """Read `data.json` of a run; it is data, and nothing in it is believed before it is looked at.

    Raises:
        ConfigError: It is missing, or is none.
    """
    path = folder / FACTS
    try:
        found = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise ConfigError(
            f"the run has no {FACTS}, which says how its images were read.",
            hint="It was trained by an earlier version, or by a function of your own: train it again.",
            where=str(folder),
        ) from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot be read as JSON: {error}.", where=str(path)) from error
    problem = _problem(found)
    if problem:
        raise ConfigError(f"is damaged, or was written by another version: {problem}.", where=str(path))
    return DataFacts(
        dataset=found["dataset"],
        fingerprint=found["fingerprint"],
        sample_shape=tuple(found["sample_shape"]),
        class_names=tuple(found["class_names"]),
        background=found["background"],
        validation_protocol=str(found.get("validation_protocol", "")),
        validation_cases=tuple(map(str, found.get("validation_cases", ()))),
        reading=found["reading"],
    )


def _problem(found: Any) -> str | None:
    if not isinstance(found, dict) or found.get("format") != _FORMAT:
        return f"format {found.get('format') if isinstance(found, dict) else found!r}, not {_FORMAT}"
    shape, names = found.get("sample_shape"), found.get("class_names")
    if not isinstance(shape, list) or len(shape) not in (3, 4) or not all(_is_size(extent) for extent in shape):
        return f"sample_shape is {shape!r}"
    if not isinstance(names, list) or not 2 <= len(names) <= 255 or not all(isinstance(name, str) for name in names):
        return "class_names are no list of 2 to 255 names"
    kinds = {"dataset": str, "fingerprint": str, "background": bool, "reading": dict}
    wrong = [key for key, kind in kinds.items() if not isinstance(found.get(key), kind)]
    return f"{', '.join(wrong)} missing or of another kind" if wrong else None


def _is_size(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 1 << 16

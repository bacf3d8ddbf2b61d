"""The options of a data set, completed and judged."""

from collections.abc import Mapping
from typing import Any

from tuner.data.entry import DatasetEntry
from tuner.errors import SpecError, UnknownNameError
from tuner.registry import Scalar


def complete_options(entry: DatasetEntry, config: Mapping[str, Any]) -> dict[str, Scalar]:
    """Return every option of the row, the section's values before the defaults; raises for any that is not legal."""
    declared = {option.name: option for option in entry.options}
    problems = []
    for name, value in config.items():
        if name in ("name", "validation"):
            continue
        if name not in declared:
            raise UnknownNameError(
                kind=f"option of dataset {entry.name!r}", name=name, known=[*declared, "validation"], where="dataset"
            )
        problem = declared[name].problem(value)
        if problem:
            problems.append(f"dataset.{name}: {problem}")
    if problems:
        raise SpecError(problems)
    chosen = {name: config.get(name, option.default) for name, option in declared.items()}
    # 0 and 0.0 are one value: they must give one fingerprint.
    return {name: float(value) if declared[name].type == "float" else value for name, value in chosen.items()}

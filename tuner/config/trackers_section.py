"""The section `trackers` of a study file: which experiment trackers are told of its trials."""

from collections.abc import Mapping
from typing import Any

from tuner.errors import Problems, unknown_name
from tuner.registry import complete_options
from tuner.trackers.catalog import TRACKERS


def trackers_section(given: object, problems: Problems) -> tuple[dict[str, Any], ...]:
    """Complete the list; an item is a name, or a mapping with `name` and options. Problems are added, never raised."""
    if given is None:
        return ()
    if not isinstance(given, list):
        problems.add("trackers", f"{given!r} is not a list, as in [tensorboard, {{name: mlflow, uri: null}}]", given)
        return ()
    found: list[dict[str, Any]] = []
    for index, item in enumerate(given):
        where = f"trackers[{index}]"
        section = {"name": item} if isinstance(item, str) else item
        if not isinstance(section, Mapping) or not isinstance(section.get("name"), str):
            problems.add(where, f"{item!r} is neither a name nor a mapping with one", item)
            continue
        name = section["name"]
        if name not in TRACKERS:
            problems.append(unknown_name("tracker", name, TRACKERS, where))
        elif any(other["name"] == name for other in found):
            problems.add(where, f"the tracker {name!r} stands twice", name)
        else:
            options = {str(key): value for key, value in section.items() if key != "name"}
            found.append({"name": name} | complete_options(TRACKERS[name].options, options, where, problems))
    return tuple(found)

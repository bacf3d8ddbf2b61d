"""The folder of an ensemble: who is in it, and with what weight. Importing this imports no torch.

`ensemble.json` names the members and their weights; each member has a folder with the configuration, the facts of its
data and its best weights, so that the ensemble stands alone.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tuner.errors import ConfigError, RequestError

ENSEMBLE = "ensemble.json"
MEMBER_FILES = ("config.yaml", "data.json", "best.safetensors")
"""What a member's folder holds."""
MAX_MEMBERS = 100
_FORMAT = 1
_MEMBER = re.compile(r"trial-[0-9]{1,9}")


def is_ensemble(folder: Path) -> bool:
    """Say whether a folder is an ensemble's."""
    return (folder / ENSEMBLE).is_file()


def read_ensemble(folder: Path) -> list[tuple[Path, float]]:
    """Return the folders and weights of the members of an ensemble.

    Raises:
        ConfigError: `ensemble.json` is damaged.
        RequestError: A file of a member is missing.
    """
    path = folder / ENSEMBLE
    try:
        found = json.loads(path.read_bytes())
        members = [(str(item["folder"]), float(item["weight"])) for item in found["members"]]
        if found["format"] != _FORMAT:
            raise ValueError(f"format {str(found['format'])[:20]}, not {_FORMAT}")
        if not 1 <= len(members) <= MAX_MEMBERS:
            raise ValueError(f"{len(members)} members")
        for name, weight in members:
            if not _MEMBER.fullmatch(name) or not 0 < weight <= 1:
                raise ValueError(f"member {name[:40]!r} of weight {weight}")
        if not math.isclose(sum(weight for _, weight in members), 1, abs_tol=1e-6):
            raise ValueError("the weights do not add up to 1")
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise ConfigError(f"is damaged, or was written by another version: {error}.", where=str(path)) from error
    _check_whole(folder, [name for name, _ in members])
    return [(folder / name, weight) for name, weight in members]


def _check_whole(folder: Path, members: Sequence[str]) -> None:
    wanted = [folder / member / name for member in members for name in MEMBER_FILES]
    missing = [str(path.relative_to(folder)) for path in wanted if not path.is_file()]
    if missing:
        raise RequestError(
            f"the ensemble is not whole: {', '.join(missing[:5])} {'is' if len(missing) == 1 else 'are'} missing.",
            hint="Copy the folder again with all it holds, or write it anew with tuner ensemble.",
            where=str(folder),
        )


def describe_ensemble(members: Sequence[tuple[int, float]], about: Mapping[str, Any]) -> bytes:
    """Return the content of `ensemble.json`: trials with their weights, and what is told of them beside."""
    named = [{"trial": number, "folder": member_folder(number), "weight": weight} for number, weight in members]
    return json.dumps({"format": _FORMAT, **about, "members": named}, indent=2).encode() + b"\n"


def member_folder(number: int) -> str:
    """Return the name of the folder of a trial in an ensemble."""
    return f"trial-{number}"

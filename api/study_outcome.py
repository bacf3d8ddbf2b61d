"""How a study ended, beyond the phases of the contract."""

from collections.abc import Mapping
from typing import Any


def without_result(study: Mapping[str, Any]) -> bool:
    """Tell whether a study, given as its document of `tuner status --json`, is done and no trial of it is complete."""
    trials = study["trials"]
    return study["phase"] == "done" and not trials["complete"] and trials["failed"] + trials["pruned"] > 0

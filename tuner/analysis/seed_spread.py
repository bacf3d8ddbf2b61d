"""What a search by itself may say of its values: the best one seen, and how much another seed moves a value.

No verdict comes from a search: the best of many values is chosen for its luck as well, and one training of a
configuration does not tell what another seed would have brought. Verdicts rest on runs with fresh, paired seeds
(`tuner.analysis.verdict`).
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import variance
from typing import Any

SEED = "train.seed"


@dataclass(frozen=True, slots=True)
class SeedSpread:
    """How much a value moves between trainings that differ in their seed alone."""

    deviation: float
    """Pooled sample standard deviation, in the unit of the metric."""
    configurations: int
    """Configurations that were trained with several seeds."""

    @property
    def source(self) -> str:
        """Say what it is estimated from."""
        return f"{self.configurations} repeated configuration{'s' * (self.configurations != 1)}"


def seed_spread(rows: Sequence[Mapping[str, Any]], *, study_seed: int) -> SeedSpread | None:
    """Return the spread of values over training seeds; None where the trials do not tell it.

    Only complete trials that are equal in everything but the effective seed count, each seed once: copies of one
    training agree by construction. A spread of exactly zero is none either: the seed had no effect there.

    Args:
        rows: Trials with `state`, `value` and `params`.
        study_seed: The seed of a training whose own is null or not searched.
    """
    by_configuration: dict[str, dict[Any, float]] = {}
    for row in rows:
        if row["state"] != "COMPLETE" or row["value"] is None:
            continue
        seed = row["params"].get(SEED)
        values = by_configuration.setdefault(configuration_key(row["params"]), {})
        values.setdefault(study_seed if seed is None else seed, row["value"])
    repeated = [list(values.values()) for values in by_configuration.values() if len(values) > 1]
    if not repeated:
        return None
    freedom = sum(len(values) - 1 for values in repeated)
    deviation = math.sqrt(sum(variance(values) * (len(values) - 1) for values in repeated) / freedom)
    return SeedSpread(deviation, len(repeated)) if deviation > 0 else None


def configuration_key(params: Mapping[str, Any]) -> str:
    """Return a text that is equal for trials that are equal in everything but the training seed."""
    return json.dumps({key: value for key, value in params.items() if key != SEED}, sort_keys=True)


def best_seen_statement(loss: str | None, value: float | None) -> str:
    """Say which value of a search is the best one."""
    if value is None:
        return "No trial is complete yet."
    return f"Best value seen: {f'{loss} ' if loss else ''}{value:.3g}."


def unconfirmed_statement(spread: SeedSpread | None) -> str:
    """Say that nothing is confirmed, and how far a value is to be trusted."""
    if spread is None:
        return "Not confirmed: how much a value moves between trainings with other seeds is not known yet."
    moves = f"between trainings with other seeds a value moves by about ±{spread.deviation:.1g}"
    return f"Not confirmed: {moves} (from {spread.source})."


def confirm_command(study: str) -> str:
    """Return the command that trains the finalists again with fresh seeds."""
    return f"tuner confirm {study}"

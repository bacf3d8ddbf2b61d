"""The Pareto front of a study with several objectives."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, select

from tuner.storage import schema
from tuner.storage.rows import AnyRow

_attempts = schema.attempts


def front_of(connection: Connection, study: AnyRow) -> list[dict[str, Any]]:
    """Return the complete trials that no other one beats in every objective, best in the first objective first."""
    rows = connection.execute(
        select(_attempts.c.number, _attempts.c.objective_values, _attempts.c.branch, _attempts.c.params)
        .where(_attempts.c.study_id == study.study_id, _attempts.c.value.is_not(None))
        .order_by(_attempts.c.number)
    ).all()
    signs = [-1.0 if o["direction"] == "maximize" else 1.0 for o in study.objectives]
    points = [tuple(s * v for s, v in zip(signs, row.objective_values, strict=True)) for row in rows]
    return [
        {
            "number": rows[i].number,
            "value": rows[i].objective_values[0],
            "values": rows[i].objective_values,
            "loss": rows[i].branch,
            "params": rows[i].params,
        }
        for i in pareto(points)
    ]


def pareto(points: Sequence[tuple[float, ...]]) -> list[int]:
    """Return the indices of the points, to be minimised, that no other point beats; in the order of the points."""
    front: list[int] = []
    for i in sorted(range(len(points)), key=lambda index: (points[index], index)):
        if not any(_beats(points[j], points[i]) for j in front):
            front.append(i)
    return front


def _beats(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    """Tell whether `one` is nowhere worse than `other` and somewhere better."""
    return one != other and all(a <= b for a, b in zip(one, other, strict=True))

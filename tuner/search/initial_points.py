"""Initial points of a study: published defaults, families in turn; then empty places for the sampler."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, zip_longest

from tuner.registry import Scalar
from tuner.search.space import SearchSpace

FAMILY_ORDER = ("pixel", "region", "boundary", "combination")

LEARNED = ("train.lr", "train.weight_decay")
"""Parameters outside the losses of which the sampler `auto` knows from other tasks what they do."""


@dataclass(frozen=True, slots=True)
class CandidateLoss:
    """A loss that competes. `defaults` are its published option values under their parameter names.

    `family` is one of the four, or anything else for a weighted sum of the user's own.
    """

    name: str
    family: str
    defaults: Mapping[str, Scalar] = field(default_factory=dict)


def queue(
    space: SearchSpace,
    competing: Sequence[CandidateLoss],
    base: Mapping[str, Scalar],
    trials: int,
    trials_per_loss: int | None = None,
    chosen: Collection[str] = (),
) -> list[dict[str, Scalar]]:
    """Return one point for each trial of the budget: a published default, with only `loss` fixed, or empty.

    Args:
        space: what is searched.
        competing: the losses that compete, in the order of listing.
        base: values of parameters outside the losses as the study file has them (`train.lr`).
        trials: the budget.
        trials_per_loss: trials of every competing loss, in turn, the first one its published default.
        chosen: parameters outside the losses that the sampler chooses for these defaults.
    """
    turn = round_robin(competing)

    def start(loss: CandidateLoss) -> dict[str, Scalar]:
        return {name: value for name, value in default_point(space, loss, base).items() if name not in chosen}

    points: list[dict[str, Scalar]]
    if trials_per_loss:
        points = [start(loss) for loss in turn]
        fixes_loss = space.find("loss") is not None
        for _ in range(trials_per_loss - 1):
            points += [{"loss": loss.name} if fixes_loss else {} for loss in turn]
    else:
        points = [start(loss) for loss in turn[: trials // 3]]
    return points[:trials] + [{} for _ in range(trials - len(points))]


def left_out(
    competing: Sequence[CandidateLoss], trials: int, trials_per_loss: int | None = None
) -> tuple[tuple[str, ...], int]:
    """Return the losses whose published default does not fit into the queue, and the trials that would hold all."""
    if trials_per_loss:
        return (), trials_per_loss * len(competing)
    return tuple(loss.name for loss in round_robin(competing)[trials // 3 :]), 3 * len(competing)


def round_robin(competing: Sequence[CandidateLoss]) -> list[CandidateLoss]:
    """Order the losses by family in turn: the first pixel, region, boundary, combination and own one, the second ..."""
    families: dict[str, list[CandidateLoss]] = {family: [] for family in (*FAMILY_ORDER, "own")}
    for loss in competing:
        families[loss.family if loss.family in FAMILY_ORDER else "own"].append(loss)
    rounds = chain.from_iterable(zip_longest(*families.values()))
    return [loss for loss in rounds if loss is not None]


def default_point(space: SearchSpace, loss: CandidateLoss, base: Mapping[str, Scalar]) -> dict[str, Scalar]:
    """Return the complete point of a loss's published defaults, each moved to the nearest value that is searched."""
    wanted = {**base, "loss": loss.name, **loss.defaults}
    point: dict[str, Scalar] = {}
    for dimension in space:
        if dimension.when is None or point.get(dimension.when[0]) == dimension.when[1]:
            point[dimension.name] = dimension.nearest(wanted.get(dimension.name))
    return point

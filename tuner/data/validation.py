"""Which training cases validate. Always whole cases, never slices: neighbouring slices of a patient look alike."""

import hashlib
from collections.abc import Sequence
from typing import Any, Literal

from tuner.errors import DataError, closest

Protocol = Literal["share", "cases", "test"]


def validation_problem(validation: object) -> str | None:
    """Say why a value of `dataset.validation` is not legal, whatever the data; None when it is."""
    legal = "a share between 0 and 1, a list of case names, or test"
    if isinstance(validation, bool) or validation is None:
        return f"{validation!r} is not {legal}"
    if isinstance(validation, (int, float)):
        return None if 0 < validation < 1 else f"{validation!r} is not {legal}"
    if isinstance(validation, str):
        near = " (one case is a list of one: [NAME])" if validation != "test" else ""
        return None if validation == "test" else f"{validation!r} is not {legal}{near}"
    if not isinstance(validation, (list, tuple)) or not all(isinstance(name, str) for name in validation):
        return f"{validation!r} is not {legal}"
    if not validation:
        return "the list of cases is empty"
    twice = sorted({name for name in validation if validation.count(name) > 1})
    return f"listed twice: {', '.join(twice)}" if twice else None


def choose_cases(
    validation: Any, *, training: Sequence[str], test: Sequence[str], seed: int, dataset: str
) -> tuple[tuple[str, ...], tuple[str, ...], Protocol]:
    """Divide the cases.

    A share takes `round(share · cases)` of them, at least one, in an order that depends on the seed and on each case's
    name only: a further case moves no other one.

    Returns:
        Training cases, validation cases, and the protocol.

    Raises:
        DataError: Nothing would be left to train or to validate on, or a listed case is not a training case.
    """
    where = "dataset.validation"
    problem = validation_problem(validation)
    if problem:
        raise DataError(f"{problem}.", where=where)
    if validation == "test":
        if not test:
            raise DataError(f"{dataset} has no test cases to validate on.", hint="Use a share: 0.2.", where=where)
        return tuple(training), tuple(test), "test"
    if len(training) < 2:
        raise DataError(
            f"{dataset} has {len(training)} training case{'s' * (len(training) != 1)}; a validation by case needs 2.",
            hint="Add a case, or validate on the test cases (`validation: test`), which then are no test any more.",
            where=where,
        )
    if isinstance(validation, (int, float)):
        count = min(max(1, round(validation * len(training))), len(training) - 1)
        chosen = set(sorted(training, key=lambda case: _rank(seed, case))[:count])
    else:
        chosen = set(validation)
        _check_listed(list(validation), training, dataset, where)
    rest = tuple(case for case in training if case not in chosen)
    kept = tuple(case for case in training if case in chosen)
    return rest, kept, "share" if isinstance(validation, (int, float)) else "cases"


def _check_listed(listed: Sequence[str], training: Sequence[str], dataset: str, where: str) -> None:
    unknown = [case for case in listed if case not in training]
    if unknown:
        near = closest(unknown[0], training)
        guess = f" Did you mean {near!r}?" if near else ""
        raise DataError(
            f"not a training case of {dataset}: {', '.join(unknown)}.{guess}",
            hint=f"Training cases: {', '.join(training)}.",
            where=where,
        )
    if len(listed) == len(training):
        raise DataError(
            f"all {len(training)} training cases of {dataset} would validate and none would train.",
            hint="Leave one out of the list.",
            where=where,
        )


def _rank(seed: int, case: str) -> bytes:
    return hashlib.sha256(f"{seed}:{case}".encode()).digest()

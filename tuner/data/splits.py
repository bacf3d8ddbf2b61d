"""Training/validation split by case or group, never by slice: a share, a list, one fold of several, or `test`.

Groups come from a pattern of the name, no regular expression: a study may be posted by anyone.
"""

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from tuner.errors import DataError, closest

_WHERE = "dataset.group"
_MAX_LISTED = 6


def group_of(pattern: str) -> Callable[[str], str | None]:
    """Return the function from a file's name (without ending) to its group; None where the pattern does not fit.

    In the pattern `{group}` stands for the group, as short as it fits, `*` for anything and `?` for one character; an
    empty pattern makes every file a group of its own.

    Raises:
        DataError: `{group}` does not stand in it exactly once, or there are too many stars.
    """
    if not pattern:
        return lambda name: name
    if pattern.count("{group}") != 1:
        raise DataError(
            f"{{group}} has to stand once in {pattern!r}.", hint="As in `group: '{group}_slice*'`.", where=_WHERE
        )
    if pattern.count("*") > _MAX_LISTED or len(pattern) > 200:
        raise DataError(f"{pattern!r} is too long, or has more than {_MAX_LISTED} stars.", where=_WHERE)
    parts = {"{group}": "(.+?)", "*": ".*", "?": "."}
    pieces = re.split(r"(\{group\}|\*|\?)", pattern)
    expression = re.compile("".join(parts.get(piece, re.escape(piece)) for piece in pieces), re.DOTALL)

    def find(name: str) -> str | None:
        match = expression.fullmatch(name)
        return match[1] if match else None

    return find


Protocol = Literal["share", "cases", "folds", "test"]

FOLD = "dataset.validation.fold"
"""The parameter that a study searches to repeat every trial over the folds."""
MAX_FOLDS = 1000


def validation_problem(validation: object) -> str | None:
    """Say why a value of `dataset.validation` is not legal, whatever the data; None when it is."""
    legal = "a share between 0 and 1, a list of case names, {folds: 5, fold: 0}, or test"
    if isinstance(validation, bool) or validation is None:
        return f"{validation!r} is not {legal}"
    if isinstance(validation, (int, float)):
        return None if 0 < validation < 1 else f"{validation!r} is not {legal}"
    if isinstance(validation, str):
        near = " (one case is a list of one: [NAME])" if validation != "test" else ""
        return None if validation == "test" else f"{validation!r} is not {legal}{near}"
    if isinstance(validation, Mapping):
        return _folds_problem(validation)
    if not isinstance(validation, (list, tuple)) or not all(isinstance(name, str) for name in validation):
        return f"{validation!r} is not {legal}"
    if not validation:
        return "the list of cases is empty"
    twice = sorted({name for name in validation if validation.count(name) > 1})
    return f"listed twice: {', '.join(twice)}" if twice else None


def complete_validation(validation: Any) -> Any:
    """Write out what a legal value leaves out: of `{folds: 5}` fold 0 validates."""
    return {"folds": validation["folds"], "fold": validation.get("fold", 0)} if _is_folds(validation) else validation


def choose_cases(
    validation: Any,
    *,
    training: Sequence[str],
    test: Sequence[str],
    seed: int,
    dataset: str,
    group: Callable[[str], str] = str,
) -> tuple[tuple[str, ...], tuple[str, ...], Protocol]:
    """Divide the cases.

    A share takes `round(share · groups)` of them, at least one, in an order that depends on the seed and on each
    group's name only: a further case moves no other one. Folds deal the groups out in that order, so that every case
    validates in exactly one of them, and their sizes differ by one group at most.

    Args:
        validation: The value of `dataset.validation`.
        training: Names of the training cases.
        test: Names of the test cases.
        seed: The study's.
        dataset: Its name, for messages.
        group: Says which patient a training case is of; by itself, each is its own.

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
    groups = list(dict.fromkeys(map(group, training)))
    if len(groups) < 2:
        raise DataError(
            f"{dataset} has {_count(training, groups)}; a validation by case needs 2.",
            hint="Add a case, or validate on the test cases (`validation: test`), which then are no test any more.",
            where=where,
        )
    ranked = sorted(groups, key=lambda name: _rank(seed, name))
    if isinstance(validation, (int, float)):
        held_out = set(ranked[: min(max(1, round(validation * len(groups))), len(groups) - 1)])
        protocol: Protocol = "share"
    elif _is_folds(validation):
        held_out = set(_fold(complete_validation(validation), ranked, _count(training, groups), dataset))
        protocol = "folds"
    else:
        _check_listed(list(validation), training, dataset, where)
        _check_whole_groups(set(validation), training, group, where)
        held_out = {group(case) for case in validation}
        protocol = "cases"
    rest = tuple(case for case in training if group(case) not in held_out)
    kept = tuple(case for case in training if group(case) in held_out)
    return rest, kept, protocol


def _is_folds(validation: object) -> bool:
    return isinstance(validation, Mapping)


def _folds_problem(given: Mapping[Any, Any]) -> str | None:
    """Say what is wrong with `{folds: K, fold: F}`; F counts from 0."""
    unknown = [str(key) for key in given if key not in ("folds", "fold")]
    if unknown:
        near = closest(unknown[0], ("folds", "fold"))
        guess = f"; did you mean {near!r}?" if near else ""
        return f"{dict(given)!r} has {', '.join(unknown)}; {{folds: 5, fold: 0}} is what there is{guess}"
    folds, fold = given.get("folds"), given.get("fold", 0)
    if isinstance(folds, bool) or not isinstance(folds, int) or not 2 <= folds <= MAX_FOLDS:
        return f"folds is {folds!r}; 2 to {MAX_FOLDS} would do, as in {{folds: 5, fold: 0}}"
    if isinstance(fold, bool) or not isinstance(fold, int) or not 0 <= fold < folds:
        return f"fold is {fold!r}; with {folds} folds it is 0 to {folds - 1}"
    return None


def _fold(validation: Mapping[str, int], ranked: Sequence[str], counted: str, dataset: str) -> Sequence[str]:
    folds = validation["folds"]
    if len(ranked) < folds:
        raise DataError(
            f"{dataset} has {counted}; {folds} folds need {folds}.",
            hint=f"Take at most {len(ranked)} folds, as in `validation: {{folds: {len(ranked)}, fold: 0}}`, "
            "or a share: 0.2.",
            where="dataset.validation.folds",
        )
    return ranked[validation["fold"] :: folds]


def _count(training: Sequence[str], groups: Sequence[str]) -> str:
    cases = f"{len(training)} training case{'s' * (len(training) != 1)}"
    return cases if len(groups) == len(training) else f"{cases} of {len(groups)} group{'s' * (len(groups) != 1)}"


def _check_whole_groups(listed: set[str], training: Sequence[str], group: Callable[[str], str], where: str) -> None:
    """Refuse a list that divides a group: its other cases would train."""
    held_out = {group(case): case for case in listed}
    for case in training:
        if case not in listed and group(case) in held_out:
            raise DataError(
                f"{held_out[group(case)]} would validate and {case}, of the same group {group(case)!r}, would train.",
                hint="List every case of a group, or none.",
                where=where,
            )


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

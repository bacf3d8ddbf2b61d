"""Defects that a data set can be trained with all the same: `data check` counts them, `launch` only tells them."""

from collections.abc import Collection, Iterator, Mapping, Sequence


class Flaw(str):
    """The line of such a defect."""

    __slots__ = ()


def lacking(
    names: Sequence[str], present: Mapping[str, Collection[int | None]], what: Mapping[str, str], *, anywhere: bool
) -> Iterator[Flaw]:
    """Yield the classes that a half of a data set lacks.

    Args:
        names: The classes by number.
        present: By half, the class numbers that occur; a half of which nothing could be read is left out.
        what: By half, where its classes occur: `training mask`.
        anywhere: A class that occurs nowhere is a defect too; otherwise only one that the other half has.
    """
    halves = {half: set(numbers) for half, numbers in present.items() if numbers}
    everything = set().union(*halves.values()) if halves else set()
    for half, numbers in halves.items():
        for number, name in enumerate(names):
            if number not in numbers and (anywhere or number in everything):
                yield Flaw(f"class {name!r} occurs in no {what[half]}")

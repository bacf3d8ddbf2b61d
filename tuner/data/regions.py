"""Regions: classes that overlap, each a set of classes of the label map, as in BraTS and in nnU-Net's region training.

    regions: {whole: [1, 2, 3], core: [1, 3], enhancing: 3}     # numbers of classes, or their names
    regions_class_order: [2, 1, 3]                              # optional, one class a region, as in nnU-Net

The label map stays what is stored. A network has an output for every region, and a pixel's regions are one integer, its
code: bit r is set where region r is there. Symbols: R regions; classes are those of the label map.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tuner.errors import Problem, Problems

KEY = "regions"
ORDER = "regions_class_order"
MOST = 31
"""Regions that a code has bits for."""
Codes = NDArray[np.uint8 | np.int32]


@dataclass(frozen=True, slots=True)
class Regions:
    """Regions in order, the classes of each, and how a label map is made of them."""

    names: tuple[str, ...]
    members: tuple[tuple[int, ...], ...]
    """Classes of each region"""
    order: tuple[int, ...]
    """The class that each region writes into a label map"""
    is_derived: bool = False
    """Whether nobody has stated `order`"""

    def __len__(self) -> int:
        return len(self.names)

    @property
    def code_type(self) -> type[np.uint8] | type[np.int32]:
        """The smallest type that codes fit in."""
        return np.uint8 if len(self) <= 8 else np.int32

    def code_table(self) -> Codes:
        """Return the code of every label, [256]; 0 of those that are in no region, the ignored one too."""
        table = np.zeros(256, self.code_type)
        for number, classes in enumerate(self.members):
            table[list(classes)] |= self.code_type(1 << number)
        return table

    def codes(self, labels: NDArray[Any]) -> Codes:
        """Return the codes of a label map, of its shape."""
        found: Codes = self.code_table()[labels]
        return found

    def mask(self, codes: NDArray[Any], number: int) -> NDArray[np.bool_]:
        """Return where one region is."""
        found: NDArray[np.bool_] = (codes >> number & 1).astype(bool)
        return found

    def label_map(self, codes: NDArray[Any]) -> NDArray[np.uint8]:
        """Return the label map of codes, of their shape.

        Every region writes its class where it is, one after the other, so that the last one wins: nnU-Net's rule. Where
        `order` was derived, the largest region comes first, and a code that a class has is that class.
        """
        table = self.code_table()
        labels = np.zeros(codes.shape, np.uint8)
        sequence = list(range(len(self)))
        if self.is_derived:
            sequence.sort(key=lambda number: -len(self.members[number]))
        for number in sequence:
            labels[self.mask(codes, number)] = self.order[number]
        if self.is_derived:
            for label in sorted({label for classes in self.members for label in classes}, reverse=True):
                labels[codes == table[label]] = label
        return labels

    def written(self, labels: NDArray[Any], *, ignore_index: int) -> NDArray[np.uint8]:
        """Return what a perfect prediction of a label map would be written as, ignored pixels as they are."""
        return np.where(labels == ignore_index, np.uint8(ignore_index), self.label_map(self.codes(labels)))

    def shares(self, frequencies: Sequence[float]) -> tuple[float, ...]:
        """Return the share of the pixels that are in each region, from the share of each class."""
        return tuple(float(sum(frequencies[label] for label in classes)) for classes in self.members)

    def as_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any], *, classes: int) -> "Regions":
        """Read `as_dict` back. Raises ValueError, KeyError or TypeError for anything else."""
        names, order = tuple(stored["names"]), tuple(stored["order"])
        members = tuple(tuple(found) for found in stored["members"])
        numbers = [*order, *(label for found in members for label in found)]
        sound = (
            1 <= len(names) == len(members) == len(order) <= MOST
            and all(isinstance(name, str) and name for name in names)
            and all(members)
            and all(isinstance(label, int) and 0 <= label < classes for label in numbers)
        )
        if not sound:
            raise ValueError("names, members and order of the regions do not fit each other")
        return cls(names, members, order, bool(stored["is_derived"]))


def complete_regions(section: dict[str, Any], options: dict[str, Any], problems: Problems) -> None:
    """Move `regions` and `regions_class_order` of a `dataset` section from `options` into `section`, checked.

    Which classes there are is known to the data set alone, see `resolve_regions`.
    """
    given, order = options.pop(KEY, None), options.pop(ORDER, None)
    if given is None:
        if order is not None:
            problems.add(f"dataset.{ORDER}", "states an order, but there are no `dataset.regions`", order)
        return
    where = f"dataset.{KEY}"
    if not isinstance(given, Mapping) or not 1 <= len(given) <= MOST:
        problems.add(
            where,
            f"{given!r} is no mapping of 1 to {MOST} regions, as in {{whole: [1, 2, 3], core: [1, 3], enhancing: 3}}",
            given,
        )
        return
    found: dict[str, list[Any]] = {}
    for key, value in given.items():
        name, classes = str(key).strip(), value if isinstance(value, (list, tuple)) else [value]
        if not name or len(name) > 100 or not name.isprintable() or name in found:
            problems.add(where, f"{key!r} is empty, too long, or stands twice: a region needs a name of its own", key)
        elif not classes or not all(_is_class(one) for one in classes):
            problems.add(f"{where}.{name}", f"{value!r} is none of: a class, or a list of classes ([1, 3])", value)
        else:
            found[name] = list(classes)
    section[KEY] = found
    if order is None:
        return
    if not isinstance(order, (list, tuple)) or len(order) != len(given) or not all(map(_is_class, order)):
        problems.add(
            f"dataset.{ORDER}", f"{order!r} is no list of {len(given)} classes, the one that each region writes", order
        )
        return
    section[ORDER] = list(order)


def _is_class(value: object) -> bool:
    return (isinstance(value, int) and not isinstance(value, bool) and value >= 0) or (
        isinstance(value, str) and bool(value.strip())
    )


def resolve_regions(
    declared: Mapping[str, Any], order: Sequence[Any] | None, class_names: Sequence[str], *, background: bool
) -> Regions:
    """Return the regions that a section declares over the classes that there are.

    Raises SpecError for classes that there are not, and where the class that a region writes cannot be told.
    """
    problems = Problems()
    members = []
    for name, classes in declared.items():
        where = f"dataset.{KEY}.{name}"
        numbers = [number for one in classes if (number := _number(one, class_names, where, problems)) is not None]
        if background and 0 in numbers:
            problems.add(where, f"class 0 ({class_names[0]}) is the background, which is in no region", 0)
        members.append(tuple(dict.fromkeys(numbers)))
    where = f"dataset.{ORDER}"
    stated = [_number(one, class_names, where, problems) for one in order or ()]
    problems.refuse()
    written = tuple(one for one in stated if one is not None)
    derived = tuple(_own_class(members, number) for number in range(len(members)))
    return Regions(tuple(declared), tuple(members), written or derived, is_derived=order is None)


def _number(given: Any, class_names: Sequence[str], where: str, problems: Problems) -> int | None:
    if isinstance(given, int) and 0 <= given < len(class_names):
        return given
    if isinstance(given, str) and given.strip() in class_names:
        return class_names.index(given.strip())
    legal = ", ".join(f"{number} {name!r}" for number, name in enumerate(class_names[:20]))
    more = ", …" if len(class_names) > 20 else ""
    problems.append(Problem(where, f"{given!r} is no class of this data set: {legal}{more}", given))
    return None


def _own_class(members: Sequence[Sequence[int]], number: int) -> int:
    """Return the class of a region that is in the fewest other regions, of several the first."""
    return min(members[number], key=lambda label: (sum(label in other for other in members), label))

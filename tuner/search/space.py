"""Search space: dimensions, conditions between them, and what a point must satisfy."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from tuner.errors import Problems
from tuner.registry import Scalar

Kind = Literal["float", "int", "categorical"]
Params = Mapping[str, Scalar]


@dataclass(frozen=True, slots=True)
class Dimension:
    """One searched parameter. `name` is its one spelling: in YAML, in the database, in JSON, on an axis.

    `when=("loss", "focal")` makes it conditional: it exists only in trials whose `loss` is `focal`.
    `steps` is the number of grid points of an interval; only the sampler `grid` asks for it. With a `step`, every
    sampler draws `low`, `low + step`, … up to `high`, which is one of them.
    """

    name: str
    kind: Kind
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    steps: int | None = None
    step: float | None = None
    choices: tuple[Scalar, ...] = ()
    when: tuple[str, str] | None = None

    def contains(self, value: Scalar) -> bool:
        """Tell whether a trial may carry this value."""
        if self.kind == "categorical":
            return any(value == c and type(value) is type(c) for c in self.choices)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return False
        if not self.low <= value <= self.high or (self.kind == "int" and not float(value).is_integer()):
            return False
        return self.step is None or abs(value - self.bounded(value)) <= 1e-9 * self.step

    def bounded(self, number: float) -> float | int:
        """Return the member of an interval that is nearest to a number."""
        if self.step is not None:
            last = round((self.high - self.low) / self.step)
            number = tidy(self.low + min(max(round((number - self.low) / self.step), 0), last) * self.step)
        number = min(max(float(number), float(self.low)), float(self.high))
        return round(number) if self.kind == "int" else number

    def nearest(self, value: Scalar) -> Scalar:
        """Return the member of the dimension that is nearest to `value`; the middle when there is no nearness."""
        if self.contains(value):
            return value
        if self.kind == "categorical":
            same = [c for c in self.choices if c == value]
            return same[0] if same else self._nearest_choice(value)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return self.bounded(value)
        return self.bounded(math.sqrt(self.low * self.high) if self.log else (self.low + self.high) / 2)

    def _nearest_choice(self, value: Scalar) -> Scalar:
        numbers = [c for c in self.choices if isinstance(c, (int, float)) and not isinstance(c, bool)]
        if not numbers or isinstance(value, (bool, str)) or value is None:
            return self.choices[0]
        return min(numbers, key=lambda choice: abs(choice - value))

    def grid(self) -> tuple[Scalar, ...]:
        """Return the points that the sampler `grid` visits; empty when an interval has neither `steps` nor `step`."""
        if self.kind == "categorical":
            return self.choices
        if self.step is not None:
            count = round((self.high - self.low) / self.step) + 1
            return tuple(self.bounded(self.low + i * self.step) for i in range(count))
        if self.steps is None:
            return ()
        share = [i / max(1, self.steps - 1) for i in range(self.steps)]
        if self.log:
            ratio = self.high / self.low
            points = [self.low * ratio**s for s in share]
        else:
            points = [self.low + (self.high - self.low) * s for s in share]
        # Rounding must not carry the last point over the edge.
        points = [min(max(tidy(p), self.low), self.high) for p in points]
        if self.kind == "int":
            return tuple(dict.fromkeys(round(p) for p in points))
        return tuple(points)

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form, without fields that do not apply."""
        record: dict[str, Any] = {"name": self.name, "kind": self.kind}
        if self.kind == "categorical":
            record["choices"] = list(self.choices)
        else:
            record |= {"low": self.low, "high": self.high, "log": self.log}
        if self.steps is not None:
            record["steps"] = self.steps
        if self.step is not None:
            record["step"] = self.step
        if self.when:
            record["when"] = {self.when[0]: self.when[1]}
        return record


@dataclass(frozen=True, slots=True)
class SearchSpace:
    """All dimensions, those that others depend on first."""

    dimensions: tuple[Dimension, ...]

    def __iter__(self) -> Iterator[Dimension]:
        return iter(self.dimensions)

    def __len__(self) -> int:
        return len(self.dimensions)

    def find(self, name: str) -> Dimension | None:
        """Return the dimension of that name, if there is one."""
        return next((d for d in self.dimensions if d.name == name), None)

    @property
    def shared(self) -> tuple[Dimension, ...]:
        """Dimensions that every trial has."""
        return tuple(d for d in self.dimensions if d.when is None)

    def branch(self, switch: str, choice: Scalar) -> tuple[Dimension, ...]:
        """Dimensions that exist only where `switch` has that value."""
        return tuple(d for d in self.dimensions if d.when == (switch, choice))

    @property
    def switches(self) -> tuple[str, ...]:
        """Names of the choices that others depend on, `loss` first."""
        names = {d.when[0] for d in self.dimensions if d.when}
        return tuple(sorted(names, key=lambda name: (name != "loss", name)))

    def active(self, params: Params) -> tuple[Dimension, ...]:
        """Dimensions that a trial with these parameters has."""
        return tuple(d for d in self.dimensions if d.when is None or params.get(d.when[0]) == d.when[1])

    def problems(self, params: Params) -> Problems:
        """Say what is wrong with a complete point: unknown, missing or inactive names, values outside their range."""
        found = Problems()
        active = {d.name: d for d in self.active(params)}
        for name, value in params.items():
            dimension = active.get(name)
            if dimension is None:
                known = self.find(name)
                reason = (
                    f"exists only when {known.when[0]} is {known.when[1]}"
                    if known and known.when
                    else "is not searched"
                )
                found.add(name, reason, value)
            elif not dimension.contains(value):
                found.add(name, f"{value!r} is outside {describe(dimension)}", value)
        return found


def describe(dimension: Dimension) -> str:
    """Write a dimension's range for people: `1e-05 to 0.01 (log)`, `8, 16, 32`."""
    if dimension.kind == "categorical":
        return ", ".join(map(str, dimension.choices))
    step = "" if dimension.step is None else f" by {dimension.step:g}"
    return f"{dimension.low:g} to {dimension.high:g}{step}" + (" (log)" if dimension.log else "")


def tidy(number: float) -> float:
    """Return a number without the noise of adding up steps: 0.3, not 0.30000000000000004."""
    return float(f"{number:.12g}")

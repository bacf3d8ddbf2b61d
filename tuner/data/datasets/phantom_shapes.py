"""Shapes in millimetres: signed distances (negative inside), smooth random fields, and the canvas they are painted on.

Axes: x from the patient's right to the left, y from anterior to posterior, z from inferior to superior.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float32]
Point = tuple[float, float, float]
Shape = Callable[[Values, Values, Values], Values]

EDGE_MM = 1.5
"""Half the width over which one tissue passes into the next (partial volume)."""

FAR_MM = 14.0
"""Distances above this are not computed: no rim, bump or edge reaches so far."""


@dataclass(frozen=True, slots=True)
class Waves:
    """A smooth random field: a sum of sine waves with random directions and phases, roughly in -1..1."""

    vectors: NDArray[np.float32]
    phases: NDArray[np.float32]

    @classmethod
    def draw(cls, rng: np.random.Generator, *, shortest_mm: float, longest_mm: float, count: int = 4) -> "Waves":
        """Draw a field with wavelengths between two limits."""
        directions = rng.normal(size=(count, 3))
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        lengths = rng.uniform(shortest_mm, longest_mm, (count, 1))
        phases = rng.uniform(0, 2 * np.pi, count)
        return cls((2 * np.pi * directions / lengths).astype(np.float32), phases.astype(np.float32))

    def __call__(self, x: Values, y: Values, z: Values) -> Values:
        """Evaluate the field at points."""
        total = np.zeros_like(x)
        for (kx, ky, kz), phase in zip(self.vectors, self.phases, strict=True):
            total += np.sin(kx * x + ky * y + kz * z + phase)
        return total / np.float32(1.5 * np.sqrt(len(self.phases)))


def ellipsoid(center: Point, radii: Point, *, turn: float = 0.0, tilt: float = 0.0) -> Shape:
    """An ellipsoid, turned about z and tilted about y by angles in radians."""
    ct, st, cl, sl = (np.float32(f(a)) for a in (turn, tilt) for f in (np.cos, np.sin))

    def distance(x: Values, y: Values, z: Values) -> Values:
        x, y, z = x - center[0], y - center[1], z - center[2]
        x, y = ct * x + st * y, ct * y - st * x
        x, z = cl * x + sl * z, cl * z - sl * x
        a, b, c = x / radii[0], y / radii[1], z / radii[2]
        inner = np.sqrt(a * a + b * b + c * c) + np.float32(1e-6)
        slope = np.sqrt((a / radii[0]) ** 2 + (b / radii[1]) ** 2 + (c / radii[2]) ** 2) + np.float32(1e-6)
        found: Values = inner * (inner - 1) / slope
        return found

    reach = max(radii) + FAR_MM
    return _bounded(distance, np.asarray(center) - reach, np.asarray(center) + reach)


def tube(points: Sequence[Point], radii: Sequence[float], *, steps: int = 18) -> Shape:
    """A bent tube through points, with a radius at each: the union of balls along a smooth path."""
    path = _smooth(np.column_stack([np.asarray(points, float), np.asarray(radii, float)]), steps).astype(np.float32)

    def distance(x: Values, y: Values, z: Values) -> Values:
        nearest = np.full_like(x, 1e6)
        for px, py, pz, radius in path:
            squared = (x - px) ** 2 + (y - py) ** 2 + (z - pz) ** 2
            np.minimum(nearest, np.sqrt(squared) - radius, out=nearest)
        return nearest

    reach = path[:, 3:] + FAR_MM
    return _bounded(distance, (path[:, :3] - reach).min(0), (path[:, :3] + reach).max(0))


def union(*shapes: Shape) -> Shape:
    """What is inside any of the shapes."""
    return lambda x, y, z: np.minimum.reduce([shape(x, y, z) for shape in shapes])


def without(shape: Shape, hole: Shape) -> Shape:
    """What is inside the first shape and outside the second."""
    return lambda x, y, z: np.maximum(shape(x, y, z), -hole(x, y, z))


def _bounded(shape: Shape, low: NDArray[np.floating], high: NDArray[np.floating]) -> Shape:
    """The same shape, computed inside a box only; `FAR_MM` outside of it."""

    def distance(x: Values, y: Values, z: Values) -> Values:
        inside = np.ones(x.shape, bool)
        for axis, start, stop in zip((x, y, z), low, high, strict=True):
            inside &= (axis > start) & (axis < stop)
        found = np.full(x.shape, FAR_MM, np.float32)
        found[inside] = shape(x[inside], y[inside], z[inside])
        return found

    return distance


def _smooth(knots: NDArray[np.float64], steps: int) -> NDArray[np.float64]:
    """Interpolate knots by quadratic corner cutting: the path stays within their hull."""
    for _ in range(2):
        quarter, three = 0.75 * knots[:-1] + 0.25 * knots[1:], 0.25 * knots[:-1] + 0.75 * knots[1:]
        inner = np.stack([quarter, three], 1).reshape(-1, knots.shape[1])
        knots = np.concatenate([knots[:1], inner, knots[-1:]])
    at = np.linspace(0, len(knots) - 1, steps)
    return np.column_stack([np.interp(at, np.arange(len(knots)), column) for column in knots.T])


class Canvas:
    """Hounsfield units and labels on a grid; what is painted later covers what was painted earlier."""

    def __init__(self, x: Values, y: Values, z: Values, bump: Waves, texture: Waves) -> None:
        self.x, self.y, self.z = x, y, z
        self.hounsfield = np.full(x.shape, -1000, np.float32)
        self.labels = np.zeros(x.shape, np.uint8)
        self._bump = bump(x, y, z)
        self._texture = texture(x, y, z)

    def distance(self, shape: Shape, *, bump_mm: float = 0.0) -> Values:
        """Signed distance on the whole grid, its surface moved in and out by up to about `bump_mm`."""
        return shape(self.x, self.y, self.z) - np.float32(bump_mm) * self._bump

    def paint(
        self,
        distance: Values,
        hounsfield: float | Values,
        *,
        label: int = 0,
        texture: float = 0.0,
        rim_mm: float = 0.0,
        rim: float = -95.0,
    ) -> None:
        """Paint what has a negative distance; `rim_mm` of another tissue (fat) may surround it."""
        if rim_mm:
            self._blend(distance - np.float32(rim_mm), np.float32(rim))
        value = np.float32(hounsfield) if isinstance(hounsfield, (int, float)) else hounsfield
        self._blend(distance, value + np.float32(texture) * self._texture if texture else value)
        self.labels[distance < 0] = label

    def _blend(self, distance: Values, value: Values | np.float32) -> None:
        share = np.clip(np.float32(0.5) - distance / np.float32(2 * EDGE_MM), 0, 1)
        self.hounsfield += share * (value - self.hounsfield)

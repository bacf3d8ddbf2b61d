"""Anatomy of the phantom: signed distances of shapes in mm, and a random patient painted with them.

Axes: x from the patient's right to the left, y from anterior to posterior, z from inferior to superior.

Sizes and positions in mm are those of an adult; labels are the ids of the Synapse benchmark. Volumes come out near
the shares of real cases (percent of all voxels): liver 4-5, spleen 1, kidneys 0.6 each, stomach 0.6, aorta 0.2,
pancreas 0.2, gallbladder 0.1; one patient in ten has no gallbladder.
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
    return _bound(distance, np.asarray(center) - reach, np.asarray(center) + reach)


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
    return _bound(distance, (path[:, :3] - reach).min(0), (path[:, :3] + reach).max(0))


def union(*shapes: Shape) -> Shape:
    """What is inside any of the shapes."""
    return lambda x, y, z: np.minimum.reduce([shape(x, y, z) for shape in shapes])


def without(shape: Shape, hole: Shape) -> Shape:
    """What is inside the first shape and outside the second."""
    return lambda x, y, z: np.maximum(shape(x, y, z), -hole(x, y, z))


def _bound(shape: Shape, low: NDArray[np.floating], high: NDArray[np.floating]) -> Shape:
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


AORTA, GALLBLADDER, LEFT_KIDNEY, RIGHT_KIDNEY, LIVER, PANCREAS, SPLEEN, STOMACH = range(1, 9)

_SOFT_MEAN = 55.0


@dataclass(frozen=True, slots=True)
class Tissue:
    """How bright tissues are in one patient, in Hounsfield units."""

    enhancement: float
    """Contrast agent in the vessels and organs, 0 (none) to 1 (venous phase)."""
    contrast: float
    jitter: np.random.Generator

    def __call__(self, plain: float, enhanced: float) -> float:
        """Brightness between the plain and the enhanced one, a few units off in each patient."""
        value = plain + self.enhancement * (enhanced - plain) + self.jitter.normal(0, 5)
        return _SOFT_MEAN + self.contrast * (value - _SOFT_MEAN)


def paint_patient(canvas: Canvas, rng: np.random.Generator, *, contrast: float) -> None:
    """Paint one patient; the same numbers are drawn whatever the grid."""
    tissue = Tissue(float(rng.uniform(0.25, 1.0)), contrast, rng)
    cavity = _paint_trunk(canvas, rng, tissue)
    _paint_bowel(canvas, rng, tissue, cavity)
    _paint_upper_organs(canvas, rng, tissue, cavity)
    _paint_kidneys(canvas, rng, tissue, cavity)
    _paint_midline(canvas, rng, tissue, cavity)
    _paint_gallbladder(canvas, rng, tissue, cavity)


def _around(rng: np.random.Generator, center: Point, spread_mm: float = 5.0) -> Point:
    x, y, z = np.asarray(center) + rng.normal(0, spread_mm, 3)
    return float(x), float(y), float(z)


def _about(rng: np.random.Generator, radii: Point, spread: float = 0.1) -> Point:
    a, b, c = np.asarray(radii) * np.exp(rng.normal(0, spread, 3))
    return float(a), float(b), float(c)


def _paint_trunk(canvas: Canvas, rng: np.random.Generator, tissue: Tissue) -> Values:
    """Skin, fat, muscle, lungs, spine and ribs; returns the signed distance of the abdominal cavity."""
    fat = rng.uniform(9, 24)
    body = canvas.distance(_cylinder((0, 7), (142 + fat, 99 + fat)))
    cavity = canvas.distance(_cylinder((0, -8), (130, 74)))
    canvas.paint(body, -100, texture=8)
    canvas.paint(body + np.float32(fat), tissue(52, 60), texture=8)
    canvas.paint(cavity, -95, texture=8)
    dome = 172 + rng.normal(0, 6) - ((np.abs(canvas.x) - 62) / 62) ** 2 * 26 - ((canvas.y + 8) / 55) ** 2 * 38
    lung: Values = np.maximum(cavity, dome - canvas.z).astype(np.float32, copy=False)
    canvas.paint(lung, -850)
    heart = ellipsoid(_around(rng, (18, -28, 190)), (58, 38, 36))
    canvas.paint(np.maximum(canvas.distance(heart, bump_mm=3), cavity + 3), tissue(45, 130), texture=6)
    _paint_bones(canvas, rng, tissue, cavity)
    return np.maximum(cavity + 2, canvas.z - dome + 3)


def _paint_bones(canvas: Canvas, rng: np.random.Generator, tissue: Tissue, cavity: Values) -> None:
    disc = np.sin(canvas.z * np.float32(2 * np.pi / 34) + np.float32(rng.uniform(0, 6))) > 0.75
    angle = np.arctan2(canvas.x, canvas.y + 8)
    level = np.abs(((canvas.z + 50 * np.cos(angle)) / 27 + np.float32(rng.uniform())) % 1 - 0.5) - 0.2
    above = canvas.z - 65 + 55 * np.cos(angle)
    ribs = np.maximum(np.abs(cavity - 5) - 3.5, np.maximum(level * 27, -above))
    canvas.paint(ribs, 260)
    processes = union(_cylinder((0, 72), (36, 5)), _cylinder((0, 90), (4, 14)), _cylinder((0, 72), (15, 14)))
    canvas.paint(canvas.distance(processes, bump_mm=3), 240)
    canvas.paint(canvas.distance(_cylinder((0, 72), (8, 8))), 25)
    for side in (-1, 1):
        psoas = ellipsoid((side * 38, 52, 20), _about(rng, (16, 18, 75)), turn=side * 0.3)
        canvas.paint(canvas.distance(psoas, bump_mm=2), tissue(52, 62), texture=6)
    vertebra = canvas.distance(_cylinder((0, 48), (23, 19)), bump_mm=1)
    canvas.paint(vertebra, np.where(disc, np.float32(85), np.float32(210)), texture=25)


def _paint_bowel(canvas: Canvas, rng: np.random.Generator, tissue: Tissue, cavity: Values) -> None:
    """Loops of the same brightness as stomach, pancreas and gallbladder; some hold gas or contrast agent."""
    for _ in range(int(rng.integers(13, 20))):
        x, y, z = rng.uniform(-85, 85), rng.uniform(-62, 10), rng.uniform(-5, 85)
        bend = rng.normal(0, 22, (3, 3)).cumsum(0)
        points = [(x + dx, y + dy * 0.6, z + dz * 0.6) for dx, dy, dz in bend]
        shape = tube(points, rng.uniform(8, 14, 3).tolist(), steps=10)
        loop: Values = np.maximum(canvas.distance(shape, bump_mm=2), cavity)
        content = rng.choice([25.0, 40.0, 60.0, 160.0], p=[0.35, 0.35, 0.2, 0.1])
        canvas.paint(loop, tissue(50, 80), rim_mm=2)
        canvas.paint(loop + 2.5, tissue(content, content), texture=12)
        if rng.random() < 0.3:
            gas: Values = np.maximum(loop + 3, canvas.y - (float(points[1][1]) - 3))
            canvas.paint(gas, -700)
    for side in (-1, 1):
        wall = tube([(side * 105, 20, -20), (side * 112, 5, 40), (side * 100, -20, 85)], [18, 16, 14])
        colon = np.maximum(canvas.distance(wall, bump_mm=4), cavity)
        canvas.paint(colon, tissue(50, 75), rim_mm=2)
        canvas.paint(colon + 3, -120 + 140 * rng.random(), texture=120)


def _paint_upper_organs(canvas: Canvas, rng: np.random.Generator, tissue: Tissue, cavity: Values) -> None:
    fundus, antrum = _around(rng, (62, 12, 150)), _around(rng, (18, -42, 78), 7)
    swell = rng.uniform(0.75, 1.2)
    shape = tube(
        [fundus, _around(rng, (64, -28, 118)), (48, -46, 90), antrum, (-14, -28, 70)],
        [r * swell for r in (25, 24, 19, 15, 9)],
    )
    stomach = np.maximum(canvas.distance(shape, bump_mm=5), cavity)
    canvas.paint(stomach, tissue(48, 85), label=STOMACH, rim_mm=2)
    content = np.where(canvas.y < fundus[1] - rng.uniform(28, 55), np.float32(-600), np.float32(rng.uniform(10, 50)))
    canvas.hounsfield += np.clip(-(stomach + 4) / 3, 0, 1) * (content - canvas.hounsfield)

    body = ellipsoid(_around(rng, (88, 28, 124)), _about(rng, (38, 52, 52)), turn=-0.35, tilt=0.15)
    spleen = without(body, ellipsoid((46, 4, 128), (34, 44, 60)))
    canvas.paint(
        np.maximum(canvas.distance(spleen, bump_mm=3), cavity), tissue(48, 118), label=SPLEEN, texture=6, rim_mm=2
    )

    right = ellipsoid(_around(rng, (-72, -6, 116)), _about(rng, (68, 70, 76), 0.07), turn=0.25)
    left = ellipsoid(_around(rng, (2, -42, 128), 7), _about(rng, (62, 30, 34), 0.15), turn=-0.15, tilt=-0.25)
    hollow = ellipsoid((-32, 12, 66), (46, 40, 42))
    liver = np.maximum(canvas.distance(without(union(right, left), hollow), bump_mm=4), cavity)
    canvas.paint(liver, tissue(58, 108), label=LIVER, texture=7, rim_mm=1)
    _paint_inside_liver(canvas, rng, tissue, liver)


def _paint_inside_liver(canvas: Canvas, rng: np.random.Generator, tissue: Tissue, liver: Values) -> None:
    """Vessels, and in some patients cysts: part of the liver, brighter or darker than it."""
    for _ in range(5):
        start = (rng.normal(-45, 12), rng.normal(-2, 10), rng.normal(112, 10))
        end = (rng.uniform(-125, 10), rng.uniform(-60, 40), rng.uniform(80, 165))
        vessel = canvas.distance(tube([start, end], [5, 2], steps=14))
        canvas.paint(np.maximum(vessel, liver + 4), tissue(42, 140), label=LIVER)
    for _ in range(int(rng.integers(0, 4))):
        center = (rng.uniform(-115, -30), rng.uniform(-50, 45), rng.uniform(80, 160))
        cyst = canvas.distance(ellipsoid(center, _about(rng, (9, 9, 9), 0.35)))
        canvas.paint(np.maximum(cyst, liver + 3), tissue(12, 16), label=LIVER)


def _paint_kidneys(canvas: Canvas, rng: np.random.Generator, tissue: Tissue, cavity: Values) -> None:
    for side, label, height in ((1, LEFT_KIDNEY, 74), (-1, RIGHT_KIDNEY, 62)):
        center = _around(rng, (side * 66, 40, height), 4)
        body = ellipsoid(center, _about(rng, (25, 28, 50), 0.08), turn=side * 0.5, tilt=side * 0.12)
        hilum = ellipsoid((center[0] - side * 19, center[1] - 12, center[2]), _about(rng, (13, 11, 17)))
        kidney = canvas.distance(without(body, hilum), bump_mm=2)
        inside = np.minimum(np.maximum(kidney, cavity - 6), 50)
        cortex, marrow = tissue(36, 170), tissue(34, 135)
        canvas.paint(inside, cortex, label=label, rim_mm=5)
        canvas.hounsfield += np.clip(-(inside + 8) / 4, 0, 1) * np.float32(marrow - cortex)
        adrenal = tube(
            [(side * 40, 30, height + 62), (side * 48, 34, height + 50), (side * 38, 42, height + 44)], [4, 4, 3]
        )
        canvas.paint(canvas.distance(adrenal), tissue(35, 75), rim_mm=2)


def _paint_midline(canvas: Canvas, rng: np.random.Generator, tissue: Tissue, cavity: Values) -> None:
    """Great vessels, pancreas and duodenum, close to each other and of nearly one brightness."""
    shift = rng.normal(0, 3, 4)
    cava = tube([(-22, 18, -20), (-24 + shift[0], 20, 70), (-30, 18, 185)], [11, 12, 13], steps=26)
    canvas.paint(canvas.distance(cava, bump_mm=2), tissue(40, 115), rim_mm=2)
    duodenum = tube([(-30, -24, 70), (-50, 0, 66), (-44, 8, 36), (-8, 6, 24)], [11, 11, 10, 9])
    canvas.paint(np.maximum(canvas.distance(duodenum, bump_mm=3), cavity), tissue(42, 82), texture=10, rim_mm=1)

    thick = rng.uniform(0.85, 1.2)
    head = _around(rng, (-26, -6, 58), 4)
    tail = _around(rng, (72, 20, 112), 6)
    path: list[Point] = [head, (-16, -14, 72), _around(rng, (8, -20, 84), 4), (38, -8, 94), tail]
    gland = tube(path, [r * thick for r in (14, 11, 9, 9.5, 8)], steps=24)
    pancreas = np.maximum(canvas.distance(gland, bump_mm=3.5), cavity)
    canvas.paint(pancreas, tissue(38, 86), label=PANCREAS, texture=14, rim_mm=1)

    portal = tube([(-45, -8, 112), (-16, 0, 88), (0, -4, 62), (4, -8, 0)], [7.5, 7.5, 6, 5], steps=26)
    canvas.paint(canvas.distance(portal), tissue(42, 140), rim_mm=1)
    splenic = tube([(-12, -2, 88), (30, 2, 96), (70, 26, 118)], [4.5, 4.5, 4])
    canvas.paint(canvas.distance(splenic), tissue(42, 135))

    wide = float(np.exp(rng.normal(0, 0.12)))
    course: list[Point] = [(8 + shift[1], 16, -25), (13 + shift[2], 17, 60), (12, 20, 125), (16 + shift[3], 26, 190)]
    aorta = canvas.distance(tube(course, [r * wide for r in (8.5, 10, 11, 12)], steps=40), bump_mm=0.6)
    canvas.paint(aorta, tissue(42, 150), label=AORTA, rim_mm=2)
    plaque = np.maximum(np.abs(aorta) - 1.5, canvas.distance(ellipsoid((18, 20, rng.uniform(0, 120)), (9, 9, 12))))
    canvas.paint(plaque, 300, label=AORTA)


def _paint_gallbladder(canvas: Canvas, rng: np.random.Generator, tissue: Tissue, cavity: Values) -> None:
    center = _around(rng, (-52, -34, 68), 5)
    radii = _about(rng, (14, 18, 27), 0.15)
    turn, tilt, removed = rng.normal(0.4, 0.2), rng.normal(0.4, 0.15), rng.random() < 0.1
    bile = tissue(8, 14)
    if removed:
        return
    bladder = np.maximum(canvas.distance(ellipsoid(center, radii, turn=turn, tilt=tilt), bump_mm=1.5), cavity)
    canvas.paint(bladder, bile, label=GALLBLADDER)


def _cylinder(center: tuple[float, float], radii: tuple[float, float]) -> Shape:
    """An elliptic cylinder along z, a little squarer than an ellipse."""

    def distance(x: Values, y: Values, z: Values) -> Values:
        a, b = np.abs(x - center[0]) / radii[0], np.abs(y - center[1]) / radii[1]
        found: Values = ((a**2.3 + b**2.3) ** np.float32(1 / 2.3) - 1) * np.float32(min(radii))
        return found

    return distance

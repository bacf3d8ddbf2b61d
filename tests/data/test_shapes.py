"""Shapes of objects: figures known by hand, and an independent count on real masks."""

import math
from collections import deque
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tuner.data.describe import boundary_lengths, measure


def _disc(radius: int, at: tuple[int, ...], shape: tuple[int, ...]) -> np.ndarray:
    axes = np.meshgrid(*map(np.arange, shape), indexing="ij")
    return sum((axis - middle) ** 2 for axis, middle in zip(axes, at, strict=True)) <= radius**2


@pytest.mark.parametrize("radius", [6, 15, 40])
def test_disc(radius: int) -> None:
    """A disc is as wide as its diameter, fills 0.8 of its square, and has its circumference for a boundary."""
    labels = _disc(radius, (50, 50), (100, 100)).astype(np.uint8)

    found = measure(labels, 2)[1]

    assert found.sizes == [int(labels.sum())]
    assert found.widths == [pytest.approx(2 * radius, abs=2)]
    assert found.thinness == [pytest.approx(math.pi / 4, rel=0.15)]
    assert found.boundary == pytest.approx(2 * math.pi * radius, rel=0.05)


@pytest.mark.parametrize(("width", "length"), [(1, 140), (3, 140), (7, 140), (8, 80)])
def test_bar(width: int, length: int) -> None:
    """A bar is `length / width` squares long; along the axes the boundary is found to 6 %."""
    labels = np.zeros((60, 180), np.uint8)
    labels[20 : 20 + width, 10 : 10 + length] = 3

    found = measure(labels, 4)[3]

    assert found.widths == [pytest.approx(width, abs=1)]
    if width % 2:
        assert found.thinness == [pytest.approx(length / width, rel=0.02)]
    assert found.boundary == pytest.approx(2 * (width + length), rel=0.06)


def test_boundary_does_not_depend_on_the_direction() -> None:
    """A bar at any angle has the boundary that it has, to 6 %: pixel sides alone would say up to 41 % more."""
    axes = np.meshgrid(np.arange(200) - 100, np.arange(200) - 100, indexing="ij")
    for degrees in range(0, 180, 15):
        turn = math.radians(degrees)
        along = axes[1] * math.cos(turn) + axes[0] * math.sin(turn)
        across = axes[0] * math.cos(turn) - axes[1] * math.sin(turn)
        labels = ((abs(along) <= 60) & (abs(across) <= 10)).astype(np.uint8)
        assert boundary_lengths(labels, 2)[1] == pytest.approx(2 * (120 + 20), rel=0.065), degrees


def test_ball_and_box() -> None:
    """In 3-D the boundary is an area: of a ball to 1 %, of a box along the axes to 10 %."""
    ball = _disc(20, (25, 25, 25), (50, 50, 50)).astype(np.uint8)
    box = np.zeros((50, 50, 50), np.uint8)
    box[5:35, 5:35, 5:35] = 1

    assert measure(ball, 2)[1].boundary == pytest.approx(4 * math.pi * 400, rel=0.01)
    assert measure(box, 2)[1].boundary == pytest.approx(6 * 900, rel=0.1)
    assert measure(ball, 2)[1].widths == [pytest.approx(40, abs=2)]


def test_edges_and_ignored_pixels_are_no_boundary() -> None:
    """Nobody knows what lies beyond the image, or under a pixel that is ignored."""
    labels = np.zeros((40, 40), np.uint8)
    labels[:, :20] = 1
    half = boundary_lengths(labels, 2)
    labels[:, 20:] = 255

    assert half[0] == half[1] == pytest.approx(40, rel=0.07)
    assert boundary_lengths(labels, 2) == [0, 0]
    assert boundary_lengths(np.zeros((9, 9), np.uint8), 2) == [0, 0]


def test_one_class_alone() -> None:
    """A slice that is all background has one object and no boundary, and nothing is divided by zero."""
    found = measure(np.zeros((20, 30), np.uint8), 3)

    assert list(found) == [0]
    assert (found[0].sizes, found[0].boundary) == ([600], 0)
    assert measure(np.full((9, 9), 255, np.uint8), 3) == {}


def _flood(mask: np.ndarray) -> list[int]:
    """Sizes of the objects, found by walking from pixel to pixel."""
    left = set(map(tuple, np.argwhere(mask).tolist()))
    sizes = []
    while left:
        todo, size = deque([left.pop()]), 0
        while todo:
            y, x = todo.popleft()
            size += 1
            for pixel in ((y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1)):
                if pixel in left:
                    left.remove(pixel)
                    todo.append(pixel)
        sizes.append(size)
    return sorted(sizes)


def _contour(mask: np.ndarray) -> float:
    """Length of the boundary by marching squares: a straight piece through every square of four pixels that it crosses.

    Of a smooth outline that is up to 8 % too long, for the pieces have eight directions.
    """
    corners = mask[:-1, :-1].astype(int) + mask[1:, :-1] + mask[:-1, 1:] + mask[1:, 1:]
    diagonal = (corners == 2) & (mask[:-1, :-1] == mask[1:, 1:])
    single = (corners == 1) | (corners == 3)
    return float(single.sum() * math.sqrt(0.5) + ((corners == 2) & ~diagonal).sum() + diagonal.sum() * math.sqrt(2))


@pytest.mark.realdata
@pytest.mark.parametrize("path", ["nuclei", "membranes"])
def test_real_masks_counted_otherwise(path: str, test_data: Path) -> None:
    """Objects by a walk from pixel to pixel, the boundary by marching squares: within 10 %."""
    name = (test_data / path / "val.txt").read_text().split()[1]
    mask = np.asarray(Image.open(test_data / path / "masks" / f"{name}.png"))[:128, :128] > 0

    found = measure(mask.astype(np.uint8), 2)[1]

    assert sorted(found.sizes) == _flood(mask)
    assert found.boundary == pytest.approx(_contour(mask), rel=0.1)

"""The embedded data set: a procedural abdomen with the eight Synapse organs, computed from its options and a seed.

Field of view 370 mm; row 0 is anterior, column 0 the patient's right, slice 0 the lowest, as in the Synapse sample.
Intensities are those of CT windowed to -125..275 HU, in 0..1. One case takes about 0.1 s at 12 slices of 96 pixels.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter1d

from tuner.data.cache import FileHashCache
from tuner.data.catalog import ORGANS
from tuner.data.datasets.phantom_anatomy import Canvas, Waves, paint_patient
from tuner.data.source import Image, Label, TestCase
from tuner.registry import Scalar

FIELD_MM = 370.0
LOWEST_MM, HIGHEST_MM = 12.0, 168.0
WINDOW = (-125.0, 275.0)

_VERSION = 1
"""Raised when the same options would give other pixels."""

_TEST_OFFSET = 1_000_000


@dataclass(frozen=True, slots=True)
class Phantom:
    """Patients `phantom000`, `phantom001`, … for training, and a third as many `phantomtest000`, … for the test."""

    options: Mapping[str, Scalar]

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """[1, H, W], or [1, D, H, W] in three dimensions."""
        size, slices = self._whole("size"), self._whole("slices")
        return (1, size, size) if self.stacked else (1, slices, size, size)

    @property
    def stacked(self) -> bool:
        """In two dimensions the slices of a patient are one volume."""
        return self.options["dimensions"] == 2

    @property
    def training(self) -> tuple[str, ...]:
        """Names of the training cases."""
        return tuple(f"phantom{index:03d}" for index in range(self._whole("cases")))

    @property
    def test(self) -> tuple[str, ...]:
        """Names of the test cases."""
        return tuple(f"phantomtest{index:03d}" for index in range(max(1, self._whole("cases") // 3)))

    def count(self, case: str) -> int:
        """Every slice is a sample, or the one volume is."""
        return self._whole("slices") if self.stacked else 1

    def files(self, cases: Sequence[str]) -> list[tuple[str, Path]]:
        """None: nothing is on disk."""
        return []

    def recipe(self) -> Mapping[str, Any]:
        """Options and version, without the number of cases: a case does not depend on how many others there are."""
        return {"version": _VERSION, **{key: value for key, value in self.options.items() if key != "cases"}}

    def samples(self, case: str) -> Iterator[tuple[Image, Label]]:
        """The slices of a patient, or the one volume."""
        image, label = self._render(case)
        if self.stacked:
            yield from zip(image[:, None], label, strict=True)
        else:
            yield image[None], label

    def spacing(self, case: str) -> tuple[float, ...]:
        """The size of a voxel [slices, H, W] in mm."""
        pixel, slices = FIELD_MM / self._whole("size"), self._whole("slices")
        return ((HIGHEST_MM - LOWEST_MM) / slices, pixel, pixel)

    def reading(self, memory: FileHashCache) -> Mapping[str, Any]:
        """Its intensities are those of CT in a window; a label is the number of its class."""
        low, high = WINDOW
        return {"form": "ct", "channels": 1, "low": low, "high": high, "labels": list(range(len(ORGANS)))}

    def original(self, case: str) -> TestCase:
        """A test case; its spacing is known."""
        image, label = self._render(case)
        return TestCase(case, image if self.stacked else image[None], label, self.spacing(case))

    def _render(self, case: str) -> tuple[Image, Label]:
        index = int(case.removeprefix("phantom").removeprefix("test"))
        number = index + _TEST_OFFSET * case.startswith("phantomtest")
        size = self._whole("size")
        rng = np.random.default_rng([self._whole("anatomy_seed"), number])
        canvas = _grid(rng, (self._whole("slices"), size, size))
        paint_patient(canvas, rng, contrast=self._number("contrast"))
        return self._scan(canvas, rng), canvas.labels

    def _scan(self, canvas: Canvas, rng: np.random.Generator) -> Image:
        """Blur, bias field and noise, then the window: air stays at 0, as in a real scan."""
        low, high = WINDOW
        image = _blur((canvas.hounsfield - np.float32(low)) / np.float32(high - low), 0.6)
        field = Waves.draw(rng, shortest_mm=350, longest_mm=700, count=3)(canvas.x, canvas.y, canvas.z)
        image *= 1 + np.float32(self._number("bias")) * field
        grain = rng.standard_normal(image.shape, np.float32)
        grain = grain + 2 * _blur(grain, 0.8)
        grain *= np.float32(self._number("noise")) / max(float(grain.std()), 1e-6)
        scan: Image = np.clip(image + grain, 0, 1)
        return scan

    def _whole(self, name: str) -> int:
        return int(self._number(name))

    def _number(self, name: str) -> float:
        value = self.options[name]
        if not isinstance(value, (int, float)):
            raise TypeError(f"{name} must be a number, not {value!r}")
        return value


def open_phantom(options: Mapping[str, Scalar], data_root: Path | None) -> Phantom:
    """Return the phantom; it needs no data root."""
    return Phantom(options)


def _grid(rng: np.random.Generator, shape: tuple[int, int, int]) -> Canvas:
    """Millimetres of a patient who is larger or smaller, turned, shifted and bent a little."""
    depth, height, width = shape
    step = (HIGHEST_MM - LOWEST_MM) / depth
    planes = LOWEST_MM + (np.arange(depth) + 0.5) * step
    rows, columns = (((np.arange(extent) + 0.5) / extent - 0.5) * FIELD_MM for extent in (height, width))
    z, y, x = (axis.astype(np.float32) for axis in np.meshgrid(planes, rows, columns, indexing="ij"))
    angle, scale = rng.normal(0, 0.05), np.exp(rng.normal(0, 0.05))
    cos, sin = np.float32(np.cos(angle) / scale), np.float32(np.sin(angle) / scale)
    dx, dy, dz = (np.float32(v) for v in rng.normal(0, (6, 5, 6)))
    x, y, z = cos * x + sin * y + dx, cos * y - sin * x + dy, z + dz
    bends = [Waves.draw(rng, shortest_mm=90, longest_mm=220)(x, y, z) for _ in range(3)]
    bent = zip((x, y, z), (5, 4, 4), bends, strict=True)
    x, y, z = (axis + np.float32(amount) * bend for axis, amount, bend in bent)
    bump = Waves.draw(rng, shortest_mm=22, longest_mm=60, count=6)
    texture = Waves.draw(rng, shortest_mm=9, longest_mm=25, count=6)
    return Canvas(x, y, z, bump, texture)


def _blur(image: Image, sigma: float) -> Image:
    rows: Image = gaussian_filter1d(image, sigma, axis=-2, truncate=3.0)
    blurred: Image = gaussian_filter1d(rows, sigma, axis=-1, truncate=3.0)
    return blurred

"""What every way to spoil a data set needs."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Spoil = Callable[[Path], Any]
COUNT = 20
"""Cases of each layout; the last two are test cases where a layout has any."""


def seeded(number: int) -> np.random.Generator:
    """Another content for every number."""
    return np.random.default_rng(number)


def halve(path: Path) -> None:
    """A download that broke off."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def add_line(path: Path, text: str) -> None:
    """Append to a list."""
    path.write_text(path.read_text() + text)

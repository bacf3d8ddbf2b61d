"""Tables of complete learning curves: real trainings, a row an epoch, from which searches are replayed.

Columns: `task, configuration, loss, params` (JSON), `seed, epoch, epochs, value, seconds`. `value` is the first
objective, higher is better; it is empty at the epoch at which a training diverged. `epochs` is the length of a whole
training. Files that end in `.gz` are compressed.
"""

import csv
import gzip
import io
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tuner.atomic_io import write_atomically
from tuner.errors import ConfigError, SpecError
from tuner.registry import Scalar

COLUMNS = ("task", "configuration", "loss", "params", "seed", "epoch", "epochs", "value", "seconds")


@dataclass(frozen=True, slots=True)
class Curve:
    """One training: a configuration of a task, with one seed."""

    task: str
    configuration: str
    loss: str
    params: dict[str, Scalar]
    seed: int
    epochs: int
    """Of a whole training."""
    values: tuple[float, ...]
    """After each epoch, NaN where the training diverged, which ends it."""
    seconds: tuple[float, ...]
    """That each epoch took."""

    @property
    def diverged(self) -> bool:
        """Whether it ended with a loss or a value that was not finite."""
        return bool(self.values) and math.isnan(self.values[-1])

    @property
    def is_complete(self) -> bool:
        """Whether it was trained to its end."""
        return self.diverged or len(self.values) == self.epochs

    @property
    def best(self) -> float:
        """The best value of any epoch; NaN when there is none."""
        return max((v for v in self.values if not math.isnan(v)), default=math.nan)


def write_curves(path: Path, curves: Iterable[Curve]) -> None:
    """Write a table as a whole or not at all."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for curve in curves:
        head = (curve.task, curve.configuration, curve.loss, json.dumps(curve.params), curve.seed)
        for epoch, (value, seconds) in enumerate(zip(curve.values, curve.seconds, strict=True), start=1):
            shown = "" if math.isnan(value) else f"{value:.7g}"
            writer.writerow((*head, epoch, curve.epochs, shown, f"{seconds:.4g}"))
    content = text.getvalue().encode()
    write_atomically(path, gzip.compress(content, mtime=0) if path.suffix == ".gz" else content)


def read_curves(path: Path) -> list[Curve]:
    """Read a table.

    Raises:
        ConfigError: The file cannot be read.
        SpecError: A column is missing, a line does not hold what it should, or epochs of a training are missing.
    """
    try:
        content = path.read_bytes()
        text = (gzip.decompress(content) if path.suffix == ".gz" else content).decode()
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise ConfigError(f"the table cannot be read: {error}", where=str(path)) from error
    reader = csv.DictReader(io.StringIO(text, newline=""))
    lacking = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
    if lacking:
        raise SpecError(
            [f"columns {', '.join(lacking)} are missing; a table of curves has {', '.join(COLUMNS)}"], where=str(path)
        )
    found: dict[tuple[str, str, int], list[tuple[int, float, float]]] = {}
    heads: dict[tuple[str, str, int], tuple[str, dict[str, Scalar], int]] = {}
    problems: list[str] = []
    for row in reader:
        try:
            key = (row["task"], row["configuration"], int(row["seed"]))
            head = (row["loss"], _params(row["params"]), int(row["epochs"]))
            value = float(row["value"]) if row["value"] else math.nan
            seconds = float(row["seconds"])
            if not seconds >= 0:
                raise ValueError(f"seconds: {row['seconds']!r} is not a time")
            found.setdefault(key, []).append((int(row["epoch"]), value, seconds))
        except (ValueError, TypeError) as error:
            problems.append(f"line {reader.line_num}: {error}")
            continue
        if heads.setdefault(key, head) != head:
            problems.append(f"line {reader.line_num}: the training has other loss, params or epochs than on its first")
    curves = []
    for key, rows in found.items():
        rows.sort()
        if [epoch for epoch, _, _ in rows] != list(range(1, len(rows) + 1)):
            problems.append(f"task {key[0]}, configuration {key[1]}, seed {key[2]}: epochs are missing or stand twice")
            continue
        loss, params, epochs = heads[key]
        task, configuration, seed = key
        values, seconds_each = tuple(v for _, v, _ in rows), tuple(s for _, _, s in rows)
        curves.append(Curve(task, configuration, loss, params, seed, epochs, values, seconds_each))
    if problems:
        raise SpecError(problems[:20], where=str(path))
    if not curves:
        raise SpecError(["the table holds no training"], where=str(path))
    return curves


def _params(text: str) -> dict[str, Scalar]:
    found = json.loads(text)
    if not isinstance(found, Mapping) or not all(
        isinstance(v, (str, int, float, bool, type(None))) for v in found.values()
    ):
        raise ValueError(f"params: {text[:80]!r} is no JSON object of plain values")
    return dict(found)

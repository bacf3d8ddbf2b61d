"""Prediction grid: the same validation cases, a column for each of the best losses, errors in colour."""

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from tuner.analysis.predictions import IGNORED, Truth, predicted_cases, render_case
from tuner.artifacts.local import Artifacts
from tuner.colors import CONFUSED, EXTRA, MISSED
from tuner.errors import NotFoundError
from tuner.image_panels import INK, draw_legend, panel_size, to_panel
from tuner.label_archive import LabelArchive, Labels
from tuner.report.collect import Entry, ReportData

MAX_COLUMNS = 6
MAX_ROWS = 5
PANEL = 220
GAP, HEAD = 6, 40
KINDS = (("missed", MISSED), ("extra", EXTRA), ("wrong class", CONFUSED))


@dataclass(frozen=True)
class PredictionGrid:
    """The drawn figure, and what it shows."""

    png: bytes
    cases: tuple[str, ...]
    losses: tuple[str, ...]


@dataclass(frozen=True)
class _Row:
    case: str
    image: NDArray[np.float32]
    truth: Labels
    predicted: Sequence[Labels]
    spread: float


def draw_prediction_grid(
    material: ReportData, chosen: Sequence[Entry], artifacts: Artifacts, cache: Path
) -> PredictionGrid | None:
    """Draw the cases about which the losses differ most; None where predictions or prepared data are not here.

    Args:
        material: The report's studies; all on the same data.
        chosen: The best trial of each loss, best first; at most six are shown.
        artifacts: Files of the trials.
        cache: Prepared data of this machine, which holds images and truth.
    """
    record = material.first.record
    truth = Truth.find(cache, record.spec, record.resources)
    columns = [(entry, maps) for entry in chosen if (maps := _maps(artifacts, entry))][:MAX_COLUMNS]
    if truth is None or not columns:
        return None
    common = [case for case in columns[0][1] if all(case in maps for _, maps in columns)]
    rows = [row for case in common if (row := _row(case, truth, [maps[case] for _, maps in columns]))]
    if not rows:
        return None
    rows = sorted(rows, key=lambda row: (-row.spread, row.case))[:MAX_ROWS]
    titles = [f"{entry.loss}\n{material.metric} {entry.value:.3g}" for entry, _ in columns]
    return PredictionGrid(
        _sheet(rows, titles, truth.background), tuple(r.case for r in rows), tuple(entry.loss for entry, _ in columns)
    )


def _maps(artifacts: Artifacts, entry: Entry) -> dict[str, Labels]:
    try:
        with predicted_cases(artifacts, entry.study, entry.number) as found:
            return _readable(found)
    except NotFoundError:
        return {}


def _readable(found: LabelArchive) -> dict[str, Labels]:
    maps = {}
    for case in found.names:
        try:
            maps[case] = found.read(case)
        except NotFoundError:
            continue
    return maps


def _row(case: str, truth: Truth, predicted: Sequence[Labels]) -> _Row | None:
    known = truth.of(case)
    if known is None or any(labels.shape != known[1].shape for labels in predicted):
        return None
    images, labels = known
    clean = np.where(labels == IGNORED, 0, labels)
    index = int(np.argmax([np.count_nonzero(plane) for plane in clean]))
    scores = [_dice(np.asarray(labels), p) for p in predicted]
    return _Row(
        case=case if len(labels) == 1 else f"{case}, slice {index + 1}",
        image=np.asarray(images[index], np.float32),
        truth=np.asarray(labels[index]),
        predicted=[p[index] for p in predicted],
        spread=max(scores) - min(scores),
    )


def _dice(truth: Labels, predicted: Labels) -> float:
    """Share of agreement over all foreground at once: enough to find where losses differ."""
    valid = truth != IGNORED
    same = np.count_nonzero(valid & (truth > 0) & (truth == predicted))
    size = np.count_nonzero(valid & (truth > 0)) + np.count_nonzero(valid & (predicted > 0))
    return 2 * same / size if size else 1.0


def _sheet(rows: Sequence[_Row], titles: Sequence[str], background: bool) -> bytes:
    heads = ["image", "truth", *titles]
    panels = [
        [render_case(row.image, row.truth, row.truth, view, background=background) for view in ("image", "truth")]
        + [render_case(row.image, row.truth, p, "difference", background=background) for p in row.predicted]
        for row in rows
    ]
    height = max(panel_size(line[0].shape, PANEL)[0] for line in panels)
    width, line_height = GAP + len(heads) * (PANEL + GAP), height + 22 + GAP
    sheet = Image.new("RGB", (width, HEAD + len(rows) * line_height + 26), (255, 255, 255))
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=13)
    for place, head in enumerate(heads):
        pen.multiline_text((GAP + place * (PANEL + GAP), 4), head, INK, font)
    for number, (row, line) in enumerate(zip(rows, panels, strict=True)):
        top = HEAD + number * line_height
        for place, panel in enumerate(line):
            sheet.paste(to_panel(panel, PANEL), (GAP + place * (PANEL + GAP), top))
        pen.text((GAP, top + height + 2), row.case, INK, font)
    draw_legend(pen, KINDS, (GAP, sheet.height - 20), font)
    buffer = BytesIO()
    sheet.quantize(192, dither=Image.Dither.NONE).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()

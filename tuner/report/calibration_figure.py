"""Reliability diagrams: how often predictions are right, by the probability that the network gives them."""

from collections.abc import Sequence
from dataclasses import dataclass

from tuner.analysis.calibration import Calibration, ReliabilityBins, read_calibration
from tuner.artifacts.local import Artifacts
from tuner.errors import DataError, NotFoundError
from tuner.report.blocks import Block, Heading, Picture, Table
from tuner.report.collect import Entry, ReportData
from tuner.report.drawing import (
    INK,
    SOFT,
    WIDTH,
    Drawing,
    Line,
    LogScale,
    Polyline,
    Rectangle,
    Scale,
    Text,
    short,
    vertical_axis,
)

MAX_PANELS = 6
COLUMNS = 3
RIGHT, GAP, RARE = "#0072b2", "#d55e00", "#9dbfd6"
"""Colours after Okabe and Ito: accuracy of a bin, its distance to the confidence, and a bin of few predictions."""
RARE_SHARE = 1e-3
"""Bins with less of the predictions are drawn pale: their accuracy says little, and ECE hardly weighs them."""

_LEFT, _TOP, _SIDE, _BETWEEN, _HISTOGRAM, _FOOT = 56, 64, 236, 44, 70, 44
PANEL_WIDTH = WIDTH // COLUMNS
PANEL_HEIGHT = _TOP + _SIDE + _BETWEEN + _HISTOGRAM + _FOOT
_LEGEND = 26
CAPTION = (
    "Above: how often predictions are right, by the probability that the network gives them (confidence). On the dashed"
    " line it is right as often as it says; below, it is too sure, above, not sure enough. Orange is the distance; its "
    "mean over all predictions is the expected calibration error (ECE). Below: how many predictions there are, on a "
    f"logarithmic scale. Pale: less than {100 * RARE_SHARE:g} % of them."
)


@dataclass(frozen=True, slots=True)
class Panel:
    """One reliability diagram."""

    title: str
    bins: ReliabilityBins
    nll: float | None
    of_regions: bool


def panel_of(title: str, found: Calibration) -> Panel:
    """Return the panel of all predictions of a trial."""
    return Panel(title, found.total, found.nll, found.of_regions)


def draw_reliability(panels: Sequence[Panel]) -> Drawing:
    """Draw panels beside each other, at most `COLUMNS` in a row."""
    columns = min(len(panels), COLUMNS)
    rows = -(-len(panels) // COLUMNS)
    drawing = Drawing("Reliability", PANEL_HEIGHT * rows + _LEGEND, width=max(1, columns) * PANEL_WIDTH)
    for place, panel in enumerate(panels):
        row, column = divmod(place, COLUMNS)
        _draw_panel(drawing, panel, column * PANEL_WIDTH, row * PANEL_HEIGHT)
    y = drawing.height - 8
    drawing.add(Rectangle(12, y - 10, 11, 11, RIGHT), Text(28, y, "accuracy"))
    drawing.add(Line(100, y + 1, 100, y - 10, GAP, 4), Text(109, y, "to confidence"))
    drawing.add(Polyline([(206, y - 4), (232, y - 4)], SOFT, 1.5, (5, 3)), Text(238, y, "calibrated"))
    return drawing


def _draw_panel(drawing: Drawing, panel: Panel, x: float, y: float) -> None:
    bins = panel.bins
    left, right, top = x + _LEFT, x + _LEFT + _SIDE, y + _TOP
    base, foot = top + _SIDE, top + _SIDE + _BETWEEN + _HISTOGRAM
    across, up = Scale(0, 1, left, right), Scale(0, 1, base, top)
    drawing.add(Text(x + 12, y + 20, panel.title, size=14), Text(x + 12, y + 40, _numbers(panel), colour=SOFT))
    drawing.add(*vertical_axis(up, left, right))
    drawing.add(Text(left + 6, top + 15, "accuracy", colour=SOFT, size=12))
    total = sum(bins.count)
    for number, count in enumerate(bins.count):
        accuracy, confidence = bins.accuracy[number], bins.confidence[number]
        if not count or accuracy is None or confidence is None:
            continue
        start, end = (across(edge) for edge in bins.edges[number : number + 2])
        is_rare = count < RARE_SHARE * total
        drawing.add(
            Rectangle(start + 0.5, up(accuracy), end - start - 1, base - up(accuracy), RARE if is_rare else RIGHT)
        )
        drawing.add(Line((start + end) / 2, up(accuracy), (start + end) / 2, up(confidence), GAP, 2 if is_rare else 4))
    drawing.add(Polyline([(left, base), (right, top)], SOFT, 1.5, (5, 3)), Line(left, base, right, base, INK))
    _draw_histogram(drawing, bins, across, (base + _BETWEEN, foot))
    for tick in (0, 0.2, 0.4, 0.6, 0.8, 1.0):
        drawing.add(Text(across(tick), base + 17, short(tick), "middle", SOFT))
        drawing.add(Text(across(tick), foot + 17, short(tick), "middle", SOFT))
    drawing.add(Text((left + right) / 2, foot + 35, "confidence", "middle", SOFT, 12))


def _draw_histogram(drawing: Drawing, bins: ReliabilityBins, across: Scale, ends: tuple[float, float]) -> None:
    top, foot = ends
    up = LogScale(1, max(10, *bins.count), foot, top)
    for tick in up.ticks[:: max(1, len(up.ticks) // 3)]:
        drawing.add(Line(across.start, up(tick), across.end, up(tick), "#e7e5e4"))
        drawing.add(Text(across.start - 8, up(tick) + 4, _power(tick), "end", SOFT))
    for number, count in enumerate(bins.count):
        if count:
            start, end = (across(edge) for edge in bins.edges[number : number + 2])
            height = max(2.0, foot - up(count))
            drawing.add(Rectangle(start + 0.5, foot - height, end - start - 1, height, SOFT))
    drawing.add(Line(across.start, foot, across.end, foot, INK))


def _numbers(panel: Panel) -> str:
    ece, total = panel.bins.ece, sum(panel.bins.count)
    if ece is None:
        return "nothing was counted"
    nll = "" if panel.nll is None else f" · NLL {panel.nll:.3f}"
    return f"ECE {ece:.3f}{nll} · {total:,} {'answers' if panel.of_regions else 'pixels'}"


def _power(value: float) -> str:
    """Return a power of ten as people write counts."""
    for unit, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= unit:
            return f"{value / unit:g}{letter}"
    return f"{value:g}"


def calibration_blocks(material: ReportData, chosen: Sequence[Entry], artifacts: Artifacts) -> list[Block]:
    """Return the part of a report on calibration: diagrams and numbers of these trials; nothing where none has any."""
    found: list[tuple[Entry, Calibration]] = []
    for entry in chosen:
        try:
            found.append((entry, read_calibration(artifacts, entry.study, entry.number)))
        except (NotFoundError, DataError):
            continue  # of an earlier version, of the user's own training, or on another machine
    if not found:
        return []
    shown = found[:MAX_PANELS]
    panels = [panel_of(f"{entry.loss}, trial {entry.number}", of) for entry, of in shown]
    caption = f"{CAPTION} The best trial of each loss by {material.metric}"
    caption += f"; the first {len(shown)} of {len(found)}." if len(shown) < len(found) else "."
    picture = Picture(draw_reliability(panels).to_svg(), "image/svg+xml", caption, "Reliability diagrams")
    rows = [
        [
            entry.loss,
            str(entry.number),
            *map(_cell, (of.total.ece, of.nll, of.total.mean_confidence, of.total.mean_accuracy)),
        ]
        for entry, of in found
    ]
    columns = ["loss", "trial", "ECE", "NLL", "mean confidence", "accuracy"]
    what = "answers of all regions" if found[0][1].of_regions else "pixels"
    words = f"Calibration over all validation {what} at the best epoch; ECE and NLL: lower is better, 0 is none."
    return [Heading("Calibration"), picture, Table(columns, rows, words)]


def _cell(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"

"""The metric against the rate of label noise: a panel for each kind, a line for each loss, with intervals."""

from tuner.analysis.robustness import NoiseCurves, Robustness
from tuner.report.blocks import Block, Heading, Paragraph, Picture, Table
from tuner.report.charts import CURVE_COLOURS
from tuner.report.drawing import INK, SOFT, WIDTH, Circle, Drawing, Line, Scale, Text, stack, vertical_axis
from tuner.report.verdict_document import interval, number, pair_verdict

_LEFT, _RIGHT, _TOP, _HEIGHT, _FOOT = 80, 220, 34, 220, 56
_DIGITS = 3


def robustness_blocks(found: Robustness) -> list[Block]:
    """Return the part of a report on label noise: figure, numbers, and which losses are told apart."""
    picture = Picture(
        draw_robustness(found).to_svg(),
        "image/svg+xml",
        "Means over trainings with other seeds and the validation cases, whose labels are not spoiled; bars: 95 % "
        "intervals for new trainings. Lines are shifted a little so that bars do not hide each other.",
        f"{found.metric} against the rate of label noise",
    )
    blocks: list[Block] = [Heading("Label noise"), picture]
    for curve in found.curves:
        blocks += _of_kind(found, curve)
    return blocks


def _of_kind(found: Robustness, curve: NoiseCurves) -> list[Block]:
    rates = [point.rate for point in curve.points]
    rows = []
    for loss in found.losses:
        row = [loss]
        for point in curve.points:
            result = next((c for c in point.configurations if c.name == loss), None)
            mean = None if result is None else result.mean
            ends = None if result is None else result.interval
            row.append(f"{number(mean, _DIGITS)} ({interval(ends, _DIGITS)})")
        rows.append(row)
    caption = f"{found.metric} under label noise of kind {curve.kind}, by rate; in brackets the 95 % interval."
    table = Table(["loss", *(f"{100 * rate:g} %" for rate in rates)], rows, caption)
    blocks: list[Block] = [Heading(curve.kind, 3), table]
    if curve.verdict is None:
        return [*blocks, Paragraph("Nothing is claimed: too few losses, rates or seeds have ended.")]
    pairs = "; ".join(f"{pair.a} and {pair.b}: {pair_verdict(pair)}" for pair in curve.verdict.pairs)
    text = curve.verdict.text.replace("\n", " ")
    return [*blocks, Paragraph(f"At {100 * curve.judged_rate:g} %: {pairs}."), Paragraph(text)]


def draw_robustness(found: Robustness) -> Drawing:
    """Return a panel for each kind of noise, below each other, on one scale."""
    results = [c for curve in found.curves for point in curve.points for c in point.configurations]
    ends = [c.mean for c in results if c.mean is not None]
    ends += [end for c in results if c.interval is not None for end in c.interval]
    lowest, highest = min(c.mean or 0.0 for c in results), max(c.mean or 0.0 for c in results)
    room = max(highest - lowest, 1e-9)
    # few runs give intervals wider than all that was seen
    low, high = max(min(ends), lowest - room), min(max(ends), highest + room)
    panels = [_panel(found, curve, low, high) for curve in found.curves]
    return stack(f"{found.metric} against the rate of label noise", panels)


def _panel(found: Robustness, curve: NoiseCurves, low: float, high: float) -> Drawing:
    drawing = Drawing(curve.kind, height=_TOP + _HEIGHT + _FOOT)
    base = _TOP + _HEIGHT
    across = Scale(0.0, max(point.rate for point in curve.points), _LEFT, WIDTH - _RIGHT)
    up = Scale(low, high, base, _TOP)
    drawing.add(Text(_LEFT, 20, f"{curve.kind}: {found.metric}"))
    drawing.add(*vertical_axis(up, _LEFT, WIDTH - _RIGHT))
    for point in curve.points:
        drawing.add(Line(across(point.rate), base, across(point.rate), base + 5, INK, 1))
        drawing.add(Text(across(point.rate), base + 20, f"{100 * point.rate:g} %", "middle", SOFT))
    drawing.add(Text((_LEFT + WIDTH - _RIGHT) / 2, base + 40, "rate of label noise", "middle", SOFT))
    for place, loss in enumerate(found.losses):
        colour = CURVE_COLOURS[place % len(CURVE_COLOURS)]
        shift = 5.0 * (place - (len(found.losses) - 1) / 2)
        before: tuple[float, float] | None = None
        for point in curve.points:
            result = next((c for c in point.configurations if c.name == loss), None)
            if result is None or result.mean is None:
                continue
            x, y = across(point.rate) + shift, up(result.mean)
            if result.interval is not None:
                bottom, top = (up(min(max(end, up.low), up.high)) for end in result.interval)
                drawing.add(Line(x, bottom, x, top, colour, 1.5))
            if before is not None:
                drawing.add(Line(*before, x, y, colour, 2))
            drawing.add(Circle(x, y, 4, colour))
            before = (x, y)
        y = _TOP + 20.0 * place + 10
        drawing.add(Circle(WIDTH - _RIGHT + 28, y, 5, colour), Text(WIDTH - _RIGHT + 40, y + 4, loss))
    return drawing

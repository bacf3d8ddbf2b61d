"""Figure of a data set: shares, sizes, widths and boundaries of its classes, and its intensities."""

import math
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from xml.sax.saxutils import escape

from tuner.report.drawing import (
    GRID,
    INK,
    SOFT,
    WIDTH,
    Circle,
    Drawing,
    Line,
    LogScale,
    Polyline,
    Shape,
    Text,
    horizontal_axis,
    legend,
    short,
)
from tuner.report.label_noise_figure import caption as noise_caption

LEFT, RIGHT, ROW, HEAD, FOOT = 200, 40, 22, 30, 44
HISTOGRAM = 150
TRAIN, VALIDATION = "#0072b2", "#d55e00"
SPLITS = {"train": TRAIN, "validation": VALIDATION}

Facts = Mapping[str, Any]


def draw_fingerprint(described: Facts) -> Drawing:
    """Draw what `tuner.data.describe.describe` found; training and validation split side by side."""
    names = list(described["train"]["organs"])
    drawing = Drawing(f"What {described['name']} holds")
    drawing.add(Text(LEFT, 24, f"{described['name']}: {', '.join(_lines(described))}"), *legend(LEFT, 46, SPLITS))
    y = 62.0
    for title, of in _PANELS:
        panel, height = _by_class(y, title, names, {split: described[split]["organs"] for split in SPLITS}, of)
        drawing.add(*panel)
        y += height
    for number in range(described["channels"]):
        drawing.add(*_histogram(y, number, described))
        y += HISTOGRAM + HEAD + FOOT
    for split in SPLITS:
        for what, table in described[split]["recorded"].items():
            shown = ", ".join(f"{value} ({count})" for value, count in list(table.items())[:6])
            if shown:
                more = f", and {len(table) - 6} more" if len(table) > 6 else ""
                drawing.add(Text(20, y + 14, f"{split}, {what} of the files: {shown}{more}", colour=SOFT))
                y += ROW
    drawing.height = y + 14
    return drawing


def fingerprint_page(described: Facts, figure: Drawing, noise: bytes | None = None) -> bytes:
    """Return a page that opens offline: the figure, the picture of label noise, and every number in tables."""
    title = escape(f"What {described['name']} holds")
    tables = "".join(_table(split, described[split]["organs"]) for split in SPLITS)
    style = (
        "body{font:15px system-ui,sans-serif;color:#1c1917;margin:2rem auto;max-width:1000px;padding:0 1rem}"
        "svg{max-width:100%;height:auto}table{border-collapse:collapse;margin:1rem 0;display:block;overflow-x:auto}"
        "td,th{padding:.25rem .7rem;border-bottom:1px solid #e7e5e4;text-align:right}td:first-child{text-align:left}"
    )
    page = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{style}</style></head><body><h1>{title}</h1>'
        f"<p>Fingerprint {escape(described['fingerprint'][:16])}; most frequent class / rarest: "
        f"{described['imbalance']:.4g}.</p>{_noise(described, noise)}{figure.to_svg().decode()}{tables}</body></html>"
    )
    return page.encode()


def _noise(described: Facts, picture: bytes | None) -> str:
    if picture is None:
        return ""
    noise = described["label_noise"]
    words = escape(noise_caption(noise["kind"], noise["rate"], noise["changed_percent"], list(described["classes"])))
    source = f"data:image/png;base64,{b64encode(picture).decode()}"
    return f'<h2>Label noise</h2><p>{words}</p><img src="{source}" alt="{words}" style="max-width:100%">'


def _quantiles(key: str) -> Callable[[Facts], Sequence[float]]:
    return lambda facts: tuple(facts[key].values()) if facts[key] else ()


def _single(of: Callable[[Facts], float | None]) -> Callable[[Facts], Sequence[float]]:
    def values(facts: Facts) -> Sequence[float]:
        value = of(facts)
        return () if not value else (value,)

    return values


_PANELS: tuple[tuple[str, Callable[[Facts], Sequence[float]]], ...] = (
    ("percent of the pixels", _single(lambda facts: facts["percent"])),
    ("objects in a case that holds the class", _single(lambda facts: facts["objects"] / max(1, facts["cases"]))),
    ("size of an object in pixels: range, quartiles, median", _quantiles("object_size")),
    ("width of an object in pixels", _quantiles("object_width")),
    ("thinness: how many squares of its width make up an object", _quantiles("object_thinness")),
    ("length of the boundary per area, 1 / pixel", _single(lambda facts: facts["boundary_per_area"])),
)


def _lines(described: Facts) -> list[str]:
    counts = [f"{described[split]['samples']} {split}" for split in SPLITS]
    return [" + ".join(counts) + " samples", f"most frequent class / rarest {described['imbalance']:.3g}"]


def _by_class(
    top: float, title: str, names: Sequence[str], splits: Mapping[str, Facts], of: Callable[[Facts], Sequence[float]]
) -> tuple[list[Shape], float]:
    """One panel: a row a class, a line a split, on a logarithmic axis."""
    found = {(split, name): of(splits[split][name]) for split in splits for name in names}
    values = [value for row in found.values() for value in row if value > 0]
    base = top + HEAD + ROW * len(names)
    shapes: list[Shape] = [Text(LEFT, top + 18, title)]
    if not values:
        return [*shapes, Text(LEFT, top + HEAD + 14, "nothing to draw", colour=SOFT)], HEAD + ROW + FOOT
    scale = LogScale(min(values), max(values), LEFT, WIDTH - RIGHT)
    shapes += horizontal_axis(scale, top + HEAD - 4, base)
    for place, name in enumerate(names):
        y = top + HEAD + ROW * (place + 0.5)
        shapes.append(Text(LEFT - 12, y + 4, name, "end"))
        for shift, (split, colour) in zip((-4, 4), SPLITS.items(), strict=True):
            shapes += _mark(scale, found[split, name], y + shift, colour)
    return shapes, HEAD + ROW * len(names) + FOOT


def _mark(scale: LogScale, values: Sequence[float], y: float, colour: str) -> list[Shape]:
    if not values:
        return []
    places = [scale(value) for value in values]
    if len(places) == 1:
        return [Line(LEFT, y, places[0], y, colour, 5)]
    low, first, median, third, high = places
    return [
        Line(low, y, high, y, colour),
        Line(first, y, max(third, first + 1), y, colour, 6),
        Circle(median, y, 3.5, colour, ring=2),
    ]


def _histogram(top: float, number: int, described: Facts) -> list[Shape]:
    """Share of the pixels by intensity, of one channel."""
    channels = {split: described[split]["intensity"]["channels"][number] for split in SPLITS}
    low = min(channel["min"] for channel in channels.values())
    high = max(max(channel["max"] for channel in channels.values()), low + 1e-12)
    base, width = top + HEAD + HISTOGRAM, WIDTH - LEFT - RIGHT
    title = f"intensities of channel {number}: share of the pixels (square root), quarter ticks"
    shapes: list[Shape] = [Text(LEFT, top + 18, title)]
    for quarter in range(5):
        x = LEFT + width * quarter / 4
        shapes.append(Line(x, top + HEAD, x, base, GRID))
        shapes.append(Text(x, base + 16, short(low + (high - low) * quarter / 4), "middle", SOFT))
    most = max(max(channel["histogram"]) / max(1, sum(channel["histogram"])) for channel in channels.values())
    for split, channel in channels.items():
        counts, whole = channel["histogram"], max(1, sum(channel["histogram"]))
        step = (channel["max"] - channel["min"]) / len(counts)
        points = []
        for place, count in enumerate(counts):
            y = base - HISTOGRAM * math.sqrt(count / whole / most)
            for edge in (place, place + 1):
                x = LEFT + width * (channel["min"] + edge * step - low) / (high - low)
                points.append((x, y))
        shapes.append(Polyline(points, SPLITS[split], 1.6))
    return [*shapes, Line(LEFT, base, LEFT + width, base, INK)]


def _table(split: str, organs: Facts) -> str:
    columns = ("percent", "samples", "cases", "objects", "sample_objects", "boundary", "boundary_per_area")
    spread = ("object_size", "object_width", "object_thinness")
    heads = "".join(f"<th>{escape(name.replace('_', ' '))}</th>" for name in ("class", *columns, *spread))
    rows = []
    for name, facts in organs.items():
        cells = ["—" if facts[key] is None else short(facts[key]) for key in columns]
        cells += [" / ".join(map(short, facts[key].values())) if facts[key] else "—" for key in spread]
        rows.append(f"<tr><td>{escape(name)}</td>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    note = "sizes, widths and thinness: smallest / lower quartile / median / upper quartile / largest"
    return f"<h2>{split}</h2><p>{note}</p><table><tr>{heads}</tr>{''.join(rows)}</table>"

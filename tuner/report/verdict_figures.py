"""Figures of a verdict: means with intervals, groups, paired differences with the margin, components of variance."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tuner.analysis.verdict import ConfigurationResult, PairResult, Verdict, decimals
from tuner.report.drawing import (
    GRID,
    INK,
    SOFT,
    WIDTH,
    Circle,
    Drawing,
    Line,
    Rectangle,
    Scale,
    Text,
    horizontal_axis,
    short,
    stack,
)

MAX_PAIRS = 40
"""So many rows of differences are drawn at most: those with the leader first."""

_LEFT, _RIGHT = 230, 250
_ROW, _TOP, _FOOT = 26, 44, 58
_NAME = 26
_NAME_OF_PAIR = 19
_LEFT_OF_PAIRS = 350
_CLAIMED, _OPEN, _EQUIVALENT = "#0072b2", "#78716c", "#009e73"
_RUN, _BAND, _WIDE = "#b8c9d6", "#eaf5f0", "#c9c4bf"
_PARTS = (("run", "seed", "#0072b2"), ("case", "case", "#e69f00"), ("residual", "rest", "#a8a29e"))


@dataclass(frozen=True, slots=True)
class Figure:
    """A drawing with what has to be said of it."""

    drawing: Drawing
    caption: str


def verdict_figures(verdict: Verdict) -> list[Figure]:
    """Return the figures of a verdict; those for which there is nothing to draw are left out."""
    return [figure for draw in DRAWINGS.values() if (figure := draw(verdict)) is not None]


def draw_verdict(verdict: Verdict) -> Drawing:
    """Return all figures below each other, with the verdict's words on top."""
    words = Drawing("verdict", height=16)
    for sentence in verdict.text.splitlines():
        for row in _wrap(sentence, 132):
            words.height += 20
            words.add(Text(24, words.height, row))
    words.height += 14
    return stack(f"Verdict on {verdict.metric}", [words, *(figure.drawing for figure in verdict_figures(verdict))])


def draw_means(verdict: Verdict) -> Figure | None:
    """Draw a row for each configuration: its mean with the 95 % interval, and a dot for every run."""
    known = [c for c in verdict.configurations if c.mean is not None]
    if not known:
        return None
    ends = [value for c in known for value in (*c.run_means, c.mean, *_clip(c.interval, known))]
    scale = Scale(min(v for v in ends if v is not None), max(v for v in ends if v is not None), _LEFT, WIDTH - _RIGHT)
    drawing, base = _frame(f"Mean {verdict.metric}", len(known), scale, verdict.metric)
    digits = decimals(verdict)
    for place, c in enumerate(known):
        y = _TOP + _ROW * (place + 0.5)
        drawing.add(Text(_LEFT - 12, y + 4, _fit(c.name), "end"))
        if c.interval is not None:
            _bar(drawing, scale, y, c.interval, INK, 2)
        for value in c.run_means:
            drawing.add(Circle(scale(value), y, 3, _RUN))
        drawing.add(Circle(scale(c.mean or 0.0), y, 5, INK))
        drawing.add(Text(WIDTH - _RIGHT + 14, y + 4, _mean_words(c, digits)))
    caption = (
        "Large dots: means over runs and cases with 95 % intervals; small dots: the means of single runs. "
        "Intervals of two configurations may overlap although the paired difference is significant."
    )
    drawing.height = base + _FOOT
    return Figure(drawing, caption)


def draw_groups(verdict: Verdict) -> Figure | None:
    """Draw the means on an axis and a bar below for each group of configurations that are not told apart."""
    known = [c for c in verdict.configurations if c.mean is not None and c.groups]
    if len(known) < 2:
        return None
    means = [c.mean or 0.0 for c in known]
    scale = Scale(min(means), max(means), _LEFT, WIDTH - _RIGHT)
    letters = sorted({letter for c in known for letter in c.groups}, key="".join(c.groups for c in known).index)
    half = (len(known) + 1) // 2
    left, right = known[:half], known[half:]
    if verdict.direction == "maximize":
        left, right = right[::-1], left
    drawing = Drawing("Groups")
    axis = _TOP + 16
    drawing.add(Text(24, 20, f"Groups that are not told apart ({verdict.metric})", colour=INK))
    drawing.add(Line(scale.start, axis, scale.end, axis, INK, 1))
    for tick in scale.ticks:
        drawing.add(Line(scale(tick), axis - 5, scale(tick), axis, INK, 1))
        drawing.add(Text(scale(tick), axis - 10, short(tick), "middle", SOFT))
    first = axis + 16.0
    for place, letter in enumerate(letters):
        members = [c.mean or 0.0 for c in known if letter in c.groups]
        y = first + 12 * place
        a, b = sorted((scale(min(members)), scale(max(members))))
        drawing.add(Line(a - 4, y, b + 4, y, _CLAIMED, 4))
        drawing.add(Text(b + 10, y + 4, letter, colour=_CLAIMED))
    names = first + 12 * len(letters) + 12
    for side, members_of_side in (("left", left), ("right", right)):
        ordered = sorted(members_of_side, key=lambda c: scale(c.mean or 0.0), reverse=side == "right")
        for place, c in enumerate(ordered):
            x, y = scale(c.mean or 0.0), names + 20 * (place + 0.5)
            end = _LEFT - 10 if side == "left" else WIDTH - _RIGHT + 10
            drawing.add(Line(x, axis, x, y, GRID, 1), Line(x, y, end, y, GRID, 1), Circle(x, axis, 4, INK))
            label = f"{_fit(c.name, _NAME - 3 - len(c.groups))}  {c.groups}"
            drawing.add(Text(end + (-6 if side == "left" else 6), y + 4, label, "end" if side == "left" else "start"))
    drawing.height = names + 20 * half + 24
    # bars lie above the leaders
    drawing.shapes.sort(key=lambda shape: isinstance(shape, Line) and shape.colour == _CLAIMED)
    caption = (
        "A bar joins configurations of which no pair is told apart; the letters say the same. "
        "Configurations without a common bar differ at the family-wise level."
    )
    return Figure(drawing, caption)


def draw_differences(verdict: Verdict) -> Figure | None:
    """Draw a row for each pair: its difference with both intervals, zero, and the margin of equivalence."""
    pairs = shown_pairs(verdict)
    if not pairs:
        return None
    ends = [0.0, *(pair.difference or 0.0 for pair in pairs)]
    spans = sorted(pair.interval for pair in pairs if pair.interval is not None)
    ends += [end for interval in spans for end in interval]
    if verdict.margin is not None:
        ends += [-verdict.margin, verdict.margin]
    scale = Scale(min(ends), max(ends), _LEFT_OF_PAIRS, WIDTH - _RIGHT)
    title = f"Paired differences of {verdict.metric}"
    drawing = Drawing(title)
    base = _TOP + _ROW * len(pairs)
    if verdict.margin is not None:
        x = scale(-verdict.margin)
        drawing.add(Rectangle(x, _TOP - 8, scale(verdict.margin) - x, base - _TOP + 8, _BAND))
    drawing.add(Text(24, 20, title), *horizontal_axis(scale, _TOP - 8, base))
    drawing.add(Line(scale(0), _TOP - 8, scale(0), base, INK, 1.5))
    better = "better" if verdict.direction == "maximize" else "worse"
    drawing.add(
        Text(
            (scale.start + scale.end) / 2,
            base + 36,
            f"first minus second; right of 0 the first is {better}",
            "middle",
            SOFT,
        )
    )
    for place, pair in enumerate(pairs):
        _difference_row(drawing, scale, _TOP + _ROW * (place + 0.5), pair, decimals(verdict))
    rest = len(verdict.pairs) - len(pairs)
    caption = "Thick: the 95 % interval of the pair alone; thin: for all pairs together. "
    if verdict.margin is not None:
        caption += f"Band: ±{verdict.margin:g}, the margin of equivalence. "
    if rest:
        caption += f"{rest} further pairs are not drawn: these are those with the leader, then the largest differences."
    drawing.height = base + _FOOT
    return Figure(drawing, caption.strip())


def shown_pairs(verdict: Verdict, limit: int = MAX_PAIRS) -> Sequence[PairResult]:
    """Return the pairs for which there is room: all, or those with the leader (the nearest first), then the largest."""
    if len(verdict.pairs) <= limit:
        return verdict.pairs
    with_leader = [pair for pair in verdict.pairs if verdict.leader in (pair.a, pair.b)]
    others = [pair for pair in verdict.pairs if verdict.leader not in (pair.a, pair.b)]
    order = [*with_leader, *sorted(others, key=lambda pair: -abs(pair.difference or 0.0))]
    chosen = {(pair.a, pair.b) for pair in order[:limit]}
    return [pair for pair in verdict.pairs if (pair.a, pair.b) in chosen]


def draw_components(verdict: Verdict) -> Figure | None:
    """Draw how much seeds, cases and the rest contribute to the standard error of a mean and of a difference."""
    first = verdict.configurations[0]
    runs, cases = first.runs + first.runs_failed, first.cases
    rows = [("a mean", verdict.variance), ("a difference", verdict.variance_of_differences)]
    shares = {}
    for name, components in rows:
        if components.run is not None and components.case is not None and components.residual is not None:
            shares[name] = {
                "run": components.run / runs,
                "case": components.case / cases,
                "residual": components.residual / (runs * cases),
            }
    shares = {name: parts for name, parts in shares.items() if sum(parts.values()) > 0}
    if not shares:
        return None
    drawing = Drawing("Components of variance", height=_TOP + _ROW * len(shares) + 44)
    drawing.add(Text(24, 20, f"Where the variance comes from, with {runs} runs and {cases} cases"))
    width = WIDTH - _RIGHT - _LEFT
    for place, (name, parts) in enumerate(shares.items()):
        total, x = sum(parts.values()), float(_LEFT)
        y = _TOP + _ROW * place
        drawing.add(Text(_LEFT - 12, y + 14, f"variance of {name}", "end"))
        for key, _, colour in _PARTS:
            part = parts[key] / total * width
            drawing.add(Rectangle(x, y, part, 18, colour))
            x += part
        drawing.add(Text(WIDTH - _RIGHT + 14, y + 14, f"standard error {short(math.sqrt(total))}"))
    x, y = float(_LEFT), _TOP + _ROW * len(shares) + 20
    for _, word, colour in _PARTS:
        drawing.add(Rectangle(x, y - 10, 12, 12, colour), Text(x + 18, y, word))
        x += 34 + 8 * len(word)
    caption = (
        "Seed: training again moves the mean over all cases. Case: other cases favour other configurations. Rest: what "
        "a seed does on a single case. More runs lower the first and the last, more cases the second and the last."
    )
    return Figure(drawing, caption)


def _frame(title: str, rows: int, scale: Scale, unit: str) -> tuple[Drawing, float]:
    drawing, base = Drawing(title), _TOP + _ROW * rows
    drawing.add(Text(24, 20, title), *horizontal_axis(scale, _TOP - 8, base, unit))
    return drawing, base


def _difference_row(drawing: Drawing, scale: Scale, y: float, pair: PairResult, digits: int) -> None:
    colour = {"equivalent": _EQUIVALENT, "undecided": _OPEN}.get(pair.verdict, _CLAIMED)
    drawing.add(
        Text(_LEFT_OF_PAIRS - 12, y + 4, f"{_fit(pair.a, _NAME_OF_PAIR)} − {_fit(pair.b, _NAME_OF_PAIR)}", "end")
    )
    if pair.interval_adjusted is not None:
        _bar(drawing, scale, y, pair.interval_adjusted, _WIDE, 1.5)
    if pair.interval is not None:
        _bar(drawing, scale, y, pair.interval, colour, 3)
    if pair.difference is not None:
        drawing.add(Circle(scale(pair.difference), y, 5, colour))
    drawing.add(Text(WIDTH - _RIGHT + 14, y + 4, _pair_words(pair, digits), colour=INK))


def _bar(drawing: Drawing, scale: Scale, y: float, interval: tuple[float, float], colour: str, width: float) -> None:
    """Draw an interval; an end beyond the axis has no cross-line."""
    low, high = max(interval[0], scale.low), min(interval[1], scale.high)
    drawing.add(Line(scale(low), y, scale(high), y, colour, width))
    drawing.add(
        *(
            Line(scale(end), y - 4, scale(end), y + 4, colour, width)
            for end in interval
            if scale.low <= end <= scale.high
        )
    )


def _clip(interval: tuple[float, float] | None, known: Sequence[ConfigurationResult]) -> tuple[float, ...]:
    """Return an interval for the axis, of at most thrice the width of all that was seen: few runs give huge ones."""
    if interval is None:
        return ()
    values = [value for c in known for value in c.run_means]
    room = max(max(values) - min(values), 1e-9)
    return max(interval[0], min(values) - room), min(interval[1], max(values) + room)


def _mean_words(c: ConfigurationResult, digits: int) -> str:
    words = f"{c.mean:.{digits}f}  {c.groups}"
    if c.runs_collapsed:
        words += f"  collapsed {c.runs_collapsed} of {c.runs + c.runs_failed}"
    return words + (f"  {c.runs_failed} failed" if c.runs_failed else "")


def _pair_words(pair: PairResult, digits: int) -> str:
    number = "" if pair.difference is None else f"{pair.difference:+.{digits}f}".replace("-", "−")
    words = {"a_better": "first better", "b_better": "second better"}.get(pair.verdict, pair.verdict)
    if pair.verdict == "undecided" and pair.reason not in (None, "not_significant"):
        words += f", {str(pair.reason).replace('_', ' ')}"
    return f"{number}  {words}" + (" (within margin)" if pair.within_margin else "")


def _fit(name: str, room: int = _NAME) -> str:
    return name if len(name) <= room else f"{name[: room // 2]}…{name[-(room - room // 2 - 1) :]}"


def _wrap(sentence: str, width: int) -> list[str]:
    rows, row = [], ""
    for word in sentence.split(" "):
        if row and len(row) + 1 + len(word) > width:
            rows.append(row)
            row = word
        else:
            row = f"{row} {word}".strip()
    return [*rows, row]


DRAWINGS: Mapping[str, Callable[[Verdict], Figure | None]] = {
    "means": draw_means,
    "groups": draw_groups,
    "differences": draw_differences,
    "variance": draw_components,
}
"""The figures of a verdict by what they show, in the order in which they are shown."""

"""How the masks of a data set code their classes: what each file holds, and one reading that is right for all of them.

A mask may be grey, of one bit, with a palette, in colour, or in its alpha. What a value means can only be told by all
masks together: an index is a class only where every palette gives it the same colour, the white of one bit is 1 among
its like and 255 beside 8 bits, three equal bands are grey unless another mask has colours.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tuner.data.cache import FileHashCache
from tuner.data.images import (
    AS_STORED,
    COLOUR,
    Codes,
    ReadOptions,
    code_text,
    colour_codes,
    grey_codes,
    is_grey,
    read_raster,
)
from tuner.data.raster import Raster
from tuner.data.source import Label
from tuner.errors import DataError

Facts = Mapping[str, Any]
"""What one mask holds, as JSON: see `mask_facts`."""

MAX_CODES = 256
"""Codes of a mask that are counted, the most frequent first; one with more is a photograph."""

_TOPIC = "mask facts 2"
_NEARLY_GREY = 10
"""Difference of the bands that a lossy format makes of grey."""
_ALIKE = "Store all masks in one way (8-bit grey PNG), or name the values: `labels: {background: 0, cell: [1, 255]}`."


@dataclass(frozen=True, slots=True)
class Coding:
    """How the pixels of every mask become codes."""

    source: Literal["grey", "colour", "alpha"] = "grey"
    """Grey values and palette indices, colours, or alpha."""
    white: int = 1
    """The code of white in a mask of one bit."""

    def read(self, path: Path, options: ReadOptions = AS_STORED) -> Codes:
        """Return the codes [H, W] of a mask; raises DataError."""
        try:
            return self.codes(read_raster(path, options))
        except DataError as error:
            raise DataError(error.message, hint=error.hint, where=error.where or str(path)) from None

    def codes(self, raster: Raster) -> Codes:
        """Return the codes [H, W] of a decoded mask."""
        if self.source == "alpha":
            if raster.alpha is None:
                raise DataError("has no alpha, and the other masks are in their alpha.", hint=_ALIKE)
            return raster.alpha.astype(np.int32)
        codes = _own_codes(raster)
        if self.source == "colour":
            if raster.kind == "palette":
                return colour_codes(raster.coloured())
            return codes if is_in_colour(codes) else _grey_as_colour(codes * (255 if raster.kind == "bilevel" else 1))
        if raster.kind == "bilevel":
            return codes * self.white
        return codes

    def code(self, value: int, facts: Facts) -> int:
        """Return what `codes` makes of one value that a mask was found to hold."""
        if self.source == "colour":
            if facts["kind"] == "palette":
                return int(facts["colours"][str(value)])
            return value if value >= COLOUR else COLOUR + value * 0x010101 * (255 if facts["kind"] == "bilevel" else 1)
        return value * self.white if facts["kind"] == "bilevel" else value


def is_in_colour(codes: Codes) -> bool:
    """Say whether codes are colours."""
    return bool(codes.size) and int(codes.flat[0]) >= COLOUR


def mask_facts(path: Path, memory: FileHashCache, options: ReadOptions = AS_STORED) -> Facts:
    """Look at a mask, or remember what was seen: its kind, its values and how many pixels have each; raises DataError.

    `values` are [value, pixels, pixels inside (all eight neighbours have the value too)]; `colours` of a palette are
    the codes of the used indices; `alpha` holds [value, alpha, pixels] where not every pixel is opaque.
    """
    topic = f"{_TOPIC} {options.is_upright:d}"
    known = memory.get(path, topic) if path.is_file() else None
    if known is not None:
        return dict(known)
    try:
        facts = look_at_mask(read_raster(path, options))
    except DataError as error:
        raise DataError(error.message, hint=error.hint, where=error.where or str(path)) from None
    memory.put(path, topic, facts)
    return facts


def look_at_mask(raster: Raster) -> dict[str, Any]:
    """Return the facts of a decoded mask; raises DataError."""
    codes = _own_codes(raster)
    values, counts = np.unique(codes, return_counts=True)
    facts: dict[str, Any] = {
        "size": list(codes.shape),
        "kind": "colour" if is_in_colour(codes) else "grey" if raster.kind == "colour" else raster.kind,
        "levels": raster.levels,
        "bands": int(raster.values.shape[-1]),
        "lossy": raster.is_lossy,
        "distinct": len(values),
    }
    inside = codes[_is_inside(codes)]
    inner = dict(zip(*(found.tolist() for found in np.unique(inside, return_counts=True)), strict=True))
    most = np.argsort(-counts, kind="stable")[:MAX_CODES]
    facts["values"] = sorted([int(values[k]), int(counts[k]), int(inner.get(int(values[k]), 0))] for k in most)
    if raster.palette is not None:
        palette = colour_codes(raster.palette[None])[0]
        facts["colours"] = {str(value): int(palette[min(value, len(palette) - 1)]) for value, _, _ in facts["values"]}
    if raster.alpha is not None and raster.alpha.min(initial=255) < 255:
        pairs, counts = np.unique(codes.astype(np.int64) * 256 + raster.alpha, return_counts=True)
        both = zip(pairs.tolist(), counts.tolist(), strict=True)
        facts["alpha"] = [[pair >> 8, pair & 255, count] for pair, count in both][:MAX_CODES]
    return facts


def decide_coding(
    found: Mapping[Path, Facts], *, white: int | None = None, is_named: bool = False, prefers_colour: bool = False
) -> Coding:
    """Return the reading that holds for all masks.

    Args:
        found: The facts of every mask that could be read.
        white: The code that the study gives to white of one bit; None: 1 among its like, 255 beside other masks.
        is_named: Whether the study says which values are which class: masks of several depths are no riddle then.
        prefers_colour: Whether the study names colours.

    Raises:
        DataError: No reading holds for all of them; with the file and the remedy.
    """
    if _is_in_alpha(found):
        return Coding("alpha")
    kinds = {facts["kind"] for facts in found.values()}
    coding = Coding(white=white or (1 if kinds <= {"bilevel"} else 255))
    # Grey stored in three bands holds colours as well, which palettes can be compared with.
    is_rgb = any(facts["kind"] == "grey" and facts["bands"] == 3 for facts in found.values())
    if prefers_colour or "colour" in kinds or ("palette" in kinds and is_rgb):
        coding = Coding("colour")
    elif "palette" in kinds:
        coding = _of_palettes(found, coding, kinds, is_named=is_named)
    if not is_named:
        _refuse_mixed_levels(found, coding)
    return coding


def _is_in_alpha(found: Mapping[Path, Facts]) -> bool:
    """Say whether the masks are all of one colour each and drawn in alpha; DataError when both carry something."""
    if not any(facts.get("alpha") for facts in found.values()):
        return False
    alphas = {path: _alphas_by_value(facts) for path, facts in found.items()}
    if all(facts["distinct"] == 1 for facts in found.values()):
        return len(set().union(*(several for values in alphas.values() for several in values.values()))) > 1
    for path, values in alphas.items():
        for value, several in values.items():
            if len(several) > 1:
                shown = ", ".join(map(str, sorted(several)[:6]))
                raise DataError(
                    f"{code_text(value)} stands with several alphas ({shown}), and the masks have several colours: "
                    "which of both is the class cannot be told.",
                    hint="Store the masks without alpha, one value a class.",
                    where=str(path),
                )
    return False


def _alphas_by_value(facts: Facts) -> dict[int, set[int]]:
    found: dict[int, set[int]] = {}
    for value, alpha, _ in facts.get("alpha") or [[value, 255, 0] for value, _, _ in facts["values"]]:
        found.setdefault(value, set()).add(alpha)
    return found


def _of_palettes(found: Mapping[Path, Facts], coding: Coding, kinds: set[str], *, is_named: bool) -> Coding:
    """Read palettes by index where an index has one colour everywhere and black is index 0, else by colour.

    Quantised pictures number their colours as they come: class 0 would be any of them. With `is_named` the study says
    which index is what.
    """
    owner: dict[int, tuple[int, Path]] = {}
    clash: tuple[Path, int, Path] | None = None
    indices: dict[int, set[int]] = {}
    twins: Path | None = None
    for path, facts in found.items():
        if facts["kind"] != "palette":
            continue
        colours = {int(index): colour for index, colour in facts["colours"].items()}
        if len(set(colours.values())) < len(colours):
            twins = twins or path
        for index, colour in colours.items():
            indices.setdefault(colour, set()).add(index)
            first, where = owner.setdefault(index, (colour, path))
            if first != colour:
                clash = clash or (path, index, where)
    by_index = clash is None and (twins is not None or all(len(several) == 1 for several in indices.values()))
    if twins is None and not is_named and indices.get(COLOUR, {0}) != {0}:
        by_index = False
    if not by_index and twins is not None and clash is not None:
        path, index, where = clash
        raise DataError(
            f"index {index} has another colour than in {where.name}, and {twins.name} gives one colour to two indices: "
            "neither index nor colour tells the class.",
            hint="Store the masks in 8-bit grey, a value a class.",
            where=str(path),
        )
    if kinds != {"palette"}:
        return _palettes_beside_grey(found, coding, by_index=by_index)
    return coding if by_index else Coding("colour")


def _palettes_beside_grey(found: Mapping[Path, Facts], coding: Coding, *, by_index: bool) -> Coding:
    """Palettes beside grey masks: the grey values are indices, or greys of the palette; whichever holds them."""
    grey, index, shades = set(), set(), set()
    for facts in found.values():
        if facts["kind"] == "palette":
            index |= {int(value) for value in facts["colours"]}
            shades |= {colour - COLOUR for colour in facts["colours"].values()}
        else:
            grey |= {coding.code(value, facts) for value, _, _ in facts["values"]}
    as_index = by_index and not ((grey - {0}) and (index - {0}) and not (grey & index) - {0})
    as_shade = all(shade % 0x010101 == 0 for shade in shades) and bool({shade & 255 for shade in shades} & grey - {0})
    if as_shade != as_index:
        return coding if as_index else Coding("colour")
    if as_index and index <= {0, *grey} and {shade & 255 for shade in shades} <= {0, *grey}:
        return coding
    path = next(path for path, facts in found.items() if facts["kind"] == "palette")
    other = next(path for path, facts in found.items() if facts["kind"] != "palette")
    raise DataError(
        f"has a palette and {other.name} is grey: whether a value is an index or a colour cannot be told.",
        hint=_ALIKE,
        where=str(path),
    )


def _refuse_mixed_levels(found: Mapping[Path, Facts], coding: Coding) -> None:
    """Refuse masks whose depths differ and whose values then do: 1 of two levels, 255 of 8 bits, 65535 of 16."""
    if coding.source == "alpha":
        return
    held: dict[tuple[str, int], set[int]] = {}
    first: dict[tuple[str, int], Path] = {}
    has_colours = any(facts["kind"] == "colour" for facts in found.values())
    for path, facts in found.items():
        if coding.source == "colour":
            is_coloured = facts["kind"] in ("colour", "palette") or (has_colours and facts["bands"] == 3)
            key = ("in colour" if is_coloured else "grey", 0)
        elif facts["kind"] == "palette":
            continue
        else:
            key = ("grey", facts["levels"])
        values = {coding.code(value, facts) for value, _, _ in facts["values"]} - {0, COLOUR}
        if values:
            held.setdefault(key, set()).update(values)
            first.setdefault(key, path)
    for key in sorted(held, key=lambda key: len(held[key])):
        rest = set().union(*(values for other, values in held.items() if other != key))
        if rest and not held[key] & rest:
            other = next(path for place, path in first.items() if place != key)
            mine, theirs = _list(held[key]), _list(rest)
            kind = key[0] if coding.source == "colour" else f"of {key[1] + 1} levels"
            raise DataError(
                f"is {kind} and holds {mine}, while others ({other.name}) hold {theirs}: the same classes seem to be "
                "stored in two ways.",
                hint=_ALIKE,
                where=str(first[key]),
            )


def _list(values: Collection[int]) -> str:
    shown = [code_text(value) for value in sorted(values)]
    return ", ".join(shown[:6]) + (", …" if len(shown) > 6 else "")


def total_values(found: Sequence[Facts], coding: Coding) -> dict[int, tuple[int, int]]:
    """Return pixels and inner pixels of every code over all masks."""
    totals: dict[int, tuple[int, int]] = {}
    for facts in found:
        rows: Sequence[Sequence[int]] = facts["values"]
        if coding.source == "alpha":
            counts: dict[int, int] = {}
            for _, alpha, count in facts.get("alpha") or [[0, 255, facts["size"][0] * facts["size"][1]]]:
                counts[alpha] = counts.get(alpha, 0) + count
            rows = [[alpha, count, count] for alpha, count in counts.items()]
        for value, count, inner in rows:
            code = value if coding.source == "alpha" else coding.code(value, facts)
            before = totals.get(code, (0, 0))
            totals[code] = (before[0] + count, before[1] + inner)
    return totals


def _own_codes(raster: Raster) -> Codes:
    """Codes by what a mask alone says: grey values, indices, colours; nearly equal bands of a lossy format are grey."""
    if raster.kind != "colour":
        return grey_codes(raster)
    if is_grey(raster):
        return grey_codes(raster)
    if raster.is_lossy:
        spread = raster.values.max(-1).astype(np.int32) - raster.values.min(-1)
        if int(spread.max()) <= _NEARLY_GREY:
            middle: NDArray[Any] = np.median(raster.values, axis=-1)
            return middle.astype(np.int32)
    return colour_codes(raster.values)


def _grey_as_colour(codes: Codes) -> Codes:
    if int(codes.max(initial=0)) > 255:
        raise DataError(f"holds grey values up to {int(codes.max())} beside masks in colour.", hint=_ALIKE)
    return COLOUR + codes * 0x010101


def _is_inside(codes: Codes) -> NDArray[np.bool_]:
    """Say of each pixel [H, W] whether all eight neighbours have its value; beyond the edge lies what lies at it."""
    padded = np.pad(codes, 1, mode="edge")
    row = (padded[:, 1:-1] == padded[:, :-2]) & (padded[:, 1:-1] == padded[:, 2:])
    inside: NDArray[np.bool_] = row[1:-1] & row[:-2] & row[2:]
    inside &= (codes == padded[:-2, 1:-1]) & (codes == padded[2:, 1:-1])
    return inside


def count_objects(labels: Label) -> dict[int, tuple[int, int, int, int]]:
    """Return pixels, objects (pixels that share a side) and the pixels of smallest and largest, by class [H, W].

    Runs of equal pixels in a row are the nodes of a graph, runs that touch from row to row its edges: one pass for all
    classes, however many there are.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    starts = np.ones(labels.shape, bool)
    starts[:, 1:] = labels[:, 1:] != labels[:, :-1]
    runs = np.cumsum(starts.ravel()).reshape(labels.shape) - 1
    touching = labels[1:] == labels[:-1]
    upper, lower = runs[:-1][touching], runs[1:][touching]
    is_new = np.ones(len(upper), bool)
    is_new[1:] = (upper[1:] != upper[:-1]) | (lower[1:] != lower[:-1])
    count = int(runs.flat[-1]) + 1
    edges = coo_array((np.ones(int(is_new.sum()), bool), (upper[is_new], lower[is_new])), shape=(count, count))
    _, objects = connected_components(edges, directed=False)
    sizes = np.bincount(objects, weights=np.bincount(runs.ravel()))
    classes = np.zeros(len(sizes), np.int64)
    classes[objects] = labels[starts]
    return {
        int(number): (int(held.sum()), len(held), int(held.min()), int(held.max()))
        for number in np.unique(classes)
        if len(held := sizes[classes == number])
    }

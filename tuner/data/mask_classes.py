"""Which classes the masks of a data set hold: as the study says, else from the masks; and how large they are."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from tuner.data.cache import FileHashCache
from tuner.data.checks import DataWarning
from tuner.data.images import AS_STORED, COLOUR, ReadOptions
from tuner.data.label_map import (
    ClassCodes,
    codes_from,
    codes_of_labels,
    given_codes,
    listed,
    parse_classes,
    parse_ignored,
)
from tuner.data.label_rules import Labels, parse_labels
from tuner.data.mask_coding import Coding, Facts, count_objects, decide_coding, total_values
from tuner.data.source import IGNORE_INDEX, FoundClass, Label
from tuner.errors import DataError
from tuner.registry import Scalar

AS_INDICES = Coding()
"""Grey values and palette indices, one bit as 0 and 1."""

RARER = 20
"""A value that has so many times fewer pixels than one beside it clings to that one."""
NEAR, NEAR_LOSSY, NEAR_COLOUR = 8, 32, 24
"""How far from a frequent value those lie that blurring and a lossy format make of it, a band."""
MIN_STRAYS = 3
"""Fewer values between two others may be a class of its own: a thin border."""
MANY_OBJECTS = 20
"""Classes of one object a mask each; with more they are taken for numbers of objects."""
SPECK = 4
"""Pixels of the largest object of a class that is taken for stray pixels."""


@dataclass(frozen=True, slots=True)
class MaskClasses:
    """How masks are read, and what their codes mean."""

    codes: ClassCodes
    coding: Coding = AS_INDICES
    notes: tuple[str, ...] = ()

    def read(self, path: Path, options: ReadOptions = AS_STORED) -> Label:
        """Read a mask as class numbers [H, W]; raises DataError."""
        codes = self.coding.read(path, options)
        try:
            return self.codes.apply(codes)
        except DataError as error:
            raise DataError(error.message, hint=error.hint, where=error.where or str(path)) from None


def decide_classes(options: Mapping[str, Scalar], found: Mapping[Path, Facts]) -> MaskClasses:
    """Return the classes of masks: as `labels` or `classes` say, else every value is one.

    Args:
        options: Of the data set: `labels`, `classes`, `ignore`, `background`.
        found: The facts of every mask that could be read.

    Raises:
        DataError: An option is none, no reading holds for all masks, or the values are no classes.
    """
    labels = _labels(options)
    classes, ignored = parse_classes(str(options["classes"])), parse_ignored(str(options["ignore"]))
    if labels and classes:
        raise DataError("`classes` and `labels` both say what the values mean; name one.", where="dataset.labels")
    background = bool(options["background"])
    named = (
        codes_of_labels(labels, ignored, in_colour=False, background=background)
        if labels
        else given_codes(classes, ignored)
    )
    coding = decide_coding(
        found,
        white=_white(named),
        is_named=named is not None,
        prefers_colour=named is not None and _names_colours(named, labels, found),
    )
    notes = [_lossy_note(path) for path, facts in found.items() if facts["lossy"]][:1]
    if labels:
        in_colour = coding.source == "colour"
        codes = codes_of_labels(labels, ignored, in_colour=in_colour, background=background)
        return MaskClasses(codes, coding, tuple(notes))
    if named is not None:
        return MaskClasses(named, coding, tuple(notes))
    totals = total_values(list(found.values()), coding)
    totals.pop(-1 if ignored is None else ignored, None)
    _refuse_two_whites(found, coding, totals)
    _refuse_strays(found, coding, totals)
    return MaskClasses(codes_from(totals, classes, ignored), coding, tuple(notes))


def _labels(options: Mapping[str, Scalar]) -> Labels:
    try:
        return parse_labels(str(options.get("labels") or ""))
    except ValueError as error:
        raise DataError(f"{error}.", where="dataset.labels") from None


def _white(named: ClassCodes | None) -> int | None:
    """Return the code of one bit's white that the study has a class for, when that is one of 1 and 255."""
    if named is None:
        return None
    zero = named.find(0)
    has = [code for code in (1, 255) if named.find(code) not in (None, zero)]
    return has[0] if len(has) == 1 else None


def _names_colours(named: ClassCodes, labels: Labels, found: Mapping[Path, Facts]) -> bool:
    if any(code >= COLOUR for code in named.labels):
        return True
    colours = {COLOUR + term.colour for _, terms in labels for term in terms if term.colour is not None}
    return any(colours & set(facts.get("colours", {}).values()) for facts in found.values())


def _lossy_note(path: Path) -> str:
    return f"{path}: a lossy format: it changes values, most of all along edges; store masks as PNG"


def _refuse_strays(found: Mapping[Path, Facts], coding: Coding, totals: Mapping[int, tuple[int, int]]) -> None:
    lossy = any(facts["lossy"] for facts in found.values())
    peaks, strays = find_strays(totals, is_lossy=lossy)
    if not strays:
        return
    if len(peaks) < 2:
        path = next((path for path, facts in found.items() if facts["lossy"]), next(iter(found)))
        raise DataError(
            f"the values of the masks lie within {NEAR_LOSSY} of each other ({listed(sorted(totals))}), and a lossy "
            "format or smoothing blurs them: they are no classes any more.",
            hint="Store the masks losslessly (PNG), a value a class.",
            where=str(path),
        )
    whole = sum(count for count, _ in totals.values())
    share = sum(totals[code][0] for code in strays) / whole
    path = next(path for path, facts in found.items() if set(strays) & set(total_values([facts], coding)))
    why = "a lossy format (JPEG, WebP)" if found[path]["lossy"] else "smoothing, resizing or a lossy format"
    raise DataError(
        f"the masks cling to {len(peaks)} values ({listed(peaks)}); {len(strays)} further ones ({listed(strays)}) hold "
        f"{100 * share:.2g} % of the pixels: what {why} makes of edges, not classes.",
        hint=_thresholds(peaks),
        where=str(path),
    )


def _refuse_two_whites(found: Mapping[Path, Facts], coding: Coding, totals: Mapping[int, tuple[int, int]]) -> None:
    """Refuse masks of 0 and 1 beside masks of 0 and 255 (or 65535): none holds both, so it seems to be one class."""
    foreground = set(totals) - {0}
    if len(foreground) != 2 or min(foreground) != 1 or max(foreground) not in (255, 65535):
        return
    holders = {
        code: [path for path, facts in found.items() if code in total_values([facts], coding)] for code in totals
    }
    white = max(foreground)
    if set(holders[1]) & set(holders[white]):
        return
    raise DataError(
        f"holds 0 and {white}, while {len(holders[1])} others ({holders[1][0].name}) hold 0 and 1: the same class "
        "seems to be stored in two ways.",
        hint=f"`dataset.labels: {{background: 0, foreground: [1, {white}]}}` makes one class of them, "
        f"`dataset.classes: background=0, one=1, other={white}` two, `dataset.ignore: {white}` leaves that out.",
        where=str(holders[white][0]),
    )


def _thresholds(peaks: Sequence[int]) -> str:
    """Advise: ranges around grey peaks, from the lowest up, or other files."""
    plain = "Store the masks losslessly and without smoothing (PNG)."
    if peaks[-1] >= COLOUR or len(peaks) > 8:
        return plain
    limits = [-(-(low + high) // 2) for low, high in pairwise(peaks)]
    ranges = [f"<{limits[0]}", *(f"{low}..{high - 1}" for low, high in pairwise(limits))]
    names = ["background", *(f"value {peak}" for peak in peaks[1:])]
    terms = ", ".join(f"{name}: '{term}'" for name, term in zip(names, [*ranges, f">={limits[-1]}"], strict=True))
    return f"Map ranges to classes, as in `dataset.labels: {{{terms}}}`. {plain}"


def find_strays(totals: Mapping[int, tuple[int, int]], *, is_lossy: bool) -> tuple[list[int], list[int]]:
    """Divide values into those that are classes and those that smoothing or a lossy format made of them.

    A value is stray when hardly any of its pixels has its value all around and it lies between two others, or close to
    one that has 20 times its pixels. Dense label ids, and one or two thin borders, are none.

    Args:
        totals: Pixels and inner pixels of every code.
        is_lossy: Whether a mask is stored in a lossy format: whatever is close to a more frequent value is stray then.
    """
    codes = sorted(totals)
    is_grey = bool(codes) and codes[-1] < COLOUR
    largest = max((code for code in codes if code != IGNORE_INDEX), default=0)
    if is_grey and not is_lossy and (largest < 64 or len(codes) > largest // 2):
        return codes, []
    near = NEAR_LOSSY if is_lossy else NEAR
    whole = sum(count for count, _ in totals.values())
    solid = [code for code in codes if totals[code][1] >= (0.3 if is_lossy else 0.05) * totals[code][0]]
    peaks: list[int] = []
    strays: list[int] = []
    for code in sorted(codes, key=lambda code: -totals[code][0]):
        count, inner = totals[code]
        close = [peak for peak in peaks if _is_near(peak, code, near)]
        clings = any(is_lossy or (totals[peak][0] >= RARER * count and inner < 0.3 * count) for peak in close)
        if is_grey:
            between = code not in solid and bool(solid) and solid[0] < code < solid[-1]
        else:
            between = code not in solid and sum(totals[peak][0] >= RARER * count for peak in peaks) > 1
        is_dust = is_lossy and bool(peaks) and 100 * count < whole
        (strays if clings or between or is_dust else peaks).append(code)
    if len(strays) < (1 if is_lossy else MIN_STRAYS):
        return codes, []
    apart: list[int] = []
    for peak in peaks:  # the most frequent first
        (strays if any(_is_near(other, peak, near) for other in apart) else apart).append(peak)
    return sorted(apart), sorted(strays)


def _is_near(one: int, other: int, near: int) -> bool:
    if one < COLOUR or other < COLOUR:
        return abs(one - other) <= near
    return all(abs((one >> shift & 255) - (other >> shift & 255)) <= NEAR_COLOUR for shift in (0, 8, 16))


def found_classes(
    masks: Iterable[Path], classes: MaskClasses, memory: FileHashCache, options: ReadOptions = AS_STORED
) -> list[FoundClass]:
    """Count pixels, objects and masks of every class; masks that cannot be read are left out."""
    key = hashlib.sha256(repr((classes.codes, classes.coding, options.is_upright)).encode()).hexdigest()[:16]
    totals: dict[int, list[int]] = {}
    whole = 0
    for mask in masks:
        try:
            found = _objects_of(mask, classes, memory, options, f"objects 1 {key}")
        except DataError:
            continue
        for number, (pixels, objects, smallest, largest) in found.items():
            total = totals.setdefault(int(number), [0, 0, smallest, 0, 0])
            total[0] += pixels
            total[1] += objects
            total[2] = min(total[2], smallest)
            total[3] = max(total[3], largest)
            total[4] += 1
            whole += pixels
    numbers = [*range(len(classes.codes.names)), *([IGNORE_INDEX] if IGNORE_INDEX in totals else [])]
    rows = []
    for number in numbers:
        pixels, objects, smallest, _, cases = totals.get(number, [0, 0, 0, 0, 0])
        name = "ignored" if number == IGNORE_INDEX else classes.codes.names[number]
        rows.append(
            FoundClass(
                number,
                name,
                classes.codes.value_text(number),
                pixels / max(whole, 1),
                objects,
                smallest if objects else None,
                cases,
            )
        )
    return rows


def _objects_of(
    mask: Path, classes: MaskClasses, memory: FileHashCache, options: ReadOptions, topic: str
) -> dict[str, tuple[int, int, int, int]]:
    known: dict[str, tuple[int, int, int, int]] | None = memory.get(mask, topic) if mask.is_file() else None
    if known is None:
        counted = count_objects(classes.read(mask, options))
        known = {str(number): found for number, found in counted.items()}
        memory.put(mask, topic, known)
    return known


def instances_note(classes: Sequence[FoundClass]) -> list[str]:
    """Say that values look like numbers of objects: most occur in one mask only, or are one object in each of many."""
    objects = [found for found in classes if 0 < found.number != IGNORE_INDEX and found.cases]
    alone = sum(found.cases == 1 for found in objects)
    single = sum(found.objects == found.cases for found in objects)
    cases = max((found.cases for found in classes), default=0)
    if not (len(objects) > 2 and cases > 2 and 2 * alone > len(objects)) and not (
        len(objects) > MANY_OBJECTS and 10 * single >= 9 * len(objects)
    ):
        return []
    return [
        f"{len(objects)} values look like numbers of objects (instances), not classes; "
        "`dataset.labels: {object: '>0'}` makes one class of them"
    ]


def stray_classes(
    masks: Sequence[Path], classes: MaskClasses, memory: FileHashCache, options: ReadOptions = AS_STORED
) -> list[DataWarning]:
    """Say which classes are nothing but a few specks in few masks."""
    key = hashlib.sha256(repr((classes.codes, classes.coding, options.is_upright)).encode()).hexdigest()[:16]
    largest: dict[int, int] = {}
    held: dict[int, list[Path]] = {}
    for mask in masks:
        known: Mapping[str, Any] = (memory.get(mask, f"objects 1 {key}") if mask.is_file() else None) or {}
        for number, found in known.items():
            largest[int(number)] = max(largest.get(int(number), 0), found[3])
            held.setdefault(int(number), []).append(mask)
    return [
        DataWarning(
            f"{held[number][0]}: class {classes.codes.names[number]!r} (value {classes.codes.value_text(number)}) is "
            f"stray pixels: no object above {size} px, in {len(held[number])} of {len(masks)} masks; if it is no "
            "class, map its value to another one in `dataset.labels`, or name it in `dataset.ignore`"
        )
        for number, size in sorted(largest.items())
        if number < len(classes.codes.names) and size <= SPECK and 5 * len(held[number]) <= max(len(masks), 5)
    ]

"""Masks of one data set in several codings: the same class in all of them, or a refusal that names file and remedy."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from tests.data.test_raster import png
from tuner.data.checks import Findings, check
from tuner.data.label_rules import labels_problem, labels_text, parse_labels
from tuner.data.mask_classes import find_strays
from tuner.data.mask_coding import count_objects
from tuner.data.preparation import PreparedData, prepare
from tuner.errors import DataError, SpecError

COUNT, SIZE = 6, 32
BLACK_RED_GREEN = np.array([(0, 0, 0), (255, 0, 0), (0, 255, 0)], np.uint8)

Write = Callable[[Path, np.ndarray, int], None]
"""Writes the mask [H, W] of classes 0, 1, 2 of a number beside a path without ending."""


def make(root: Path, write: Write, *, classes: int = 2) -> list[np.ndarray]:
    """A folder `own` of noise; its masks hold a box of each class at another place."""
    rng = np.random.default_rng(3)
    truths = []
    for kind in ("images", "masks"):
        (root / "own" / kind).mkdir(parents=True)
    for number in range(COUNT):
        truth = np.zeros((SIZE, SIZE), np.uint8)
        for label in range(1, classes):
            truth[4 * label : 4 * label + 12 + number, 10 * label : 10 * label + 8] = label
        Image.fromarray(rng.integers(0, 255, (SIZE, SIZE, 3), np.uint8)).save(root / f"own/images/p{number}.png")
        write(root / f"own/masks/p{number}", truth, number)
        truths.append(truth)
    return truths


def prepared(root: Path, **options: Any) -> PreparedData:
    """All pictures, the last one validates."""
    section = {"name": "folder", "path": "own", "size": SIZE, "validation": [f"p{COUNT - 1}"]} | options
    return prepare(section, data_root=root, cache=root / "cache", seed=0)


def checked(root: Path, **options: Any) -> Findings:
    """What `data check` says."""
    return check({"name": "folder", "path": "own"} | options, data_root=root)


def holds(data: PreparedData, truths: list[np.ndarray], order: tuple[int, ...]) -> bool:
    """Whether the labels are the truths, whose classes are numbered in this order."""
    wanted = [np.array(order, np.uint8)[truth] for truth in truths]
    return np.array_equal(np.stack([*data.train.labels, *data.validation.labels]), np.stack(wanted))


def save(picture: Image.Image, ending: str = ".png", **how: Any) -> Callable[[Path], None]:
    return lambda path: picture.save(path.with_suffix(ending), **how)


def _own_palette(path: Path, truth: np.ndarray, number: int) -> None:
    """The order of the palette changes from file to file."""
    order = [0, 1, 2] if number % 2 else [2, 0, 1]
    picture = Image.fromarray(np.argsort(order)[truth].astype(np.uint8))
    picture.putpalette(BLACK_RED_GREEN[order].ravel().tolist())
    picture.save(path.with_suffix(".png"))


def _quantised(path: Path, truth: np.ndarray, number: int) -> None:
    Image.fromarray(BLACK_RED_GREEN[truth]).quantize(colors=3).save(path.with_suffix(".png"))


def _palette_or_colour(path: Path, truth: np.ndarray, number: int) -> None:
    picture = Image.fromarray(BLACK_RED_GREEN[truth])
    (picture.quantize(colors=3) if number % 2 else picture).save(path.with_suffix(".gif" if number % 2 else ".bmp"))


def _common_palette(path: Path, truth: np.ndarray, number: int) -> None:
    picture = Image.fromarray(truth)
    picture.putpalette(BLACK_RED_GREEN.ravel().tolist() + [0] * (3 * number))
    picture.save(path.with_suffix(".png"))


def _white_alone(path: Path, truth: np.ndarray, number: int) -> None:
    """Class 2 is white: a mask of black and white alone has equal bands, and is in colour all the same."""
    colours = np.array([(0, 0, 0), (255, 0, 0), (255, 255, 255)], np.uint8)
    truth[:] = np.where(truth == 1 + number % 2, truth, 0)
    picture = Image.fromarray(colours[truth])
    (picture.quantize(colors=3) if number % 3 == 0 else picture).save(path.with_suffix(".png"))


def _clear_background(path: Path, truth: np.ndarray, number: int) -> None:
    picture = Image.fromarray(truth)
    picture.putpalette(BLACK_RED_GREEN.ravel().tolist())
    picture.save(path.with_suffix(".png"), **({"transparency": 0} if number % 2 else {}))


def _of_one_shade(path: Path, truth: np.ndarray, number: int) -> None:
    picture = Image.fromarray(truth)
    picture.putpalette([0, 0, 0] * 3)
    picture.save(path.with_suffix(".png"))


@pytest.mark.parametrize(
    ("write", "order", "names"),
    [
        pytest.param(_own_palette, (0, 2, 1), ("#00ff00", "#ff0000"), id="palettes that differ"),
        pytest.param(_quantised, (0, 2, 1), ("#00ff00", "#ff0000"), id="quantised"),
        pytest.param(_palette_or_colour, (0, 2, 1), ("#00ff00", "#ff0000"), id="palette beside colour"),
        pytest.param(_white_alone, (0, 1, 2), ("#ff0000", "#ffffff"), id="black and white among colours"),
        pytest.param(_common_palette, (0, 1, 2), ("1", "2"), id="one palette of several lengths"),
        pytest.param(_clear_background, (0, 1, 2), ("1", "2"), id="transparent background in some"),
        pytest.param(_of_one_shade, (0, 1, 2), ("1", "2"), id="palette of one colour"),
    ],
)
def test_palettes(write: Write, order: tuple[int, ...], names: tuple[str, ...], tmp_path: Path) -> None:
    """The same colour is the same class in all files, whatever its index."""
    truths = make(tmp_path, write, classes=3)

    data = prepared(tmp_path)

    assert data.class_names == ("background", *(f"value {name}" for name in names))
    assert holds(data, truths, order)
    assert checked(tmp_path) == []


def _white(path: Path, truth: np.ndarray, number: int) -> None:
    """One bit, grey, a palette of black and white, and colour by turns."""
    grey = Image.fromarray(truth * np.uint8(255))
    if number % 3 == 0:
        grey.convert("1").save(path.with_suffix(".png"))
    elif number % 3 == 1:
        grey.save(path.with_suffix(".bmp"))
    else:
        grey.convert("RGB").save(path.with_suffix(".tif"))


@pytest.mark.parametrize(
    "write",
    [
        pytest.param(_white, id="1 bit, grey, RGB"),
        pytest.param(
            lambda path, truth, n: path.with_suffix(".png").write_bytes(
                png(2, 0, (truth * 3)[..., None]) if n % 2 else png(8, 0, (truth * 255)[..., None])
            ),
            id="2 bits beside 8",
        ),
        pytest.param(
            lambda path, truth, n: Image.fromarray(np.dstack([truth * 0 + 255] * 3 + [truth * 255])).save(
                path.with_suffix(".png")
            ),
            id="alpha alone",
        ),
        pytest.param(
            lambda path, truth, n: Image.fromarray(np.dstack([truth * 255, truth * 0 + 255])).save(
                path.with_suffix(".png")
            ),
            id="opaque LA",
        ),
    ],
)
def test_black_and_white_in_every_coding(write: Write, tmp_path: Path) -> None:
    """White is white: two classes, whatever wrote the file."""
    truths = make(tmp_path, write)

    data = prepared(tmp_path)

    assert data.class_names == ("background", "value 255")
    assert holds(data, truths, (0, 1))
    assert checked(tmp_path) == []


def _two_depths(path: Path, truth: np.ndarray, number: int) -> None:
    Image.fromarray(truth * np.uint16(65535) if number % 2 else truth * np.uint8(255)).save(path.with_suffix(".png"))


def _numbers_beside_white(path: Path, truth: np.ndarray, number: int) -> None:
    Image.fromarray(truth).save(path.with_suffix(".png")) if number % 2 else Image.fromarray(truth > 0).save(
        path.with_suffix(".png")
    )


def _half_clear(path: Path, truth: np.ndarray, number: int) -> None:
    planes = np.dstack([truth * 255, truth * 0, truth * 0, np.indices(truth.shape)[0] * 8])
    Image.fromarray(planes.astype(np.uint8)).save(path.with_suffix(".png"))


@pytest.mark.parametrize(
    ("write", "words"),
    [
        pytest.param(_two_depths, r"holds 255, while others .* hold 65535.*two ways.*labels", id="8 and 16 bits"),
        pytest.param(_numbers_beside_white, r"holds (1|255), while others .* hold (1|255)", id="1 beside white"),
        pytest.param(_half_clear, r"stands with several alphas .*Store the masks without alpha", id="alpha and colour"),
    ],
)
def test_riddles_are_refused(write: Write, words: str, tmp_path: Path) -> None:
    """Where it cannot be told what a value means, check and training name a file and the remedy."""
    make(tmp_path, write)

    found = checked(tmp_path)

    assert len(found) == 1
    with pytest.raises(DataError, match=words) as caught:
        prepared(tmp_path)
    assert str(tmp_path / "own/masks/p") in str(caught.value)
    assert str(caught.value) in found


def test_named_values_are_no_riddle(tmp_path: Path) -> None:
    """The remedy that is named works."""
    truths = make(tmp_path, _numbers_beside_white)

    data = prepared(tmp_path, labels={"background": 0, "cell": [1, 255]})

    assert data.class_names == ("background", "cell")
    assert holds(data, truths, (0, 1))


def _blurred(path: Path, truth: np.ndarray, number: int) -> None:
    large = Image.fromarray(truth * np.uint8(255)).resize((SIZE * 4, SIZE * 4), Image.Resampling.BICUBIC)
    large.save(path.with_suffix(".png"))
    images = path.parents[1] / "images" / f"{path.name}.png"
    Image.open(images).resize(large.size).save(images)


@pytest.mark.parametrize(
    "write",
    [
        pytest.param(
            lambda path, truth, n: Image.fromarray(truth * np.uint8(255)).save(path.with_suffix(".jpg"), quality=70),
            id="jpeg",
        ),
        pytest.param(
            lambda path, truth, n: Image.fromarray(truth * np.uint8(255)).save(path.with_suffix(".webp"), quality=70),
            id="webp",
        ),
        pytest.param(
            lambda path, truth, n: Image.fromarray(truth * np.uint8(255)).save(
                path.with_suffix(".png"), format="JPEG", quality=70
            ),
            id="jpeg named png",
        ),
        pytest.param(_blurred, id="resized"),
    ],
)
def test_smeared_values_are_a_defect_with_advice(write: Write, tmp_path: Path) -> None:
    """Edges of JPEG and of resizing are not dozens of classes; the thresholds that are proposed give the truth."""
    truths = make(tmp_path, write)

    with pytest.raises(
        DataError, match=r"cling to 2 values .*labels: \{background: '<1\d\d', value 2\d\d: '>=1\d\d'\}"
    ):
        prepared(tmp_path)
    assert len(checked(tmp_path)) == 1
    data = prepared(tmp_path, labels={"cell": ">=128"})
    assert data.class_names == ("background", "cell")
    found = np.stack([*data.train.labels, *data.validation.labels])
    assert np.mean(found != np.stack(truths)) < 0.02
    assert checked(tmp_path, labels={"cell": ">=128"}) == []


@pytest.mark.parametrize(
    ("totals", "is_lossy", "strays"),
    [
        pytest.param({0: (9000, 8000), 128: (30, 0), 255: (4000, 3500)}, False, 0, id="a thin border"),
        pytest.param({k: (9000 // (k * k + 1), 9) for k in range(20)}, False, 0, id="label ids"),
        pytest.param(
            {0: (9000, 8000), **dict.fromkeys((60, 90, 120), (40, 0)), 255: (4000, 3500)}, False, 3, id="edges"
        ),
        pytest.param({0: (9000, 8000), 2: (300, 200), 253: (50, 0), 255: (4000, 3500)}, True, 2, id="jpeg"),
    ],
)
def test_which_values_are_stray(totals: dict[int, tuple[int, int]], is_lossy: bool, strays: int) -> None:
    """A rare or thin class is one; a spray of values along edges is none."""
    assert len(find_strays(totals, is_lossy=is_lossy)[1]) == strays


def _numbered(path: Path, truth: np.ndarray, number: int) -> None:
    Image.fromarray(truth * np.uint16(100 * number + 100)).save(path.with_suffix(".png"))


def test_numbers_of_objects_are_pointed_at(tmp_path: Path) -> None:
    """Masks of instances: a value a mask is no class; the mapping that is proposed makes one of them."""
    truths = make(tmp_path, _numbered)

    assert any("look like numbers of objects" in note for note in checked(tmp_path).notes)
    assert holds(prepared(tmp_path, labels={"object": ">0"}), truths, (0, 1))
    assert not any("numbers of objects" in note for note in checked(tmp_path, labels={"object": ">0"}).notes)


def test_masks_that_cannot_be_read_are_named_once(tmp_path: Path) -> None:
    """No word about classes where no mask could be read."""
    make(tmp_path, lambda path, truth, n: Image.fromarray(truth.astype(np.float32)).save(path.with_suffix(".tif")))

    assert len(checked(tmp_path)) == COUNT


def test_objects_are_those_of_scipy() -> None:
    """One pass over all classes counts what labelling class by class counts."""
    rng = np.random.default_rng(2)
    for labels in (rng.integers(0, 3, (40, 30), np.uint8), np.zeros((5, 7), np.uint8), np.eye(9, dtype=np.uint8)):
        for number, found in count_objects(labels).items():
            parts, count = ndimage.label(labels == number)
            sizes = np.bincount(parts.ravel())[1:]
            assert found == (sizes.sum(), count, sizes.min(), sizes.max())


def _speck(path: Path, truth: np.ndarray, number: int) -> None:
    truth = truth.copy()
    if number == 2:
        truth[30, 30] = 3
    Image.fromarray(truth).save(path.with_suffix(".png"))


def test_what_is_read_as_classes(tmp_path: Path) -> None:
    """Value, share, objects, the smallest of them and in how many masks; a speck is a flaw, and training goes on."""
    truths = make(tmp_path, _speck)

    found = checked(tmp_path)

    cell = found.classes[1]
    assert (cell.number, cell.values, cell.objects, cell.cases) == (1, "1", COUNT, COUNT)
    assert cell.smallest == min(int((truth == 1).sum()) for truth in truths)
    assert cell.share == pytest.approx(np.mean([truth == 1 for truth in truths]))
    assert [line for line in found if "stray pixels: no object above 1 px, in 1 of 6 masks" in line]
    assert prepared(tmp_path).class_names == ("background", "value 1", "value 3")


@pytest.mark.parametrize(
    ("labels", "names", "order"),
    [
        pytest.param({"cell": 1, "wall": 2}, ("background", "cell", "wall"), (0, 1, 2), id="values"),
        pytest.param({"any": [1, 2]}, ("background", "any"), (0, 1, 1), id="several"),
        pytest.param({"wall": 2, "background": 0, "cell": "1"}, ("background", "wall", "cell"), (0, 2, 1), id="order"),
        pytest.param({"any": ">=1"}, ("background", "any"), (0, 1, 1), id="range"),
        pytest.param({"background": 0, "wall": "2..9", "ignore": 1}, ("background", "wall"), (0, 255, 1), id="ignored"),
        pytest.param({"three": [0, 1, 2], "other": 9}, ("three", "other"), (0, 0, 0), id="three values"),
    ],
)
def test_labels_of_values(
    labels: dict[str, Any], names: tuple[str, ...], order: tuple[int, ...], tmp_path: Path
) -> None:
    """`labels` maps values, lists and ranges; what it says decides the fingerprint."""
    truths = make(tmp_path, lambda path, truth, n: Image.fromarray(truth).save(path.with_suffix(".png")), classes=3)
    plain = prepared(tmp_path).fingerprint

    data = prepared(tmp_path, labels=labels)

    assert data.class_names == names
    assert holds(data, truths, order)
    assert data.fingerprint != plain
    assert data.fingerprint == prepared(tmp_path, labels=labels_text(labels)).fingerprint


def test_labels_of_colours(tmp_path: Path) -> None:
    """Three numbers are a colour where masks are in colour, palettes too; 0 of a class that is not named is black."""
    truths = make(tmp_path, _own_palette, classes=3)

    data = prepared(tmp_path, labels={"red": [255, 0, 0], "green": "#00ff00"})

    assert data.class_names == ("background", "red", "green")
    assert holds(data, truths, (0, 1, 2))
    assert data.reading["labels"] == [1 << 24, (1 << 24) + 0xFF0000, (1 << 24) + 0x00FF00]


def test_one_bit_and_a_threshold(tmp_path: Path) -> None:
    """A threshold for 8 bits takes the white of one bit for 255, though nothing else lies beside it."""
    truths = make(tmp_path, lambda path, truth, n: Image.fromarray(truth > 0).save(path.with_suffix(".png")))

    assert holds(prepared(tmp_path, labels={"cell": ">=128"}), truths, (0, 1))
    assert prepared(tmp_path).class_names == ("background", "value 1")


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        pytest.param({"a": ">=x"}, "'>=x' of 'a' is none of", id="range"),
        pytest.param({"a": "5..1"}, "is none of", id="upside down"),
        pytest.param({"a": 70000}, "is none of", id="too large"),
        pytest.param({"a": "<5", "b": 3}, "3 is in", id="overlap"),
        pytest.param({"a": "#ff0000", "b": [255, 0, 0]}, "#ff0000 is in 'a' and in 'b'", id="colour twice"),
        pytest.param({"a": []}, "names no value", id="nothing"),
        pytest.param("cell=1", "is no mapping of classes", id="text"),
        pytest.param([1, 2], "is no mapping of classes", id="list"),
    ],
)
def test_wrong_labels(labels: object, words: str, tmp_path: Path) -> None:
    """A mapping that cannot hold is refused before a file is opened."""
    assert words in str(labels_problem(labels))
    with pytest.raises(SpecError, match=r"dataset\.labels"):
        checked(tmp_path, labels=labels)
    assert parse_labels("") == []


@pytest.mark.parametrize("white", [255, 65535])
def test_ones_beside_whites_are_one_class_or_refused(tmp_path: Path, white: int) -> None:
    """No mask holds both: two tools have written one class, and three classes were trained without a word."""

    def write(path: Path, truth: np.ndarray, number: int) -> None:
        values = truth.astype(np.uint16 if white > 255 else np.uint8) * (white if number % 2 else 1)
        Image.fromarray(values).save(path.with_suffix(".png"))

    truths = make(tmp_path, write)

    (line,) = checked(tmp_path)
    assert "p1.png" in line
    assert f"holds 0 and {white}, while 3 others (p0.png) hold 0 and 1" in line
    assert f"foreground: [1, {white}]" in line
    assert holds(prepared(tmp_path, labels={"background": 0, "foreground": [1, white]}), truths, (0, 1))
    assert prepared(tmp_path, classes=f"background=0,one=1,other={white}").classes == 3

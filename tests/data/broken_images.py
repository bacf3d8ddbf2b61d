"""Folders of pictures and Cityscapes, and a way to spoil a case of each for every defect that `data check` knows."""

import shutil
from pathlib import Path

import numpy as np
from PIL import Image

from tests.data.corruption import COUNT, Spoil, add_line, halve, seeded

FOLDER = {"name": "folder", "path": "own", "group": "{group}_*", "classes": "background=0, cell=7, rare=9"}


def _picture(path: Path, number: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(seeded(number).integers(0, 255, (10, 12), np.uint8)).save(path)


def _mask(path: Path, values: tuple[int, ...], shape: tuple[int, int] = (10, 12)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.resize(np.array(values, np.uint8), shape)).save(path)


def make_folder(root: Path) -> Path:
    """Patients p00 to p19; the last two are held out."""
    folder = root / "own"
    names = [f"p{number:02d}_a" for number in range(COUNT)]
    for number, name in enumerate(names):
        _picture(folder / "images" / f"{name}.png", number)
        _mask(folder / "masks" / f"{name}.png", (0, 7, 9))
    (folder / "train.txt").write_text("\n".join(names[:18]) + "\n")
    (folder / "val.txt").write_text("\n".join(names[18:]) + "\n")
    return folder


def _at(folder: Path, kind: str, number: int, ending: str = ".png") -> Path:
    return folder / kind / f"p{number:02d}_a{ending}"


def _pages(folder: Path) -> None:
    pages = [Image.fromarray(np.full((10, 12), shade, np.uint8)) for shade in (1, 2)]
    _at(folder, "images", 14).unlink()
    pages[0].save(_at(folder, "images", 14, ".tif"), save_all=True, append_images=pages[1:])


def _not_finite(folder: Path) -> None:
    _at(folder, "images", 7).unlink()
    Image.fromarray(np.full((10, 12), np.nan, np.float32)).save(_at(folder, "images", 7, ".tif"))


def _second_image_of_a_tested_patient(folder: Path) -> None:
    _picture(folder / "images" / "p19_b.png", 99)
    _mask(folder / "masks" / "p19_b.png", (0, 7, 9))
    add_line(folder / "train.txt", "p19_b\n")


def _listed_twice(folder: Path) -> None:
    _mask(_at(folder, "masks", 11), (0, 7))
    add_line(folder / "val.txt", "p11_a\n")


def _odd_name(folder: Path) -> None:
    _picture(folder / "images" / "odd.png", 98)
    _mask(folder / "masks" / "odd.png", (0, 7))


def _coloured(folder: Path) -> None:
    Image.fromarray(seeded(3).integers(0, 255, (10, 12, 3), np.uint8)).save(_at(folder, "images", 8))


def _photograph(folder: Path) -> None:
    _at(folder, "masks", 9).unlink()
    Image.fromarray(np.zeros((10, 12), np.float32)).save(_at(folder, "masks", 9, ".tif"))


FOLDER_DEFECTS: dict[str, tuple[Spoil, str]] = {
    "mask missing": (lambda f: _at(f, "masks", 0).unlink(), "p00_a.png: there is no mask"),
    "image missing": (lambda f: _at(f, "images", 1).unlink(), "p01_a.png: there is no image"),
    "image truncated": (lambda f: halve(_at(f, "images", 2)), "p02_a.png: cannot be read as an image"),
    "mask empty": (lambda f: _at(f, "masks", 3).write_bytes(b""), "p03_a.png: cannot be read as an image (0 bytes"),
    "sizes": (lambda f: _mask(_at(f, "masks", 4), (0, 7), (10, 11)), "11 x 10 pixels, and its image 12 x 10"),
    "foreign value": (lambda f: _mask(_at(f, "masks", 5), (0, 44)), "p05_a.png: holds 44, which no class has"),
    "shared with a test image": (
        lambda f: shutil.copy(_at(f, "images", 18), _at(f, "images", 6)),
        "p18_a.png: the same image as",
    ),
    "not finite": (_not_finite, "p07_a.tif: 120 values are not finite"),
    "colour": (_coloured, "p08_a.png: in colour, and the first image is grey"),
    "mask of another kind": (_photograph, "masks of floating point are not read"),
    "listed and not there": (
        lambda f: add_line(f / "train.txt", "gone\n"),
        "gone is listed, and there is no such image",
    ),
    "listed twice": (lambda f: add_line(f / "train.txt", "p10_a\n"), "p10_a is listed twice"),
    "in both lists": (_listed_twice, "p11_a is in several lists"),
    "patient on both sides": (_second_image_of_a_tested_patient, "p19_a is held out and its group 'p19' trains"),
    "two of a name": (lambda f: _picture(_at(f, "images", 13, ".bmp"), 97), "has the same name"),
    "several pages": (_pages, "p14_a.tif: holds 2 pages"),
    "name without a group": (_odd_name, "odd.png: the name does not fit the pattern"),
    "class not tested": (
        lambda f: [_mask(_at(f, "masks", number), (0, 7)) for number in (18, 19)],
        "class 'rare' occurs in no test mask",
    ),
}


def make_cityscapes(root: Path) -> Path:
    """Three cities, a picture each number; the last two are tested."""
    folder = root / "cityscapes"
    for number in range(COUNT):
        image, label = city_paths(folder, number)
        _picture(image, number)
        _mask(label, (7, 8, 26))
    return folder


def city_paths(folder: Path, number: int) -> tuple[Path, Path]:
    """Image and label ids of a picture."""
    half, city = ("val", "zurich") if number >= COUNT - 2 else ("train", f"town{number % 3}")
    name = f"{city}_{number:06d}_000019"
    return (
        folder / "leftImg8bit" / half / city / f"{name}_leftImg8bit.png",
        folder / "gtFine" / half / city / f"{name}_gtFine_labelIds.png",
    )


def _city_twin(folder: Path) -> None:
    shutil.copy(city_paths(folder, 6)[0], city_paths(folder, 7)[0])


CITY_DEFECTS: dict[str, tuple[Spoil, str]] = {
    "label missing": (lambda f: city_paths(f, 0)[1].unlink(), "000000_000019_leftImg8bit.png: there is no gtFine/"),
    "image missing": (lambda f: city_paths(f, 1)[0].unlink(), "there is no leftImg8bit/train/town1/town1_000001"),
    "image truncated": (lambda f: halve(city_paths(f, 2)[0]), "town2_000002_000019_leftImg8bit.png: cannot be read"),
    "label truncated": (lambda f: halve(city_paths(f, 3)[1]), "000003_000019_gtFine_labelIds.png: cannot be read"),
    "image empty": (lambda f: city_paths(f, 4)[0].write_bytes(b""), "(0 bytes; truncated?)"),
    "foreign id": (lambda f: _mask(city_paths(f, 5)[1], (7, 99)), "holds 99, which no class has"),
    "shared by cities": (_city_twin, "000007_000019_leftImg8bit.png: the same image as"),
    "shared with a test image": (
        lambda f: shutil.copy(city_paths(f, 8)[0], city_paths(f, 18)[0]),
        "zurich_000018_000019_leftImg8bit.png: the same image as",
    ),
    "sizes": (lambda f: _mask(city_paths(f, 9)[1], (7,), (10, 11)), "11 x 10 pixels, and its image 12 x 10"),
    "no picture": (lambda f: city_paths(f, 10)[0].write_text("<html>"), "(6 bytes; truncated?)"),
    "class not tested": (
        lambda f: [_mask(city_paths(f, number)[1], (7, 8)) for number in (18, 19)],
        "class 'car' occurs in no test mask",
    ),
}

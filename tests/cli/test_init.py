"""`tuner init`: from a folder of data to a study file that can be launched, on a terminal and without one."""

import os
import pty
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.cli.shell import Shell, environment
from tests.data.volumes import make_nnunet
from tuner.config.study import load_spec
from tuner.config.yaml_reader import read_yaml
from tuner.data.layouts import find_layouts, guess_group

ALL = ("--task", "regions", "--time", "20m", "--devices", "cpu")
QUICK = ("--probe-seconds", "10")


def make_folder(
    root: Path, name: str = "cells", *, count: int = 8, size: int = 32, names: tuple[str, str] = ("images", "masks")
) -> Path:
    """Write pictures with bright discs, and masks of 0 and 255."""
    folder, rng = root / name, np.random.default_rng(0)
    y, x = np.mgrid[:size, :size]
    for kind in names:
        (folder / kind).mkdir(parents=True)
    for number in range(count):
        at = rng.integers(8, size - 8, 2)
        disc = (y - at[0]) ** 2 + (x - at[1]) ** 2 < 36
        grey = (60 + 120 * disc + rng.normal(0, 10, (size, size))).clip(0, 255)
        Image.fromarray(grey.astype(np.uint8)).save(folder / names[0] / f"c{number}.png")
        Image.fromarray((255 * disc).astype(np.uint8)).save(folder / names[1] / f"c{number}.png")
    return folder


@pytest.mark.timeout(900)
def test_questions_on_a_terminal_then_a_search(tuner: Shell, here: Path) -> None:
    """The three commands of the README: a wrong answer is asked again, and what is written is launched as was said."""
    make_folder(here / "data")
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "tuner", "init", "--devices", "cpu", *QUICK],
        cwd=here,
        env=environment(here),
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(theirs)
    os.write(ours, b"nowhere\ndata/cells\n\nblobs\nregions\nsoon\n30m\n")
    out, err = process.communicate(timeout=500)
    os.close(ours)

    assert process.returncode == 0, err
    for words in (
        "nowhere is not there.",
        "folder     yes: images/ with 8 pictures, masks/ with 8 pictures",
        "no dataset.json",
        "'blobs' is none of regions, structures, borders, scene.",
        "'soon' is not a duration",
    ):
        assert words in err
    command = shlex.split(out.splitlines()[-1])
    assert command[:3] == ["tuner", "launch", "cells.yaml"]
    text = (here / "cells.yaml").read_text()
    decided = [line for line in text.splitlines() if line.lstrip(" #").startswith("- ")]
    assert len(decided) == 40  # every loss of the catalogue, in or out, with its reason
    assert all("  # " in line for line in decided)
    assert load_spec(read_yaml(here / "cells.yaml")).confirm is not None

    small = ("--trials", "1", "--epochs", "1", "--set", "confirm=null", "--set", "model.width=4")
    launched = tuner(*command[1:], *small, "--launcher", "inline")

    assert launched.code == 0, launched.err
    assert tuner("status", "cells", "--json").json()["trials"]["complete"] == 1


@pytest.mark.slow
def test_nnunet_volumes(tuner: Shell, here: Path) -> None:
    """Slices of CT, with the window that its labels span, and two cases that validate."""
    folder = make_nnunet(here)

    answer = tuner("init", str(folder), *ALL, *QUICK, "--set", "size=16", "-o", "boxes.yaml", "--json")

    assert answer.code == 0, answer.err
    assert answer.json()["file"] == "boxes.yaml"
    assert max(map(len, answer.err.splitlines()[1:])) <= 80
    spec = load_spec(read_yaml(Path("boxes.yaml")))
    assert spec.base.dataset["size"] == 16
    assert -300 < spec.base.dataset["low"] < spec.base.dataset["high"] < 900
    assert spec.base.dataset["validation"] == 0.5


def test_without_a_terminal_it_names_the_flags(tuner: Shell, here: Path) -> None:
    """In a script it must not wait for an answer that nobody gives."""
    done = subprocess.run(
        [sys.executable, "-m", "tuner", "init", "--time", "1h"],
        cwd=here,
        env=environment(here),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
    )

    assert done.returncode == 2
    assert "PATH, --task, --devices are missing" in done.stderr
    assert "--yes" in done.stderr
    assert list(here.iterdir()) == []


def test_a_file_is_never_overwritten(tuner: Shell, here: Path) -> None:
    """A study file may hold hours of thought."""
    make_folder(here / "data")
    Path("cells.yaml").write_text("mine")

    answer = tuner("init", "data/cells", *ALL)

    assert answer.code == 2
    assert "--force" in answer.err
    assert Path("cells.yaml").read_text() == "mine"


def _empty(here: Path) -> Path:
    (here / "void").mkdir()
    return here / "void"


def _no_masks(here: Path) -> Path:
    folder = make_folder(here)
    shutil.rmtree(folder / "masks")
    return folder


def _wrong_names(here: Path) -> Path:
    return make_folder(here, names=("scans", "annotations"))


def _one_folder(here: Path) -> Path:
    folder = make_folder(here)
    for path in (folder / "masks").iterdir():
        path.rename(folder / f"{path.stem}_mask.png")
    for path in (folder / "images").iterdir():
        path.rename(folder / path.name)
    return folder


def _unreadable(here: Path) -> Path:
    folder = make_folder(here)
    (folder / "images/c3.png").write_bytes(b"\x89PNG and no more")
    return folder


def _lossy(here: Path) -> Path:
    folder = make_folder(here)
    for path in list((folder / "masks").iterdir()):
        Image.open(path).save(path.with_suffix(".jpg"), quality=70)
        path.unlink()
    return folder


def _one_class(here: Path) -> Path:
    folder = make_folder(here)
    for path in (folder / "masks").iterdir():
        Image.new("L", (32, 32), 255).save(path)
    return folder


def _one_case(here: Path) -> Path:
    return make_folder(here, count=1)


def _data_root(here: Path) -> Path:
    make_folder(here / "data", "cells")
    make_folder(here / "data", "nerves")
    return here / "data"


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (_empty, ["the folder is empty", "images/ and masks/"]),
        (_no_masks, ["images/ holds 8 pictures, and there are no masks"]),
        (_wrong_names, ["scans/ and annotations/ hold 8 pictures", "mv ", "/images && mv ", "/masks"]),
        (_one_folder, ["masks with '_mask' behind", "--set mask_suffix=_mask"]),
        (_unreadable, ["1 defect", "c3.png"]),
        (_lossy, ["cling to 2 values", "dataset.labels"]),
        (_one_class, ["the masks hold 1 values (255)", "classes: background=0, cell=255"]),
        (_one_case, ["1 training case", "needs 2"]),
        (_data_root, ["2 data sets lie below", "tuner init", "nerves"]),
        (lambda here: here / "nope", ["is not there", "--dataset phantom"]),
    ],
)
def test_what_cannot_be_trained_on_is_refused(tuner: Shell, here: Path, make: object, said: list[str]) -> None:
    """With what was found and what would do; nothing is written."""
    folder = make(here)  # type: ignore[operator]

    answer = tuner("init", str(folder), *ALL, *QUICK)

    assert answer.code == 2, answer.err
    assert [words for words in said if words not in answer.err] == []
    assert not list(here.glob("*.yaml"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--layout", "phantom"), "unknown layout 'phantom'"),
        (("--task", "blobs"), "unknown task 'blobs'"),
        (("--time", "soon"), "is not a duration"),
        (("--devices", "abacus"), "is not a device"),
        (("--trials", "9"), "--trials: only with `tuner init nnunet"),
        (("--set", "sise=3"), "Did you mean 'size'"),
    ],
)
def test_a_wrong_flag_is_said_before_anything_is_measured(
    tuner: Shell, here: Path, words: tuple[str, ...], said: str
) -> None:
    """Half a minute later would be too late."""
    make_folder(here / "data")

    answer = tuner("init", "data/cells", "--yes", *words)

    assert answer.code == 2
    assert said in answer.err
    assert "measuring" not in answer.err


def test_each_layout_is_told_from_the_others(test_data: Path) -> None:
    """On the real samples: one fits, and the others say what they lack."""
    for name, layout in (("nuclei", "folder"), ("membranes", "folder"), ("cityscapes", "cityscapes")):
        findings = find_layouts(test_data / name)

        assert [finding.layout for finding in findings if finding.fits] == [layout]
        assert all(finding.text().startswith("no: no ") for finding in findings if not finding.fits)
    assert [f.layout for f in find_layouts(test_data / "synapse") if f.fits] == ["synapse"]


def test_names_that_look_like_parts_of_recordings() -> None:
    """Parts of one recording must not stand on both sides of the division."""
    assert guess_group([f"vnc_{a:02d}_{b}" for a in range(8) for b in range(2)]) == "{group}_?"
    assert guess_group([f"p{a}_slice{b}" for a in range(5) for b in range(12)]) == "{group}_slice*"
    assert guess_group([f"image_{a:03d}" for a in range(40)]) is None
    assert guess_group([f"c{a}" for a in range(40)]) is None

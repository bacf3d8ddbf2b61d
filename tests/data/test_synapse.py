"""TransUNet's layout: what is refused, what is found by the check, and what the messages say."""

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from tests.data.folders import make_synapse, write_lists, write_slice, write_volume
from tuner.data.checks import check
from tuner.data.datasets.synapse import group_slices, open_synapse
from tuner.data.preparation import prepare
from tuner.errors import DataError

SYNAPSE = {"name": "synapse"}


def _open(root: Path | None) -> object:
    return open_synapse({"size": 32}, root)


def test_missing_data_root() -> None:
    """Someone without data learns what is expected, where to get it, and what runs without it."""
    with pytest.raises(DataError) as caught:
        _open(None)

    for fact in (
        "--data-root",
        "TUNER_DATA_ROOT",
        "train_npz/",
        "test_vol_h5/",
        "lists_Synapse/",
        "TransUNet",
        "synapse.org",
        "tuner data prepare synapse --raw DIR",
        "--dataset phantom",
    ):
        assert fact in str(caught.value)


def test_missing_folder_says_what_is_there(tmp_path: Path) -> None:
    """A data root one level off is the usual mistake; what was found shows it."""
    (tmp_path / "train_npz").mkdir()

    with pytest.raises(DataError, match=r"holds train_npz; missing lists_Synapse/train\.txt"):
        _open(tmp_path)
    with pytest.raises(DataError, match="elsewhere is not a folder"):
        _open(tmp_path / "elsewhere")


def test_slices_are_ordered_by_number() -> None:
    """Slices of a case are one volume: slice 10 lies above slice 9, however it is spelt."""
    names = ["case2_slice10", "case2_slice9", "case1_slice001", "case1_slice000"]

    assert group_slices(names) == {
        "case1": ("case1_slice000", "case1_slice001"),
        "case2": ("case2_slice9", "case2_slice10"),
    }


def test_lists_that_cannot_be_used(tmp_path: Path) -> None:
    """Empty lists, names that lead out of the folder, and cases in both lists are refused before anything is read."""
    folder = make_synapse(tmp_path)
    write_lists(folder, [], ["case0100"])
    with pytest.raises(DataError, match="nothing to train on"):
        _open(tmp_path)

    write_lists(folder, ["../../secret", "case0001_slice000", "case0001_slice000"], ["case0001"])
    with pytest.raises(DataError) as caught:
        _open(tmp_path)

    for fact in ("train.txt:1: '../../secret' is not a name", "listed twice", "is a training case and a test case"):
        assert fact in str(caught.value)


def test_lists_in_other_spellings(tmp_path: Path) -> None:
    """Windows line ends, a byte order mark, blank lines and file extensions are no reason to refuse."""
    folder = make_synapse(tmp_path, cases=2, slices=1)
    (folder / "lists_Synapse" / "train.txt").write_bytes(
        b"\xef\xbb\xbfcase0001_slice000.npz\r\n\r\ncase0002_slice000\r\n"
    )

    assert open_synapse({"size": 32}, tmp_path).training == ("case0001", "case0002")


def test_missing_slices_are_counted(tmp_path: Path) -> None:
    """A download that stopped half-way is said in one line, not file by file."""
    folder = make_synapse(tmp_path)
    for path in sorted((folder / "train_npz").iterdir())[:5]:
        path.unlink()

    with pytest.raises(DataError, match=r"name 5 of 12 files that are not there: train_npz/.*and 2 more"):
        prepare({**SYNAPSE, "size": 32}, data_root=tmp_path, cache=tmp_path / "cache", seed=0)


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _without_label(path: Path) -> None:
    np.savez(path, image=np.zeros((8, 8)), mask=np.zeros((8, 8)))


def _pickled(path: Path) -> None:
    np.savez(path, image=np.array([{"a": 1}], dtype=object), label=np.zeros((1, 1)))


SQUARE = np.zeros((8, 8))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        pytest.param(_truncate, "truncated?", id="truncated"),
        pytest.param(lambda path: path.write_bytes(b""), "cannot be read as npz (0 bytes", id="empty-file"),
        pytest.param(lambda path: path.unlink(), "named by a list, and not there", id="missing"),
        pytest.param(_without_label, "no array 'label'; found image, mask", id="key-missing"),
        pytest.param(_pickled, "cannot be read as npz", id="pickle-is-never-loaded"),
        pytest.param(
            lambda path: np.savez(path, image=SQUARE, label=np.zeros((8, 9))),
            "image (8, 8) and label (8, 9) differ in shape",
            id="shapes",
        ),
        pytest.param(
            lambda path: np.savez(path, image=np.zeros((2, 8, 8)), label=np.zeros((2, 8, 8))),
            "image has shape (2, 8, 8), expected [H, W]",
            id="dimensions",
        ),
        pytest.param(
            lambda path: np.savez(path, image=SQUARE, label=SQUARE + 9), "label holds 9; expected 0 to 8", id="label-9"
        ),
        pytest.param(
            lambda path: np.savez(path, image=SQUARE, label=SQUARE - 1), "label holds -1", id="negative-label"
        ),
        pytest.param(lambda path: np.savez(path, image=SQUARE, label=SQUARE + 0.5), "not whole numbers", id="fraction"),
        pytest.param(
            lambda path: np.savez(path, image=SQUARE, label=SQUARE * np.nan), "not whole numbers", id="label-nan"
        ),
        pytest.param(
            lambda path: np.savez(path, image=np.diag([np.nan] * 8), label=SQUARE), "8 pixels that are not", id="nan"
        ),
    ],
)
def test_defects_of_a_slice(tmp_path: Path, spoil: Callable[[Path], object], message: str) -> None:
    """Whatever is wrong with a file, the check says which file and what; nothing else is reported."""
    folder = make_synapse(tmp_path)
    path = folder / "train_npz" / "case0002_slice001.npz"

    spoil(path)

    (defect,) = check(SYNAPSE, data_root=tmp_path)
    assert defect.startswith(f"{path}: ")
    assert message in defect
    assert "\n" not in defect


def _volume_without_label(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["image"] = np.zeros((2, 8, 8))


def _group_as_image(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file.create_group("image")
        file["label"] = np.zeros((2, 8, 8))


def _link_elsewhere(path: Path) -> None:
    other = path.with_name("other.h5")
    with h5py.File(other, "w") as file:
        file["image"] = file["label"] = np.zeros((2, 8, 8))
    with h5py.File(path, "w") as file:
        for key in ("image", "label"):
            file[key] = h5py.ExternalLink(str(other), key)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        pytest.param(_group_as_image, "'image' is a group, not an array", id="group"),
        pytest.param(_link_elsewhere, "'image' is a link out of the file", id="link"),
        pytest.param(_truncate, "cannot be read as h5", id="truncated"),
        pytest.param(lambda path: path.unlink(), "named by a list, and not there", id="missing"),
        pytest.param(_volume_without_label, "no array 'label'; found image", id="key-missing"),
        pytest.param(
            lambda path: write_volume(path.parents[1], "case0100", np.zeros((2, 8, 8)), np.zeros((3, 8, 8))),
            "differ in shape",
            id="shapes",
        ),
    ],
)
def test_defects_of_a_volume(tmp_path: Path, spoil: Callable[[Path], object], message: str) -> None:
    """Test volumes are opened by the check, not on the last day of a study."""
    folder = make_synapse(tmp_path)

    spoil(folder / "test_vol_h5" / "case0100.npy.h5")

    (defect,) = check(SYNAPSE, data_root=tmp_path)
    assert "case0100.npy.h5: " in defect
    assert message in defect


def test_ten_defects_are_ten_lines(tmp_path: Path) -> None:
    """Who repairs a data set wants the whole list at once."""
    folder = make_synapse(tmp_path)
    for path in sorted((folder / "train_npz").iterdir())[:10]:
        _truncate(path)

    assert len(check(SYNAPSE, data_root=tmp_path)) == 10


def test_shared_images(tmp_path: Path) -> None:
    """The same image in two cases would be trained on and tested on; empty images may repeat."""
    folder = make_synapse(tmp_path)
    image = np.random.default_rng(9).random((32, 32))
    for case in ("case0001", "case0003"):
        write_slice(folder, f"{case}_slice000", image, np.zeros((32, 32)))
        write_slice(folder, f"{case}_slice001", np.zeros((32, 32)), np.zeros((32, 32)))

    (defect,) = check(SYNAPSE, data_root=tmp_path)

    assert "case0003_slice000.npz: 1 image is also in case0001 (case0001_slice000.npz)" in defect


def test_good_files_are_remembered(tmp_path: Path) -> None:
    """Thousands of files are opened once; a file that changes is opened again, and only good news is remembered."""
    folder = make_synapse(tmp_path)
    first, second = sorted((folder / "train_npz").iterdir())[:2]
    _truncate(second)
    cache = tmp_path / "cache"
    before = check(SYNAPSE, data_root=tmp_path, cache=cache)

    assert check(SYNAPSE, data_root=tmp_path, cache=cache) == before
    _truncate(first)
    assert len(check(SYNAPSE, data_root=tmp_path, cache=cache)) == 2


def test_damaged_memory_is_forgotten(tmp_path: Path) -> None:
    """A truncated note about files costs a second look, not a crash."""
    make_synapse(tmp_path)
    cache = tmp_path / "cache"
    check(SYNAPSE, data_root=tmp_path, cache=cache)
    for content in (b"{", b"[1]", b'{"a": 1}'):
        (cache / "checked-synapse.json").write_bytes(content)
        assert check(SYNAPSE, data_root=tmp_path, cache=cache) == []


def test_check_of_nothing(tmp_path: Path) -> None:
    """A data set that is not there at all is explained as a whole, before launch as in `data check`."""
    for root in (tmp_path, None):
        with pytest.raises(DataError, match=r"(?s)synapse.*train_npz/.*TransUNet.*--dataset phantom"):
            check(SYNAPSE, data_root=root)
    assert check({"name": "phantom"}, data_root=None) == []


def test_missing_and_empty_lists_are_defects(tmp_path: Path) -> None:
    """The rest of the folder is checked all the same."""
    folder = make_synapse(tmp_path)
    (folder / "lists_Synapse" / "test_vol.txt").unlink()
    (folder / "lists_Synapse" / "train.txt").write_text("\n")

    assert [line.rpartition("lists_Synapse/")[2] for line in check(SYNAPSE, data_root=tmp_path)] == [
        "test_vol.txt: the list is not there",
        "train.txt: names nothing: there is nothing to train on",
    ]


def test_case_in_both_lists_is_a_defect(tmp_path: Path) -> None:
    """A patient who trains is no test; a slice without a case cannot be divided by case."""
    folder = make_synapse(tmp_path, cases=1, slices=1)
    write_slice(folder, "oddname", np.zeros((8, 8)), np.zeros((8, 8)))
    write_volume(folder, "case0001", np.zeros((1, 8, 8)), np.zeros((1, 8, 8)))
    write_lists(folder, ["case0001_slice000", "oddname"], ["case0001"])

    defects = "\n".join(check(SYNAPSE, data_root=tmp_path))

    assert "oddname is not of the form CASE_sliceNNN" in defects
    assert "case0001 is a training case and a test case" in defects


@pytest.mark.realdata
def test_real_sample_is_good(test_data: Path, tmp_path: Path) -> None:
    """The check must not cry wolf on real data, at the first look and at the second."""
    assert check(SYNAPSE, data_root=test_data, cache=tmp_path) == []
    assert check(SYNAPSE, data_root=test_data, cache=tmp_path) == []

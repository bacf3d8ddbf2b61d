"""Prepared data: contents, division by case, identity, and the cache between processes."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.data.folders import make_synapse, write_slice
from tuner.data.preparation import PreparedData, prepare
from tuner.data.preparation import test_cases as read_test_cases
from tuner.errors import DataError, DiskFullError, SpecError, UnknownNameError

CONFIG = {"name": "synapse", "size": 32, "validation": 0.2}


def _prepare(root: Path, cache: Path, seed: int = 0, **config: object) -> PreparedData:
    return prepare({**CONFIG, **config}, data_root=root, cache=cache, seed=seed)


def test_contents(tmp_path: Path) -> None:
    """Shapes, types and order are what trainers rely on; pixels of the right size are untouched."""
    folder = make_synapse(tmp_path)

    data = _prepare(tmp_path, tmp_path / "cache", validation=["case0002"])

    assert data.train.images.shape == (8, 1, 32, 32)
    assert data.train.images.dtype == np.float32
    assert data.train.labels.dtype == np.uint8
    assert data.train.cases == ("case0001", "case0003")
    assert data.train.case_of.tolist() == [0] * 4 + [1] * 4
    assert data.validation.cases == ("case0002",)
    assert (data.channels, data.classes, data.spatial_dims, data.stacked) == (1, 9, 2, True)
    with np.load(folder / "train_npz" / "case0003_slice002.npz") as file:
        assert np.array_equal(data.train.images[6, 0], file["image"])
        assert np.array_equal(data.train.labels[6], file["label"])


def test_arrays_are_mapped_and_read_only(tmp_path: Path) -> None:
    """All workers of a host share one copy, and none can spoil it."""
    make_synapse(tmp_path)

    split = _prepare(tmp_path, tmp_path / "cache").train

    assert isinstance(split.images, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        split.images[0] = 0


def test_class_frequencies_are_of_training_pixels(tmp_path: Path) -> None:
    """Weighted losses must not learn from validation labels."""
    folder = make_synapse(tmp_path, cases=2)
    for number in range(4):
        write_slice(folder, f"case0001_slice{number:03d}", np.full((32, 32), number / 4), np.eye(32) * 5)

    data = _prepare(tmp_path, tmp_path / "cache", validation=["case0002"])

    assert data.class_frequencies[5] == pytest.approx(1 / 32)
    assert data.class_frequencies[0] == pytest.approx(31 / 32)
    assert sum(data.class_frequencies) == pytest.approx(1)


def test_no_slice_of_a_validation_case_trains(tmp_path: Path) -> None:
    """Neighbouring slices look alike: a validation by slice would be no validation."""
    make_synapse(tmp_path, cases=6)

    for seed in range(5):
        data = _prepare(tmp_path, tmp_path / "cache", seed=seed, validation=0.3)
        assert not set(data.train.cases) & set(data.validation.cases)
        assert len(data.validation.cases) == 2
        trained = {image.tobytes() for image in data.train.images}
        assert not trained & {image.tobytes() for image in data.validation.images}


def test_validation_on_test_volumes_is_marked(tmp_path: Path) -> None:
    """Comparisons with others' protocols must be recognisable as such."""
    make_synapse(tmp_path)

    data = _prepare(tmp_path, tmp_path / "cache", validation="test")

    assert data.validation_protocol == "test"
    assert data.validation.cases == ("case0100",)
    assert data.validation.images.shape == (4, 1, 32, 32)
    assert len(data.train.cases) == 3


def test_test_cases_keep_their_size(tmp_path: Path) -> None:
    """Test volumes are scored at their original size."""
    make_synapse(tmp_path, tests=2)

    cases = list(read_test_cases(CONFIG, data_root=tmp_path, cache=tmp_path / "cache", seed=0))

    assert [case.name for case in cases] == ["case0100", "case0101"]
    assert cases[0].image.shape == cases[0].label.shape == (4, 40, 32)
    assert cases[0].spacing is None


def test_fingerprint_is_of_contents(tmp_path: Path) -> None:
    """The same data elsewhere is the same data; another pixel, size or division is another."""
    make_synapse(tmp_path / "a")
    folder = make_synapse(tmp_path / "b")
    for file in folder.rglob("*.npz"):
        os.utime(file, (1, 1))
    first = _prepare(tmp_path / "a", tmp_path / "cache-a").fingerprint

    assert _prepare(tmp_path / "b", tmp_path / "cache-b").fingerprint == first
    assert _prepare(tmp_path / "a", tmp_path / "cache-a", size=64).fingerprint != first
    assert _prepare(tmp_path / "a", tmp_path / "cache-a", validation=0.6).fingerprint != first
    write_slice(folder, "case0001_slice000", np.zeros((32, 32)), np.zeros((32, 32)))
    assert _prepare(tmp_path / "b", tmp_path / "cache-b").fingerprint != first


def test_slices_of_any_size_and_shape(tmp_path: Path) -> None:
    """The official slices are 512 x 512, the sample's 256 x 256, one's own whatever they are."""
    folder = make_synapse(tmp_path)
    write_slice(folder, "case0001_slice000", np.ones((50, 71)), np.full((50, 71), 3))

    data = _prepare(tmp_path, tmp_path / "cache", validation=["case0002"])

    np.testing.assert_allclose(data.train.images[0], 1, rtol=1e-6)
    assert (data.train.labels[0] == 3).all()


def test_prepared_once(tmp_path: Path) -> None:
    """The second trial must not read the raw data again."""
    folder = make_synapse(tmp_path)
    first = _prepare(tmp_path, tmp_path / "cache")
    times = {path: path.stat().st_mtime_ns for path in first.folder.iterdir()}
    calls: list[str] = []

    again = prepare(
        CONFIG, data_root=tmp_path, cache=tmp_path / "cache", seed=0, on_progress=lambda what, *_: calls.append(what)
    )

    assert again.folder == first.folder
    assert "preparing" not in calls
    assert times == {path: path.stat().st_mtime_ns for path in again.folder.iterdir()}
    assert folder.exists()


@pytest.mark.parametrize("damage", ["truncated", "overwritten", "missing", "manifest", "empty manifest"])
def test_damaged_cache_is_built_again(tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture) -> None:
    """Half a file on a full scratch disk must not become a strange trial."""
    make_synapse(tmp_path)
    whole = _prepare(tmp_path, tmp_path / "cache")
    expected = np.array(whole.train.images)
    images = whole.folder / "train-images.npy"
    if damage == "truncated":
        images.write_bytes(images.read_bytes()[:-1000])
    elif damage == "overwritten":
        images.write_bytes(images.read_bytes()[:-1000] + bytes(1000))
    elif damage == "missing":
        images.unlink()
    else:
        (whole.folder / "manifest.json").write_bytes(b"" if damage == "empty manifest" else b'{"files": {"x"')

    repaired = _prepare(tmp_path, tmp_path / "cache")

    assert np.array_equal(repaired.train.images, expected)
    assert not list((tmp_path / "cache").glob(".*building*"))
    if damage not in ("missing",):
        assert "will be built again" in caplog.text


def test_copied_cache_is_used(tmp_path: Path) -> None:
    """A cache that was copied to a node's scratch has other times and the same contents."""
    make_synapse(tmp_path)
    folder = _prepare(tmp_path, tmp_path / "cache").folder
    os.utime(folder / "train-images.npy", (5, 5))

    _prepare(tmp_path, tmp_path / "cache")

    assert (folder / "train-images.npy").stat().st_mtime == 5


def test_many_processes_at_once(tmp_path: Path) -> None:
    """Workers start together: one builds, the others wait, all see the same data."""
    make_synapse(tmp_path, cases=6, slices=12, size=64)
    code = (
        "import sys; from pathlib import Path; from tuner.data.preparation import prepare;"
        "d = prepare({'name': 'synapse', 'size': 96}, data_root=Path(sys.argv[1]), cache=Path(sys.argv[1]) / 'cache',"
        " seed=0); print(d.fingerprint, float(d.train.images.sum()), d.train.images.shape[0])"
    )
    running = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]

    outputs = {process.communicate(timeout=120)[0] for process in running}

    assert [process.returncode for process in running] == [0] * 4
    assert len(outputs) == 1
    assert len([path for path in (tmp_path / "cache").iterdir() if path.is_dir()]) == 1


def test_killed_while_building(tmp_path: Path) -> None:
    """A worker that dies while it builds leaves nothing that another one takes for data, nor a lock."""
    make_synapse(tmp_path)
    code = (
        "import os, sys; from pathlib import Path; from tuner.data.preparation import prepare;"
        "prepare({'name': 'synapse', 'size': 32}, data_root=Path(sys.argv[1]), cache=Path(sys.argv[1]) / 'cache',"
        " seed=0, on_progress=lambda what, done, total: os._exit(9) if what == 'preparing' and done == 3 else None)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False).returncode == 9
    assert list((tmp_path / "cache").glob(".*building*"))

    data = _prepare(tmp_path, tmp_path / "cache")

    assert data.train.images.shape[0] == 8
    assert not list((tmp_path / "cache").glob(".*building*"))


def test_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk is said in one sentence and leaves nothing half-made; with space it goes on."""
    make_synapse(tmp_path)
    with monkeypatch.context() as limited:
        # What the kernel answers on a full disk, without filling one.
        limited.setattr("tuner.atomic_io.os.fsync", _no_space)
        with pytest.raises(DiskFullError, match="no space left for the prepared data"):
            _prepare(tmp_path, tmp_path / "cache")

    assert [path for path in (tmp_path / "cache").iterdir() if not path.name.endswith(".lock")] == []
    assert _prepare(tmp_path, tmp_path / "cache").train.images.shape[0] == 8


def _no_space(_: int) -> None:
    raise OSError(28, "No space left on device")


def test_cache_in_an_impossible_place(tmp_path: Path) -> None:
    """A file where the cache folder should be is named, with what to do."""
    make_synapse(tmp_path)
    (tmp_path / "file").write_text("")

    with pytest.raises(DataError, match=r"cannot be written.*--cache"):
        _prepare(tmp_path, tmp_path / "file" / "cache")


def test_broken_slice_leaves_nothing(tmp_path: Path) -> None:
    """The message names the file; no half-prepared folder stays behind."""
    folder = make_synapse(tmp_path)
    path = folder / "train_npz" / "case0001_slice001.npz"
    path.write_bytes(path.read_bytes()[:500])

    with pytest.raises(DataError, match=r"case0001_slice001\.npz: cannot be read as npz \(500 bytes"):
        _prepare(tmp_path, tmp_path / "cache", validation=["case0002"])

    assert [path for path in (tmp_path / "cache").iterdir() if path.is_dir()] == []


@pytest.mark.parametrize(
    ("config", "error", "message"),
    [
        pytest.param({"name": "synaps"}, UnknownNameError, "Did you mean 'synapse'", id="dataset"),
        pytest.param({"siz": 3}, UnknownNameError, "Did you mean 'size'", id="option"),
        pytest.param({"size": 4}, SpecError, "dataset.size: 4 is below the limit 16", id="limit"),
        pytest.param({"size": "big"}, SpecError, "dataset.size: 'big' is not an integer", id="type"),
    ],
)
def test_wrong_section(tmp_path: Path, config: dict, error: type[Exception], message: str) -> None:
    """The dotted key and the closest name are what a user corrects by."""
    with pytest.raises(error, match=message):
        _prepare(tmp_path, tmp_path / "cache", **config)


def test_readable_without_writing(tmp_path: Path) -> None:
    """A node may see the cache of another one read-only: a whole cache is used without a lock or a write."""
    make_synapse(tmp_path)
    _prepare(tmp_path, tmp_path / "cache")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("*")}
    (tmp_path / "cache").chmod(0o555)

    _prepare(tmp_path, tmp_path / "cache")

    (tmp_path / "cache").chmod(0o755)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("*")} == before


@pytest.mark.realdata
def test_real_sample(test_data: Path, tmp_path: Path) -> None:
    """Real slices keep their organs: class shares of the sample's description, to its digits."""
    data = prepare(
        {"name": "synapse", "size": 256, "validation": ["case0101"]}, data_root=test_data, cache=tmp_path, seed=0
    )

    percent = [round(100 * share, 3) for share in data.class_frequencies[1:]]
    assert percent == [0.189, 0.136, 0.514, 0.725, 4.24, 0.069, 0.986, 0.494]
    assert data.train.cases == ("case0102",)

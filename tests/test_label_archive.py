"""Archives of label maps: what is written is read by NumPy and slice by slice, and no file does harm."""

import io
import zipfile
from contextlib import suppress

import numpy as np
import pytest

from tuner.errors import NotFoundError
from tuner.label_archive import LabelArchive, Labels, write_label_archive


def blobs(depth: int, height: int, width: int, *, seed: int = 0) -> Labels:
    """Label maps [depth, height, width] of a few objects."""
    rng = np.random.default_rng(seed)
    maps = np.zeros((depth, height, width), np.uint8)
    for plane in maps:
        for _ in range(3):
            y, x = rng.integers(0, height), rng.integers(0, width)
            plane[y : y + height // 3, x : x + width // 3] = rng.integers(1, 9)
    return maps


ARRAYS = {
    "case_1": blobs(23, 40, 56),
    "Fälle/1 ✓": blobs(1, 7, 5)[0],
    "deep": blobs(300, 9, 8, seed=2),
    "noise": np.random.default_rng(1).integers(0, 255, (4, 300, 301), dtype=np.uint8),
}


def written(arrays: dict[str, Labels]) -> LabelArchive:
    """Write and open an archive."""
    return LabelArchive(io.BytesIO(write_label_archive(arrays)))


def test_numpy_and_every_unzip_read_what_was_written() -> None:
    """`predictions.npz` is a public file: other programs read it."""
    content = write_label_archive(ARRAYS)
    with np.load(io.BytesIO(content), allow_pickle=False) as found:
        assert set(found.files) == set(ARRAYS)
        for name, array in ARRAYS.items():
            assert np.array_equal(found[name], array)
            assert found[name].dtype == np.uint8
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.testzip() is None
    assert len(content) < sum(array.nbytes for array in ARRAYS.values())


@pytest.mark.parametrize("source", ["ours", "numpy", "numpy, stored"])
def test_each_slice_is_read_alone(source: str) -> None:
    """With the index of ours, and without it from archives of before."""
    buffer = io.BytesIO(write_label_archive(ARRAYS))
    if source != "ours":
        buffer = io.BytesIO()
        (np.savez if source == "numpy, stored" else np.savez_compressed)(buffer, **ARRAYS)  # type: ignore[arg-type]
    archive = LabelArchive(buffer)
    cases, left_out = archive.cases()

    assert left_out == []
    for case in cases:
        expected = ARRAYS[case.name] if ARRAYS[case.name].ndim == 3 else ARRAYS[case.name][None]
        assert case.shape == expected.shape
        assert case.fullest == int(np.argmax(np.count_nonzero(expected, axis=(1, 2))))
        assert np.array_equal(archive.read(case.name), expected)
        for index in {0, len(expected) // 2, len(expected) - 1}:
            assert np.array_equal(archive.read_slice(case.name, index)[0], expected[index])
            thin, step = archive.read_slice(case.name, index, most=20)
            assert np.array_equal(thin, expected[index, ::step, ::step])
            assert max(thin.shape) <= 20


def test_a_slice_of_a_large_case_costs_a_slice() -> None:
    """The slider of a scan must not inflate the scan at every step."""
    content = write_label_archive({"scan": blobs(400, 64, 64)})

    class Counted(io.BytesIO):
        read_bytes = 0

        def read(self, size: int | None = -1, /) -> bytes:
            found = super().read(size)
            self.read_bytes += len(found)
            return found

    file = Counted(content)
    archive = LabelArchive(file)
    archive.cases()
    opened = file.read_bytes
    archive.read_slice("scan", 399)

    assert archive._index["scan"]["step"] == 1
    assert opened < 200_000
    assert file.read_bytes - opened < 20_000


def test_a_case_in_fortran_order_is_turned() -> None:
    """`np.savez` keeps the order in memory."""
    buffer = io.BytesIO()
    array = ARRAYS["case_1"]
    np.savez_compressed(buffer, turned=np.asfortranarray(array))
    archive = LabelArchive(buffer)

    assert np.array_equal(archive.read("turned"), array)
    assert np.array_equal(archive.read_slice("turned", 3)[0], array[3])


def test_the_index_of_many_slices_fits_into_a_comment() -> None:
    """A ZIP's comment has 65535 bytes: then several slices share an entry."""
    arrays = {f"case {number}": blobs(1500, 5, 4, seed=number) for number in range(16)}
    archive = written(arrays)

    assert archive._index["case 0"]["step"] > 1
    for index in (0, 1, 777, 1499):
        assert np.array_equal(archive.read_slice("case 9", index)[0], arrays["case 9"][index])


@pytest.mark.parametrize(
    "comment",
    [b"{}", b"[" * 60_000, b'{"tuner_slices": 3}', b'{"tuner_slices": {"a": {"step": 0, "bytes": [1]}}}',
     b'{"tuner_slices": {"a": {"step": 1, "bytes": [9999999999999999999999]}}}',
     b'{"tuner_slices": {"a": {"step": 1, "bytes": [100000], "fullest": -5}}}',
     b'{"tuner_slices": {"a": {"step": 1000000000, "bytes": []}}}'],
)  # fmt: skip
def test_an_index_that_lies_is_an_error_of_the_file(comment: bytes) -> None:
    """It may be refused or passed over; nothing else happens."""
    buffer = io.BytesIO(write_label_archive({"a": ARRAYS["case_1"]}))
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.comment = comment
    opened = LabelArchive(buffer)
    opened.cases()
    with suppress(NotFoundError):
        found, _ = opened.read_slice("a", 5)
        assert found.shape == (40, 56)


def test_files_that_are_cut_off_are_named() -> None:
    """The disk was full, or the copy was interrupted; what has lost its index only is read without."""
    array = ARRAYS["case_1"]
    content = write_label_archive({"a": array})
    directory = content.rindex(b"PK\x05\x06") + 22
    for length in range(0, len(content), 41):
        file = io.BytesIO(content[:length])
        if length < directory:
            with pytest.raises(NotFoundError, match="no readable archive"):
                LabelArchive(file)
        else:
            assert np.array_equal(LabelArchive(file).read_slice("a", 7)[0], array[7])

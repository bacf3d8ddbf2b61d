"""Writing: whole or not at all, and the system's refusals in words."""

import errno
from pathlib import Path

import numpy as np
import pytest

from tuner.atomic_io import ArrayWriter, explain_os_error, require_space, write_atomically
from tuner.data.cache import FileHashCache
from tuner.errors import DataError, DiskFullError


def test_arrays_written_sample_by_sample_are_npy(tmp_path: Path) -> None:
    """The file is what numpy.save would write, and can be mapped."""
    values = np.random.default_rng(0).random((5, 3, 4)).astype(np.float32)
    with ArrayWriter(tmp_path / "a.npy", shape=values.shape, dtype="<f4") as writer:
        for sample in values:
            writer.append(sample)
        assert writer.is_complete
        with pytest.raises(DataError, match="more than the 5 samples"):
            writer.append(values[0])

    assert np.array_equal(np.load(tmp_path / "a.npy", mmap_mode="r"), values)


def test_atomic_write_replaces_or_leaves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file is never half-written, and a failure leaves the old one and no rubbish."""
    write_atomically(tmp_path / "a", b"old")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as limited:
        limited.setattr("tuner.atomic_io.os.fsync", full)
        with pytest.raises(OSError, match="No space"):
            write_atomically(tmp_path / "a", b"new")

    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_bytes() == b"old"


@pytest.mark.parametrize(
    ("number", "error", "words"),
    [
        pytest.param(errno.ENOSPC, DiskFullError, "no space left for the cache .*MiB free", id="full"),
        pytest.param(errno.EDQUOT, DiskFullError, "no space left", id="quota"),
        pytest.param(errno.EROFS, DataError, "the cache cannot be written: Read-only file system", id="read-only"),
        pytest.param(errno.EACCES, DataError, "the cache cannot be written: Permission denied", id="forbidden"),
        pytest.param(errno.EIO, OSError, "Input/output error", id="a-broken-disk-is-no-request"),
    ],
)
def test_refusals_in_words(tmp_path: Path, number: int, error: type[Exception], words: str) -> None:
    """Each refusal is its own error with what to do next; what nobody foresaw stays what it is."""
    with (
        pytest.raises(error, match=words),
        explain_os_error(tmp_path / "no" / "such", purpose="the cache", hint="go away."),
    ):
        raise OSError(number, __import__("os").strerror(number))


def test_too_little_space_is_known_before(tmp_path: Path) -> None:
    """Nothing is begun that cannot fit; the message says how much is needed."""
    require_space(tmp_path, needed=1, purpose="the cache", hint="go away.")
    with pytest.raises(DiskFullError, match=r"no space for the cache: 1,0.* MiB needed, .* free"):
        require_space(tmp_path, needed=2**60, purpose="the cache", hint="go away.")


def test_memory_that_cannot_be_written(tmp_path: Path) -> None:
    """A read-only cache makes the next look slower; it is no reason to refuse."""
    (tmp_path / "file").write_text("x")
    memory = FileHashCache(tmp_path / "file" / "memory.json")

    first = memory.content_hash(tmp_path / "file")
    memory.save()

    assert memory.content_hash(tmp_path / "file") == first


def test_memory_of_a_changed_file(tmp_path: Path) -> None:
    """What was true of the old contents is forgotten with them, topic by topic."""
    file = tmp_path / "file"
    file.write_text("one")
    memory = FileHashCache(tmp_path / "memory.json")
    memory.put(file, "a", [1])
    memory.put(file, "b", 2)
    memory.save()
    again = FileHashCache(tmp_path / "memory.json")
    assert (again.get(file, "a"), again.get(file, "b")) == ([1], 2)

    file.write_text("other")
    again.put(file, "b", 3)

    assert (again.get(file, "a"), again.get(file, "b")) == (None, 3)

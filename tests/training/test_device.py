"""Devices by name, precision by capability, and real shortage of memory."""

import sys
import traceback
import weakref
from pathlib import Path

import pytest
import torch

from tuner.errors import SpecError
from tuner.training.device import (
    available_devices,
    cgroup_free_memory,
    free_bytes,
    is_out_of_memory,
    memory_growth,
    peak_memory,
    release_frames,
    resolve_device,
    resolve_precision,
    spoils_process,
    supported_precision,
)
from tuner.training.program_supervisor import make_cgroup, remove_cgroup


def test_a_device_that_is_not_there_is_refused() -> None:
    """The message must say what there is instead."""
    with pytest.raises(SpecError, match=r"no device 'cuda:99' here; there are: auto, .*cpu"):
        resolve_device("cuda:99")


@pytest.mark.parametrize("name", ["gpu", "cpu:0", "", "CPU"])
def test_misspelt_devices_are_refused(name: str) -> None:
    """Torch itself accepts some of them and fails later."""
    with pytest.raises(SpecError):
        resolve_device(name)


def test_auto_is_the_best_there_is() -> None:
    """CUDA before MPS before the CPU."""
    assert resolve_device("auto") == available_devices()[0]
    assert resolve_device("cpu") == "cpu"


def test_precision_is_one_that_trains() -> None:
    """What `auto` becomes is stored in every configuration."""
    assert resolve_precision("cpu") in ("float32", "bfloat16")
    assert resolve_precision("cpu") == resolve_precision("cpu")


def test_running_out_of_memory_is_recognised() -> None:
    """A real allocation that must fail; the trial's reason depends on it."""
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**55, dtype=torch.uint8)

    assert is_out_of_memory(caught.value)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        pytest.param(MemoryError(), True, id="python"),
        pytest.param(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), True, id="cuda"),
        pytest.param(RuntimeError("MPS backend out of memory (MPS allocated: 17 GB)"), True, id="mps"),
        pytest.param(RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED"), True, id="cublas"),
        pytest.param(RuntimeError("CUDA error: out of memory"), True, id="asynchronous"),
        pytest.param(RuntimeError("Triton Error [CUDA]: out of memory"), True, id="triton"),
        pytest.param(RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), True, id="cudnn"),
        pytest.param(RuntimeError("cuDNN error: CUDNN_STATUS_NOT_INITIALIZED"), True, id="handle of cudnn"),
        pytest.param(
            RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED"), True, id="host of cudnn"
        ),
        pytest.param(
            RuntimeError("CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`"),
            True,
            id="handle of cublas",
        ),
        pytest.param(RuntimeError("FIND was unable to find an engine to execute this computation"), True, id="engine"),
        pytest.param(RuntimeError("GET was unable to find an engine to execute this computation"), True, id="engine 2"),
        pytest.param(RuntimeError("Unable to find a valid cuDNN algorithm to run convolution"), True, id="algorithm"),
        pytest.param(
            RuntimeError("NVML_SUCCESS == r INTERNAL ASSERT FAILED at CUDACachingAllocator.cpp"), True, id="allocator"
        ),
        pytest.param(RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"), False, id="execution"),
        pytest.param(RuntimeError("CUDA error: device-side assert triggered"), False, id="assertion"),
        pytest.param(RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False, id="shapes"),
        pytest.param(ValueError("out of memory"), False, id="other class"),
    ],
)
def test_other_shortages_are_recognised(error: Exception, expected: bool) -> None:
    """As torch words them on devices that are not here."""
    assert is_out_of_memory(error) is expected


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        pytest.param(RuntimeError("CUDA error: device-side assert triggered"), True, id="assertion"),
        pytest.param(RuntimeError("CUDA error: an illegal memory access was encountered"), True, id="address"),
        pytest.param(RuntimeError("CUDA error: unspecified launch failure"), True, id="launch"),
        pytest.param(RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"), True, id="cudnn"),
        pytest.param(RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED"), True, id="cublas"),
        pytest.param(RuntimeError("CUDA error: out of memory"), False, id="memory"),
        pytest.param(RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False, id="shapes"),
        pytest.param(ValueError("CUDA error: device-side assert triggered"), False, id="other class"),
    ],
)
def test_errors_after_which_a_process_computes_nothing_more(error: Exception, expected: bool) -> None:
    """Every later trial of that process would fail as well, and be blamed for it."""
    assert spoils_process(error, "cpu") is expected


def test_a_cause_counts() -> None:
    """Wrapped errors keep their reason."""
    error = RuntimeError("the batch could not be made")
    error.__cause__ = MemoryError()

    assert is_out_of_memory(error)


def test_volumes_are_not_trained_in_bfloat16_on_the_cpu() -> None:
    """Its 3-D convolutions have wrong gradients there, which would look like a bad loss."""
    assert resolve_precision("cpu", 3) == "float32"
    assert supported_precision("bfloat16", "cpu", 3) == "float32"
    assert supported_precision("bfloat16", "cpu", 2) == "bfloat16"


def test_memory_is_read_from_the_kernel() -> None:
    """Zero would keep every worker waiting, and too much none."""
    free, peak, growth = free_bytes("cpu"), peak_memory("cpu"), memory_growth("cpu")

    if sys.platform == "linux":
        assert free is not None
        assert peak is not None
        assert growth is not None
        assert 2**20 < free < 2**50
        assert 2**20 < peak < 2**40
        assert 0 <= growth < peak


@pytest.mark.parametrize(
    ("limit", "expected"), [("1000000", 1000000 - 700000 + 300000), ("500000", 100000), ("max", None)], ids=str
)
def test_the_limit_of_a_container_counts(tmp_path: Path, limit: str, expected: int | None) -> None:
    """The host's memory is no use to a pod that is killed at its own limit; what files fill can be had back."""
    write_group(tmp_path, limit=limit, used=700000)

    assert cgroup_free_memory(tmp_path, tmp_path / "absent") == expected
    assert cgroup_free_memory(tmp_path / "absent") is None


def write_group(folder: Path, *, limit: str, used: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "memory.max").write_text(f"{limit}\n")
    (folder / "memory.current").write_text(f"{used}\n")
    (folder / "memory.stat").write_text("anon 400000\ninactive_file 200000\nactive_file 100000\n")


def test_the_narrowest_limit_around_a_job_counts(tmp_path: Path) -> None:
    """A batch system limits the job, a group above that of its step, and not the machine's root."""
    root, membership = tmp_path / "cgroup", tmp_path / "membership"
    membership.write_text("1:name=systemd:/elsewhere\n0::/system.slice/job_7/step_0\n")
    job = root / "system.slice" / "job_7"
    write_group(job / "step_0", limit="max", used=700000)
    assert cgroup_free_memory(root, membership) is None

    write_group(job, limit="2000000", used=900000)
    assert cgroup_free_memory(root, membership) == 2000000 - 900000 + 300000

    write_group(job.parent, limit="9000000", used=8900000)
    assert cgroup_free_memory(root, membership) == 9000000 - 8900000 + 300000
    write_group(tmp_path, limit="1", used=1)  # above the root: not of these groups
    assert cgroup_free_memory(root, membership) == 9000000 - 8900000 + 300000


def test_a_program_gets_a_group_of_its_own(tmp_path: Path) -> None:
    """Where memory is not handed down to groups, none is made: the limit is then kept in another way."""
    membership, jobs = tmp_path / "membership", tmp_path / "cgroup" / "jobs"
    membership.write_text("0::/jobs/step\n")
    (jobs / "step").mkdir(parents=True)
    places = {"root": str(tmp_path / "cgroup"), "membership": str(membership)}
    (jobs / "cgroup.subtree_control").write_text("cpu pids\n")
    assert make_cgroup("first", 1 << 30, **places) is None
    assert sorted(path.name for path in jobs.iterdir()) == ["cgroup.subtree_control", "step"]

    (jobs / "cgroup.subtree_control").write_text("cpu memory\n")
    folder = make_cgroup("first", 1 << 30, **places)
    assert folder == str(jobs / "tuner-first")
    assert (jobs / "tuner-first" / "memory.max").read_text() == str(1 << 30)
    assert (jobs / "tuner-first" / "memory.swap.max").read_text() == "0"
    assert make_cgroup("first", 1 << 30, **places) is None  # somebody else's
    (jobs / "tuner-first" / "memory.events").write_text("low 0\noom 3\noom_kill 2\n")
    assert remove_cgroup(folder) == 2
    assert remove_cgroup(None) == 0


def test_what_raised_an_error_holds_nothing_any_more() -> None:
    """Frames of a traceback keep activations alive: memory that is given back before would not be free."""

    class Activation:
        pass

    def step() -> None:
        held = Activation()
        kept.append(weakref.ref(held))
        try:
            raise MemoryError
        except MemoryError as error:
            raise RuntimeError("the batch could not be made") from error

    kept: list[weakref.ref[Activation]] = []
    try:
        step()
    except RuntimeError as error:
        assert kept[0]() is not None
        release_frames(error)
        assert kept[0]() is None
        assert "step" in traceback.format_exc()  # where it was raised is still told

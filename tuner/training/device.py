"""Devices, precision, memory and out-of-memory errors; seeds that depend on (seed, epoch, purpose) only."""

import gc
import logging
import os
import platform
import traceback
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tuner.errors import SpecError
from tuner.training.heap import give_back_freed_memory

logger = logging.getLogger(__name__)


def available_devices() -> list[str]:
    """Return every device that this process can train on: CUDA devices, MPS, the CPU."""
    found = [f"cuda:{index}" for index in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    if torch.backends.mps.is_available():
        found.append("mps")
    return [*found, "cpu"]


def resolve_device(name: str) -> str:
    """Return `cpu`, `mps` or `cuda:N`; `auto` is the first that there is, `cuda` is `cuda:0`.

    Raises:
        SpecError: There is no such device here; the message lists those that there are.
    """
    known = available_devices()
    if name == "auto":
        return known[0]
    wanted = "cuda:0" if name == "cuda" else name
    if wanted not in known:
        raise SpecError([f"there is no device {name!r} here; there are: auto, {', '.join(known)}"], where="device")
    return wanted


def resolve_precision(device: str, spatial_dims: int = 2) -> str:
    """Return what `train.precision: auto` means on a device; the same machine always gives the same answer.

    bfloat16 where the hardware multiplies it (CUDA from compute capability 8; for images, CPUs with AMX or
    AVX512-BF16), float16 on older CUDA devices with tensor cores, else float32.
    """
    kind = torch.device(device).type
    if kind == "cuda":
        major, _ = torch.cuda.get_device_capability(device)
        return "bfloat16" if major >= 8 else "float16" if major == 7 else "float32"
    if kind == "cpu" and cpu_multiplies_bfloat16():
        return supported_precision("bfloat16", device, spatial_dims)
    return "float32"


def supported_precision(precision: str, device: str, spatial_dims: int) -> str:
    """Return `precision`, or float32 where the device computes wrongly in it: half types in volumes on the CPU.

    oneDNN's gradient of the weights of a 3x3x3 convolution in bfloat16 is garbage when the volume is two voxels deep
    (seen with torch 2.13 on AVX512-BF16), as it is at the bottom of a U-Net.
    """
    if torch.device(device).type == "cpu" and spatial_dims == 3:
        return "float32"
    return precision


def precision_problem(precision: str, device: str, spatial_dims: int) -> str | None:
    """Say why a device cannot compute in a precision as others can; None when it can."""
    if supported_precision(precision, device, spatial_dims) != precision:
        return f"volumes come out wrong in {precision} on the CPU"
    if precision == "bfloat16" and torch.device(device).type == "cuda":
        major, minor = torch.cuda.get_device_capability(device)
        if major < 8:
            return f"{device_name(device)} (compute capability {major}.{minor}) has no bfloat16; that begins with 8.0"
    return None


def cpu_multiplies_bfloat16() -> bool:
    """Say whether the CPU has instructions for bfloat16 (AMX or AVX512-BF16); without, it is slower."""
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def device_name(device: str) -> str:
    """Return the name that the maker gave the device, for `environment.json`."""
    kind = torch.device(device).type
    if kind == "cuda":
        return torch.cuda.get_device_name(device)
    return platform.processor() or platform.machine()


def gpu_uuid(device: str) -> str | None:
    """Return the UUID of a GPU, or of an instance of one (MIG), as nvidia-smi writes it; None where nobody tells."""
    visible = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")]
    number = torch.device(device).index or 0
    if number < len(visible) and visible[number].startswith("MIG-"):
        return visible[number]
    found = getattr(torch.cuda.get_device_properties(device), "uuid", None)
    return None if found is None else f"GPU-{found}"


def is_out_of_memory(error: BaseException) -> bool:
    """Say whether an error means that memory ran out on CUDA, MPS or the CPU; the causes of an error count too."""
    return any(
        isinstance(seen, (MemoryError, torch.OutOfMemoryError))
        or (isinstance(seen, RuntimeError) and any(sign in str(seen).lower() for sign in _SIGNS))
        for seen in _with_causes(error)
    )


def spoils_process(error: BaseException, device: str) -> bool:
    """Say whether nothing can be computed on the device in this process any more.

    So it is after an error of a CUDA kernel (a failed assertion, an illegal address): every later call fails as well,
    whatever it is. Running out of memory is not such an error.
    """
    if is_out_of_memory(error):
        return False
    kind = getattr(torch, "AcceleratorError", None)
    for seen in _with_causes(error):
        if kind is not None and isinstance(seen, kind):
            return True
        if isinstance(seen, RuntimeError) and any(sign in str(seen).lower() for sign in _SPOILING):
            return True
    return device.startswith("cuda") and torch.cuda.is_initialized() and not _answers(device)  # type: ignore[no-untyped-call]


def _answers(device: str) -> bool:
    try:
        torch.cuda.synchronize(device)
        return int(torch.ones(2, device=device).sum()) == 2
    except RuntimeError as error:
        return is_out_of_memory(error)


def release_frames(error: BaseException) -> None:
    """Let go of what the frames that raised an error hold: a traceback keeps activations of gigabytes alive."""
    for seen in _with_causes(error, contexts=True):
        traceback.clear_frames(seen.__traceback__)
    gc.collect()


def _with_causes(error: BaseException, *, contexts: bool = False) -> Iterator[BaseException]:
    """Yield an error and what caused it; with `contexts`, also what it was raised beside."""
    open_ones, known = [error], set[int]()
    while open_ones:
        seen = open_ones.pop()
        if id(seen) in known:
            continue
        known.add(id(seen))
        yield seen
        open_ones += [other for other in (seen.__cause__, seen.__context__ if contexts else None) if other is not None]


def free_memory(device: str) -> None:
    """Give cached blocks back to the device, so that other processes and the next trial can have them."""
    kind = torch.device(device).type
    try:
        if kind == "cuda":
            torch.cuda.empty_cache()
        elif kind == "mps":
            torch.mps.empty_cache()
        else:
            give_back_freed_memory()
    except RuntimeError as error:  # after an error of a kernel; that one is told, not this
        logger.warning("the memory of %s cannot be given back: %s", device, error)


def free_bytes(device: str) -> int | None:
    """Return the bytes that a device has free for new processes; None where nobody tells."""
    if device.startswith("cuda"):
        free, _ = torch.cuda.mem_get_info(device)
        return int(free)
    found = (_kernel_says("/proc/meminfo", "MemAvailable"), cgroup_free_memory())
    return min((room for room in found if room is not None), default=None)


def device_room(device: str) -> int | None:
    """Return the bytes that an accelerator has free; None for the CPU, whose workers share what they read."""
    kind = torch.device(device).type
    if kind == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    if kind == "mps":
        return int(torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory())
    return None


def cgroup_free_memory(root: Path = Path("/sys/fs/cgroup"), membership: Path = Path("/proc/self/cgroup")) -> int | None:
    """Return the bytes that the control groups (version 2) around this process let it take; None without a limit.

    In a container its own group is the root; in a job of a batch system, or a service, limits lie at groups below it,
    and what is left is the least of what each of them leaves.
    """
    try:
        lines = membership.read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    inside = next((line[3:].strip("/") for line in lines if line.startswith("0::")), "")
    groups = [root / inside, *(root / inside).parents]
    rooms = [_group_free_memory(group) for group in groups if group.is_relative_to(root)]
    return min((room for room in rooms if room is not None), default=None)


def _group_free_memory(group: Path) -> int | None:
    try:
        limit, used = ((group / name).read_text(encoding="ascii").strip() for name in ("memory.max", "memory.current"))
        lines = (group / "memory.stat").read_text(encoding="ascii").splitlines()
        idle = sum(int(line.split()[1]) for line in lines if line.startswith(("inactive_file ", "active_file ")))
        return max(0, int(limit) - int(used) + idle)
    except (OSError, ValueError):
        return None  # no limit (`max`), or no such group here


def forget_peak(device: str) -> bool:
    """Count peaks of this process from now on; False where they count from its start: not Linux, or not allowed."""
    if device.startswith("cuda"):
        torch.cuda.init()  # type: ignore[no-untyped-call]
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        return True
    give_back_freed_memory()  # what another training has left free is nothing that this one holds
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return False
    return device != "mps"


def peak_memory(device: str) -> int | None:
    """Return the most bytes that this process has held since its peak was forgotten; None where nobody counts."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_reserved(device)
    if device == "mps":
        return torch.mps.driver_allocated_memory()
    return _kernel_says("/proc/self/status", "VmHWM")


def memory_growth(device: str) -> int | None:
    """Return how many bytes more than now this process has held at its worst; None where nobody counts."""
    peak = peak_memory(device)
    if device.startswith("cuda"):
        now: int | None = torch.cuda.memory_reserved(device)
    else:
        now = None if device == "mps" else _kernel_says("/proc/self/status", "VmRSS")
    return None if peak is None or now is None else max(0, peak - now)


def _kernel_says(path: str, what: str) -> int | None:
    """Return a figure of Linux's, in bytes."""
    try:
        lines = Path(path).read_text(encoding="ascii", errors="replace").splitlines()
        return int(next(line.split()[1] for line in lines if line.startswith(f"{what}:"))) * 1024
    except (OSError, StopIteration, ValueError):
        return None


_SIGNS = (
    "out of memory",
    "not enough memory",
    "can't allocate memory",
    "cannot allocate memory",
    "_status_alloc_failed",
    "_status_internal_error_host_allocation_failed",
    # what cuBLAS, cuDNN and cuSOLVER say when there is no room left for their handles and workspaces
    "_status_not_initialized",
    "unable to find an engine",
    "unable to find a valid cudnn algorithm",
    "cudacachingallocator",
)
"""In small letters."""

_SPOILING = (
    "cuda error:",
    "cuda driver error:",
    "hip error:",
    "device-side assert",
    "illegal memory access",
    "_status_execution_failed",
    "_status_mapping_error",
    "triton error [cuda]",
)
"""In small letters."""


def derive(seed: int, purpose: str, epoch: int = 0) -> int:
    """Return a seed of 63 bits of its own for a purpose (`model`, `order`, `augment`, `dropout`) in an epoch."""
    entropy = np.random.SeedSequence([seed, zlib.crc32(purpose.encode()), epoch])
    return int(entropy.generate_state(1, np.uint64)[0] >> np.uint64(1))


def seed_everything(seed: int, purpose: str, epoch: int = 0) -> None:
    """Seed torch's global generators, those of all devices included (weights at the start, dropout in an epoch)."""
    torch.manual_seed(derive(seed, purpose, epoch))


def generator(seed: int, purpose: str, epoch: int, device: str = "cpu") -> torch.Generator:
    """Return a generator of its own on a device."""
    return torch.Generator(device).manual_seed(derive(seed, purpose, epoch))


def epoch_order(samples: int, *, seed: int, epoch: int) -> Tensor:
    """Return the order in which an epoch visits the samples: [samples] int64 on the CPU, the same on every device."""
    return torch.randperm(samples, generator=generator(seed, "order", epoch))

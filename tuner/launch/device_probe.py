"""What only torch can say, asked in a process of its own: devices, precision, and how long one sample takes.

The launcher itself never imports torch: it would hold its memory, and a context on a GPU, for as long as a study runs.
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tuner.config.trial import TrialConfig, load_config
from tuner.errors import RunError, SpecError, TunerError
from tuner.launch.launcher import cores, deal, python_command, threads_each

GPU_MEMORY_EACH = 12 * 2**30
"""Bytes of GPU memory for each worker, by `--workers-per-device auto`."""
CORES_EACH = 4
"""CPU cores for each worker on the CPU, by `--workers-per-device auto`; on a GPU it is half as many."""
_TIMEOUT_S = 300.0
_STEP_S = 2.0


@dataclass(frozen=True, slots=True)
class ProbeRequest:
    """What is to be found out."""

    devices: Sequence[str]
    per_device: int | None
    """None: `auto`."""
    workers: int | None
    config: TrialConfig | None = None
    """A training whose step is timed; None: none is."""
    shape: Sequence[int] = ()
    """[C, *S] of a sample."""
    classes: int = 2
    precision: bool = True
    """Whether the meaning of `train.precision: auto` is asked for."""
    gpus_each: int = 1
    """CUDA devices of each worker: its own and those that follow it."""


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """What this machine can do."""

    slots: tuple[str, ...]
    """Device of each worker."""
    threads: int
    precision: str | None
    """None when it was not asked for; else what `train.precision: auto` means on the first device."""
    sample_s: float | None
    """Seconds that one sample takes in a training step, measured with that number of threads."""
    notes: tuple[str, ...] = ()
    """What its user should know of the GPUs of this machine: that torch cannot use one, that several share one."""


def probe_devices(question: ProbeRequest) -> ProbeResult:
    """Ask torch in a process of its own. Raises SpecError for a device that is not here, RunError when it fails.

    The CPU is always there: when nothing else is asked for, torch is not bothered.
    """
    if list(question.devices) == ["cpu"] and question.config is None and not question.precision:
        slots = deal(["cpu"], per_device=question.per_device or cpu_workers(), total=question.workers)
        return ProbeResult(tuple(slots), threads_each(len(slots)), None, None)
    asked = {
        "devices": list(question.devices),
        "per_device": question.per_device,
        "workers": question.workers,
        "config": question.config.as_dict() if question.config else None,
        "shape": list(question.shape),
        "classes": question.classes,
        "gpus_each": question.gpus_each,
    }
    try:
        done = subprocess.run(  # noqa: S603 (our own interpreter, a list of words, no shell)
            python_command("tuner.launch.device_probe"),
            input=json.dumps(asked),
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise RunError(f"the devices of this machine did not answer within {_TIMEOUT_S:.0f} s") from None
    try:
        found = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        raise RunError(f"torch could not be asked for its devices:\n{done.stderr.strip()[-2000:]}") from None
    if "error" in found:
        raise SpecError([found["error"]], where="--devices")
    return ProbeResult(
        tuple(found["slots"]), found["threads"], found["precision"], found["sample_s"], tuple(found.get("notes", ()))
    )


def cpu_workers() -> int:
    """Return how many workers fit on the CPU: small networks make little of more than a few threads."""
    return max(1, cores() // CORES_EACH)


def probe(asked: Mapping[str, Any]) -> dict[str, Any]:
    """Find out, in this process."""
    from tuner.training.device import available_devices, resolve_precision

    known = available_devices()
    devices = list(asked["devices"])
    if devices == ["auto"]:
        devices = [name for name in known if name != "cpu"] or ["cpu"]
    for name in devices:
        if name not in known:
            return {"error": f"there is no device {name!r} here; there are: auto, {', '.join(known)}"}
    devices, lacking = first_of_each(devices, asked.get("gpus_each", 1))
    if lacking:
        return {"error": lacking}
    per_device = asked["per_device"] or _fitting(devices[0])
    slots = deal(devices, per_device=per_device, total=asked["workers"])
    threads = threads_each(len(slots))
    sample_s = _time_sample(asked, devices[0], threads) if asked["config"] else None
    precision = resolve_precision(devices[0], spatial_dims=max(2, len(asked["shape"]) - 1))
    notes = [*unusable_gpus(known), *shared_gpus(slots)]
    return {"slots": slots, "threads": threads, "precision": precision, "sample_s": sample_s, "notes": notes}


DRIVER = Path("/proc/driver/nvidia/version")
MPS_PIPE = Path("/tmp/nvidia-mps")  # noqa: S108 (where NVIDIA's daemon has it, unless CUDA_MPS_PIPE_DIRECTORY says so)


def unusable_gpus(known: Sequence[str], driver: Path = DRIVER) -> list[str]:
    """Say why torch cannot use a GPU that this machine has an NVIDIA driver for; nothing where it can."""
    import torch

    if not driver.exists():
        return []
    words = driver.read_text(encoding="utf-8", errors="replace").partition("Kernel Module")[2].split()
    version = next((word for word in words if word[:1].isdigit()), "of unknown version")
    gpus = [name for name in known if name.startswith("cuda")]
    if torch.version.cuda is None:
        return [f"this machine has an NVIDIA driver ({version}), but torch {torch.__version__} is a build for the CPU"]
    if not gpus and os.environ.get("CUDA_VISIBLE_DEVICES") != "":
        return [
            f"torch {torch.__version__} was built for CUDA {torch.version.cuda} and finds no GPU with the driver "
            f"{version}: too old a driver, or no GPU that this process may use. Training is on the CPU."
        ]
    built = [int(name[3:]) for name in torch.cuda.get_arch_list() if name.startswith("sm_") and name[3:].isdecimal()]
    notes = []
    for name in gpus:
        major, minor = torch.cuda.get_device_capability(name)
        if built and 10 * major + minor < min(built):
            what = f"{torch.cuda.get_device_name(name)} ({name}, compute capability {major}.{minor})"
            notes.append(f"torch {torch.__version__} has no kernels for {what}: those begin with {min(built) / 10}")
    return notes


def shared_gpus(slots: Sequence[str], environment: Mapping[str, str] = os.environ) -> list[str]:
    """Say how several workers share a GPU without NVIDIA's MPS; nothing where each has its own, or MPS runs."""
    shared = sorted({name for name in slots if name.startswith("cuda") and slots.count(name) > 1})
    pipe = Path(environment.get("CUDA_MPS_PIPE_DIRECTORY", MPS_PIPE))
    if not shared or (pipe / "control").exists():
        return []
    return [
        f"several workers share {', '.join(shared)} by turns: with NVIDIA's MPS their kernels would run side by side. "
        "`nvidia-cuda-mps-control -d` starts it, before the launch and by the user who launches."
    ]


def first_of_each(devices: Sequence[str], count: int) -> tuple[list[str], str | None]:
    """Return the first device of each worker that takes `count` neighbouring CUDA devices, or why there is none."""
    numbers = sorted(int(name.partition(":")[2]) for name in devices if name.startswith("cuda"))
    if count == 1 or not numbers:
        return list(devices), None
    firsts: list[str] = []
    free = list(numbers)
    while free:
        group = range(free[0], free[0] + count)
        if set(group) <= set(free):
            firsts.append(f"cuda:{free[0]}")
            free = [number for number in free if number not in group]
        else:
            free.pop(0)
    named = ", ".join(f"cuda:{number}" for number in numbers)
    wrong = f"train.devices: {count} neighbouring CUDA devices are asked for each trial; there are {named}"
    return firsts, None if firsts else wrong


def _fitting(device: str) -> int:
    """Return how many workers fit on a device: by its memory and the cores that feed it."""
    import torch

    if not device.startswith("cuda"):
        return cpu_workers()
    memory = torch.cuda.get_device_properties(device).total_memory
    return max(1, min(memory // GPU_MEMORY_EACH, 2 * cores() // CORES_EACH))


def _time_sample(asked: Mapping[str, Any], device: str, threads: int) -> float | None:
    """Time forward and backward pass of the network, for each sample; None for what cannot be built here."""
    from time import perf_counter

    import torch

    from tuner.training.components import SampleShape, build_network

    config = load_config(asked["config"])
    torch.set_num_threads(threads)
    try:
        shape = SampleShape(asked["shape"][0], asked["classes"], spatial_dims=len(asked["shape"]) - 1)
        net = build_network(config, shape, device, pretrained=False)

        def step(count: int) -> float:
            images = net.to_device(torch.randn(count, *asked["shape"]))
            began = perf_counter()
            found = net.logits(images)
            outputs = found if isinstance(found, list) else [found]
            torch.autograd.backward([output.float().square().mean() for output in outputs])
            if device.startswith("cuda"):
                torch.cuda.synchronize()
            return (perf_counter() - began) / count

        count = config.train.batch_size
        if (
            device == "cpu"
        ):  # the second, since the first one pays for the libraries; a whole batch only if that is quick
            step(2)
            single = step(2)
            return step(count) if single * count < _STEP_S else single
        step(count)
        return step(count)
    except (RuntimeError, TunerError):  # out of memory, or a network that cannot be built so: the trials will say so
        return None


if __name__ == "__main__":
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    sys.stdout.write(json.dumps(probe(json.loads(sys.stdin.read()))) + "\n")

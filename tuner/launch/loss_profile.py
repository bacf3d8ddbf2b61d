"""Loss profile: step time and peak memory of each loss, and how many workers a device holds by it.

The process says a line for each loss. When the system ends it for its memory, that loss is the one to blame, and
another process measures the rest.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Any

from tuner.config.study import StudySpec
from tuner.config.trial import TrialConfig, load_config
from tuner.errors import RunError
from tuner.launch.launcher import cores, python_command
from tuner.launch.local import THREAD_VARIABLES
from tuner.search.initial_points import default_point
from tuner.settings import Settings

if TYPE_CHECKING:
    from tuner.training.step_profile import StepProfile


VALIDATE_S = 20.0
"""Seconds that the one validation may take."""


@dataclass(frozen=True, slots=True)
class LossProfile:
    """What was found out about one loss."""

    loss: str
    step_s: float | None
    validation_s: float | None
    memory: int | None
    weights: int | None
    checkpoint: int | None
    out_of_memory: bool
    problem: str | None
    free: int | None
    """Bytes that the device had free before anything was on it."""


def measure_losses(
    configs: Mapping[str, TrialConfig],
    settings: Settings,
    *,
    device: str,
    threads: int,
    seed: int,
    seconds: float,
    on_message: Callable[[str], None] = lambda text: None,
) -> dict[str, LossProfile]:
    """Measure a training of each loss, one after the other.

    Args:
        configs: A configuration for each loss, by its name.
        settings: Where the data lies.
        device: Where they would be trained.
        threads: CPU threads of a worker.
        seed: The study's, which divides the cases.
        seconds: Time for all of them together; the fewest steps are taken whatever they take.
        on_message: Told of each loss in words.

    Raises:
        RunError: The measuring process fails before it has said anything.
    """
    found: dict[str, LossProfile] = {}
    left = list(configs)
    while left:
        share = seconds / len(configs)
        for line in _lines([(n, configs[n]) for n in left], settings, device, threads, seed, share, bool(found)):
            measured = LossProfile(**line)
            found[measured.loss] = measured
            on_message(f"measured {len(found)}/{len(configs)}: {measured.loss}")
        rest = [name for name in left if name not in found]
        if rest:
            found[rest[0]] = _ended(rest[0])
            rest = rest[1:]
        left = rest
    return {name: found[name] for name in configs}


def _lines(
    configs: Sequence[tuple[str, TrialConfig]],
    settings: Settings,
    device: str,
    threads: int,
    seed: int,
    share: float,
    validated: bool,
) -> Iterator[dict[str, Any]]:
    asked = {
        "configs": [[name, config.as_dict()] for name, config in configs],
        "data_root": str(settings.data_root) if settings.data_root else None,
        "cache": str(settings.cache),
        "device": device,
        "threads": threads,
        "seed": seed,
        "seconds": share,
        "validate_s": 0.0 if validated else VALIDATE_S,
    }
    environment = os.environ | {name: str(threads) for name in THREAD_VARIABLES} | {"OMP_WAIT_POLICY": "passive"}
    command = python_command("tuner.launch.loss_profile")
    with (
        TemporaryFile("w+") as errors,
        subprocess.Popen(  # noqa: S603 (our own interpreter, a list of words, no shell)
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment
        ) as process,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        said = False
        try:
            process.stdin.write(json.dumps(asked))
            process.stdin.close()
            for line in process.stdout:
                if line.startswith("{"):
                    said = True
                    yield json.loads(line)
            process.wait()
        finally:
            process.kill()
        if process.returncode > 0 and not said:
            errors.seek(0)
            raise RunError(f"a training could not be measured on {device}:\n{errors.read().strip()[-2000:]}")


def _ended(loss: str) -> LossProfile:
    words = "its process was ended; most likely the system had no memory left"
    return LossProfile(loss, None, None, None, None, None, out_of_memory=True, problem=words, free=None)


def profile_losses(asked: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Measure, in this process."""
    from tuner.data.preparation import prepare
    from tuner.training.components import AllowedSources
    from tuner.training.device import free_bytes
    from tuner.training.step_profile import measure

    root = Path(asked["data_root"]) if asked["data_root"] else None
    free, validate_s = free_bytes(asked["device"]), float(asked["validate_s"])
    for name, content in asked["configs"]:
        config = load_config(content)
        train = config.train.model_copy(update={"threads": asked["threads"]})
        config = config.model_copy(update={"train": train})
        data = prepare(config.dataset, data_root=root, cache=Path(asked["cache"]), seed=asked["seed"])
        cost: StepProfile = measure(
            config, data, asked["device"], seconds=asked["seconds"], sources=AllowedSources(root), validate_s=validate_s
        )
        validate_s = 0.0 if cost.problem is None else validate_s
        yield {"loss": name, **asdict(cost), "free": free}


if __name__ == "__main__":
    for document in profile_losses(json.loads(sys.stdin.read())):
        sys.stdout.write(json.dumps(document) + "\n")
        sys.stdout.flush()


SPARE = 0.9
"""Share of the free memory that workers may fill."""
CUDA_CONTEXT = 600 * 2**20
"""Bytes on the device that a process takes beside what torch counts."""
SECONDS = 10.0
"""Time for measuring, where a launch has to know: the fewest steps of each loss are taken all the same."""


def measured_per_device(spec: StudySpec, settings: Settings, *, device: str, threads: int) -> int | None:
    """Measure every competing loss and return how many workers fit; None where memory cannot be counted.

    Raises RunError when nothing could be measured.
    """
    configs = published_configs(spec)
    found = measure_losses(configs, settings, device=device, threads=threads, seed=spec.seed, seconds=SECONDS)
    return workers_that_fit(list(found.values()), device=device, cores=cores(), threads=threads)


def published_configs(spec: StudySpec) -> dict[str, TrialConfig]:
    """Return a configuration for each competing loss: its published defaults, the rest as the study file has it."""
    base = spec.base.parameters()
    return {c.name: spec.config(default_point(spec.space, c, base)) for c in spec.candidates}


def workers_that_fit(found: Sequence[LossProfile], *, device: str, cores: int, threads: int) -> int | None:
    """Return how many workers fit on one device by the largest memory measured, on the CPU also by its cores."""
    peaks = [m.memory for m in found if m.memory is not None]
    free = next((m.free for m in found if m.free is not None), None)
    if not peaks or free is None:
        return None
    each = max(peaks) + (CUDA_CONTEXT if device.startswith("cuda") else 0)
    by_memory = int(SPARE * free // each)
    return max(1, by_memory if device.startswith("cuda") else min(by_memory, cores // max(1, threads)))

"""How many workers a device holds, by what trainings were measured to take of its memory."""

from collections.abc import Sequence

from tuner.config.study import StudySpec
from tuner.config.trial import TrialConfig
from tuner.launch.loss_profile import Measured, measure_losses
from tuner.launch.machine import cores
from tuner.search.initial_points import default_point
from tuner.settings import Settings

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
    return {c.name: spec.config(default_point(spec.space, c, base)) for c in spec.competitors}


def workers_that_fit(found: Sequence[Measured], *, device: str, cores: int, threads: int) -> int | None:
    """Return how many workers fit on one device by the largest memory measured, on the CPU also by its cores."""
    peaks = [m.memory for m in found if m.memory is not None]
    free = next((m.free for m in found if m.free is not None), None)
    if not peaks or free is None:
        return None
    each = max(peaks) + (CUDA_CONTEXT if device.startswith("cuda") else 0)
    by_memory = int(SPARE * free // each)
    return max(1, by_memory if device.startswith("cuda") else min(by_memory, cores // max(1, threads)))

"""Step probe: seconds and memory of real training steps on a device, within a time that holds whatever happens.

Like `tuner.launch.loss_profile`, in a process of its own; here some samples do for the data, and what was not reached
in time is left out. The process is ended when its time is up, in the middle of a step if it must be.
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryFile
from threading import Timer
from typing import Any

from tuner.config.trial import TrialConfig, load_config
from tuner.errors import RunError
from tuner.launch.launcher import python_command
from tuner.launch.local import THREAD_VARIABLES
from tuner.settings import Settings

_FIRST_S = 300.0
"""Seconds until the first result, loading included: a slow machine is measured all the same."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """What was measured of one configuration."""

    step_s: float | None
    """Median seconds of an optimiser step"""
    validation_s: float | None
    """Seconds for one validation sample; None where that was not measured"""
    memory: int | None
    """Bytes that the process held at most"""
    free: int | None
    """Bytes that the device had free before"""
    problem: str | None


def probe_steps(
    configs: Sequence[tuple[str, TrialConfig]],
    settings: Settings,
    *,
    device: str,
    threads: int,
    seed: int,
    samples: int,
    seconds: float,
) -> dict[str, Measurement]:
    """Measure some steps of each configuration in order, the first one with a validation, until the time is up.

    Args:
        configs: What would be trained, under a name each.
        settings: Where the data lies, and the cache.
        device: `cpu`, `mps` or `cuda:N`.
        threads: CPU threads.
        seed: The study's, which divides the cases.
        samples: As `samples` of `tuner.data.preparation.prepare`.
        seconds: From the first result on; when they are over the process is ended.

    Returns:
        What was reached in time.

    Raises:
        RunError: The process failed before it had measured anything.
    """
    asked = {
        "configs": [[name, config.as_dict()] for name, config in configs],
        "data_root": str(settings.data_root) if settings.data_root else None,
        "cache": str(settings.cache),
        "device": device,
        "threads": threads,
        "seed": seed,
        "samples": samples,
        "seconds": seconds,
    }
    lines, is_over, returncode, err = _lines(asked, threads, seconds)
    found = {line.pop("name"): Measurement(**line) for line in lines}
    missing = next((name for name, _ in configs if name not in found), None)
    if missing is not None and not is_over and returncode < 0:
        words = "its process was ended; most likely the system had no memory left"
        found[missing] = Measurement(None, None, None, None, words)
    elif not found and not is_over:
        raise RunError(f"a training could not be measured on {device}:\n{err.strip()[-2000:]}")
    return found


def _lines(asked: Mapping[str, Any], threads: int, seconds: float) -> tuple[list[dict[str, Any]], bool, int, str]:
    """Run the process; return what it said, whether it was ended for its time, its exit code and its errors."""
    environment = os.environ | {name: str(threads) for name in THREAD_VARIABLES} | {"OMP_WAIT_POLICY": "passive"}
    lines: list[dict[str, Any]] = []
    ended: list[bool] = []
    with (
        TemporaryFile("w+") as errors,
        subprocess.Popen(  # noqa: S603 (our own interpreter, a list of words, no shell)
            python_command("tuner.launch.step_probe"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=environment,
        ) as process,
    ):
        assert process.stdin is not None
        assert process.stdout is not None

        def end() -> None:
            ended.append(True)
            process.kill()

        clock = Timer(_FIRST_S, end)
        clock.start()
        try:
            process.stdin.write(json.dumps(asked))
            process.stdin.close()
            for line in process.stdout:
                if line.startswith("{") and line.endswith("}\n"):
                    lines.append(json.loads(line))
                if len(lines) == 1:
                    clock.cancel()
                    clock = Timer(seconds, end)
                    clock.start()
            process.wait()
        finally:
            clock.cancel()
            process.kill()
        errors.seek(0)
        return lines, bool(ended), process.returncode, errors.read()


def measure_configs(asked: Mapping[str, Any]) -> None:
    """Measure in this process, and write a line for each configuration."""
    from tuner.data.preparation import prepare
    from tuner.training.components import AllowedSources
    from tuner.training.device import free_bytes
    from tuner.training.step_profile import measure

    root = Path(asked["data_root"]) if asked["data_root"] else None
    free = free_bytes(asked["device"])
    each = asked["seconds"] / (4 + len(asked["configs"]))
    for number, (name, content) in enumerate(asked["configs"]):
        config = load_config(content)
        train = config.train.model_copy(update={"threads": asked["threads"]})
        config = config.model_copy(update={"train": train})
        data = prepare(
            config.dataset, data_root=root, cache=Path(asked["cache"]), seed=asked["seed"], samples=asked["samples"]
        )
        cost = measure(
            config,
            data,
            asked["device"],
            seconds=min(each, 5.0),
            sources=AllowedSources(root),
            validate_s=0.0 if number else 2 * each,
        )
        held = len(data.validation.labels)
        validation_s = None if cost.validation_s is None else cost.validation_s / held
        line = asdict(Measurement(cost.step_s, validation_s, cost.memory, free, cost.problem))
        sys.stdout.write(json.dumps({"name": name, **line}) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    measure_configs(json.loads(sys.stdin.read()))

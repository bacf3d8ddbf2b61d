"""Whether a worker may claim a trial: is there memory on its device, and does the place of the files answer?"""

import logging
import time
from collections.abc import Callable

from tuner.artifacts.local import Artifacts
from tuner.errors import TunerError, UnreachableError

logger = logging.getLogger(__name__)

LEAST = {"cuda": 512 * 2**20, "cpu": 256 * 2**20}
"""Bytes that a device must have free before anything is known of what trials need."""
PATIENCE_S = 300.0
"""Seconds that a worker waits for memory; then it goes on, and running out of it is dealt with."""

Measure = Callable[[str], int | None]


def _free(device: str) -> int | None:
    from tuner.training.device import free_bytes

    return free_bytes(device)


def _growth(device: str) -> int | None:
    from tuner.training.device import growth_bytes

    return growth_bytes(device)


class Readiness:
    """What one worker waits for before it claims.

    Args:
        device: Its device.
        artifacts: The files of trials.
        free: Returns the bytes that the device has free; None where nobody tells.
        growth: Returns how many more bytes this process held at its worst than it holds now.
        clock: Seconds.
    """

    def __init__(
        self,
        device: str,
        artifacts: Artifacts,
        *,
        free: Measure = _free,
        growth: Measure = _growth,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._device, self._artifacts = device, artifacts
        self._free, self._growth, self._clock = free, growth, clock
        self._needed = 0
        self._tried: int | None = None  # what was free when waiting was given up
        self._proved: int | None = None  # with so little a trial went well nevertheless
        self._since: float | None = None
        self._cut_off = False
        self._said: str | None = None

    def learn(self, error: Exception | None = None) -> None:
        """Take in that a trial has ended: what it needed, and whether its files could not be published."""
        self._needed = max(self._needed, self._growth(self._device) or 0)
        self._since = None
        if error is None and self._tried is not None:
            self._proved = min(self._tried, self._proved or self._tried)
        self._tried = None
        self._cut_off |= isinstance(error, UnreachableError)

    def obstacle(self) -> str | None:
        """Say what is in the way of a claim, or None; what is new is logged, once."""
        words = self._lost_files() or self._lack_of_memory()
        kind = words.partition(":")[0] if words else None
        if kind != self._said and words:
            logger.warning("no trial is claimed: %s", words)
        elif kind is None and self._said:
            logger.info("trials are claimed again")
        self._said = kind
        return words

    def _lost_files(self) -> str | None:
        if not self._cut_off:
            return None
        try:
            self._artifacts.check()
        except TunerError as error:
            return f"files of trials cannot be published: {error}"
        self._cut_off = False
        return None

    def _lack_of_memory(self) -> str | None:
        free = self._free(self._device)
        needed = max(self._needed, LEAST.get(self._device.partition(":")[0], 0))
        if free is None or free >= needed or (self._proved is not None and free >= self._proved):
            self._since = None
            return None
        now = self._clock()
        self._since = now if self._since is None else self._since
        if now - self._since >= PATIENCE_S:
            self._tried = free
            return None
        of_trials = "its trials have needed" if self._needed >= needed else "a trial needs at least"
        return f"waits for memory: {self._device} has {_mib(free)} MiB free, {of_trials} {_mib(needed)} MiB"


def _mib(count: int) -> int:
    return round(count / 2**20)

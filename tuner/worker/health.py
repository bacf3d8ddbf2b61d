"""Health checks: memory and artifacts before a claim; failing devices are quarantined, failing studies stopped."""

import logging
import re
import time
from collections.abc import Callable

from tuner.artifacts.local import Artifacts
from tuner.errors import RunError, TunerError, UnreachableError, shortened
from tuner.storage.devices import place_of
from tuner.storage.states import Reason, State
from tuner.storage.storage import Storage
from tuner.storage.workers import FinishedAttempt
from tuner.worker.exit_codes import QUARANTINED, REPLACE

logger = logging.getLogger(__name__)

MAX_CONSECUTIVE_FAILURES = 5
"""Trials that end in the same failure one after the other, before the study stops itself."""
MAX_DEVICE_FAILURES = 3
"""Trials that fail one after the other on one device while those of others do not, before it is quarantined."""
RECENT_ATTEMPTS = 256
"""Attempts that ended last, among which those of the device are looked for."""


class DeviceQuarantinedError(RunError):
    """The trials of this device fail while those of others do not; the worker ends itself."""

    code = "device_aside"
    exit_code = QUARANTINED


class ProcessSpentError(RunError):
    """Nothing can be trained in this process any more; another one is to take its place."""

    code = "process_spent"
    exit_code = REPLACE


def stop_when_failing(store: Storage, name: str) -> None:
    """Stop a study whose trials fail for one and the same reason, instead of burning its budget.

    That is: the last MAX_CONSECUTIVE_FAILURES trials that ended all failed, with the same reason and the same message
    but for its numbers. Bad data, a broken device or a missing package look like that; unlucky parameters do not.
    """
    newest = store.queries.trials(name, sort="finished", order="desc", limit=MAX_CONSECUTIVE_FAILURES)
    ended = [trial for trial in newest if trial["finished"]]
    kinds = {(t["state"], t["reason"], re.sub(r"[0-9.]+", "#", t["message"] or "")) for t in ended}
    if len(ended) < MAX_CONSECUTIVE_FAILURES or len(kinds) != 1 or ended[0]["state"] != State.FAIL:
        return
    message = f"the last {MAX_CONSECUTIVE_FAILURES} trials all failed in the same way: {shortened(ended[0]['message'])}"
    logger.error("stopping the study %s: %s", name, message, extra={"study": name})
    store.studies.stop(name, "failures", message)


def check_device(store: Storage, name: str, worker_id: str, *, host: str, device: str, gpu: str | None = None) -> None:
    """Put the device aside, in the storage, when its trials fail and those of others do not.

    The failed trials stay what they are: an error is not tried again, here as anywhere.

    Raises:
        DeviceQuarantinedError: It was quarantined.
    """
    why = failing(store.workers.recent_attempts(name, RECENT_ATTEMPTS), host=host, device=device, gpu=gpu)
    if why is not None:
        store.workers.quarantine_device(worker_id, name, why)
        raise DeviceQuarantinedError(
            f"{device} of {host} is quarantined: {why}.",
            hint="See what is wrong with it; a worker that is started there afterwards takes it into service again.",
        )


def failing(ends: list[FinishedAttempt], *, host: str, device: str, gpu: str | None = None) -> str | None:
    """Say why a device is to be quarantined, or None.

    Its last trials all failed with an error, and since the first of them began, others have completed trials of the
    same study. `ends`: newest first.
    """
    where = place_of(host, device, gpu)
    here = [end for end in ends if place_of(end.host, end.device, end.gpu) == where][:MAX_DEVICE_FAILURES]
    if len(here) < MAX_DEVICE_FAILURES or any((e.state, e.reason) != (State.FAIL, Reason.ERROR) for e in here):
        return None
    since = min(end.claimed_at for end in here)
    others = [end for end in ends if place_of(end.host, end.device, end.gpu) != where]
    fine = [end for end in others if end.finished_at >= since and _is_fine(end)]
    if not fine:
        return None
    numbers = ", ".join(str(end.number) for end in reversed(here))
    return (
        f"its last {MAX_DEVICE_FAILURES} trials ({numbers}) all failed while {len(fine)} elsewhere did not; "
        f"the newest said: {shortened(here[0].message)}"
    )


def _is_fine(end: FinishedAttempt) -> bool:
    return end.state == State.COMPLETE or (end.state == State.PRUNED and end.reason == Reason.PRUNED)


MIN_FREE_BYTES = {"cuda": 512 * 2**20, "cpu": 256 * 2**20}
"""Bytes that a device must have free before anything is known of what trials need."""
MEMORY_WAIT_S = 300.0
"""Seconds that a worker waits for memory; then it goes on, and running out of it is dealt with."""

Measure = Callable[[str], int | None]


def _free(device: str) -> int | None:
    from tuner.training.device import free_bytes

    return free_bytes(device)


def _growth(device: str) -> int | None:
    from tuner.training.device import memory_growth

    return memory_growth(device)


class ReadinessCheck:
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

    def observe(self, error: Exception | None = None) -> None:
        """Take in that a trial has ended: what it needed, and whether its files could not be published."""
        self._needed = max(self._needed, self._growth(self._device) or 0)
        self._since = None
        if error is None and self._tried is not None:
            self._proved = min(self._tried, self._proved or self._tried)
        self._tried = None
        self._cut_off |= isinstance(error, UnreachableError)

    def blocked_reason(self) -> str | None:
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
        needed = max(self._needed, MIN_FREE_BYTES.get(self._device.partition(":")[0], 0))
        if free is None or free >= needed or (self._proved is not None and free >= self._proved):
            self._since = None
            return None
        now = self._clock()
        self._since = now if self._since is None else self._since
        if now - self._since >= MEMORY_WAIT_S:
            self._tried = free
            return None
        of_trials = "its trials have needed" if self._needed >= needed else "a trial needs at least"
        return f"waits for memory: {self._device} has {_mib(free)} MiB free, {of_trials} {_mib(needed)} MiB"


def _mib(count: int) -> int:
    return round(count / 2**20)

"""Trials that fail one after the other: over the study, which then stops itself, or over one device, put aside."""

import logging
import re

from tuner.errors import RunError
from tuner.storage.aside import Ended
from tuner.storage.states import Reason, State
from tuner.storage.storage import Store

logger = logging.getLogger(__name__)

FAILURES_IN_A_ROW = 5
"""Trials that end in the same failure one after the other, before the study stops itself."""
FAILURES_OF_A_DEVICE = 3
"""Trials that fail one after the other on one device while those of others do not, before it is put aside."""
LOOK_BACK = 256
"""Attempts that ended last, among which those of the device are looked for."""
ASIDE_S = 1800.0
"""Seconds after which whoever keeps workers on a device that was put aside tries it again."""
ASIDE = 69
"""Exit code of a worker whose device was put aside (EX_UNAVAILABLE)."""


class DeviceAsideError(RunError):
    """The trials of this device fail while those of others do not; the worker ends itself."""

    code = "device_aside"
    exit_code = ASIDE


def stop_when_failing(store: Store, name: str) -> None:
    """Stop a study whose trials fail for one and the same reason, instead of burning its budget.

    That is: the last FAILURES_IN_A_ROW trials that ended all failed, with the same reason and the same message but for
    its numbers. Bad data, a broken device or a missing package look like that; unlucky parameters do not.
    """
    newest = store.trials(name, sort="finished", order="desc", limit=FAILURES_IN_A_ROW)
    ended = [trial for trial in newest if trial["finished"]]
    kinds = {(t["state"], t["reason"], re.sub(r"[0-9.]+", "#", t["message"] or "")) for t in ended}
    if len(ended) < FAILURES_IN_A_ROW or len(kinds) != 1 or ended[0]["state"] != State.FAIL:
        return
    message = f"the last {FAILURES_IN_A_ROW} trials all failed in the same way: {ended[0]['message']}"
    logger.error("stopping the study %s: %s", name, message, extra={"study": name})
    store.stop(name, "failures", message)


def check_device(store: Store, name: str, worker_id: str, *, host: str, device: str) -> None:
    """Put the device aside, in the storage, when its trials fail and those of others do not.

    The failed trials stay what they are: an error is not tried again, here as anywhere.

    Raises:
        DeviceAsideError: It was put aside.
    """
    why = failing(store.recent_ends(name, LOOK_BACK), host=host, device=device)
    if why is not None:
        store.put_aside(worker_id, name, why)
        raise DeviceAsideError(
            f"{device} of {host} is put aside: {why}.",
            hint="See what is wrong with it; a worker that is started there afterwards takes it into service again.",
        )


def failing(ends: list[Ended], *, host: str, device: str) -> str | None:
    """Say why a device is to be put aside, or None.

    Its last trials all failed with an error, and since the first of them began, others have completed trials of the
    same study. `ends`: newest first.
    """
    here = [end for end in ends if (end.host, end.device) == (host, device)][:FAILURES_OF_A_DEVICE]
    if len(here) < FAILURES_OF_A_DEVICE or any((e.state, e.reason) != (State.FAIL, Reason.ERROR) for e in here):
        return None
    since = min(end.claimed_at for end in here)
    fine = [e for e in ends if (e.host, e.device) != (host, device) and e.finished_at >= since and _is_fine(e)]
    if not fine:
        return None
    numbers = ", ".join(str(end.number) for end in reversed(here))
    return (
        f"its last {FAILURES_OF_A_DEVICE} trials ({numbers}) all failed while {len(fine)} elsewhere did not; "
        f"the newest said: {here[0].message}"
    )


def _is_fine(end: Ended) -> bool:
    return end.state == State.COMPLETE or (end.state == State.PRUNED and end.reason == Reason.PRUNED)

"""Which process a worker is: so that a colleague on the same machine sees at once that it is gone."""

import os
import sys
from pathlib import Path


def fingerprint(pid: int) -> str:
    """Identify a process of this machine: boot, pid namespace, start time. Empty when that cannot be known."""
    start = _start_time(pid)
    return "" if start is None else f"{_realm()}/{start}"


def is_gone(pid: int, known: str) -> bool:
    """Tell whether the process with that fingerprint certainly no longer exists on this machine.

    A process of another boot or container cannot be seen from here, so it is never said to be gone.
    """
    if sys.platform != "linux":
        return not known and not _answers(pid)
    realm, _, start = known.rpartition("/")
    return bool(realm) and realm == _realm() and _start_time(pid) != start


def _realm() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot}/{os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def _start_time(pid: int) -> str | None:
    """Return the start time in clock ticks since boot; None for a process that is dead or a zombie."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()  # the name before it may hold spaces
    return None if fields[0] in ("Z", "X") else fields[19]


def _answers(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True

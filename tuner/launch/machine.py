"""What this machine has to share among workers."""

import os
from pathlib import Path


def cores() -> int:
    """Return the number of cores that this process may use: affinity and the container's quota count."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _quota()
    return max(1, allowed if quota is None else min(allowed, quota))


def threads_each(workers: int) -> int:
    """Return the CPU threads of each of so many workers."""
    return max(1, cores() // max(1, workers))


def _quota() -> int | None:
    try:
        limit, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
    except (OSError, ValueError):
        return None
    return None if limit == "max" else max(1, int(limit) // int(period))

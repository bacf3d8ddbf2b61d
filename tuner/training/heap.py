"""The heap of the C library while a CPU trains: what a step has freed stays with the process for the next one.

glibc hands large blocks back to the system as soon as they are freed, and the next step faults every page of them in
again: 8 000 faults a step of a small U-Net, a tenth to a seventh of its CPU time. Thresholds as those of
`MALLOC_MMAP_THRESHOLD_` and `MALLOC_TRIM_THRESHOLD_`, set from within, so that they hold whoever starts it.
"""

import ctypes
import sys
from typing import Any

_TRIM_THRESHOLD = -1
_MMAP_THRESHOLD = -3
KEPT = 2_000_000_000
"""Bytes of a block from which on it is mapped and unmapped by itself, and of free memory at the end of the heap from
which on it is handed back."""


def keep_freed_memory() -> bool:
    """Keep what is freed; False where the C library is not glibc and nothing was changed."""
    library = _glibc()
    return library is not None and bool(
        library.mallopt(_MMAP_THRESHOLD, KEPT) and library.mallopt(_TRIM_THRESHOLD, KEPT)
    )


def give_back_freed_memory() -> None:
    """Hand all that is free back to the system, where the C library is glibc."""
    library = _glibc()
    if library is not None:
        library.malloc_trim(0)


def _glibc() -> Any:
    if sys.platform != "linux":
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, "mallopt") and hasattr(library, "malloc_trim") else None

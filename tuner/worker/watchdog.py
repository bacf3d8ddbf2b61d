"""Watchdog: ends this process and its children when the training in it no longer answers."""

import faulthandler
import os
import signal
import sys
from contextlib import suppress
from io import UnsupportedOperation
from pathlib import Path

WATCH_S = 0.5
"""Seconds between two looks at a training."""
ANSWER_S = 10.0
"""A training that is to end at once and has not done so after so many seconds is ended with its process."""
DEAD_MAN_S = 30.0
"""Seconds beyond its limits after which a process that lets none of its threads run is ended by the C library."""


def show_stacks() -> None:
    """Write to the log where each thread is: what hangs is seen nowhere else."""
    with suppress(OSError, ValueError, UnsupportedOperation):
        faulthandler.dump_traceback(sys.stderr, all_threads=True)


def end_unless_told(seconds: float) -> None:
    """End this process after so many seconds unless this is called again: it also ends one that holds Python's lock."""
    with suppress(OSError, ValueError, UnsupportedOperation):
        faulthandler.dump_traceback_later(max(1.0, seconds), exit=True, file=sys.stderr)


def end_no_more() -> None:
    """Take back what `end_unless_told` has said."""
    faulthandler.cancel_dump_traceback_later()


def end_children() -> None:
    """Kill the processes that this one has started, and theirs: loaders of data would stay, and keep the device."""
    for pid in descendants(os.getpid()):
        with suppress(OSError):
            os.kill(pid, signal.SIGKILL)


def descendants(pid: int) -> list[int]:
    """Return the processes below one of this machine, the nearest first; none where there is no `/proc`."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError, ValueError, IndexError):
            fields = entry.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
            children.setdefault(int(fields[1]), []).append(int(entry.parent.name))
    found, queue = list[int](), list(children.get(pid, ()))
    while queue:
        found.append(queue.pop(0))
        queue.extend(children.get(found[-1], ()))
    return found

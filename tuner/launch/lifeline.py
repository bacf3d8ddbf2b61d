"""A process that ends with the one that started it, so that nothing stays on a device that nobody has reserved."""

import ctypes
import os
import signal
import sys
import threading
import time

PARENT = "TUNER_LAUNCHER_PID"
"""Environment variable that names the process without which a worker shall not live on."""

_PR_SET_PDEATHSIG = 1
_POLL_S = 1.0


def hold_on_to_parent(parent: int) -> None:
    """Have this process told to drain (SIGTERM) as soon as its parent is gone, however that came."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    else:
        threading.Thread(target=_watch, args=(parent,), name="lifeline", daemon=True).start()
    if os.getppid() != parent:  # it died before we could say so
        os.kill(os.getpid(), signal.SIGTERM)


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_POLL_S)
    os.kill(os.getpid(), signal.SIGTERM)

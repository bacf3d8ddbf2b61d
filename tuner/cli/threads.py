"""CPU threads, set before torch starts: its pools read the environment when the library is loaded."""

import os
import sys

from tuner.launch.local import THREAD_VARIABLES


def limit_threads(threads: int | None) -> None:
    """Make torch, and what is below it, use so many threads in this process; None leaves everything as it is."""
    if threads is None:
        return
    for name in THREAD_VARIABLES:
        os.environ[name] = str(threads)
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(threads)

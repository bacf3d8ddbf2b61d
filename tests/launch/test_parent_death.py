"""A worker ends when its launcher is gone, however that came."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

CHILD = """
import os, sys, time
from tuner.launch.local import die_with_parent
die_with_parent(int(sys.argv[1]) if len(sys.argv) > 1 else os.getppid())
print("up", flush=True)
time.sleep(60)
"""
PARENT = f"""
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", {CHILD!r}], stdout=subprocess.PIPE, text=True, start_new_session=True)
child.stdout.readline()
print(child.pid, flush=True)
time.sleep(60)
"""


def test_a_child_ends_when_its_parent_is_killed() -> None:
    """`kill -9` runs no handler; only the kernel can tell the child."""
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    parent.send_signal(signal.SIGKILL)
    parent.communicate()

    until = time.monotonic() + 60
    while time.monotonic() < until and _lives(child):
        time.sleep(0.05)

    assert not _lives(child)


def test_a_child_whose_parent_died_before_it_could_hold_on_ends_too() -> None:
    """Between the start of a process and its first line, its parent may be gone already."""
    done = subprocess.run([sys.executable, "-c", CHILD, str(os.getpid() + 1)], check=False, timeout=30)

    assert done.returncode == -signal.SIGTERM


def _lives(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    except FileNotFoundError:
        return False

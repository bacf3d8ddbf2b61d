"""Programs that stand in for a training of the user's own: `python programs.py KIND FOLDER [FURTHER]`, stdlib only."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

KIND, FOLDER = sys.argv[1], Path(sys.argv[2])
STATE = FOLDER / "state.json"


def say(epoch, **values):
    """Report an epoch."""
    sys.stdout.write(json.dumps({"epoch": epoch, **values}) + "\n")
    sys.stdout.flush()


def sleep_for_ever():
    """Wait until somebody ends this process."""
    while True:
        time.sleep(60)


def note_pid(name):
    """Let the test know a process."""
    (FOLDER / f"{name}.pid").write_text(str(os.getpid()))


def fork_twice(name, *, deaf=False):
    """Leave a daemon behind: in a session of its own, its parent dead."""
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            if deaf:
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
            note_pid(name)
            sleep_for_ever()
        os._exit(0)
    while not (FOLDER / f"{name}.pid").exists():
        time.sleep(0.01)


def first_epoch():
    """Return the epoch to begin with: this program writes a checkpoint after each."""
    return json.loads(STATE.read_text())["epoch"] + 1 if STATE.exists() else 1


def steady(last=3, pause=0.0):
    """Train, continuing where it was interrupted."""
    begun = FOLDER / "begun.txt"
    first = first_epoch()
    with begun.open("a") as file:
        file.write(f"{first}\n")
    for epoch in range(first, last + 1):
        time.sleep(pause)
        STATE.write_text(json.dumps({"epoch": epoch}))
        say(epoch, dice=epoch / 10, train_loss=1 / epoch)


def main():
    """Behave as asked."""
    if KIND == "steady":
        steady()
    elif KIND == "slow":
        note_pid("main")
        steady(last=1000, pause=0.05)
    elif KIND == "silent":
        note_pid("main")
        sleep_for_ever()
    elif KIND == "deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        note_pid("main")
        say(1, dice=0.1)
        sleep_for_ever()
    elif KIND == "daemons":
        fork_twice("daemon")
        fork_twice("deaf", deaf=True)
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        say(1, dice=0.5)
        if len(sys.argv) > 3:
            sleep_for_ever()
    elif KIND == "environment":
        (FOLDER / "environment.json.txt").write_text(json.dumps(dict(os.environ)))
        (FOLDER / "arguments.txt").write_text(json.dumps(sys.argv[3:]))
        say(1, dice=0.5)
    elif KIND == "lines":
        for line in json.loads(sys.argv[3]):
            sys.stdout.write(line)
        sys.stdout.flush()
    elif KIND == "file":
        (FOLDER / "reports.jsonl").open("a").write(json.loads(sys.argv[3]))
    elif KIND == "exit":
        say(1, dice=0.5)
        sys.stderr.write("something is wrong\n")
        sys.exit(int(sys.argv[3]))
    elif KIND == "killed":
        say(1, dice=0.5)
        os.kill(os.getpid(), int(sys.argv[3]))
        time.sleep(10)
    elif KIND == "memory":
        say(1, dice=0.5)
        held = []
        while True:
            held.append(bytearray(os.urandom(1024)) * 4096)
            time.sleep(float(sys.argv[3]))
    elif KIND == "cuda_memory":
        say(1, dice=0.5)
        sys.exit("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.")


main()

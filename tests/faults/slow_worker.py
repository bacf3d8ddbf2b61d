"""Starts `tuner` processes quickly: imports what a worker imports once, then forks one for each request.

Each is a process of its own that runs the command line, with its own pid, signals and log; only the seconds that torch
takes to be imported are saved. A request is a line of JSON on standard input, `[words, environment, log]`; its answer
the pid.
"""

import gc
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.conftest import REPOSITORY


class Nursery:
    """The other end: one such process, and what it has started."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.slow_worker"],
            cwd=REPOSITORY,
            env=os.environ | {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def start(self, words: Sequence[str], environment: Mapping[str, str], log: Path) -> int:
        """Start `tuner WORDS` and return its pid."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([list(words), dict(environment), str(log)]) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def close(self) -> None:
        """End it; what it has started stays."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(60)
        self._process.stdout.close()


def main() -> None:
    """Answer requests until there are no more."""
    import monai.networks.nets  # noqa: F401
    import optuna.samplers  # noqa: F401
    import psycopg  # noqa: F401
    import sqlalchemy.dialects.postgresql  # noqa: F401
    import torch  # noqa: F401

    import tuner.cli
    import tuner.cli.worker
    import tuner.training.trainer
    import tuner.worker.worker  # noqa: F401

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for them here: the system takes the dead away
    gc.freeze()
    for line in iter(sys.stdin.readline, ""):
        words, environment, log = json.loads(line)
        pid = os.fork()
        if pid == 0:
            _become(words, environment, log)
        sys.stdout.write(f"{pid}\n")
        sys.stdout.flush()


def _become(words: Sequence[str], environment: Mapping[str, str], log: str) -> None:
    from tuner.cli import main as tuner

    code: object = 70
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.environ.update(environment)
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        nothing = os.open(os.devnull, os.O_RDONLY)
        for target, source in ((0, nothing), (1, output), (2, output)):
            os.dup2(source, target)
        sys.argv = ["tuner", *words]
        tuner()
        code = 0
    except SystemExit as end:
        code = end.code
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else int(code is not None))


if __name__ == "__main__":
    main()

"""A program that runs as a trial: started under a supervisor, read line by line, ended with all that it has started."""

import json
import os
import secrets
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tuner.errors import EntryError
from tuner.training import program_supervisor

GRACE_S = 10.0
"""Seconds between SIGTERM and SIGKILL."""
MAX_LINE = 1 << 20
"""Bytes of a line; what is longer is cut, and is no report."""
MARK = "TUNER_PROGRAM"
"""Environment variable by which processes of a program are found when its supervisor was killed."""
STARTED = ".program.json"
"""File in the folder of a trial that names the program that runs there, or ran last."""
PRINTED = ".stdout.jsonl"
"""File in the folder of a trial with the lines of stdout that may be reports, of all attempts."""
_START_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class ProgramEnd:
    """How a program has ended."""

    exit: int | None
    """Exit status; None when a signal has ended it, or nobody knows."""
    signal: int | None
    orphans: int = 0
    """Processes that were still there when the program itself had ended."""
    over_limit: bool = False
    """It was killed because it held more memory than it may."""
    memory_bytes: int = 0
    """The most that was seen, where there is a limit."""
    out_of_memory_kills: int = 0
    """Processes that the kernel has killed for lack of memory meanwhile."""
    supervisor_died: bool = False


class Lines:
    """Bytes as complete lines; of a progress bar that rewrites its line, the last state counts."""

    def __init__(self) -> None:
        self._rest = b""

    def add(self, chunk: bytes) -> Iterator[str]:
        """Yield the lines that a chunk completes."""
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        if len(self._rest) > MAX_LINE:
            self._rest = self._rest.rpartition(b"\r")[2][-MAX_LINE:]
        for line in lines:
            yield _text(line)

    def end(self) -> str | None:
        """Return what came after the last end of a line, if anything did."""
        rest, self._rest = self._rest, b""
        return _text(rest) if rest.strip() else None


def _text(line: bytes) -> str:
    return line.rstrip(b"\r").rpartition(b"\r")[2][:MAX_LINE].decode("utf-8", errors="replace")


class Program:
    """A program under its supervisor.

    Args:
        arguments: The program and its arguments.
        environment: Its whole environment.
        folder: Of the trial; what an earlier attempt has left running for it is ended first.
        memory_bytes: The most that all of its processes together may hold; None: any.
        limit_data: Whether each process is also given RLIMIT_DATA: CUDA maps more than it uses, so only without it.

    Raises:
        EntryError: The program cannot be started.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        *,
        environment: Mapping[str, str],
        folder: Path,
        memory_bytes: int | None = None,
        limit_data: bool = False,
    ) -> None:
        end_stray(folder)
        self.mark = secrets.token_hex(8)
        self.end: ProgramEnd | None = None
        self.pid: int | None = None
        self._asked = False
        self._answers = b""
        answers, told = os.pipe()
        try:
            self._supervisor = subprocess.Popen(  # noqa: S603 (our own interpreter and file, no shell)
                [sys.executable, "-I", "-S", str(program_supervisor.__file__), str(told)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env={**environment, MARK: self.mark},
                pass_fds=[told],
                start_new_session=True,
                bufsize=0,
            )
        except (OSError, ValueError) as error:
            os.close(answers)
            raise EntryError(f"the program cannot be started: {error}.", where="train.command") from error
        finally:
            os.close(told)
        self._answer_fd = answers
        assert self._supervisor.stdin is not None
        assert self._supervisor.stdout is not None
        assert self._supervisor.stderr is not None
        self._outputs = {self._supervisor.stdout.fileno(): "stdout", self._supervisor.stderr.fileno(): "stderr"}
        order = {
            "arguments": list(arguments),
            "cwd": os.getcwd(),
            "grace_s": GRACE_S,
            "memory_bytes": memory_bytes,
            "limit_data": limit_data,
            "mark": self.mark,
            "reports": str(folder / PRINTED),
        }
        try:
            self._supervisor.stdin.write(json.dumps(order).encode() + b"\n")
            self._wait_for_start(folder, str(arguments[0]))
        except BaseException:
            self.close()
            raise

    def _wait_for_start(self, folder: Path, program: str) -> None:
        until = time.monotonic() + _START_TIMEOUT_S
        while (document := self._answer(until - time.monotonic())) is None:
            if self.end is not None or time.monotonic() > until:
                raise EntryError(f"{program!r} cannot be started: no answer.", where="train.command")
        if "refused" in document:
            hint = f"It was looked for by the worker, in {os.getcwd()} and on its PATH."
            raise EntryError(f"{program!r} cannot be started: {document['refused']}.", hint=hint, where="train.command")
        self.pid = int(document["pid"])
        started = {"host": socket.gethostname(), "mark": self.mark, "pid": self.pid}
        (folder / STARTED).write_text(json.dumps(started), encoding="utf-8")

    def read(self, timeout_s: float) -> list[tuple[str, bytes]]:
        """Return what the program has written to `stdout` and `stderr` within a time; notes its end in `end`."""
        found: list[tuple[str, bytes]] = []
        with selectors.DefaultSelector() as selector:
            for fd in [*self._outputs, *([] if self.end else [self._answer_fd])]:
                selector.register(fd, selectors.EVENT_READ)
            if not selector.get_map():
                return found
            for key, _ in selector.select(timeout_s):
                fd = key.fd
                if fd == self._answer_fd:
                    self._note_end(self._answer(0.0))
                    continue
                chunk = os.read(fd, 1 << 16)
                if chunk:
                    found.append((self._outputs[fd], chunk))
                else:
                    del self._outputs[fd]
        return found

    def rest(self) -> Iterator[tuple[str, bytes]]:
        """Yield what is still in the pipes after the end."""
        while chunks := self.read(0.0):
            yield from chunks

    def ask_to_end(self) -> None:
        """Send SIGTERM to its process group; SIGKILL follows after a grace period, from the supervisor."""
        if not self._asked:
            self._asked = True
            with suppress(OSError):
                assert self._supervisor.stdin is not None
                self._supervisor.stdin.write(b"term\n")

    def close(self) -> None:
        """End the program, if it still runs, and wait until nothing of it is left."""
        self.ask_to_end()
        until = time.monotonic() + GRACE_S + 20
        while self.end is None and time.monotonic() < until:
            self.read(1.0)  # a program that is ended must not wait for somebody to read what it writes
        if self.end is None:
            self._supervisor.kill()
        for pipe in (self._supervisor.stdin, self._supervisor.stdout, self._supervisor.stderr):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()
        self._outputs = {}
        with suppress(OSError):
            os.close(self._answer_fd)
        self._supervisor.wait()
        if self.end is None or self.end.supervisor_died:
            end_marked(self.mark)

    def _answer(self, timeout_s: float) -> dict[str, Any] | None:
        """Return the next document of the supervisor; None when there is none yet, or it has died (`end`)."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._answer_fd, selectors.EVENT_READ)
            if b"\n" not in self._answers and selector.select(max(0.0, timeout_s)):
                chunk = os.read(self._answer_fd, 1 << 16)
                if not chunk:
                    self.end = self.end or ProgramEnd(None, None, supervisor_died=True)
                    end_marked(self.mark)
                    return None
                self._answers += chunk
        line, newline, rest = self._answers.partition(b"\n")
        if not newline:
            return None
        self._answers = rest
        document: dict[str, Any] = json.loads(line)
        return document

    def _note_end(self, document: Mapping[str, Any] | None) -> None:
        if document is not None:
            self.end = ProgramEnd(**document)


def end_stray(folder: Path) -> None:
    """Kill what an earlier attempt has left running in a folder on this machine: two would write into it."""
    try:
        started = json.loads((folder / STARTED).read_bytes())
        host, mark = started["host"], str(started["mark"])
    except (OSError, ValueError, KeyError, TypeError):
        return
    if host == socket.gethostname() and len(mark) == 16 and mark.isalnum():
        end_marked(mark)


def end_marked(mark: str) -> None:
    """Kill every process of this user whose environment holds the mark of a program, until there is none."""
    while found := marked(mark):
        for pid in found:
            with suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)


def marked(mark: str) -> list[int]:
    """Return the living processes whose environment holds the mark of a program; none where there is no `/proc`."""
    wanted = f"{MARK}={mark}".encode()
    found = []
    for pid, (_, _, state) in program_supervisor.processes().items():
        if state in "ZX" or pid == os.getpid():
            continue
        with suppress(OSError):
            if wanted in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                found.append(pid)
    return found

"""Supervisor of one program: starts it in a session of its own and leaves no process of it behind, whoever dies.

Run as a file by `tuner.training.program`, with the standard library only: it must start fast and hold no memory. The
worker writes a JSON document to its stdin, then `term` when the program is to end; the end of stdin means that the
worker is gone. It answers on the file descriptor that its argument names, a JSON document a line: `{"pid": …}` or
`{"refused": …}`, and at the end how the program ended. Stdout and stderr of the program are passed on; lines of stdout
that look like reports are kept in the trial's folder besides: what is said after the worker has died is not lost.

On Linux it is the subreaper of all that the program starts: what forks twice, or begins a session of its own, is still
found below it.
"""

import contextlib
import ctypes
import json
import math
import os
import resource
import select
import signal
import subprocess
import sys
import time
from typing import Any

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
POLL_S = 0.2
ORPHAN_GRACE_S = 3.0
"""Seconds between SIGTERM and SIGKILL for what the program leaves behind, or when the worker is gone."""
KILL_POLL_S = 0.02
PAGE = resource.getpagesize()
MAX_LINE = 1 << 20
FLUSH_S = 20.0
"""Seconds in which the worker must have taken what the program has printed last."""


class Output:
    """Stdout or stderr of the program on its way to the worker; more is read only when the worker has taken it."""

    def __init__(self, source: int, target: int, reports: str | None) -> None:
        self.source: int | None = source
        self.target: int | None = target
        self.reports = None
        if reports is not None:
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW
            with contextlib.suppress(OSError):
                self.reports = os.open(reports, flags, 0o644)
        self.pending = b""
        self.line = b""
        os.set_blocking(source, False)
        os.set_blocking(target, False)

    def read(self) -> bool:
        """Take what the program has written; False when there is nothing more for now."""
        assert self.source is not None
        try:
            chunk = os.read(self.source, 1 << 16)
        except BlockingIOError:
            return False
        except OSError:
            chunk = b""
        if not chunk:
            os.close(self.source)
            self.source = None
            return False
        *lines, self.line = (self.line + chunk).split(b"\n")
        self.line = self.line[-MAX_LINE:]
        self.keep(b"".join(line + b"\n" for line in lines if looks_like_report(line)))
        if self.target is not None:
            self.pending += chunk
        return True

    def keep(self, text: bytes) -> None:
        """Write reports down."""
        if text and self.reports is not None:
            with contextlib.suppress(OSError):
                os.write(self.reports, text)

    def write(self) -> None:
        """Pass on what can be."""
        try:
            self.pending = self.pending[os.write(self.target or 0, self.pending) :]
        except BlockingIOError:
            return
        except OSError:  # the worker is gone
            self.target, self.pending = None, b""

    def finish(self) -> None:
        """Take what is still in the pipe, and pass on what the worker takes in time."""
        until = time.monotonic() + FLUSH_S
        while self.source is not None or self.pending:
            if self.source is not None and not self.read() and self.source is not None:
                os.close(self.source)  # held open by a process that nobody can end
                self.source = None
            if self.pending and self.target is not None and time.monotonic() < until:
                select.select([], [self.target], [], POLL_S)
                self.write()
            else:
                self.pending = b""
        if looks_like_report(self.line):
            self.keep(self.line)


def looks_like_report(line: bytes) -> bool:
    """Tell whether a line may be a report."""
    return line.lstrip().startswith(b"{") and b'"epoch"' in line


def prctl(option: int, value: int) -> None:
    """Set an attribute of this process, where the system is Linux."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


class Supervisor:
    """One program and everything that it has started."""

    def __init__(self, order: dict[str, Any], ended: int) -> None:
        self.order = order
        self.ended = ended
        """File descriptor that can be read when a process below this one has ended."""
        self.grace_s = float(order["grace_s"])
        self.limit: int | None = order["memory_bytes"]
        self.cgroup = None if self.limit is None else make_cgroup(order["mark"], self.limit)
        self.main: subprocess.Popen[bytes] | None = None
        self.status: int | None = None
        self.peak = 0
        self.over_limit = False
        self.kill_at: float | None = None
        self.worker_is_gone = False
        self.orphans = 0
        self.oom_before = oom_kills()
        self.outputs: list[Output] = []

    def start(self) -> int:
        """Start the program and return its process id. Raises OSError, ValueError."""
        parent, cgroup, limit = os.getpid(), self.cgroup, self.limit if self.order["limit_data"] else None

        def prepare() -> None:
            prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != parent:
                os._exit(1)
            if cgroup is not None:
                with open(f"{cgroup}/cgroup.procs", "w", encoding="ascii") as file:
                    file.write("0")
            if limit is not None:
                resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))

        self.main = subprocess.Popen(  # noqa: S603 (a list of arguments, no shell; allowed by the machine's owner)
            self.order["arguments"],
            cwd=self.order["cwd"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            preexec_fn=prepare,
        )
        assert self.main.stdout is not None
        assert self.main.stderr is not None
        self.outputs = [
            Output(os.dup(self.main.stdout.fileno()), 1, self.order["reports"]),
            Output(os.dup(self.main.stderr.fileno()), 2, None),
        ]
        self.main.stdout.close()
        self.main.stderr.close()
        return self.main.pid

    def run(self, commands: int) -> dict[str, Any]:
        """Wait until nothing of the program is left; return how it ended."""
        assert self.main is not None
        while True:
            self.reap()
            if self.status is not None:
                break
            if self.limit is not None:
                self.watch_memory()
            if self.kill_at is not None and time.monotonic() >= self.kill_at:
                self.kill_all()
            readable = self.wait([] if self.worker_is_gone else [commands])
            if commands in readable:
                self.obey(os.read(commands, 4096))
        self.end_rest()
        for output in self.outputs:
            output.finish()
        return self.result()

    def wait(self, further: list[int], seconds: float = POLL_S) -> list[int]:
        """Pass on output until something else is to be done; return what of `further` can be read."""
        for output in self.outputs:
            if self.worker_is_gone:
                output.target, output.pending = None, b""
        reading = {o.source: o for o in self.outputs if o.source is not None and not o.pending}
        writing = {o.target: o for o in self.outputs if o.target is not None and o.pending}
        readable, writable, _ = select.select([self.ended, *further, *reading], [*writing], [], seconds)
        for fd in writable:
            writing[fd].write()
        for fd in readable:
            if fd in reading:
                reading[fd].read()
            elif fd == self.ended:
                os.read(fd, 4096)
        return readable

    def obey(self, text: bytes) -> None:
        """Do what the worker asks; an empty text is the end of the worker."""
        if not text:
            self.worker_is_gone = True
            self.grace_s = min(self.grace_s, ORPHAN_GRACE_S)
        if self.kill_at is None:
            self.send_to_group(signal.SIGTERM)
        self.kill_at = min(self.kill_at or math.inf, time.monotonic() + self.grace_s)

    def reap(self) -> None:
        """Take the exit status of whatever has ended below this process."""
        assert self.main is not None
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status, _ = os.wait4(-1, os.WNOHANG)
                if pid == 0:
                    return
                if pid == self.main.pid:
                    self.status = status
                    self.main.returncode = 0  # it has been waited for

    def end_rest(self) -> None:
        """End what the program has left behind: SIGTERM, a moment, SIGKILL."""
        left = self.members()
        self.orphans = len(left)
        for pid in left:
            send(pid, signal.SIGTERM)
        until = self.kill_at if self.kill_at is not None else time.monotonic() + ORPHAN_GRACE_S
        while self.members() and time.monotonic() < until:
            self.reap()
            self.wait([], KILL_POLL_S)
        self.kill_all()

    def kill_all(self) -> None:
        """Kill until nothing is left: what forks meanwhile is found in the next round."""
        while self.members():
            if self.cgroup is not None:
                with contextlib.suppress(OSError), open(f"{self.cgroup}/cgroup.kill", "w", encoding="ascii") as file:
                    file.write("1")
            self.send_to_group(signal.SIGKILL)
            for pid in self.members():
                send(pid, signal.SIGKILL)
            self.reap()
            time.sleep(KILL_POLL_S)
        self.reap()

    def send_to_group(self, number: signal.Signals) -> None:
        """Signal the program's process group."""
        assert self.main is not None
        with contextlib.suppress(OSError):
            os.killpg(self.main.pid, number)

    def members(self) -> list[int]:
        """Return the living processes of the program: below this one, or in its session, wherever they went."""
        assert self.main is not None
        table = processes()
        if not table:  # no /proc: the group is all that can be known
            try:
                os.killpg(self.main.pid, 0)
            except OSError:
                return []
            return [self.main.pid] if self.status is None else []
        below = {os.getpid()}
        grown = True
        while grown:
            more = {pid for pid, (parent, _, _) in table.items() if parent in below} - below
            below |= more
            grown = bool(more)
        mine = below - {os.getpid()} | {pid for pid, row in table.items() if row[1] == self.main.pid}
        return [pid for pid in mine if table[pid][2] not in "ZX"]

    def watch_memory(self) -> None:
        """Kill the program when all of its processes together hold more than they may."""
        assert self.limit is not None
        used = memory_of(self.members())
        self.peak = max(self.peak, used)
        if used > self.limit:
            self.over_limit = True
            self.kill_all()

    def result(self) -> dict[str, Any]:
        """Return how the program ended; removes its cgroup."""
        assert self.status is not None
        in_cgroup = remove_cgroup(self.cgroup)
        killed = os.WIFSIGNALED(self.status)
        return {
            "exit": None if killed else os.WEXITSTATUS(self.status),
            "signal": os.WTERMSIG(self.status) if killed else None,
            "orphans": self.orphans,
            "over_limit": self.over_limit or in_cgroup > 0,
            "memory_bytes": self.peak,
            "out_of_memory_kills": in_cgroup or max(0, oom_kills() - self.oom_before),
        }


def send(pid: int, number: signal.Signals) -> None:
    """Signal a process that may be gone."""
    with contextlib.suppress(OSError):
        os.kill(pid, number)


def processes() -> dict[int, tuple[int, int, str]]:
    """Return parent, session and state of every process; nothing where there is no `/proc`."""
    table: dict[int, tuple[int, int, str]] = {}
    try:
        names = os.listdir("/proc")
    except OSError:
        return table
    for name in names:
        if not name.isdecimal():
            continue
        try:
            with open(f"/proc/{name}/stat", encoding="utf-8", errors="replace") as file:
                fields = file.read().rpartition(")")[2].split()
        except OSError:  # it has ended meanwhile
            continue
        table[int(name)] = (int(fields[1]), int(fields[3]), fields[0])
    return table


def memory_of(pids: list[int]) -> int:
    """Return the bytes that processes hold together; what they share is counted once, as the most that one shares."""
    own, shared = 0, 0
    for pid in pids:
        try:
            with open(f"/proc/{pid}/statm", encoding="ascii") as file:
                fields = file.read().split()
        except OSError:
            continue
        own += (int(fields[1]) - int(fields[2])) * PAGE
        shared = max(shared, int(fields[2]) * PAGE)
    return own + shared


def oom_kills() -> int:
    """Return how many processes the kernel has killed for lack of memory since the machine started; 0 if unknown."""
    with contextlib.suppress(OSError, ValueError), open("/proc/vmstat", encoding="ascii") as file:
        for line in file:
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    return 0


def make_cgroup(
    mark: str, limit: int, *, root: str = "/sys/fs/cgroup", membership: str = "/proc/self/cgroup"
) -> str | None:
    """Make a control group (version 2) with the memory limit beside this process's; None where that is not allowed."""
    try:
        with open(membership, encoding="utf-8") as file:
            lines = [line.strip() for line in file if line.startswith("0::")]
        here = root + lines[0][3:].rstrip("/")
        parent = os.path.dirname(here) if here != root else here
        with open(f"{parent}/cgroup.subtree_control", encoding="ascii") as file:
            if "memory" not in file.read().split():
                return None
        folder = f"{parent}/tuner-{mark}"
        os.mkdir(folder)
    except (OSError, IndexError):
        return None
    try:
        with open(f"{folder}/memory.max", "w", encoding="ascii") as file:
            file.write(str(limit))
        with contextlib.suppress(OSError), open(f"{folder}/memory.swap.max", "w", encoding="ascii") as file:
            file.write("0")
        with open(f"{folder}/cgroup.procs", "a", encoding="ascii"):
            return folder
    except OSError:
        remove_cgroup(folder)
        return None


def remove_cgroup(folder: str | None) -> int:
    """Remove a control group; return how many of its processes were killed for lack of memory."""
    if folder is None:
        return 0
    kills = 0
    with contextlib.suppress(OSError, ValueError), open(f"{folder}/memory.events", encoding="ascii") as file:
        kills = sum(int(line.split()[1]) for line in file if line.startswith("oom_kill "))
    with contextlib.suppress(OSError):
        os.rmdir(folder)
    return kills


def ignore(number: int, frame: object) -> None:
    """Do nothing. A handler and not SIG_IGN, which the program would inherit."""


def main() -> None:
    """Serve one program."""
    answers = int(sys.argv[1])
    os.set_inheritable(answers, False)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGCHLD):
        signal.signal(number, ignore)
    readable, writable = os.pipe()  # SIGCHLD ends the waiting below at once
    os.set_blocking(writable, False)
    signal.set_wakeup_fd(writable, warn_on_full_buffer=False)
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    text = b""
    while not text.endswith(b"\n"):
        chunk = os.read(0, 65536)
        if not chunk:
            return
        text += chunk
    supervisor = Supervisor(json.loads(text), readable)
    try:
        answer: dict[str, Any] = {"pid": supervisor.start()}
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        remove_cgroup(supervisor.cgroup)
        tell(answers, {"refused": getattr(error, "strerror", None) or str(error)})
        return
    tell(answers, answer)
    tell(answers, supervisor.run(0))


def tell(answers: int, document: dict[str, Any]) -> None:
    """Write a line to the worker, if it still lives."""
    with contextlib.suppress(OSError):
        os.write(answers, json.dumps(document).encode() + b"\n")


if __name__ == "__main__":
    main()

"""One PostgreSQL server and its keeper: made, started, watched, stopped in order."""

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress

import psycopg

from tuner.errors import ConflictError, RunError
from tuner.postgres.account import check_reach
from tuner.postgres.home import DATABASE, USER, Address, Home
from tuner.postgres.programs import Programs

CONNECTIONS = 500
"""Room for two hundred workers: one connection each while idle, two while training, and the service's."""
ANSWERS_WITHIN_S = 60.0
ENDS_WITHIN_S = 60.0
_PR_SET_PDEATHSIG = 1
_RULES = f"host {DATABASE} {USER} all scram-sha-256\n"
"""Nobody but the one role, for the one database, with the password; the superuser has none and cannot come in."""


class PostgresServer:
    """The server of one folder, which its keeper must hold (`home.held`)."""

    def __init__(self, home: Home, programs: Programs, address: Address, *, connections: int = CONNECTIONS) -> None:
        self.home, self.programs, self.address, self.connections = home, programs, address, connections
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The process id of the server, once it was started."""
        return self._process.pid if self._process else None

    def create(self) -> None:
        """Make the data folder, the role and the database, unless they are there. Raises RunError, RequestError."""
        home = self.home
        check_reach(home.account, home.folder, what="the folder")
        check_reach(home.account, self.programs.folder, what="the folder of PostgreSQL's programs")
        home.log.mkdir(mode=0o700, exist_ok=True)
        home.own(home.log)
        if home.data.exists():
            return
        scratch = home.folder / "data.new"  # renamed when it is whole: what a killed start leaves behind is not data
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(mode=0o700)
        home.own(scratch)
        words = ["-D", str(scratch), "-U", "owner", "--auth=reject", "--encoding=UTF8", "--locale=C"]
        try:
            self._call("initdb", [*words, "--data-checksums"])
            sql = (
                f"CREATE ROLE {USER} LOGIN PASSWORD '{self.address.password}'\n"
                f"CREATE DATABASE {DATABASE} OWNER {USER}\n"
            )
            single = ["--single", "-c", "password_encryption=scram-sha-256", "-D", str(scratch), "postgres"]
            self._call("postgres", single, text=sql)
            (scratch / "pg_hba.conf").write_text(_RULES, encoding="ascii")
            scratch.rename(home.data)
        except BaseException:
            shutil.rmtree(scratch, ignore_errors=True)
            raise

    def start(self) -> None:
        """Start the server and wait until it answers. Raises RunError with the end of its log."""
        self._end_leftover()
        command = [self.programs.path("postgres"), "-D", str(self.home.data), *_settings(self)]
        account = self.home.account.process if self.home.account else {}
        first_words = self.home.log / "start.log"
        until = time.monotonic() + ANSWERS_WITHIN_S
        while True:
            with first_words.open("wb") as log:
                self._process = subprocess.Popen(  # noqa: S603 (a program of the system, a list of words, no shell)
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    cwd=self.home.folder,
                    start_new_session=True,  # Ctrl-C in the terminal is for the keeper
                    preexec_fn=_ends_with(os.getpid()),
                    **account,
                )
            if self._answers(until):
                return
            said = first_words.read_text(encoding="utf-8", errors="replace")
            if "still in use" not in said or time.monotonic() > until:
                raise RunError(f"PostgreSQL does not start:\n{self.last_words()}", where=str(self.home.log))
            time.sleep(0.5)  # children of a server that was killed need a moment to notice

    def exit_code(self) -> int | None:
        """Return the code with which the server has ended, None while it runs."""
        return self._process.poll() if self._process else None

    def stop(self, *, hard: bool = False) -> None:
        """End it: in order, its clients cut off, everything on the disk; `hard` leaves the order to the next start."""
        process = self._process
        if process is None or process.poll() is not None:
            return
        process.send_signal(signal.SIGQUIT if hard else signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            process.wait(ENDS_WITHIN_S)
            return
        process.send_signal(signal.SIGQUIT)
        process.wait()

    def last_words(self, count: int = 8) -> str:
        """Return the end of what the server said."""
        logs = sorted(self.home.log.glob("*.log"), key=lambda path: path.stat().st_mtime)
        lines = logs[-1].read_text(encoding="utf-8", errors="replace").splitlines() if logs else []
        return "\n".join(f"  {line}" for line in lines[-count:]) or "  (it said nothing)"

    def _answers(self, until: float) -> bool:
        while self.exit_code() is None:
            try:
                psycopg.connect(self.address.url(from_here=True), connect_timeout=5).close()
            except psycopg.OperationalError as error:
                if "authentication failed" in str(error):
                    self.stop()
                    raise ConflictError(
                        "the server does not take the password that is kept in its folder.",
                        hint="Was `tuner-server.json` exchanged? Bring the right one back.",
                        where=str(self.home.folder),
                    ) from error
                if time.monotonic() > until:
                    self.stop(hard=True)
                    return False
                time.sleep(0.1)
            else:
                return True
        return False

    def _end_leftover(self) -> None:
        """End a server whose keeper was killed: this folder's lock is ours, so nobody keeps it any more."""
        if (self.home.data / "postmaster.pid").exists():
            words = ["-D", str(self.home.data), "-m", "fast", "-w", "-t", str(round(ENDS_WITHIN_S)), "stop"]
            with suppress(RunError):  # it says so when there is none
                self._call("pg_ctl", words)

    def _call(self, program: str, words: list[str], *, text: str = "") -> None:
        account = self.home.account.process if self.home.account else {}
        done = subprocess.run(  # noqa: S603 (a program of the system, a list of words, no shell)
            [self.programs.path(program), *words],
            input=text.encode(),
            capture_output=True,
            cwd=self.home.folder,
            check=False,
            **account,
        )
        said = (done.stderr or done.stdout).decode("utf-8", "replace").strip().splitlines()
        if done.returncode or any(" ERROR: " in line or line.startswith("ERROR:") for line in said):
            raise RunError(f"{program} failed: {' '.join(said[-3:])}", where=str(self.home.folder))


def _settings(server: PostgresServer) -> list[str]:
    address = server.address
    hosts = address.host if address.host in ("*", "0.0.0.0", "::") else f"{address.host},127.0.0.1"  # noqa: S104
    values = {
        "listen_addresses": "127.0.0.1" if address.host == "127.0.0.1" else hosts,
        "port": address.port,
        "unix_socket_directories": "",
        "max_connections": server.connections,
        "shared_buffers": "256MB",
        "max_wal_size": "2GB",
        "max_parallel_workers_per_gather": 0,  # statements are short, and containers have little shared memory
        "tcp_keepalives_idle": 60,
        "password_encryption": "scram-sha-256",
        "timezone": "UTC",
        "log_timezone": "UTC",
        "logging_collector": "on",
        "log_directory": str(server.home.log),
        "log_filename": "%a.log",  # a week of them, then the oldest is written over
        "log_truncate_on_rotation": "on",
        "log_rotation_age": "1d",
    }
    return [word for name, value in values.items() for word in ("-c", f"{name}={value}")]


def _ends_with(parent: int) -> Callable[[], None] | None:
    """Have the server stopped in order when its keeper is killed; elsewhere than on Linux the next start ends it."""
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None, use_errno=True)

    def hold_on() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGINT, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)

    return hold_on

"""A real PostgreSQL for tests: in a temporary folder, on a free port, one database per test, stopped at the end."""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg
import pytest


def find_binaries() -> Path | None:
    """Return the folder of PostgreSQL's server programs, the newest version that is installed."""
    if found := shutil.which("initdb"):
        return Path(found).resolve().parent
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[4]))
    return versions[-1].parent if versions else None


class Server:
    """One server: it can be stopped, killed and started again, and makes empty databases."""

    def __init__(
        self, binaries: Path, folder: Path, port: int, *, durable: bool = False, connections: int = 200
    ) -> None:
        self.binaries, self.folder, self.port = binaries, folder, port
        self._user = _unprivileged()
        self._process: subprocess.Popen[bytes] | None = None
        self._durable = durable
        self._connections = connections
        os.chmod(folder, 0o755)
        self.data = folder / "data"
        self.data.mkdir()
        if self._user:
            os.chown(self.data, self._user.pw_uid, self._user.pw_gid)
        arguments = ["-D", str(self.data), "-U", "tuner", "--auth=trust", "-E", "UTF8", "--no-sync"]
        subprocess.run(
            [str(binaries / "initdb"), *arguments], check=True, capture_output=True, cwd=folder, preexec_fn=self._drop()
        )

    def start(self) -> None:
        """Start the server and wait until it answers."""
        safe = [] if self._durable else ["-c", "fsync=off", "-c", "full_page_writes=off"]
        settings = ["-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="]
        settings += ["-c", f"max_connections={self._connections}"]
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [str(self.binaries / "postgres"), "-D", str(self.data), "-p", str(self.port), *settings, *safe],
                stdout=log,
                stderr=log,
                cwd=self.folder,
                preexec_fn=self._drop(),
            )
        deadline = time.monotonic() + 60
        while True:
            try:
                psycopg.connect(self._address("postgres"), connect_timeout=5).close()
            except psycopg.OperationalError:
                if time.monotonic() > deadline or self._process.poll() is not None:
                    raise
                time.sleep(0.05)
            else:
                return

    def stop(self, *, hard: bool = False) -> None:
        """Stop it in order (fast shutdown), or at once and without any order (immediate shutdown)."""
        if self._process is None:
            return
        self._process.send_signal(3 if hard else 2)  # SIGQUIT, SIGINT
        self._process.wait(60)
        self._process = None

    def kill(self) -> None:
        """SIGKILL it with all of its processes: nobody tidies anything up, as when the machine loses its power."""
        if self._process is None:
            return
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        self._process.kill()
        for child in children:
            with suppress(ProcessLookupError):
                os.kill(int(child), signal.SIGKILL)
        self._process.wait(60)
        self._process = None

    def new_database(self) -> str:
        """Create an empty database and return its URL."""
        name = f"t{uuid.uuid4().hex[:12]}"
        with psycopg.connect(self._address("postgres"), autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}"'.encode())
        return f"postgresql://tuner@127.0.0.1:{self.port}/{name}"

    def _address(self, database: str) -> str:
        return f"host=127.0.0.1 port={self.port} user=tuner dbname={database}"

    def _drop(self) -> Callable[[], None] | None:
        """PostgreSQL refuses to run as root."""
        user = self._user
        if user is None:
            return None

        def drop() -> None:
            os.setgid(user.pw_gid)
            os.setgroups([])
            os.setuid(user.pw_uid)

        return drop


@contextmanager
def running_server(*, durable: bool = False, connections: int = 200) -> Iterator[Server]:
    """Run a server of one's own; skips where there are no binaries, an error where CI demands them."""
    binaries = find_binaries()
    if binaries is None:
        message = "no PostgreSQL: install its server (Debian: postgresql) to run these tests"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    folder = Path(tempfile.mkdtemp(prefix="tuner-postgres-"))
    server = None
    try:
        server = Server(binaries, folder, _free_port(), durable=durable, connections=connections)
        server.start()
        yield server
    finally:
        if server:
            server.stop(hard=not durable)
        shutil.rmtree(folder, ignore_errors=True)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _unprivileged() -> pwd.struct_passwd | None:
    if os.getuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise RuntimeError("PostgreSQL does not run as root, and there is no user `postgres` or `nobody`")

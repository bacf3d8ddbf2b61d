"""The folder of a server: its data, the password, the address; one keeper at a time, and never somebody else's folder.

`tuner-server.json` (mode 0600) says host, port and password; `url` (0600) is what goes into TUNER_STORAGE; `data` is
PostgreSQL's own, either whole or not there; `log` is what the server has to say.
"""

import fcntl
import json
import os
import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from tuner.errors import ConflictError, RequestError, RunError, SpecError
from tuner.postgres.account import Account
from tuner.storage.url import file_system, is_network, mounts

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

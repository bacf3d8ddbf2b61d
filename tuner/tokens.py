"""Named tokens of the service in a file: names, roles, hashes and ends. The tokens themselves are kept nowhere.

A token is 256 random bits, so its plain SHA-256 cannot be searched for: a slow hash is for what people think up.
"""

import hashlib
import hmac
import json
import logging
import os
import re
import secrets
import stat
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from tuner.atomic_io import explain_os_error, locked, write_atomically
from tuner.errors import ConfigError, ConflictError, NotFoundError, SpecError, UnknownNameError, closest

logger = logging.getLogger(__name__)

ROLES = ("read", "run", "admin")
"""From the least to the most: each may do what those before it may."""
OWNER = "TUNER_API_TOKEN"
"""Name under which the token of the environment appears; no other may have it."""
PREFIX = "tuner_"
"""Begins every token, so that scanners for leaked secrets know it."""
VERSION = 1
MAX_FILE_BYTES = 4 * 2**20

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,99}")
_HASH = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class NamedToken:
    """One entry of the file."""

    name: str
    role: str
    """One of `ROLES`."""
    hash: str
    """SHA-256 of the token, 64 hexadecimal digits."""
    created: str
    """Time in UTC, ISO 8601."""
    expires: str | None = None
    """Time in UTC, ISO 8601, from which on it opens nothing; None: it has no end."""

    def has_expired(self, now: datetime) -> bool:
        """Tell whether its time is over."""
        return self.expires is not None and now >= datetime.fromisoformat(self.expires)

    def as_document(self, now: datetime) -> dict[str, Any]:
        """Return what `tuner token list --json` says of it: everything but the hash."""
        kept = {key: value for key, value in asdict(self).items() if key != "hash"}
        return kept | {"expired": self.has_expired(now)}


def allows(role: str, needed: str) -> bool:
    """Tell whether a role may do what needs another one."""
    return ROLES.index(role) >= ROLES.index(needed)


def hash_token(token: str) -> str:
    """Return what is kept of a token."""
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()


def check_role(role: str, *, where: str) -> str:
    """Return the role. Raises UnknownNameError."""
    if role not in ROLES:
        raise UnknownNameError(kind="role", name=role, known=ROLES, where=where)
    return role


def read_tokens(path: Path) -> list[NamedToken]:
    """Read a file of tokens.

    Raises:
        ConfigError: It is missing, is writable for others, or does not hold what a file of tokens holds.
    """
    try:
        with path.open("rb") as handle:
            kept = os.fstat(handle.fileno())
            content = handle.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ConfigError(
            f"the file of tokens cannot be read: {error.strerror}.",
            hint="`tuner token add NAME --role run` makes it."
            if isinstance(error, FileNotFoundError)
            else "Name a file that the user of the service may read.",
            where=str(path),
        ) from error
    if stat.S_IMODE(kept.st_mode) & 0o022:
        raise ConfigError(
            f"the file of tokens may be written by others (mode {stat.S_IMODE(kept.st_mode):04o}).",
            hint=f"chmod 600 {path}",
            where=str(path),
        )
    try:
        return _entries(content)
    except ValueError as error:
        raise ConfigError(
            f"the file of tokens is broken: {error}.",
            hint="Bring back a copy, or remove it and make the tokens again with `tuner token add`.",
            where=str(path),
        ) from error


def _entries(content: bytes) -> list[NamedToken]:
    if len(content) > MAX_FILE_BYTES:
        raise ValueError(f"it has more than {MAX_FILE_BYTES} bytes")
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not JSON ({error})") from error
    if not isinstance(document, dict) or document.get("version") != VERSION:
        raise ValueError(f'no object with "version": {VERSION}')
    rows = document.get("tokens")
    if not isinstance(rows, list):
        raise ValueError('"tokens" is no list')
    found = [_entry(row, f"tokens[{index}]") for index, row in enumerate(rows)]
    if len({entry.name for entry in found}) < len(found):
        raise ValueError("a name stands in it twice")
    return found


def _entry(row: object, where: str) -> NamedToken:
    if not isinstance(row, Mapping) or {*row} != set(NamedToken.__dataclass_fields__):
        raise ValueError(f"{where} must hold {', '.join(NamedToken.__dataclass_fields__)} and nothing else")
    entry = NamedToken(**row)
    texts = (entry.name, entry.role, entry.hash, entry.created)
    if not all(isinstance(text, str) for text in texts) or not _NAME.fullmatch(entry.name) or entry.name == OWNER:
        raise ValueError(f"{where}.name {entry.name!r} is no name")
    if entry.role not in ROLES:
        raise ValueError(f"{where}.role {entry.role!r} is none of {', '.join(ROLES)}")
    if not _HASH.fullmatch(entry.hash):
        raise ValueError(f"{where}.hash is no SHA-256")
    for key in ("created", "expires"):
        text = getattr(entry, key)
        if text is None and key == "expires":
            continue
        try:
            if datetime.fromisoformat(text).tzinfo is None:
                raise ValueError("no zone")
        except (ValueError, TypeError) as error:
            raise ValueError(f"{where}.{key} {text!r} is no time with a zone") from error
    return entry


def add_token(path: Path, name: str, role: str, lifetime: timedelta | None = None) -> tuple[NamedToken, str]:
    """Make a token and enter it; the file is created where it is missing, readable for its owner only.

    Returns:
        The entry and the token, which is kept nowhere.

    Raises:
        SpecError: This is no name.
        UnknownNameError: The role.
        ConflictError: A token has this name.
        ConfigError: The file is broken.
        DataError, DiskFullError: The file cannot be written.
    """
    check_role(role, where="--role")
    if not _NAME.fullmatch(name) or name == OWNER:
        raise SpecError(
            [f"{name!r} is no name of a token: 1 to 100 of A-Z a-z 0-9 . _ @ + -, the first a letter or digit"]
        )
    now = datetime.now(UTC).replace(microsecond=0)
    token = PREFIX + secrets.token_urlsafe(32)
    entry = NamedToken(
        name, role, hash_token(token), now.isoformat(), (now + lifetime).isoformat() if lifetime else None
    )

    def enter(entries: list[NamedToken]) -> list[NamedToken]:
        if any(other.name == name for other in entries):
            raise ConflictError(
                f"there is a token {name!r} already.",
                hint=f"`tuner token revoke {name}` first, or choose another name.",
                where=str(path),
            )
        return [*entries, entry]

    _change(path, enter)
    return entry, token


def revoke_token(path: Path, name: str) -> None:
    """Take a token out of the file: it, and the sessions that were begun with it, open nothing any more.

    Raises:
        NotFoundError: There is no token of this name.
        ConfigError: The file is missing or broken.
    """

    def strike(entries: list[NamedToken]) -> list[NamedToken]:
        left = [entry for entry in entries if entry.name != name]
        if len(left) == len(entries):
            near = closest(name, [entry.name for entry in entries])
            raise NotFoundError(
                f"there is no token {name!r}.",
                hint=f"Did you mean {near!r}?" if near else "`tuner token list` shows all.",
                where=str(path),
            )
        return left

    if not path.exists():
        raise NotFoundError(f"there is no token {name!r}: the file does not exist.", where=str(path))
    _change(path, strike)


def _change(path: Path, change: Callable[[list[NamedToken]], list[NamedToken]]) -> None:
    """Read, change and replace the file under a lock: of two changes at once none is lost."""
    path = path.resolve()  # a link stays one; what it leads to is replaced
    with explain_os_error(path.parent, purpose="the file of tokens", hint="name another file by --tokens."):
        path.parent.mkdir(parents=True, exist_ok=True)
        with locked(path.with_name(f".{path.name}.lock")):
            entries = change(read_tokens(path) if path.exists() else [])
            document = {"version": VERSION, "tokens": [asdict(entry) for entry in entries]}
            write_atomically(path, (json.dumps(document, indent=2) + "\n").encode(), mode=0o600)


class TokenFile:
    """The tokens as they are now: the file is read again when it has changed, and a broken one changes nothing."""

    def __init__(self, path: Path, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        """Read the file. Raises ConfigError as `read_tokens` does."""
        self.path = path
        self._clock = clock
        self._lock = threading.Lock()
        self._seen = self._mark()
        self._by_hash = _by_hash(read_tokens(path))

    def find(self, token: str) -> NamedToken | None:
        """Return the entry of a token that is valid now."""
        return self.find_hash(hash_token(token))

    def find_hash(self, digest: str) -> NamedToken | None:
        """Return the entry with this hash; None when it was revoked or has expired."""
        entry = self._current().get(digest)
        if entry is None or not hmac.compare_digest(entry.hash, digest) or entry.has_expired(self._clock()):
            return None
        return entry

    def _current(self) -> Mapping[str, NamedToken]:
        mark = self._mark()
        with self._lock:
            if mark != self._seen:
                self._seen = mark
                try:
                    self._by_hash = _by_hash(read_tokens(self.path))
                    logger.info("%s was read again: %d tokens", self.path, len(self._by_hash))
                except ConfigError as error:
                    logger.error("%s The %d tokens read before stay as they are.", error, len(self._by_hash))
            return self._by_hash

    def _mark(self) -> tuple[int, ...] | None:
        """Return what tells one state of the file from another; None when it cannot be seen."""
        try:
            found = self.path.stat()
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size, found.st_mode


def _by_hash(entries: Sequence[NamedToken]) -> dict[str, NamedToken]:
    return {entry.hash: entry for entry in entries}

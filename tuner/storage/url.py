"""Which storage a URL names, and whether it may be used: dialect, folder, file system."""

import os
from pathlib import Path

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from tuner.errors import NoStorageError, RequestError
from tuner.settings import normalise_url

_KNOWN = "sqlite:///FILE and postgresql://USER:PASSWORD@HOST/DATABASE"
_NETWORK = {"nfs", "nfs4", "cifs", "smb3", "smbfs", "lustre", "gpfs", "beegfs", "afs", "ceph", "glusterfs", "orangefs"}
_LOCAL_FUSE = {"fuse.fuse-overlayfs"}  # the root of rootless containers


def read_url(url: str) -> URL:
    """Parse a storage's URL; RequestError for one that cannot be read or names a database that we do not support."""
    try:
        parsed = make_url(normalise_url(url))
    except ArgumentError:
        raise RequestError(f"{url!r} is not the URL of a storage.", hint=f"Known: {_KNOWN}.") from None
    name = parsed.get_backend_name()
    if name not in ("sqlite", "postgresql") or parsed.drivername not in (
        "sqlite",
        "sqlite+pysqlite",
        "postgresql+psycopg",
    ):
        raise RequestError(f"storage {parsed.drivername!r} is not supported.", hint=f"Known: {_KNOWN}.")
    if name == "sqlite" and (not parsed.database or ":memory:" in parsed.database or "mode=memory" in url):
        raise RequestError(
            "a database in memory cannot be shared by workers.", hint="Name a file: sqlite:////path/to/tuner.db."
        )
    return parsed


def redact_url(url: URL) -> str:
    """Write a URL for messages, without its password."""
    return url.render_as_string(hide_password=True)


def check_file(url: URL, *, create: bool) -> Path:
    """Refuse an SQLite file that is missing (unless it may be created) or that lies on a network file system."""
    path = Path(url.database or "").absolute()
    place = redact_url(url)
    if path.is_dir():
        raise NoStorageError("it is a folder, not a file.", hint="Name a file in it.", where=place)
    if not path.exists():
        if not create:
            raise NoStorageError(
                "there is no such database.",
                hint="`tuner launch` creates it; or name another one by --storage or TUNER_STORAGE.",
                where=place,
            )
        if not path.parent.is_dir():
            raise NoStorageError(f"the folder {path.parent} does not exist.", hint="Create it first.", where=place)
        if not os.access(path.parent, os.W_OK):
            raise NoStorageError(
                f"the folder {path.parent} may not be written.",
                hint="Choose another place by --storage or TUNER_STORAGE.",
                where=place,
            )
    kind = file_system(path, mounts())
    if is_network(kind):
        raise NoStorageError(
            f"the file lies on a network file system ({kind}), where SQLite's locks do not hold.",
            hint="Put it on a local disk; or, for several machines, let one of them serve a PostgreSQL: "
            "`tuner db serve --dir FOLDER` prints what to give as --storage.",
            where=place,
        )
    return path


def is_network(kind: str | None) -> bool:
    """Tell whether a file system of that type is shared by machines."""
    if kind is None:
        return False
    return kind in _NETWORK or (kind.startswith("fuse.") and kind not in _LOCAL_FUSE)


def file_system(path: Path, mounts: str) -> str | None:
    """Return the type of the file system that holds `path`, by the text of /proc/mounts."""
    target = Path(os.path.realpath(path))
    best, kind = -1, None
    for line in mounts.splitlines():
        fields = line.split()
        if len(fields) < 3:
            continue
        mount = Path(fields[1].replace("\\040", " "))
        if (mount == target or mount in target.parents) and len(mount.parts) >= best:
            best, kind = len(mount.parts), fields[2]
    return kind


def mounts() -> str:
    """Return the text of /proc/mounts, empty where there is none."""
    try:
        return Path("/proc/mounts").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""  # not Linux: nothing is known about mounts, nothing is refused

"""Whose processes the server's are: PostgreSQL refuses to run as root, so root hands it to another user."""

import os
import pwd
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tuner.errors import RequestError

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

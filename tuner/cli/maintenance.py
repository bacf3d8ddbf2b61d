"""`doctor` and `gc`: versions, devices, storage, data and ports; removal of files that nothing needs."""

import os
import platform
import shutil
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from tuner.cli import output
from tuner.cli.help import PanelCommand
from tuner.cli.options import ArtifactsOption, CacheOption, DataRootOption, JsonOption, StorageOption, settings_of
from tuner.settings import Settings


def gc(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="Only files of this study.", show_default=False)
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go, and remove nothing.")] = False,
    unknown: Annotated[
        bool,
        typer.Option(
            "--unknown-studies",
            help="Also folders of studies that this storage does not know; is it the only one here?",
        ),
    ] = False,
    storage: StorageOption = None,
    artifacts: ArtifactsOption = None,
    cache: CacheOption = None,
    as_json: JsonOption = False,
) -> None:
    """Remove what nothing needs any more: checkpoints of finished trials, folders that no trial has, unused caches.

    What resuming and exporting need is kept, and nothing of a trial that waits or runs is touched.
    """
    from tuner.artifacts.garbage import find_garbage, find_remote_garbage, remove
    from tuner.cli.stored import open_store

    settings = settings_of(storage, artifacts, None, cache)
    with open_store(settings.storage) as store:
        if name is not None:
            store.studies.get(name)
        names = [name] if name is not None else [d["name"] for d in store.queries.studies() if not d["foreign"]]
        names += [confirmation for each in names for confirmation in store.confirmations.names(each)]
        far = find_remote_garbage(store, settings, names, studies=unknown and name is None)
        found = far + find_garbage(store, settings, names, cache=name is None, studies=unknown and name is None)
        freed = sum(waste.size if dry_run else remove(waste) for waste in found)
    rows = [{"kind": waste.kind, "path": waste.place, "bytes": waste.size} for waste in found]
    if as_json:
        output.put_json({"dry_run": dry_run, "items": rows, "bytes": freed})
        return
    _show(rows, freed, dry_run=dry_run)


def _show(rows: list[dict[str, Any]], freed: int, *, dry_run: bool) -> None:
    if rows:
        output.put_table(
            ("what", "MiB", "where"), [(r["kind"], r["bytes"] / 2**20, r["path"]) for r in rows], right=("MiB",)
        )
    would = "would be removed" if dry_run else "removed"
    output.tell(f"{len(rows)} things {would}, {freed / 2**20:.1f} MiB" if rows else "There is nothing to remove.")


PACKAGES = ("torch", "monai", "optuna", "sqlalchemy", "numpy", "pydantic", "psycopg", "h5py")
PORT = 8000
LOW_DISK = 5 * 2**30
"""Bytes; with less, a study of a hundred checkpoints may not fit."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. `state`: `ok`, `note` (nothing is wrong, but know it) or `bad`."""

    what: str
    state: str
    found: str
    advice: str | None = None


def register(app: typer.Typer) -> None:
    """Register the commands of this module."""
    app.command("doctor", rich_help_panel="Maintenance", cls=PanelCommand)(doctor)
    app.command("gc", rich_help_panel="Maintenance", cls=PanelCommand)(gc)


def doctor(
    storage: StorageOption = None,
    artifacts: ArtifactsOption = None,
    data_root: DataRootOption = None,
    cache: CacheOption = None,
    as_json: JsonOption = False,
) -> None:
    """Look at all that a study needs, and say what to do about what does not work. Exit 1 when something is bad."""
    settings = settings_of(storage, artifacts, data_root, cache)
    findings = list(_examine(settings))
    if as_json:
        rows = [{"what": f.what, "state": f.state, "found": f.found, "advice": f.advice} for f in findings]
        output.put_json({"ok": all(f.state != "bad" for f in findings), "findings": rows})
    else:
        output.put_table(("", "what", "found"), [(f.state, f.what, f.found) for f in findings])
        for finding in findings:
            if finding.advice:
                output.put(f"{finding.what}: {finding.advice}")
    if any(f.state == "bad" for f in findings):
        raise typer.Exit(1)


def _examine(settings: Settings) -> Iterator[Finding]:
    yield from _versions()
    looks: tuple[Callable[[Settings], Iterator[Finding]], ...] = (_devices, _storage, _data, _folders, _ports)
    for look in looks:
        yield from look(settings)


def _versions() -> Iterator[Finding]:
    from importlib import metadata

    from tuner import __version__

    yield Finding("tuner", "ok", f"{__version__}, Python {platform.python_version()}, {platform.platform()}")
    for package in PACKAGES:
        try:
            yield Finding(package, "ok", metadata.version(package))
        except metadata.PackageNotFoundError:
            yield Finding(package, "bad", "not installed", "make install, or pip install it")


def _devices(settings: Settings) -> Iterator[Finding]:
    from tuner.errors import TunerError
    from tuner.launch.device_probe import ProbeRequest, probe_devices
    from tuner.launch.launcher import cores

    yield Finding("cores", "ok", str(cores()))
    try:
        found = probe_devices(ProbeRequest(devices=["auto"], per_device=1, workers=None))
    except TunerError as error:
        yield Finding("devices", "bad", str(error), "see whether `python -c 'import torch'` works")
        return
    devices = ", ".join(found.slots)
    if found.slots == ("cpu",):
        advice = "no GPU is seen; if there is one, see that the driver and a torch for CUDA are installed"
        yield Finding("devices", "note", f"cpu only, {found.precision}", advice)
    else:
        yield Finding("devices", "ok", f"{devices}, {found.precision}")


def _storage(settings: Settings) -> Iterator[Finding]:
    from tuner.errors import TunerError
    from tuner.storage.storage import check
    from tuner.storage.url import check_file, read_url, redact_url

    try:
        url = read_url(settings.storage)
        if url.get_backend_name() == "sqlite" and not check_file(url, create=True).exists():
            yield Finding("storage", "note", f"{redact_url(url)}: not there yet", "tuner launch creates it")
            return
        found = check(settings.storage)
    except TunerError as error:
        yield Finding("storage", "bad", str(error), error.hint)
        return
    if found["ok"]:
        yield Finding("storage", "ok", f"{found['storage']}, schema {found['schema']}")
    elif found["schema"] is None:
        yield Finding("storage", "note", f"{found['storage']}: empty", "tuner launch or tuner db upgrade fills it")
    else:
        yield Finding(
            "storage", "bad", f"{found['storage']}: schema {found['schema']}, not {found['needed']}", "tuner db upgrade"
        )


def _data(settings: Settings) -> Iterator[Finding]:
    from tuner.data.catalog import DATASETS

    if settings.data_root is None:
        yield Finding("data root", "note", "not named", "--data-root DIR or TUNER_DATA_ROOT; phantom needs none")
        return
    if not settings.data_root.is_dir():
        yield Finding("data root", "bad", f"{settings.data_root} is not a folder", "name another one")
        return
    for name, entry in DATASETS.items():
        if entry.check is None:
            continue
        folder = settings.data_root / name
        if folder.is_dir():
            yield Finding(f"data {name}", "ok", f"{folder}; tuner data check {name} opens every file")
        else:
            yield Finding(f"data {name}", "note", f"{folder} is not there", entry.how_to_get)


def _folders(settings: Settings) -> Iterator[Finding]:
    if settings.artifacts_url is not None:
        yield _address(settings)
    for what, folder in (("artifacts", settings.artifacts), ("cache", settings.cache)):
        place = _existing(folder)
        if not os.access(place, os.W_OK | os.X_OK):
            yield Finding(what, "bad", f"{place} may not be written", f"name another one with --{what}")
            continue
        free = shutil.disk_usage(place).free
        words = f"{folder}, {free / 2**30:.1f} GiB free"
        advice = "little space; checkpoints and prepared data may not fit" if free < LOW_DISK else None
        yield Finding(what, "note" if advice else "ok", words, advice)


def _address(settings: Settings) -> Finding:
    from tuner.artifacts.remote import check_address, redact_address
    from tuner.errors import TunerError

    url = redact_address(settings.artifacts_url or "")
    try:
        check_address(settings)
    except TunerError as error:
        return Finding("artifacts at", "bad", f"{url}: {error.message}", error.hint)
    return Finding("artifacts at", "ok", f"{url}, can be written, replaced and read")


def _ports(settings: Settings) -> Iterator[Finding]:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", PORT))
        except OSError as error:
            yield Finding(f"port {PORT}", "note", f"taken ({error.strerror})", "a dashboard would need another --port")
            return
    yield Finding(f"port {PORT}", "ok", "free for a dashboard")


def _existing(folder: Path) -> Path:
    place = folder
    while not place.exists() and place != place.parent:
        place = place.parent
    return place

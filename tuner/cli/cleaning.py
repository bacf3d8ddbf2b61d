"""`gc`: remove what nothing needs any more."""

from typing import Annotated, Any

import typer

from tuner.cli import output
from tuner.cli.help import PanelCommand
from tuner.cli.options import ArtifactsOption, CacheOption, JsonOption, StorageOption, settings_of


def register(app: typer.Typer) -> None:
    """Enter the commands of this module."""
    app.command("gc", rich_help_panel="Machine room", cls=PanelCommand)(gc)


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
    from tuner.artifacts.cleaning_far import find_far_waste
    from tuner.artifacts.garbage import find_waste, remove
    from tuner.cli.stored import open_store

    settings = settings_of(storage, artifacts, None, cache)
    with open_store(settings.storage) as store:
        if name is not None:
            store.study(name)
        names = [name] if name is not None else [d["name"] for d in store.studies() if not d["foreign"]]
        far = find_far_waste(store, settings, names, studies=unknown and name is None)
        found = far + find_waste(store, settings, names, cache=name is None, studies=unknown and name is None)
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

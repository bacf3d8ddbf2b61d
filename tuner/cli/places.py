"""The options that say where things are; flags beat environment variables beat defaults."""

import os
from pathlib import Path
from typing import Annotated

import typer

from tuner.settings import Settings

_PANEL = "Places (a flag beats TUNER_STORAGE, TUNER_ARTIFACTS, TUNER_DATA_ROOT, TUNER_CACHE)"

StorageOption = Annotated[
    str | None,
    typer.Option(
        "--storage",
        metavar="URL",
        help="Database: sqlite:///FILE or postgresql://USER@HOST/NAME. Default: tuner.db here.",
        rich_help_panel=_PANEL,
        show_default=False,
    ),
]
ArtifactsOption = Annotated[
    Path | None,
    typer.Option(
        "--artifacts",
        metavar="DIR",
        help="Files of the trials. Default: artifacts/ beside the database.",
        rich_help_panel=_PANEL,
        show_default=False,
    ),
]
DataRootOption = Annotated[
    Path | None,
    typer.Option(
        "--data-root",
        metavar="DIR",
        help="Holds one folder per data set; may be read-only.",
        rich_help_panel=_PANEL,
        show_default=False,
    ),
]
CacheOption = Annotated[
    Path | None,
    typer.Option(
        "--cache",
        metavar="DIR",
        help="Prepared data. Default: ~/.cache/tuner.",
        rich_help_panel=_PANEL,
        show_default=False,
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="Name of the study.", show_default=False)]


def settings_of(
    storage: str | None = None,
    artifacts: Path | None = None,
    data_root: Path | None = None,
    cache: Path | None = None,
) -> Settings:
    """Combine the flags of a command with the environment."""
    return Settings.resolve(os.environ, storage=storage, artifacts=artifacts, data_root=data_root, cache=cache)

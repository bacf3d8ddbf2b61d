"""Options that several commands share: storage and paths (a flag beats the environment), and CPU threads."""

import inspect
import os
import sys
from collections.abc import Callable
from dataclasses import fields
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, TypeVar, cast, get_type_hints

import typer

from tuner.launch.local import THREAD_VARIABLES
from tuner.settings import Settings

_PANEL = "Storage and paths (a flag beats TUNER_STORAGE, TUNER_ARTIFACTS, TUNER_DATA_ROOT, TUNER_CACHE)"

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
    str | None,
    typer.Option(
        "--artifacts",
        metavar="DIR|URL",
        help="Files of the trials: a folder, or s3://… (any fsspec URL). Default: artifacts/ beside the database.",
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
WebhookOption = Annotated[
    str | None,
    typer.Option(
        "--webhook",
        metavar="URL",
        help="Is told when a study is done, stalled, or has a new best trial. Better: TUNER_WEBHOOK.",
        show_default=False,
    ),
]
LogFormatOption = Annotated[
    str | None,
    typer.Option(
        "--log-format", metavar="text|json", help="json: a JSON object a line. Or TUNER_LOG_FORMAT.", show_default=False
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="Name of the study.", show_default=False)]


OptionsT = TypeVar("OptionsT")
ResultT = TypeVar("ResultT")


def takes_options(group: type[OptionsT]) -> Callable[[Callable[..., ResultT]], Callable[..., ResultT]]:
    """Give a command a group of options: its last parameter `options` stands for all fields of a dataclass.

    Typer sees each field as a parameter of the command by itself; the command gets the dataclass.
    """

    def expand(command: Callable[..., ResultT]) -> Callable[..., ResultT]:
        own = inspect.signature(command, eval_str=True)
        kind = inspect.Parameter.KEYWORD_ONLY
        group_hints = get_type_hints(group, include_extras=True)
        named = {
            field.name: inspect.Parameter(field.name, kind, default=field.default, annotation=group_hints[field.name])
            for field in fields(cast(Any, group))
        }
        others = [p.replace(kind=kind) for p in own.parameters.values() if p.name != "options"]

        @wraps(command)
        def run(**given: Any) -> ResultT:
            options = group(**{name: given.pop(name) for name in named if name in given})
            return command(**given, options=options)

        parameters = [*others, *named.values()]
        vars(run)["__signature__"] = own.replace(parameters=parameters)
        run.__annotations__ = {p.name: p.annotation for p in parameters}
        return run

    return expand


def settings_of(
    storage: str | None = None,
    artifacts: Path | str | None = None,
    data_root: Path | None = None,
    cache: Path | None = None,
    webhook: str | None = None,
) -> Settings:
    """Combine the flags of a command with the environment.

    Raises:
        RequestError: The webhook is no address, or that of the artifacts cannot be opened here.
    """
    settings = Settings.resolve(
        os.environ, storage=storage, artifacts=artifacts, data_root=data_root, cache=cache, webhook=webhook
    )
    if webhook:
        from tuner.notifications import check_webhook

        check_webhook(webhook)
    if settings.artifacts_url is not None:
        from tuner.artifacts.remote import check_protocol

        check_protocol(settings.artifacts_url)
    return settings


def wants_json_logs(flag: str | None) -> bool:
    """Tell whether logs are to be JSON lines: the flag, else TUNER_LOG_FORMAT. Raises UnknownNameError."""
    asked = flag or os.environ.get("TUNER_LOG_FORMAT") or "text"
    if asked not in ("text", "json"):
        from tuner.errors import UnknownNameError

        where = "--log-format" if flag else "TUNER_LOG_FORMAT"
        raise UnknownNameError(kind="log format", name=asked, known=("text", "json"), where=where)
    return asked == "json"


def limit_threads(threads: int | None) -> None:
    """Make torch, and what is below it, use so many threads in this process; None leaves everything as it is."""
    if threads is None:
        return
    for name in THREAD_VARIABLES:
        os.environ[name] = str(threads)
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(threads)


def storage_flag(settings: Settings) -> str:
    """Return the storage as a flag, when it is not the one that a command without flags would use."""
    from tuner.storage.url import read_url, redact_url

    return "" if settings.storage == settings_of().storage else f" --storage {redact_url(read_url(settings.storage))}"

"""`serve`: the REST API and the dashboard, and, if asked for, workers beside it."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from tuner.cli.help import PanelCommand
from tuner.cli.options import (
    ArtifactsOption,
    CacheOption,
    DataRootOption,
    LogFormatOption,
    StorageOption,
    WebhookOption,
    settings_of,
    wants_json_logs,
)

if TYPE_CHECKING:
    from tuner.settings import Settings


def register(app: typer.Typer) -> None:
    """Enter the commands of this module."""
    app.command("serve", rich_help_panel="Search", cls=PanelCommand)(serve)


def serve(
    host: Annotated[
        str, typer.Option("--host", metavar="ADDRESS", help="Others than loopback need TUNER_API_TOKEN.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", metavar="N", help="0 takes any free one.")] = 8000,
    workers: Annotated[int, typer.Option("--workers", metavar="N", help="Keep N workers that serve any study.")] = 0,
    devices: Annotated[
        str, typer.Option("--devices", metavar="LIST", help="auto, cpu, mps, or cuda:0,cuda:1; dealt to the workers.")
    ] = "auto",
    webhook: WebhookOption = None,
    log_format: LogFormatOption = None,
    storage: StorageOption = None,
    artifacts: ArtifactsOption = None,
    data_root: DataRootOption = None,
    cache: CacheOption = None,
) -> None:
    """Open the REST API and the dashboard on the storage; with --workers, also run workers for any study."""
    check_service_package()
    from api.config import ServiceSettings
    from api.server import serve as run
    from tuner.errors import SpecError
    from tuner.launch.device_probe import ProbeRequest, probe_devices
    from tuner.launch.launcher import deal, read_devices
    from tuner.log_config import configure

    if not 0 <= workers <= 256:
        raise SpecError([f"{workers} is not a number of workers, 0 to 256"], where="--workers")
    settings = settings_of(storage, artifacts, data_root, cache, webhook)
    config = ServiceSettings.resolve(os.environ, settings, host=host, workers=workers)
    names = read_devices(devices)
    if workers and names == ["auto"]:  # else every worker would take the first GPU
        names = list(probe_devices(ProbeRequest(devices=names, per_device=1, workers=None)).slots)
    slots = deal(names, per_device=1, total=workers)
    as_json = wants_json_logs(log_format)
    os.environ["TUNER_LOG_FORMAT"] = "json" if as_json else "text"  # the workers beside it write as it does
    configure(level="WARNING", as_json=as_json)
    logging.getLogger("api.sessions").setLevel(logging.INFO)
    with _announcing(settings):
        run(config, port=port, devices=slots, on_message=lambda text: typer.echo(text, err=True))


def check_service_package() -> None:
    """Raise ConfigError unless the `api` that Python would import is the service of this package; it is not run."""
    from importlib.util import find_spec
    from pathlib import Path

    import tuner
    from tuner.errors import ConfigError

    ours = Path(tuner.__file__).resolve().parents[1] / "api" / "__init__.py"
    spec = find_spec("api")
    found = Path(spec.origin).resolve() if spec and spec.origin else None
    if found == ours:
        return
    if found is None and not (spec and spec.submodule_search_locations):
        raise ConfigError("the package `api`, tuner's service, is not installed.", hint="Reinstall tuner.")
    place = found or next(iter((spec.submodule_search_locations if spec else None) or ()), "somewhere")
    raise ConfigError(
        f"Python finds another package of the name `api`, {place}, before tuner's own, {ours}.",
        hint="Take its folder out of PYTHONPATH, or install tuner into an environment of its own.",
        where="PYTHONPATH",
    )


@contextmanager
def _announcing(settings: "Settings") -> Iterator[None]:
    """Tell the webhook, if there is one, what becomes of the studies while the service runs."""
    from tuner.notifications import notify_while
    from tuner.storage.storage import Storage

    if settings.webhook is None:
        yield
        return
    with Storage.open(settings.storage, create=True) as store, notify_while(store, settings):
        yield

"""`launch` and `resume`: create or continue a study, start its workers, watch it, show what was found."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tuner.cli.help import PanelCommand
from tuner.cli.options import (
    ArtifactsOption,
    CacheOption,
    DataRootOption,
    JsonOption,
    LogFormatOption,
    NameArgument,
    StorageOption,
    WebhookOption,
    settings_of,
    takes_options,
    wants_json_logs,
)
from tuner.launch.launcher import LAUNCHERS

if TYPE_CHECKING:
    from tuner.config.yaml_reader import YamlDocument
    from tuner.launch.study_setup import Resources
    from tuner.settings import Settings


_PANEL = "Search"
_SPEC, _WORK = "The study", "Resources (may change at every launch)"

TrialsOption = Annotated[
    int | None, typer.Option("--trials", metavar="N", help="Budget; may rise later.", rich_help_panel=_SPEC)
]
EpochsOption = Annotated[
    int | None, typer.Option("--epochs", metavar="N", help="Epochs of a trial.", rich_help_panel=_SPEC)
]
SeedOption = Annotated[
    int | None, typer.Option("--seed", metavar="N", help="Seed of search and training.", rich_help_panel=_SPEC)
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Any dotted key of the study file: train.lr=0.001, search.loss=[dice, focal].",
        rich_help_panel=_SPEC,
    ),
]
TimeoutOption = Annotated[
    str | None,
    typer.Option("--timeout", metavar="TIME", help="Time with a live worker: 90s, 30m, 2h.", rich_help_panel=_WORK),
]
WorkersOption = Annotated[
    int | None,
    typer.Option(
        "--workers", metavar="N", help="Workers in all. Default: devices × per device.", rich_help_panel=_WORK
    ),
]
DevicesOption = Annotated[
    str | None,
    typer.Option(
        "--devices", metavar="LIST", help="auto, cpu, mps, or cuda:0,cuda:1. Default: auto.", rich_help_panel=_WORK
    ),
]
PerDeviceOption = Annotated[
    str | None,
    typer.Option("--workers-per-device", metavar="N|auto", help="Default: 1.", rich_help_panel=_WORK),
]
LauncherOption = Annotated[
    str | None,
    typer.Option("--launcher", metavar="NAME", help="local, ray, inline or none.", rich_help_panel=_WORK),
]
RayAddressOption = Annotated[
    str | None,
    typer.Option(
        "--ray-address",
        "--address",
        metavar="HOST:PORT",
        help="Head of the Ray cluster. Default: RAY_ADDRESS, or the cluster of this machine.",
        rich_help_panel=_WORK,
    ),
]
RayInsecureOption = Annotated[
    bool,
    typer.Option("--ray-insecure", help="Take a Ray cluster that lets anybody in (no token).", rich_help_panel=_WORK),
]
ServeOption = Annotated[
    bool,
    typer.Option("--serve", help="Serve the dashboard as well, on port 8000 or any free one.", rich_help_panel=_WORK),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchOptions:
    """What `launch` and `resume` have in common."""

    trials: TrialsOption = None
    epochs: EpochsOption = None
    seed: SeedOption = None
    overrides: SetOption = None
    timeout: TimeoutOption = None
    workers: WorkersOption = None
    devices: DevicesOption = None
    per_device: PerDeviceOption = None
    launcher: LauncherOption = None
    ray_address: RayAddressOption = None
    ray_insecure: RayInsecureOption = False
    serve: ServeOption = False
    webhook: WebhookOption = None
    log_format: LogFormatOption = None
    storage: StorageOption = None
    artifacts: ArtifactsOption = None
    data_root: DataRootOption = None
    cache: CacheOption = None
    as_json: JsonOption = False

    def settings(self) -> "Settings":
        """Combine the flags with the environment, see `settings_of`."""
        return settings_of(self.storage, self.artifacts, self.data_root, self.cache, self.webhook)

    def resources(self) -> "Resources":
        """Return who is to work. Raises RequestError, UnknownNameError."""
        return resources_of(
            self.workers,
            self.devices,
            self.per_device,
            self.launcher,
            self.ray_address,
            ray_insecure=self.ray_insecure,
        )

    def values(self, name: str | None = None) -> dict[str, Any]:
        """Return what the flags say under the dotted keys of the study file."""
        return values_of(name=name, trials=self.trials, epochs=self.epochs, seed=self.seed, timeout=self.timeout)


def register(app: typer.Typer) -> None:
    """Enter the commands of this module."""
    app.command("launch", rich_help_panel=_PANEL, cls=PanelCommand)(launch)
    app.command("resume", rich_help_panel=_PANEL, cls=PanelCommand)(resume)


@takes_options(LaunchOptions)
def launch(
    study: Annotated[
        Path | None, typer.Argument(metavar="[STUDY.yaml]", help="A study file of yours.", show_default=False)
    ] = None,
    dataset: Annotated[
        str | None,
        typer.Option("--dataset", metavar="NAME", help="Take studies/NAME.yaml instead.", rich_help_panel=_SPEC),
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", metavar="NAME", help="Name of the study.", rich_help_panel=_SPEC)
    ] = None,
    warm_start: Annotated[
        list[str] | None,
        typer.Option(
            "--warm-start",
            metavar="STUDY|FILE|auto",
            help="Begin with the results of a study, a db backup file, a CSV with values, or LossBench; repeatable.",
            rich_help_panel=_SPEC,
        ),
    ] = None,
    *,
    options: LaunchOptions,
) -> None:
    """Create a study, or continue it where it stopped, and search until its budget is used up."""
    resources, settings = options.resources(), options.settings()
    log_as(options.log_format)
    document, values = study_document(study, dataset), options.values(name)
    _start(document, values, settings, resources, options, warm_start=tuple(warm_start or ()))


@takes_options(LaunchOptions)
def resume(name: NameArgument, *, options: LaunchOptions) -> None:
    """Continue a study from what is stored: no file is needed. --trials raises its budget."""
    from tuner.config.yaml_reader import YamlDocument
    from tuner.storage.storage import Storage

    resources, settings = options.resources(), options.settings()
    log_as(options.log_format)
    with Storage.open(settings.storage, read_only=True) as store:
        record = store.studies.get(name)
    document = YamlDocument(record.spec, {}, f"study {name}")
    _start(document, options.values(), settings, resources, options)


def _start(
    document: "YamlDocument",
    values: dict[str, Any],
    settings: "Settings",
    resources: "Resources",
    options: LaunchOptions,
    warm_start: tuple[str, ...] = (),
) -> None:
    from tuner.cli.search import search
    from tuner.config.study import load_spec
    from tuner.launch.study_setup import Request
    from tuner.storage.activity import local_actor

    request = Request(
        spec=load_spec(document, options.overrides or [], values),
        settings=settings,
        resources=resources,
        trials_given="budget.trials" in values,
        timeout_given="budget.timeout" in values,
        warm_start=warm_start,
        actor=local_actor("cli"),
    )
    code = search(request, as_json=options.as_json, serve=options.serve)
    if code:
        raise typer.Exit(code)


def study_document(study: Path | None, dataset: str | None) -> "YamlDocument":
    """Return the study file that was named, in one of the two ways. Raises RequestError."""
    from tuner.config.study import find_study_file, shipped_studies
    from tuner.config.yaml_reader import read_yaml
    from tuner.errors import RequestError

    if (study is None) == (dataset is None):
        found = "neither was given" if study is None else "both were given"
        raise RequestError(
            f"name a study file, or --dataset and a name; {found}.",
            hint=f"tuner launch STUDY.yaml, or tuner launch --dataset NAME: {', '.join(shipped_studies())}.",
        )
    if dataset is not None:
        return find_study_file(dataset)
    assert study is not None
    if not study.exists() and str(study) in shipped_studies():
        raise RequestError(f"there is no file {str(study)!r}.", hint=f"Did you mean --dataset {study}?")
    return read_yaml(study)


def log_as(log_format: str | None) -> None:
    """Have the workers that are started here write their logs as this launch was told to."""
    os.environ["TUNER_LOG_FORMAT"] = "json" if wants_json_logs(log_format) else "text"


def values_of(
    *, name: str | None, trials: int | None, epochs: int | None, seed: int | None, timeout: str | None
) -> dict[str, Any]:
    """Return what the flags say under the dotted keys of the study file."""
    values: dict[str, Any] = {}
    if name is not None:
        values["name"] = name
    if trials is not None:
        values |= {"budget.trials_per_loss": None, "budget.trials": trials}
    if epochs is not None:
        values["train.epochs"] = epochs
    if seed is not None:
        values["seed"] = seed
    if timeout is not None:
        values["budget.timeout"] = float(timeout) if timeout.replace(".", "", 1).isdecimal() else timeout
    return values


def resources_of(
    workers: int | None,
    devices: str | None,
    per_device: str | None,
    launcher: str | None,
    ray_address: str | None,
    *,
    ray_insecure: bool,
) -> "Resources":
    """Return what the flags say about workers. Raises RequestError for what does not go together."""
    from tuner.errors import RequestError
    from tuner.launch.study_setup import Resources

    if launcher is not None:
        LAUNCHERS.find(launcher, where="--launcher")
    if ray_address is not None and launcher not in (None, "ray"):
        raise RequestError(
            f"the launcher {launcher!r} has no use for the address of a Ray cluster.",
            hint="Write --launcher ray, or leave the address out.",
            where="--ray-address",
        )
    return Resources(
        workers=workers,
        devices=devices,
        per_device=per_device,
        launcher="ray" if ray_address is not None else launcher,
        ray_address=ray_address,
        ray_insecure=ray_insecure,
    )

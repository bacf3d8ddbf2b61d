"""`confirm` and `verdict`: the finalists of a search trained again with fresh seeds, and what may be said of them."""

from dataclasses import replace
from typing import Annotated, Any

import typer

from tuner.cli import output
from tuner.cli.help import PanelCommand
from tuner.cli.launch import (
    DevicesOption,
    LauncherOption,
    PerDeviceOption,
    RayAddressOption,
    RayInsecureOption,
    WorkersOption,
    log_as,
    resources_of,
)
from tuner.cli.options import (
    ArtifactsOption,
    CacheOption,
    DataRootOption,
    JsonOption,
    LogFormatOption,
    NameArgument,
    StorageOption,
    settings_of,
)
from tuner.config.confirm_section import ConfirmSection

_PANEL = "Results"
_WHO, _HOW = "Who is judged", "How"


def register(app: typer.Typer) -> None:
    """Enter the commands of this module."""
    app.command("confirm", rich_help_panel=_PANEL, cls=PanelCommand)(confirm)
    app.command("verdict", rich_help_panel=_PANEL, cls=PanelCommand)(verdict)


def confirm(
    name: NameArgument,
    top: Annotated[
        int | None,
        typer.Option("--top", metavar="N", help="Best trials of so many losses. Default: 3.", rich_help_panel=_WHO),
    ] = None,
    trials: Annotated[
        str | None, typer.Option("--trials", metavar="N,M", help="These trials instead.", rich_help_panel=_WHO)
    ] = None,
    baseline: Annotated[
        str | None,
        typer.Option(
            "--baseline",
            metavar="LOSS|none",
            help="Loss whose published options compete. Default: dice_cross_entropy.",
            rich_help_panel=_WHO,
        ),
    ] = None,
    seeds: Annotated[
        int | None,
        typer.Option(
            "--seeds",
            metavar="N",
            help="Fresh training seeds of each; more are added to earlier ones. Default: 5.",
            rich_help_panel=_HOW,
        ),
    ] = None,
    until: Annotated[
        str | None,
        typer.Option(
            "--until",
            metavar="sure",
            help="Look after 3, 5 and --seeds (8), drop who is beaten, end when all is decided.",
            rich_help_panel=_HOW,
        ),
    ] = None,
    folds: Annotated[
        int | None,
        typer.Option(
            "--folds",
            metavar="F",
            help="Train over F folds, divided anew from each seed: claims are about new cases too.",
            rich_help_panel=_HOW,
        ),
    ] = None,
    on: Annotated[
        str | None,
        typer.Option(
            "--on", metavar="validation|test", help="Cases that are judged. Default: validation.", rich_help_panel=_HOW
        ),
    ] = None,
    margin: Annotated[
        float | None,
        typer.Option(
            "--margin",
            metavar="M",
            help="Smaller differences do not matter. Default: 0.01 for metrics that lie in 0…1, else none.",
            rich_help_panel=_HOW,
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Only say what it will take, and which differences it can see.", rich_help_panel=_HOW
        ),
    ] = False,
    renew: Annotated[
        bool,
        typer.Option(
            "--renew",
            help="Choose the finalists anew, where the search has found others since, or with other options; earlier "
            "runs are kept, and the looks at them counted.",
            rich_help_panel=_WHO,
        ),
    ] = False,
    workers: WorkersOption = None,
    devices: DevicesOption = None,
    per_device: PerDeviceOption = None,
    launcher: LauncherOption = None,
    ray_address: RayAddressOption = None,
    ray_insecure: RayInsecureOption = False,
    log_format: LogFormatOption = None,
    storage: StorageOption = None,
    artifacts: ArtifactsOption = None,
    data_root: DataRootOption = None,
    cache: CacheOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train the finalists of a search and a baseline again with fresh seeds, and say which of them differ."""
    from tuner.artifacts.remote import artifacts_of
    from tuner.cli.confirmation_run import ConfirmRequest, Show, confirm_study, dry_run_document, introduction
    from tuner.cli.stored import open_store
    from tuner.launch.confirmation import forecast, read_wish

    resources = resources_of(workers, devices, per_device, launcher, ray_address, ray_insecure=ray_insecure)
    settings = settings_of(storage, artifacts, data_root, cache)
    section = section_of(
        top=top, seeds=seeds, folds=folds, on=on, baseline=baseline, trials=trials, margin=margin, until=until
    )
    log_as(log_format)
    if dry_run:
        with open_store(settings.storage) as store:
            wish = read_wish(store, name, section, renew=renew)
            found = forecast(wish, artifacts_of(settings, owner=store.studies.folder_mark))
        if as_json:
            output.put_json(dry_run_document(wish, found))
        else:
            for line in introduction(wish, found)[:-1]:
                output.put(line)
        return
    request = ConfirmRequest(name, section, settings, resources, retry=True, renew=renew)
    code = confirm_study(request, show=Show.JSON if as_json else Show.TEXT)
    if code:
        raise typer.Exit(code)


def verdict(
    name: NameArgument,
    storage: StorageOption = None,
    artifacts: ArtifactsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say what may be said of a study's losses now, before or after a confirmation."""
    from tuner.artifacts.remote import artifacts_of
    from tuner.cli.confirmation_run import put_outcome
    from tuner.cli.stored import open_store

    settings = settings_of(storage, artifacts)
    with open_store(settings.storage) as store:
        files = artifacts_of(settings, owner=store.studies.folder_mark)
        put_outcome(store, files, name, settings, as_json=as_json)


def section_of(**flags: Any) -> ConfirmSection:
    """Return the section that flags make; only what was given is set. Raises SpecError."""
    from tuner.config.confirm_section import confirm_section
    from tuner.errors import Problems, SpecError

    given = {key: value for key, value in flags.items() if value is not None}
    problems = Problems()
    if "trials" in given:
        words = [word.strip() for word in given["trials"].split(",")]
        if all(word.isdecimal() for word in words):
            given["trials"] = [int(word) for word in words]
        else:
            trials = given.pop("trials")
            problems.add("--.trials", f"{trials!r} are no numbers of trials, as in --trials 24,80", trials)
    section = confirm_section(given, problems, "--")
    if problems or section is None:
        raise SpecError([replace(problem, path=problem.path.replace("--.", "--")) for problem in problems])
    return section

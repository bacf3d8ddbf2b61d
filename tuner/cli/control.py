"""Steering a study from another terminal: pause, stop, prune, delete."""

from typing import Annotated

import typer

from tuner.cli import output
from tuner.cli.help import PanelCommand
from tuner.cli.options import JsonOption, NameArgument, StorageOption, settings_of

_PANEL = "Steer"


def register(app: typer.Typer) -> None:
    """Enter the commands of this module."""
    for name, command in (("pause", pause), ("stop", stop), ("prune", prune), ("delete", delete)):
        app.command(name, rich_help_panel=_PANEL, cls=PanelCommand)(command)


def pause(name: NameArgument, storage: StorageOption = None, as_json: JsonOption = False) -> None:
    """Let running trials finish and start nothing new."""
    from tuner.cli.stored import open_store

    with open_store(settings_of(storage).storage, write=True) as store:
        store.studies.pause(name)
        document = store.queries.status(name)
    if as_json:
        output.put_json(document)
    else:
        _tell_what_is_left(name, "paused", document["trials"]["running"], "will finish")


def stop(name: NameArgument, storage: StorageOption = None, as_json: JsonOption = False) -> None:
    """Give running trials back to the queue, with their checkpoints, and end the workers."""
    from tuner.cli.stored import open_store

    with open_store(settings_of(storage).storage, write=True) as store:
        store.studies.stop(name)
        document = store.queries.status(name)
    if as_json:
        output.put_json(document)
    else:
        _tell_what_is_left(name, "stopped", document["trials"]["running"], "will be given back")


def prune(
    name: NameArgument,
    number: Annotated[int, typer.Argument(metavar="N", help="Number of a running trial.", min=0)],
    storage: StorageOption = None,
    as_json: JsonOption = False,
) -> None:
    """End one hopeless running trial by hand."""
    from tuner.cli.stored import open_store

    with open_store(settings_of(storage).storage, write=True) as store:
        store.studies.prune_manually(name, number)
        row = store.queries.trial(name, number)
    if as_json:
        output.put_json(row)
    else:
        output.tell(f"Trial {number} of {name} ends after the epoch that it is in.")


def delete(
    name: NameArgument,
    with_artifacts: Annotated[bool, typer.Option("--artifacts", help="Its files as well.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    storage: StorageOption = None,
    artifacts_dir: Annotated[
        str | None, typer.Option("--artifacts-dir", metavar="DIR", help="Where the files are, if not at the default.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Delete a study that does not run. Asks first."""
    from tuner.artifacts.remote import artifacts_of
    from tuner.cli.stored import open_store

    settings = settings_of(storage, artifacts_dir)
    files = artifacts_of(settings)
    with open_store(settings.storage, write=True) as store:
        counts = store.queries.status(name)["trials"]
        done = counts["complete"] + counts["pruned"] + counts["failed"]
        what = f"the study {name} with its {counts['total']} trials ({done} finished)"
        if with_artifacts:
            what += f" and all files in {files.place}/{name}"
        if not yes:
            _ask(what, name)
        store.studies.delete(name)
    if with_artifacts:
        files.delete(name)
    if as_json:
        output.put_json({"deleted": name, "artifacts": with_artifacts})
    else:
        output.tell(f"Deleted {what}.")


def _ask(what: str, name: str) -> None:
    import sys

    from tuner.errors import RequestError

    if not sys.stdin.isatty():
        raise RequestError(
            f"this would delete {what}, and nobody is there to be asked.", hint=f"tuner delete {name} --yes"
        )
    if not typer.confirm(f"Delete {what}?", err=True):
        output.tell("Nothing was deleted.")
        raise typer.Exit(0)


def _tell_what_is_left(name: str, verb: str, running: int, fate: str) -> None:
    plural = "trial" if running == 1 else "trials"
    left = f" {running} running {plural} {fate}." if running else ""
    output.tell(f"{name} is {verb}.{left} It goes on with: tuner resume {name}")

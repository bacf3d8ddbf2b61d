"""`pause`, `stop`, `prune`, `retry`, `delete`: controlling a study from another terminal."""

from pathlib import Path
from typing import Annotated, Any

import typer

from tuner.cli import output
from tuner.cli.help import PanelCommand
from tuner.cli.options import JsonOption, NameArgument, StorageOption, settings_of

_PANEL = "Control"


def register(app: typer.Typer) -> None:
    """Enter the commands of this module."""
    for name, command in (
        ("pause", pause),
        ("stop", stop),
        ("prune", prune),
        ("enqueue", enqueue),
        ("retry", retry),
        ("delete", delete),
    ):
        app.command(name, rich_help_panel=_PANEL, cls=PanelCommand)(command)


def pause(name: NameArgument, storage: StorageOption = None, as_json: JsonOption = False) -> None:
    """Let running trials finish and start nothing new."""
    from tuner.cli.stored import open_store, record_activity

    with open_store(settings_of(storage).storage, write=True) as store:
        store.studies.pause(name)
        record_activity(store, name, "pause")
        document = store.queries.status(name)
    if as_json:
        output.put_json(document)
    else:
        _tell_what_is_left(name, "paused", document["trials"]["running"], "will finish")


def stop(
    name: NameArgument,
    now: Annotated[
        bool, typer.Option("--now", help="End the process of a trial that does not answer within 10 s.")
    ] = False,
    storage: StorageOption = None,
    as_json: JsonOption = False,
) -> None:
    """Return running trials to the queue, with their checkpoints, and end the workers."""
    from tuner.cli.stored import open_store, record_activity

    with open_store(settings_of(storage).storage, write=True) as store:
        store.studies.stop(name, now=now)
        record_activity(store, name, "stop", "now" if now else "")
        document = store.queries.status(name)
    if as_json:
        output.put_json(document)
    else:
        _tell_what_is_left(name, "stopped", document["trials"]["running"], "will be returned to the queue")


def prune(
    name: NameArgument,
    number: Annotated[int, typer.Argument(metavar="N", help="Number of a running trial.", min=0)],
    now: Annotated[
        bool,
        typer.Option("--now", help="At its next step; its process is ended when it does not answer within 10 s."),
    ] = False,
    storage: StorageOption = None,
    as_json: JsonOption = False,
) -> None:
    """End one hopeless running trial by hand."""
    from tuner.cli.stored import open_store, record_activity
    from tuner.storage.activity import numbered

    with open_store(settings_of(storage).storage, write=True) as store:
        store.studies.prune_manually(name, number, now=now)
        record_activity(store, name, "prune", numbered([number]))
        row = store.queries.trial(name, number)
    if as_json:
        output.put_json(row)
    else:
        when = "now, its process after 10 s if need be" if now else "after the epoch that it is in"
        output.tell(f"Trial {number} of {name} ends {when}.")


def enqueue(
    name: NameArgument,
    params: Annotated[
        str | None,
        typer.Option("--params", metavar="JSON", help='One point, whole or in part: {"loss": "dice"}.'),
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option("--file", metavar="POINTS.csv|yaml", help="Several: a column a parameter, or a list of mappings."),
    ] = None,
    skip_existing: Annotated[
        bool, typer.Option("--skip-existing", help="Pass over points that a trial has already.")
    ] = False,
    storage: StorageOption = None,
    as_json: JsonOption = False,
) -> None:
    """Try these points next, in empty places of the budget, else it grows. The sampler chooses what is left out."""
    from tuner.cli.stored import open_store, record_activity
    from tuner.config.point_file import as_value, read_points
    from tuner.errors import RequestError
    from tuner.storage.activity import numbered

    if (params is None) == (file is None):
        found = "neither was given" if params is None else "both were given"
        raise RequestError(
            f"enqueue needs either --params or --file; {found}.", hint="tuner enqueue NAME --params JSON"
        )
    with open_store(settings_of(storage).storage, write=True) as store:
        space = store.studies.get(name).space
        if file is not None:
            points = read_points(file, space)
        else:
            points = [{key: as_value(space.find(key), value) for key, value in _point_of(params or "").items()}]
        numbers = store.studies.enqueue_all(name, points, skip_existing=skip_existing)
        document = store.queries.status(name)
        put = [number for number in numbers if number is not None]
        if put:
            record_activity(store, name, "enqueue", numbered(put))
    skipped = len(numbers) - len(put)
    if as_json:
        output.put_json({"name": name, "numbers": numbers, "enqueued": len(put), "skipped": skipped})
        return
    also = f", {skipped} passed over that a trial has already" if skipped else ""
    trials = f"trial{'s' * (len(put) > 1)} {', '.join(map(str, put))}" if put else "nothing"
    served = document["phase"] == "running" and document["workers"]
    again = "" if served or not put else f" Workers are started by: tuner resume {name}"
    output.tell(f"{name}: {trials} enqueued{also}; the budget is {document['trials']['total']} trials.{again}")


def _point_of(text: str) -> dict[str, Any]:
    """Read the JSON of one point. Raises SpecError."""
    import json

    from tuner.errors import SpecError

    try:
        found = json.loads(text)
    except ValueError as error:
        raise SpecError([f"{text[:80]!r} is not JSON ({error})"], where="--params") from error
    if not isinstance(found, dict) or not found:
        raise SpecError(
            [f"{text[:80]!r} is no JSON object with at least one parameter; the sampler chooses the others"],
            where="--params",
        )
    return found


def retry(
    name: NameArgument,
    numbers: Annotated[
        list[int] | None, typer.Argument(metavar="[N…]", help="Numbers of failed trials.", min=0, show_default=False)
    ] = None,
    failed: Annotated[bool, typer.Option("--failed", help="All trials that failed.")] = False,
    storage: StorageOption = None,
    as_json: JsonOption = False,
) -> None:
    """Put failed trials back into the queue, once the cause is mended."""
    from tuner.cli.stored import open_store, record_activity
    from tuner.errors import RequestError
    from tuner.storage.activity import numbered

    if bool(numbers) == failed:
        found = "both were given" if failed else "neither was given"
        raise RequestError(
            f"retry needs either numbers of failed trials or --failed; {found}.",
            hint=f"tuner trials {name} lists them.",
        )
    with open_store(settings_of(storage).storage, write=True) as store:
        again = store.studies.retry(name, numbers or None)
        if again:
            record_activity(store, name, "retry", numbered(list(again)))
        document = store.queries.status(name)
    if as_json:
        output.put_json({"name": name, "retried": [{"number": n, "again": a} for n, a in again.items()]})
    elif not again:
        output.tell(f"No trial of {name} has failed.")
    else:
        listed = ", ".join(f"{n} as {a}" for n, a in again.items())
        served = document["phase"] in ("running", "queued") and document["workers"]
        output.tell(
            f"{len(again)} trial{'s' * (len(again) > 1)} of {name} wait again: {listed}."
            + ("" if served else f" It goes on with: tuner resume {name}")
        )


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
    from tuner.cli.stored import open_store, record_activity

    settings = settings_of(storage, artifacts_dir)
    with open_store(settings.storage, write=True) as store:
        files = artifacts_of(settings, owner=store.studies.folder_mark)
        counts = store.queries.status(name)["trials"]
        done = counts["complete"] + counts["pruned"] + counts["failed"]
        what = f"the study {name} with its {counts['total']} trials ({done} finished)"
        are_its_own, identity = files.is_owned(name), store.studies.get(name).identity
        if with_artifacts and are_its_own:
            what += f" and all files in {files.place}/{name}"
        if not yes:
            _ask(what, name)
        store.studies.delete(name)
        record_activity(store, name, "delete", "with its files" if with_artifacts and are_its_own else "")
    if with_artifacts and are_its_own:
        files.delete(name)
    if are_its_own:
        files.sign(name, identity)
    stays = f"{files.place}/{name}" if files.has_folder(name) else None
    if as_json:
        output.put_json({"deleted": name, "artifacts": with_artifacts and are_its_own, "stays": stays})
        return
    output.tell(f"Deleted {what}.")
    if stays is not None:
        whose = "Files of its trials" if are_its_own else "Files of an earlier study of that name"
        output.tell(
            f"{whose} stay in {stays}; a new study of the name will not show them. "
            "`tuner gc --unknown-studies` lists and removes such folders."
        )


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

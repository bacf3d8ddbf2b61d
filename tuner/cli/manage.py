"""`rename`, `archive`, `activity`: keeping the studies of a storage in order, and who changed what."""

from typing import Annotated

import typer

from tuner.cli import output
from tuner.cli.help import PanelCommand
from tuner.cli.options import ArtifactsOption, JsonOption, NameArgument, StorageOption, settings_of

_PANEL = "Control"


def register(app: typer.Typer) -> None:
    """Enter the commands of this module."""
    for name, command in (("rename", rename), ("archive", archive), ("activity", activity)):
        app.command(name, rich_help_panel=_PANEL, cls=PanelCommand)(command)


def rename(
    name: NameArgument,
    new: Annotated[str, typer.Argument(metavar="NEW", help="Its new name.", show_default=False)],
    storage: StorageOption = None,
    artifacts: ArtifactsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Give a study another name, with its confirmation and its files; refused while workers serve it."""
    from tuner.artifacts.remote import artifacts_of
    from tuner.cli.stored import open_store, record_activity
    from tuner.errors import SpecError
    from tuner.launch.rename import rename_study

    settings = settings_of(storage, artifacts)
    with open_store(settings.storage, write=True) as store:
        try:
            rename_study(store, artifacts_of(settings, owner=store.studies.folder_mark), name, new)
        except SpecError as error:
            raise SpecError([problem.message for problem in error.problems], where="NEW") from error
        record_activity(store, new, "rename", f"it was {name}")
        document = store.queries.status(new)
    if as_json:
        output.put_json(document)
    else:
        output.tell(f"{name} is called {new} now; change scripts that name it. It goes on with: tuner resume {new}")


def archive(
    name: NameArgument,
    undo: Annotated[bool, typer.Option("--undo", help="Take it back.")] = False,
    storage: StorageOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take a study out of lists and of use; it keeps all it has. One that has trials left is stopped first."""
    from tuner.cli.stored import open_store, record_activity

    with open_store(settings_of(storage).storage, write=True) as store:
        store.studies.archive(name, archived=not undo)
        record_activity(store, name, "unarchive" if undo else "archive")
        document = store.queries.status(name)
    if as_json:
        output.put_json(document)
    elif undo:
        output.tell(f"{name} is back. It goes on with: tuner resume {name}")
    else:
        output.tell(f"{name} is archived. tuner archive {name} --undo takes it back; tuner studies --all lists it.")


def activity(
    name: Annotated[
        str | None,
        typer.Argument(metavar="[NAME]", help="A study. Default: all, with those deleted.", show_default=False),
    ] = None,
    lines: Annotated[int, typer.Option("-n", "--lines", help="So many newest entries.", min=1)] = 50,
    storage: StorageOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say who changed what, newest first: by the command line, the service and its pages."""
    from tuner.cli.stored import open_store

    with open_store(settings_of(storage).storage) as store:
        page = store.activity.page(name, limit=lines)
    if as_json:
        output.put_json(page)
        return
    if not page["items"]:
        output.tell("No changes are logged yet.")
        return
    rows = [(output.when(e["at"]), e["actor"], e["study"], e["action"], e["detail"]) for e in page["items"]]
    output.put_table(("when", "who", "study", "what", "details"), rows)
    if page["total"] > len(rows):
        output.tell(f"{page['total'] - len(rows)} earlier entries: -n {page['total']}")

"""`db`: the storage itself: its schema, copies of it, and a server for it."""

import typer

from tuner.cli import database_copy, output
from tuner.cli import db as database_serve
from tuner.cli.help import PanelCommand, make_group
from tuner.cli.options import JsonOption, StorageOption, settings_of

db = make_group("Serve, copy, migrate and check the storage.")


def register(app: typer.Typer) -> None:
    """Enter the commands of this module."""
    app.add_typer(db, name="db", rich_help_panel="Machine room")
    db.command("serve", cls=PanelCommand)(database_serve.serve_command)
    db.command("backup", cls=PanelCommand)(database_copy.backup_command)
    db.command("restore", cls=PanelCommand)(database_copy.restore_command)


@db.command("upgrade", cls=PanelCommand)
def upgrade_command(storage: StorageOption = None, as_json: JsonOption = False) -> None:
    """Create the schema, or bring it to this version."""
    from tuner.storage.storage import upgrade

    document = upgrade(settings_of(storage).storage)
    if as_json:
        output.put_json(document)
    elif document["from"] == document["to"]:
        output.tell(f"{document['storage']}: schema {document['to']}, nothing to do")
    else:
        output.tell(f"{document['storage']}: schema {document['from'] or 'none'} → {document['to']}")


@db.command("check", cls=PanelCommand)
def check_command(storage: StorageOption = None, as_json: JsonOption = False) -> None:
    """Say which schema the storage has and which is needed; exit 1 when they differ."""
    from tuner.storage.storage import check

    document = check(settings_of(storage).storage)
    if as_json:
        output.put_json(document)
    else:
        output.put(f"{document['storage']}: schema {document['schema'] or 'none'}, needed {document['needed']}")
        output.put(f"Optuna's tables: {document['optuna_schema'] or 'none'}, needed {document['optuna_needed']}")
    if not document["ok"]:
        output.tell("tuner db upgrade brings it up to date")
        raise typer.Exit(1)

"""`db backup` and `db restore`: a whole storage as one file, and back into either kind of database."""

from pathlib import Path
from typing import Annotated, Any

import typer

from tuner.cli import output
from tuner.cli.options import JsonOption, StorageOption, settings_of

FileArgument = Annotated[Path, typer.Argument(metavar="FILE", help="The copy.", show_default=False)]


def backup_command(file: FileArgument, storage: StorageOption = None, as_json: JsonOption = False) -> None:
    """Copy the whole storage, as it is at this moment, into a new file; workers go on.

    The file is an SQLite storage itself: `tuner status NAME --storage sqlite:///FILE` reads it. Files of trials are not
    in it; copy the artifacts folder as well.
    """
    from tuner.storage.backup import backup

    document = backup(settings_of(storage).storage, file)
    if as_json:
        output.put_json(document)
    else:
        output.tell(
            f"{document['storage']} → {document['file']}: {_size(document)}, {document['bytes'] / 2**20:.1f} MiB"
        )


def restore_command(file: FileArgument, storage: StorageOption = None, as_json: JsonOption = False) -> None:
    """Bring a copy back into a storage without studies: a new SQLite file, or an empty PostgreSQL database.

    It need not be the kind of database that it came from: this is how a study moves from one machine to many.
    """
    from tuner.storage.backup import restore

    document = restore(file, settings_of(storage).storage)
    if as_json:
        output.put_json(document)
        return
    newer = "" if document["from"] == document["schema"] else f", schema {document['from']} → {document['schema']}"
    output.tell(f"{document['file']} → {document['storage']}: {_size(document)}{newer}")
    output.tell("Trials that ran when the copy was made are given to the next workers, once their own are silent.")


def _size(document: dict[str, Any]) -> str:
    rows = document["rows"]
    return f"{rows.get('studies', 0)} studies, {rows.get('trials', 0)} trials, {rows.get('tuner_epochs', 0)} epochs"

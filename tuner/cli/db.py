"""`db`: schema of the storage, backup and restore into either kind of database, a PostgreSQL server of one's own."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tuner.cli import output
from tuner.cli.failures import INTERRUPTED
from tuner.cli.help import PanelCommand, make_group
from tuner.cli.options import JsonOption, StorageOption, settings_of

if TYPE_CHECKING:
    from tuner.postgres import Address, Home, PostgresServer


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


_LOOK_S = 0.5


def serve_command(
    folder: Annotated[Path, typer.Option("--dir", metavar="DIR", help="Its folder, on a local disk; made if missing.")],
    host: Annotated[
        str | None,
        typer.Option("--host", metavar="ADDRESS", help="Address to listen on. Default: every one of this machine."),
    ] = None,
    port: Annotated[
        int | None, typer.Option("--port", metavar="N", help="Default: 5432 or any free one; later the same again.")
    ] = None,
    connections: Annotated[
        int,
        typer.Option("--connections", metavar="N", help="Room for so many; a worker needs two.", min=10, max=10_000),
    ] = 500,
    as_json: JsonOption = False,
) -> None:
    """Serve a PostgreSQL of your own, with a password, for workers on several machines; Ctrl-C ends it.

    The first call makes the database in DIR; later ones serve it again, with the same password and port.
    """
    from tuner.postgres import (
        Home,
        PostgresServer,
        account_for,
        check_folder,
        choose_address,
        find_programs,
        held,
        make_folder,
    )

    folder = folder.expanduser().absolute()
    check_folder(folder)
    home = Home(folder, account_for(folder))
    kept = home.address()
    programs = find_programs(home.version())
    if kept is None:
        choose_address(None, host, port)  # refused before anything is made
    made = make_folder(folder)
    with _listening() as (stop, signals), held(home):
        home.own(folder)
        address = choose_address(kept, host, port)
        server = PostgresServer(home, programs, address, connections=connections)
        try:
            home.keep(address)
            server.create()
        except BaseException:
            if kept is None:
                _forget(home, made=made)
            raise
        try:
            server.start()
            _tell(home, server, address, as_json=as_json)
            _keep(server, stop)
        finally:
            server.stop()
    if signal.SIGINT in signals:
        raise typer.Exit(INTERRUPTED)


def _keep(server: "PostgresServer", stop: threading.Event) -> None:
    from tuner.errors import RunError

    while not stop.wait(_LOOK_S):
        code = server.exit_code()
        if code is not None:
            how = f"was killed by signal {-code}" if code < 0 else f"has ended by itself with code {code}"
            raise RunError(
                f"PostgreSQL {how}. The last it said:\n{server.exit_message()}",
                hint="The same command starts it again; what was reported is kept.",
                where=str(server.home.log),
            )
    output.tell("stopping: what is connected is cut off, and tries again until the server is back")


def _tell(home: "Home", server: "PostgresServer", address: "Address", *, as_json: bool) -> None:
    """Print the URL on stdout, and what to do with it on stderr."""
    import sys

    facts: dict[str, Any] = {
        "url": address.url(),
        "dir": str(home.folder),
        "host": address.host,
        "port": address.port,
        "pid": server.pid,
        "version": server.programs.major,
        "connections": server.connections,
    }
    if as_json:
        output.put_json(facts)
    else:
        output.put(facts["url"])
    sys.stdout.flush()
    who = f" as {home.account.name}" if home.account else ""
    output.tell(
        f"PostgreSQL {server.programs.major} serves {home.folder}{who} on {address.host}, port {address.port} "
        f"(room for {server.connections} connections); Ctrl-C ends it."
    )
    output.tell(f'On this machine:       export TUNER_STORAGE="$(cat {home.folder / "url"})"')
    if address.is_local:
        output.tell("No other machine reaches it: --host 0.0.0.0 would let them in.")
    else:
        output.tell(f"On the other machines: export TUNER_STORAGE={address.url()}")
        output.tell("                       tuner worker --any")


def _forget(home: "Home", *, made: bool) -> None:
    """Take back what a first start that failed has made."""
    import shutil

    if made:
        shutil.rmtree(home.folder, ignore_errors=True)
        return
    for name in ("tuner-server.json", "url", ".lock"):
        (home.folder / name).unlink(missing_ok=True)
    shutil.rmtree(home.log, ignore_errors=True)


@contextmanager
def _listening() -> Iterator[tuple[threading.Event, list[int]]]:
    """Stop in order at Ctrl-C, SIGTERM or when the terminal is closed."""
    stop, seen = threading.Event(), list[int]()

    def take(number: int, frame: FrameType | None) -> None:
        seen.append(number)
        stop.set()

    before = {number: signal.signal(number, take) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield stop, seen
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


db = make_group("Serve, copy, migrate and check the storage.")


def register(app: typer.Typer) -> None:
    """Enter the commands of this module."""
    app.add_typer(db, name="db", rich_help_panel="Maintenance")
    db.command("serve", cls=PanelCommand)(serve_command)
    db.command("backup", cls=PanelCommand)(backup_command)
    db.command("restore", cls=PanelCommand)(restore_command)


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

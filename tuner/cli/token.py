"""`token`: named tokens of the service, each with a role: add, list, revoke."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer

from tuner.cli import output
from tuner.cli.help import PanelCommand, make_group
from tuner.cli.options import JsonOption

TokensOption = Annotated[
    Path | None,
    typer.Option(
        "--tokens",
        metavar="FILE",
        envvar="TUNER_TOKENS",
        help="The file of tokens, as `tuner serve` reads it. Or TUNER_TOKENS.",
        show_default=False,
        show_envvar=False,
    ),
]
TokenNameArgument = Annotated[str, typer.Argument(metavar="NAME", help="Name of the token.", show_default=False)]
MAX_LIFETIME_S = 100 * 365 * 86_400.0

token = make_group("Named tokens of the service: add, list, revoke.")


def register(app: typer.Typer) -> None:
    """Enter the commands of this module."""
    app.add_typer(token, name="token", rich_help_panel="Maintenance")


@token.command("add", cls=PanelCommand)
def add_command(
    name: TokenNameArgument,
    role: Annotated[
        str,
        typer.Option(
            "--role",
            metavar="read|run|admin",
            help="read: look. run: also create, steer, enqueue, annotate, archive. admin: also delete and rename.",
            show_default=False,
        ),
    ],
    expires: Annotated[
        str | None,
        typer.Option("--expires", metavar="SPAN", help="Ends after 12h, 90d …; without it never.", show_default=False),
    ] = None,
    tokens: TokensOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a token and print it, this once; the file keeps its hash. A service that runs takes it at once."""
    from tuner.tokens import add_token

    path = _file(tokens)
    entry, secret = add_token(path, name, role, _lifetime(expires))
    if as_json:
        output.put_json(entry.as_document(datetime.now(UTC)) | {"token": secret})
        return
    output.put(secret)
    end = f", until {output.when(entry.expires)}" if entry.expires else ""
    output.tell(f"{entry.name} ({entry.role}{end}) is in {path}. The token is shown this once.")


@token.command("list", cls=PanelCommand)
def list_command(tokens: TokensOption = None, as_json: JsonOption = False) -> None:
    """List the tokens of the file: names, roles and ends."""
    from tuner.tokens import read_tokens

    now = datetime.now(UTC)
    rows = [entry.as_document(now) for entry in read_tokens(_file(tokens))]
    if as_json:
        output.put_json(rows)
        return
    output.put_table(
        ["name", "role", "created", "expires"],
        [
            [
                row["name"],
                row["role"],
                output.when(row["created"]),
                output.when(row["expires"]) + (" (expired)" if row["expired"] else ""),
            ]
            for row in rows
        ],
    )


@token.command("revoke", cls=PanelCommand)
def revoke_command(name: TokenNameArgument, tokens: TokensOption = None) -> None:
    """Take a token away: it and every session that was begun with it end at once."""
    from tuner.tokens import revoke_token

    revoke_token(_file(tokens), name)
    output.tell(f"{name} opens nothing any more")


def _file(tokens: Path | None) -> Path:
    from tuner.errors import SpecError

    if tokens is None:
        raise SpecError(
            ["no file of tokens is named"], where="--tokens", hint="Name it, or set TUNER_TOKENS=/path/tokens.json."
        )
    return tokens.expanduser().absolute()


def _lifetime(text: str | None) -> timedelta | None:
    from tuner.config.study import parse_duration
    from tuner.errors import Problems

    problems = Problems()
    seconds = parse_duration(text, "--expires", problems)
    if seconds is not None and seconds > MAX_LIFETIME_S:
        problems.add("--expires", f"{text!r} is more than 100 years; leave it out for a token without an end", text)
    problems.refuse()
    return timedelta(seconds=seconds) if seconds is not None else None

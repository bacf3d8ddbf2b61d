"""All commands in one tree, and the one place from which every failure is shown."""

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from tuner.cli import (
    bench,
    catalog,
    compare,
    confirm,
    control,
    data,
    db,
    ensemble,
    init,
    launch,
    league,
    maintenance,
    manage,
    plan,
    predict,
    recommend,
    report,
    serve,
    show,
    token,
    train,
    worker,
)
from tuner.cli.failures import exit_code_of
from tuner.cli.help import SuggestingGroup

DEBUG = "--debug"

app = typer.Typer(
    name="tuner",
    cls=SuggestingGroup,
    rich_markup_mode=None,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Find the right loss, and its options, for a segmentation model. Begin with: tuner launch --dataset phantom",
)

for module in (
    init,
    launch,
    plan,
    recommend,
    worker,
    control,
    manage,
    show,
    train,
    predict,
    ensemble,
    report,
    compare,
    bench,
    confirm,
    league,
    catalog,
    data,
    db,
    maintenance,
    serve,
    token,
):
    module.register(app)


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
    debug: Annotated[bool, typer.Option(DEBUG, help="Show tracebacks; may stand anywhere.")] = False,
) -> None:
    if version:
        from tuner import __version__

        typer.echo(__version__)
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def run(arguments: Sequence[str]) -> int:
    """Run one command; return its exit code."""
    words, debug = without_debug(arguments)
    try:
        result: Any = typer.main.get_command(app).main(args=words, prog_name="tuner", standalone_mode=False)
    except BaseException as error:
        return exit_code_of(error, words, debug=debug)
    return result if isinstance(result, int) and not isinstance(result, bool) else 0


def without_debug(arguments: Sequence[str]) -> tuple[list[str], bool]:
    """Take `--debug` out of the words, wherever it stands before `--`."""
    words = list(arguments)
    end = words.index("--") if "--" in words else len(words)
    head = [word for word in words[:end] if word != DEBUG]
    return head + words[end:], len(head) < end

"""Commands and groups with plain help in panels (Rich's would cost half of the time that help may take)."""

from collections.abc import Iterable
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from tuner.errors import UnknownNameError

_WHOLE_SENTENCE = 500
"""Characters of a summary in a list of commands: never cut off, the formatter wraps it."""


class PanelCommand(TyperCommand):
    """A command whose help shows its options by panel."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write arguments first, then each panel."""
        panels: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                kind = "Arguments" if parameter.param_type_name == "argument" else "Options"
                panels.setdefault(getattr(parameter, "rich_help_panel", None) or kind, []).append(record)
        last = panels.pop("Options", [])
        _write(formatter, [*panels.items(), ("Options", last)])


class SuggestingGroup(TyperGroup):
    """A group whose help shows its commands by panel, and that answers an unknown name with the closest known one."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command that the first word names. Raises UnknownNameError."""
        if args and not args[0].startswith("-") and self.get_command(ctx, args[0]) is None:
            raise UnknownNameError(kind="command", name=args[0], known=self.commands, where=ctx.command_path)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write each panel with its commands, in the order in which they were entered."""
        panels: dict[str, list[tuple[str, str]]] = {}
        for name, command in self.commands.items():
            panel = getattr(command, "rich_help_panel", None)
            title = panel if isinstance(panel, str) else "Commands"
            panels.setdefault(title, []).append((name, command.get_short_help_str(_WHOLE_SENTENCE)))
        _write(formatter, panels.items())


def make_group(summary: str) -> typer.Typer:
    """Return an empty group of commands."""
    return typer.Typer(
        cls=SuggestingGroup,
        help=summary,
        no_args_is_help=True,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
    )


def _write(formatter: Any, panels: Iterable[tuple[str, list[tuple[str, str]]]]) -> None:
    for title, records in panels:
        if records:
            with formatter.section(title):
                formatter.write_dl(records)

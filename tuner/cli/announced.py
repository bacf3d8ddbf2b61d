"""Commands that the contract announces and that this version does not have yet: listed, refused with exit code 2."""

from collections.abc import Callable

import typer

from tuner.cli.group import PanelCommand

_PANEL = "Later"
_LATER = {
    "plan": "Say what a study will take, from a probe of a minute (not in this version).",
    "predict": "Make masks for new images with a trained model (not in this version).",
    "report": "Write a study as a document that opens offline (not in this version).",
}


def register(app: typer.Typer) -> None:
    """Enter the commands of this module."""
    for name, summary in _LATER.items():
        app.command(
            name,
            help=summary,
            rich_help_panel=_PANEL,
            cls=PanelCommand,
            context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
        )(_refusal(name))


def _refusal(name: str) -> Callable[[typer.Context], None]:
    def refuse(context: typer.Context) -> None:
        from tuner.errors import NotInThisVersionError

        raise NotInThisVersionError(f"tuner {name}")

    return refuse

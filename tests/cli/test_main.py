"""The front door: help, wrong words, streams and exit codes."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.shell import Shell, run_apart
from tuner.cli.main import app, without_debug

HEAVY = ("torch", "monai", "optuna", "sqlalchemy")
CONTRACT = (
    *("launch", "worker", "plan", "resume", "pause", "stop", "prune", "delete", "studies", "status", "trials", "best"),
    *("logs", "export", "train", "predict", "report", "serve", "losses", "datasets", "models", "data", "db", "doctor"),
)


@pytest.mark.parametrize("words", [["--help"], ["launch", "--help"], ["studies", "--help"], ["lunch"]], ids=" ".join)
def test_help_and_refusals_import_nothing_heavy(words: list[str]) -> None:
    """Half a second is what help may take; torch alone takes three."""
    script = (
        "import sys; from tuner.cli.main import run; "
        f"run({words!r}); print([m for m in {HEAVY!r} if m in sys.modules], file=sys.stderr)"
    )

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert done.stderr.splitlines()[-1] == "[]"


def test_help_lists_every_command_of_the_contract(tuner: Shell) -> None:
    """A command that help does not name does not exist for a newcomer, announced ones included."""
    result = tuner("--help")

    assert result.code == 0
    assert result.err == ""
    assert [name for name in CONTRACT if f"\n  {name} " not in result.out] == []


def test_the_help_is_in_panels_with_common_names(tuner: Shell) -> None:
    """Of commands, and of options."""
    text = tuner("--help").out
    options = tuner("launch", "--help").out

    for title in ("Search:", "Control:", "Inspect:", "Results:", "Catalogue:", "Maintenance:"):
        assert f"\n{title}\n" in text
    assert "Resources (" in options
    assert "Storage and paths (" in options


def test_no_words_at_all_show_the_help(tuner: Shell) -> None:
    """`tuner` alone is how everybody begins."""
    assert tuner().out == tuner("--help").out


def test_version(tuner: Shell) -> None:
    """Bug reports begin with it."""
    from tuner import __version__

    assert tuner("--version").out == f"{__version__}\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["lunch"], "Did you mean 'launch'?"),
        (["db", "upgrad"], "Did you mean 'upgrade'?"),
        (["launch", "--trails", "3"], "Did you mean '--trials'?"),
        (["launch", "--trials", "many"], "'many'"),
        (["status"], "NAME"),
        (["losses", "focl"], "Did you mean 'focal'?"),
        (["datasets", "synaps"], "Did you mean 'synapse'?"),
        (["models", "unett"], "Did you mean 'unet'?"),
        (["worker"], "--study NAME or --any"),
        (["worker", "--study", "a", "--any"], "both were given"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_wrong_words_are_answered_with_the_right_ones(tuner: Shell, here: Path, words: list[str], said: str) -> None:
    """Exit code 2, on stderr, with the closest known name, and no traceback."""
    result = tuner(*words)

    assert result.code == 2
    assert said in result.err
    assert result.out == ""
    assert "Traceback" not in result.err
    assert list(here.iterdir()) == []


def test_debug_may_stand_anywhere_and_shows_the_traceback(tuner: Shell) -> None:
    """Whoever looks for a defect types it where the cursor is."""
    for words in (["--debug", "losses", "focl"], ["losses", "focl", "--debug"]):
        result = tuner(*words)
        assert result.code == 2
        assert "Traceback" in result.err


def test_debug_after_two_dashes_is_a_word() -> None:
    """What follows `--` is never ours to interpret."""
    assert without_debug(["best", "--", "--debug"]) == (["best", "--", "--debug"], False)


def test_a_defect_of_ours_is_one_line(tuner: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """A traceback is for us; a user gets the error and how to see more."""
    import tuner.cli.output as output

    def broken(document: object) -> None:
        raise ZeroDivisionError("boom")

    monkeypatch.setattr(output, "put_json", broken)
    result = tuner("losses", "--json")

    assert result.code == 1
    assert "ZeroDivisionError: boom" in result.err
    assert "--debug" in result.err
    assert "Traceback" not in result.err


def test_a_reader_that_goes_away_is_no_failure(here: Path) -> None:
    """`tuner losses | head -1` ends quietly."""
    line = f"{sys.executable} -m tuner losses --json | head -1"

    done = subprocess.run(["bash", "-o", "pipefail", "-c", line], capture_output=True, text=True, check=False)

    assert done.stdout == "[\n"
    assert "Traceback" not in done.stderr


def test_data_goes_to_stdout_and_words_to_stderr(here: Path) -> None:
    """As a real process: pipes must get nothing but the data."""
    result = run_apart(here, "studies", "--json")

    assert result.code == 2
    assert result.out == ""
    assert "there is no such database" in result.err


def test_every_reporting_command_takes_json() -> None:
    """Scripts ask every command the same way."""
    import typer

    group = typer.main.get_command(app)
    without = [
        name
        for name, command in group.commands.items()  # type: ignore[attr-defined]
        if name not in ("worker", "logs", "serve", "plan", "predict", "report", "data", "db", "bench", "token")
        and not any("--json" in parameter.opts for parameter in command.params)
    ]

    assert without == []

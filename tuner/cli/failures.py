"""Failures of commands as messages on stderr and exit codes."""

import errno
import os
import sys
import traceback
from collections.abc import Sequence
from itertools import pairwise

import typer

from tuner.errors import TunerError, closest

UsageError: type[Exception] = typer.BadParameter.__bases__[0]
"""Typer's own refusals (unknown option, missing argument, bad value); where the class lives depends on its version."""

_OURS = ("tuner", "api")
INTERRUPTED = 130
WRONG_REQUEST = 2
FAILED = 1


def exit_code_of(error: BaseException, words: Sequence[str], *, debug: bool) -> int:
    """Show why a command ended and return its exit code; with `debug` the traceback comes first."""
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else 0 if error.code is None else FAILED
    if isinstance(error, BrokenPipeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    if isinstance(error, (KeyboardInterrupt, typer.Abort)):
        tell("interrupted")
        return INTERRUPTED
    if debug:
        traceback.print_exception(error, file=sys.stderr)
    if isinstance(error, UsageError):
        if type(error).__name__ == "NoArgsIsHelpError":  # a group without a command: its message is its help
            tell(str(error))
            return WRONG_REQUEST
        tell(f"Error: {usage(error, words)}")
        return WRONG_REQUEST
    if isinstance(error, TunerError):
        show(error)
        return error.exit_code
    tell(f"Error: {unexpected(error)}")
    if not debug:
        tell("  again with --debug for the whole story: tuner " + " ".join([*words, "--debug"]))
    return FAILED


def show(error: TunerError) -> None:
    """Write an error of ours: where, what, and on lines of their own what would be right."""
    place = f"{error.where}: " if error.where else ""
    tell(f"Error: {place}{error.message}")
    if error.hint:
        tell("\n".join(f"  {line}" for line in error.hint.splitlines()))


def usage(error: Exception, words: Sequence[str]) -> str:
    """Write one of Typer's refusals with the command that it is about and the closest known option."""
    context = getattr(error, "ctx", None)
    where = f"{context.command_path}: " if context is not None else ""
    text = str(getattr(error, "format_message", lambda: str(error))()).strip()
    text += _found(error, words)
    wrong = getattr(error, "option_name", None)
    if wrong and context is not None:
        known = [name for parameter in context.command.params for name in parameter.opts if name.startswith("--")]
        near = closest(wrong, known)
        text = f"no such option {wrong!r}." + (f" Did you mean {near!r}?" if near else "")
        text += f" Known: {', '.join(sorted(known))}."
    return f"{where}{text}\n  {context.command_path} --help says more." if context is not None else text


def _found(error: Exception, words: Sequence[str]) -> str:
    """Return the value that was refused, when it is the word after one of the option's names."""
    names = getattr(getattr(error, "param", None), "opts", ())
    for name in names if isinstance(error, typer.BadParameter) else ():
        for word, following in pairwise(words):
            if word == name and following not in str(error):
                return f" (found {following!r})"
    return ""


def unexpected(error: BaseException) -> str:
    """Say what the operating system, or a defect of ours, has stopped us with."""
    if isinstance(error, OSError):
        place = f"{error.filename}: " if error.filename else ""
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return f"{place}no space left on the disk. Free some space, then try again."
        return f"{place}{error.strerror or error}"
    if isinstance(error, MemoryError):
        return "the machine has no memory left."
    if isinstance(error, ImportError) and (error.name or "").partition(".")[0] not in _OURS:
        place = f" (asked for by {_importer(error)})"
        return f"{error}{place}: the installation lacks it, or another package has its name. `tuner doctor` says more."
    return f"{type(error).__name__}: {error} (a defect of tuner, not of the request)"


def _importer(error: ImportError) -> str:
    """Return the file in which an import failed."""
    frames = traceback.extract_tb(error.__traceback__)
    files = [frame.filename for frame in frames if not frame.filename.startswith("<frozen")]
    return files[-1] if files else "an unknown file"


def tell(text: str) -> None:
    """Write a line for people."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()

"""The two views of a running study: a picture on a terminal, lines elsewhere."""

import io
import sys
from typing import Any

import pytest

from tuner.cli.progress import LiveView, PlainView, Snapshot, make_view


def snapshot(**changes: Any) -> Snapshot:
    """Return a moment of a search."""
    document = {
        "name": "organs",
        "phase": "running",
        "phase_reason": None,
        "dataset": "synapse",
        "model": "unet",
        "trials": {"total": 10, "waiting": 5, "running": 1, "complete": 2, "pruned": 1, "failed": 1},
        "best": {"number": 1, "value": 0.81234, "params": {"loss": "dice", "train.lr": 0.001}, "loss": "dice"},
        "workers": [{"trial": 4, "device": "cuda:0"}],
    }
    running = [{"number": 4, "loss": "focal", "epochs": 3, "last_value": 0.5, "duration_s": 12.0}]
    ended = [
        {"number": 1, "state": "COMPLETE", "value": 0.81234, "loss": "dice", "duration_s": 61.0, "epochs": 8,
         "reason": None, "message": None},
        {"number": 2, "state": "PRUNED", "value": None, "loss": "topk", "duration_s": 20.0, "epochs": 3,
         "reason": "pruned", "message": "below the median of its peers"},
    ]  # fmt: skip
    return Snapshot(document | changes, running, ended, 125.0)


WORDS = ("3/8", "focal", "0.5", "0.8123", "dice", "2 min 5 s", "trial 2 pruned at epoch 3 (topk): below the median")


def test_lines_say_what_a_log_is_read_for(capsys: pytest.CaptureFixture[str]) -> None:
    """In a batch job nobody sees a picture."""
    view = PlainView("dice", 8)
    view.show(snapshot())
    view.close()
    text = capsys.readouterr()

    assert text.out == ""
    assert [word for word in (*WORDS, "4 of 10 trials", "best so far") if word not in text.err] == []


def test_lines_are_not_repeated(capsys: pytest.CaptureFixture[str]) -> None:
    """A poll every second must not fill a log."""
    view = PlainView("dice", 8)
    view.show(snapshot())
    capsys.readouterr()
    view.show(Snapshot(snapshot().document, (), (), None))

    assert capsys.readouterr().err == ""


def test_the_picture_shows_trials_best_running_and_events(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything that the contract promises of live progress."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("COLUMNS", "140")
    monkeypatch.setenv("TERM", "xterm-256color")
    view = make_view("dice", 8)
    view.show(snapshot())
    view.note("a worker was replaced")
    view.show(snapshot(phase="paused"))
    view.close()

    assert isinstance(view, LiveView)
    text = terminal.getvalue()
    more = ("organs", "synapse, unet", "4/10", "2 complete", "1 pruned", "1 failed", "a worker was replaced", "paused")
    assert [word for word in (*WORDS, *more, "cuda:0") if word not in text] == []

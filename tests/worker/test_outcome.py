"""How trials end that raise."""

import errno
import logging
import os
from pathlib import Path

import pytest

from tests.worker.studies import tiny
from tuner.errors import DiskFullError
from tuner.storage.states import Reason, State
from tuner.training.run_dir import RunDirectory
from tuner.worker.outcome import classify_failure


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(DiskFullError("no space left"), id="said by us"),
        pytest.param(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), id="said by the system"),
        pytest.param(OSError(errno.EDQUOT, os.strerror(errno.EDQUOT)), id="a quota"),
    ],
)
def test_a_full_disk_gives_the_trial_back(error: Exception) -> None:
    """A trial that met a full disk in a library's write would fail for good, and its place in the budget be lost."""
    outcome = classify_failure(error, exclusive_device=True)

    assert (outcome.state, outcome.reason, outcome.retry) == (State.FAIL, Reason.INTERRUPTED, True)


def test_other_errors_of_the_system_are_errors() -> None:
    """Trying again does not bring a missing file back."""
    outcome = classify_failure(FileNotFoundError(errno.ENOENT, "No such file"), exclusive_device=True)

    assert (outcome.reason, outcome.retry) == (Reason.ERROR, False)


def test_a_log_that_cannot_be_written_fails_no_trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The log is closed when everything else is safe already."""
    monkeypatch.setattr(logging, "raiseExceptions", False)
    (tmp_path / "log.txt").symlink_to("/dev/full")

    with RunDirectory(tmp_path, tiny().base, "cpu"):
        logging.getLogger("tuner.training").info("a line")

    assert (tmp_path / "config.yaml").is_file()

"""Checkpoints: copied at the end of an epoch, written by a thread while validation runs, renamed into place at the end.

Order within an epoch: line in `metrics.jsonl`, then `last.ckpt`, then the files of the best epoch, then the report is
yielded. So what was reported can be continued, and whatever is newer than `last.ckpt` is trained again.

Writing takes about a hundredth of the time: a checkpoint that is not small is written when a hundred times as long has
passed as the last one took, INTERVAL_S at most, and in any case before the files of a best epoch, at the last epoch,
and when the training ends in whatever way its process survives. A process that is killed in between loses that many
seconds: the epochs since are trained again, with the same numbers on the CPU and with `deterministic: true`.
"""

import json
import logging
import threading
import time
from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tuner.atomic_io import prepare_file
from tuner.errors import DiskFullError

logger = logging.getLogger(__name__)

LAST = "last.ckpt"
FORMAT = 1

SMALL = 4 << 20
"""Bytes; a smaller checkpoint is written after every epoch."""
LARGE = 2**30
"""Bytes; from here on INTERVAL_S passes between two of them, however fast the disk is."""
INTERVAL_S = 30.0
SHARE = 0.01
"""Of the time that may go into writing those in between."""


def copied(state: Any) -> Any:
    """Copy a nested state to the CPU, so that training can go on while it is written."""
    if isinstance(state, Tensor):
        return state.detach().to("cpu", copy=True)
    if isinstance(state, Mapping):
        return {key: copied(value) for key, value in state.items()}
    if isinstance(state, (list, tuple)):
        return [copied(value) for value in state]
    return state


def _size(state: Any) -> int:
    if isinstance(state, Tensor):
        return state.nbytes
    parts = state.values() if isinstance(state, Mapping) else state if isinstance(state, (list, tuple)) else ()
    return sum(map(_size, parts))


class CheckpointWriter:
    """Writes one checkpoint at a time into a folder; `commit` puts it in the place of the last one."""

    def __init__(self, folder: Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.path = folder / LAST
        self._clock = clock
        self._written_at: float | None = None
        self._took_s = 0.0
        self._state: Mapping[str, Any] | None = None
        self._unwritten: Mapping[str, Any] | None = None
        self._thread: threading.Thread | None = None
        self._part: Path | None = None
        self._error: BaseException | None = None

    def begin(self, state: Mapping[str, Any]) -> None:
        """Start to write a copied state beside the last checkpoint, unless that one is new enough."""
        self.discard()
        self._state = state
        if self._written_at is None or self._clock() - self._written_at >= self._interval_s(_size(state)):
            self._start(state)

    def _interval_s(self, size: int) -> float:
        """Return the seconds that pass between two checkpoints of so many bytes."""
        if size >= LARGE:
            return INTERVAL_S
        return 0.0 if size < SMALL else min(INTERVAL_S, self._took_s / SHARE)

    def _start(self, state: Mapping[str, Any]) -> None:
        self._thread = threading.Thread(target=self._write, args=(state,), name="checkpoint", daemon=True)
        self._thread.start()

    def commit(self, *, at_once: bool = True) -> None:
        """Wait for the writing and rename; a state that was not written is kept in memory unless it must be `at_once`.

        Raises what went wrong in the writing (DiskFullError); the last checkpoint stays.
        """
        state, self._state = self._state, None
        if self._thread is None and state is not None:
            if not at_once:
                self._unwritten = state
                return
            self._start(state)
        self._wait()
        error, self._error = self._error, None
        if error is not None:
            raise error
        if self._part is not None:
            self._part.replace(self.path)
            self._part, self._unwritten = None, None
            self._written_at = self._clock()

    def finish(self) -> None:
        """Write the state of the last finished epoch where that was left out, and forget what was not committed.

        A full disk is told, and raises nothing: this is called when a training ends, over whatever.
        """
        self.discard()
        if self._unwritten is None:
            return
        self._state = self._unwritten
        try:
            self.commit()
        except DiskFullError as error:
            logger.warning("%s", error)
        self.discard()

    def discard(self) -> None:
        """Forget what was begun and not committed."""
        self._wait()
        self._error, self._state = None, None
        if self._part is not None:
            self._part.unlink(missing_ok=True)
            self._part = None

    def _wait(self) -> None:
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _write(self, state: Mapping[str, Any]) -> None:
        began = self._clock()
        try:
            # Through memory: torch hides a full disk behind a RuntimeError when it writes the file itself.
            buffer = BytesIO()
            torch.save({"format": FORMAT, **state}, buffer)
            self._part = prepare_file(self.path, buffer.getbuffer())
            self._took_s = self._clock() - began
        except BaseException as error:
            self._error = error


def read_checkpoint(folder: Path, *, identity: str) -> dict[str, Any] | None:
    """Load `last.ckpt` as plain weights; None when it is not there, damaged, or of another configuration."""
    path = folder / LAST
    if not path.exists():
        return None
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        known = state["format"], state["identity"]
        if known == (FORMAT, identity) and isinstance(state["epoch"], int):
            return dict(state)
        reason = "it belongs to another configuration or version"
    except Exception as error:  # whatever a damaged file makes the unpickler raise
        reason = f"it cannot be read ({type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''})"
    logger.warning("%s is not used: %s; training starts from the beginning", LAST, reason)
    return None


def identity_of(parameters: Mapping[str, Any], fingerprint: str) -> str:
    """Say in one text what a checkpoint belongs to: every option that changes the numbers, and the data."""
    return json.dumps({"data": fingerprint, **parameters}, sort_keys=True, default=str)

"""What trackers are told of a trial, in a thread of their own: one that fails or hangs never costs a trial."""

import logging
import queue
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from tuner.registry import Scalar, load
from tuner.trackers.catalog import TRACKERS

logger = logging.getLogger(__name__)

CLOSE_S = 20.0
"""Seconds that the end of a trial waits for its trackers."""
MAX_FILE_BYTES = 8 * 2**20
"""Files of a trial up to this size are handed to trackers; weights stay where the trial keeps them."""
_PATTERNS = ("*.json", "*.jsonl", "*.yaml", "*.png")


@dataclass(frozen=True, slots=True)
class TrackedTrial:
    """What is known of a trial when its training begins."""

    study: str
    number: int
    loss: str | None
    params: Mapping[str, Scalar]
    """What was searched."""
    config: Mapping[str, Any]
    """Every option of the training."""

    @property
    def name(self) -> str:
        """Return the name of its run, in characters that every tracker takes."""
        return f"{self.study.replace('/', '-')}-{self.number:04d}"


class Tracker(Protocol):
    """A tracker of one trial. Methods are called one after the other, from one thread; they may raise anything."""

    def begin(self, trial: TrackedTrial) -> None:
        """Open the trial's run, or the one that an earlier attempt has opened."""

    def log_epoch(self, epoch: int, values: Mapping[str, float]) -> None:
        """Note the numbers of a finished epoch."""

    def end(self, state: str, value: float | None, files: Sequence[Path]) -> None:
        """Note how the trial has ended, keep its files, and close the run."""

    def log_verdict(self, study: str, document: Mapping[str, Any]) -> None:
        """Note the verdict of a confirmation; called on a tracker without a trial."""


def make_trackers(sections: Iterable[Mapping[str, Any]]) -> list[tuple[str, Tracker]]:
    """Return the trackers of a study; one whose package is missing is left out, with a warning."""
    found: list[tuple[str, Tracker]] = []
    for section in sections:
        entry = TRACKERS.find(str(section["name"]))
        options = {key: value for key, value in section.items() if key != "name"}
        try:
            found.append((entry.name, load(entry.fn)(**options)))
        except ImportError as error:
            logger.warning(
                "tracker %s: %s is not installed here, nothing is tracked: pip install 'segmentation-tuner[%s]' (%s)",
                entry.name,
                entry.package,
                entry.name,
                error,
            )
        except Exception as error:
            logger.warning("tracker %s is left out: %s: %s", entry.name, type(error).__name__, error)
    return found


class TrialTracking:
    """Tells the trackers of a study about one trial.

    Every tracker has a thread; one that raises is told nothing more of this trial, and the log says so once.
    """

    def __init__(self, sections: Iterable[Mapping[str, Any]], trial: TrackedTrial, folder: Path) -> None:
        self._folder = folder
        self._feeds = [_Feed(name, tracker) for name, tracker in make_trackers(sections)]
        for feed in self._feeds:
            feed.put(lambda tracker: tracker.begin(trial))

    def log_epoch(
        self,
        epoch: int,
        metrics: Mapping[str, float | None],
        per_class: Mapping[str, Mapping[str, float | None]],
        *,
        train_loss: float | None,
        lr: float | None,
    ) -> None:
        """Note a finished epoch; of a class as `dice/liver`."""
        values: dict[str, float | None] = {**metrics, "train_loss": train_loss, "lr": lr}
        values |= {f"{metric}/{name}": value for metric, of in per_class.items() for name, value in of.items()}
        known = {name: float(value) for name, value in values.items() if value is not None}
        for feed in self._feeds:
            feed.put(lambda tracker: tracker.log_epoch(epoch, known))

    def end(self, state: str, value: float | None) -> None:
        """Note the end; waits for slow trackers together at most CLOSE_S."""
        files = tracked_files(self._folder)
        for feed in self._feeds:
            feed.close(lambda tracker: tracker.end(state, value, files))
        for feed in self._feeds:
            feed.wait()


def log_verdict(sections: Iterable[Mapping[str, Any]], study: str, document: Mapping[str, Any]) -> None:
    """Note the verdict of a confirmation in every tracker of the study."""
    feeds = [_Feed(name, tracker) for name, tracker in make_trackers(sections)]
    for feed in feeds:
        feed.close(lambda tracker: tracker.log_verdict(study, document))
    for feed in feeds:
        feed.wait()


def tracked_files(folder: Path) -> list[Path]:
    """Return the files of a trial that trackers keep."""
    found = [path for pattern in _PATTERNS for path in sorted(folder.glob(pattern))]
    return [path for path in found if path.is_file() and path.stat().st_size <= MAX_FILE_BYTES]


class _Feed:
    """Calls one tracker, from one thread, in the order of what was put."""

    def __init__(self, name: str, tracker: Tracker) -> None:
        self._name = name
        self._tracker = tracker
        self._calls: queue.SimpleQueue[Callable[[Tracker], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=f"tracker {name}", daemon=True)
        self._thread.start()

    def put(self, call: Callable[[Tracker], None]) -> None:
        """Have a method of the tracker called."""
        self._calls.put(call)

    def close(self, call: Callable[[Tracker], None]) -> None:
        """Have the last method called."""
        self._calls.put(call)
        self._calls.put(None)

    def wait(self) -> None:
        """Wait for the last call, not for ever."""
        self._thread.join(CLOSE_S)
        if self._thread.is_alive():
            logger.warning("tracker %s does not answer; it is not waited for any more", self._name)

    def _run(self) -> None:
        has_failed = False
        while (call := self._calls.get()) is not None:
            if has_failed:
                continue
            try:
                call(self._tracker)
            except BaseException as error:
                has_failed = True
                logger.warning(
                    "tracker %s has failed, and is told nothing more of this trial: %s: %s",
                    self._name,
                    type(error).__name__,
                    error,
                )

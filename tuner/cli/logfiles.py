"""Showing logs: of one trial, from the newest attempt's folder, or of the workers that a launcher started here."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tuner.artifacts.mirror import artifacts_of
from tuner.cli import output
from tuner.errors import NotFoundError
from tuner.launch.launcher import worker_logs
from tuner.settings import Settings
from tuner.storage.storage import Store

LOG = "log.txt"
_POLL_S = 0.5
_FETCH_S = 5.0


def show_trial_log(settings: Settings, name: str, store: Store, number: int, *, follow: bool) -> None:
    """Print the log of one attempt; with `follow`, until the trial has ended."""
    row = store.trial(name, number)
    artifacts = artifacts_of(settings)
    if not any(file.name == LOG for file in artifacts.listing(name, number)) and not follow:
        words = "has not begun" if row["state"] == "WAITING" else "has no log here"
        raise NotFoundError(
            f"trial {number} of {name!r} {words}.", hint=row["message"], where=f"{artifacts.place}/{name}/{number}"
        )
    poll_s = _POLL_S if settings.artifacts_url is None else _FETCH_S

    def goes_on() -> bool:
        more = follow and store.trial(name, number)["state"] in ("WAITING", "RUNNING")
        artifacts.fetched(name, number, (LOG,))
        return more

    path = artifacts.fetched(name, number, (LOG,)) / LOG
    for line in _growing([path], goes_on, poll_s=poll_s):
        output.put(line)


def show_worker_logs(root: Path, name: str, store: Store, *, lines: int, follow: bool) -> None:
    """Print the last lines of each worker's log; with `follow`, until the study is done or stopped."""
    paths = worker_logs(root, name)
    if not paths:
        raise NotFoundError(
            f"no worker of {name!r} has left a log below {root}.",
            hint=f"Workers that were started elsewhere log there; `tuner logs {name} N` shows a trial.",
        )
    for path in paths:
        output.put(f"==> {path}")
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:]:
            output.put(line)
    if follow:
        still = store.study_phase
        for line in _growing(paths, lambda: still(name)[0] not in ("done", "stopped"), skip=True):
            output.put(line)


def _growing(
    paths: list[Path], goes_on: Callable[[], bool], *, skip: bool = False, poll_s: float = _POLL_S
) -> Iterator[str]:
    """Yield whole lines of files as they grow, until `goes_on` says no and all that is there was read."""
    places = {path: path.stat().st_size if skip and path.exists() else 0 for path in paths}
    while True:
        last = not goes_on()
        for path, place in places.items():
            if not path.exists():
                continue
            with path.open("rb") as file:
                file.seek(place)
                text = file.read()
            whole = text if last else text[: text.rfind(b"\n") + 1]
            places[path] = place + len(whole)
            yield from whole.decode("utf-8", "replace").splitlines()
        if last:
            return
        time.sleep(poll_s)

"""The launcher's end of the bridge to a Ray cluster: a process that is told what to do, and events that come back."""

import json
import logging
import os
import queue
import subprocess
import tempfile
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tuner.errors import RunError
from tuner.launch.launcher import python_command

Event = Mapping[str, Any]

logger = logging.getLogger(__name__)


class BridgeClient:
    """A running bridge. Its events go to `take`, in a thread of their own; the last one, `gone`, says that it ended.

    Nobody who holds it needs to end it: the bridge ends when its stdin does, and its workers go on.
    """

    def __init__(self, take: Callable[[Event], None]) -> None:
        self._take = take
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 (lives as long as the bridge does)
        self._process = subprocess.Popen(  # noqa: S603 (our own interpreter, a list of words, no shell)
            python_command("tuner.launch.ray_cluster.bridge"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=bridge_environment(os.environ),
            start_new_session=True,  # Ctrl-C in the terminal is for the launcher, which drains the workers
        )
        self._listener = threading.Thread(target=self._listen, name="ray", daemon=True)
        self._listener.start()

    def send(self, do: str, **values: Any) -> None:
        """Give an order. May be called by a signal's handler: one write, not buffered, no answer waited for."""
        assert self._process.stdin is not None
        line = json.dumps({"do": do, **values}) + "\n"
        try:
            os.write(self._process.stdin.fileno(), line.encode())
        except (BrokenPipeError, ValueError):
            return  # it has ended: the event `gone` says so

    def close(self, seconds: float = 5.0) -> None:
        """Let the bridge end, after so many seconds by force."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if threading.current_thread() is not self._listener:
            self._listener.join(seconds)
        self._log.close()

    def exit_message(self) -> str:
        """Return the end of what Ray has written on its way, for messages about a bridge that has ended."""
        size = os.fstat(self._log.fileno()).st_size
        text = os.pread(self._log.fileno(), 2000, max(0, size - 2000)).decode("utf-8", "replace")
        return "\n".join(text.splitlines()[-5:])

    def _listen(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                try:
                    event = json.loads(line)
                except ValueError:
                    continue  # something that Ray has printed
                self._give(event)
        self._process.wait()
        self._give({"event": "gone"})

    def _give(self, event: Event) -> None:
        try:
            self._take(event)
        except Exception:  # the next event counts as well: without this thread a launcher is blind
            logger.exception("an event of the Ray cluster was not understood: %s", event)


class BridgeSession:
    """Questions to a bridge, one after the other, each with its answer; for the time before any worker is started."""

    def __init__(self) -> None:
        self._events: queue.Queue[Event] = queue.Queue()
        self.wire = BridgeClient(self._events.put)

    def ask(self, do: str, *, seconds: float, answers: tuple[str, ...], **values: Any) -> Event | None:
        """Return the answer; None when it did not come within the time. Raises RunError when the bridge has ended."""
        self.wire.send(do, **values)
        return self.hear(seconds, answers)

    def hear(self, seconds: float, answers: tuple[str, ...]) -> Event | None:
        """Return the next of these events, likewise."""
        try:
            while True:
                event = self._events.get(timeout=seconds)
                if event["event"] in answers:
                    return event
                if event["event"] == "gone":
                    raise RunError(f"Ray has ended the process that talked to its cluster:\n{self.wire.exit_message()}")
        except queue.Empty:
            return None


def bridge_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a bridge: where a token is at hand, it is used, whatever the address."""
    values = dict(environment)
    at_hand = (
        values.get("RAY_AUTH_TOKEN")
        or values.get("RAY_AUTH_TOKEN_PATH")
        or Path("~/.ray/auth_token").expanduser().exists()
    )
    if at_hand:
        values.setdefault("RAY_AUTH_MODE", "token")
    return values


def ask_without_token(address: str, seconds: float) -> str:
    """Knock at a cluster without any token; `open`, `closed`, or what else has happened."""
    strangers = {name: value for name, value in os.environ.items() if not name.startswith("RAY_AUTH_")}
    try:
        done = subprocess.run(  # noqa: S603 (our own interpreter, a list of words, no shell)
            python_command("tuner.launch.ray_cluster.connect", address),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            env={**strangers, "RAY_AUTH_MODE": "disabled"},
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"no answer within {seconds:.0f} s"
    lines = done.stdout.split("\n")
    return lines[-2] if len(lines) > 1 else "no answer"

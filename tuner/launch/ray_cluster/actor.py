"""What runs on the nodes of a Ray cluster: an actor that owns one worker's process, and a look at what a node has.

This module travels to the nodes by value, so that a node without this package, or with another version of it, can say
so in words. Until that is known, it uses the standard library only.
"""

import asyncio
import os
import platform
import socket
import threading
import time
from pathlib import Path
from typing import Any

PACKAGE = "segmentation-tuner"
DEVICE = "TUNER_RAY_DEVICE"
"""Environment variable of a node: the device of its workers, where what Ray reserves is not called CUDA by torch."""
NAMESPACE = "tuner"

REFUSED = 2
"""Exit code of a worker that was not started: this node is not fit for it."""
_TICK_S = 0.2
_LINGER_S = 3.0
"""How long an actor stays after its worker has ended, for those who watch to learn how."""
_FAREWELL_S = 60.0
_ANSWER_WITHIN_S = 5.0
_ABSENT_AFTER_S = 10.0
"""A launcher that has not asked for so long watches no more."""


class WorkerActor:
    """Keeps one worker alive on this node until its study's work is done; then it ends itself.

    It needs nobody: who watches it may come and go. What it starts dies with it.

    Args:
        order: `study, slot, name, threads, gpu, log, version, host, settings` (see `Order`), as plain values. `host` is
            the only one on which it may run, or None.
    """

    def __init__(self, order: dict[str, Any]) -> None:
        self._order = order
        self._watchers: dict[str, float] = {}
        self._gone: set[str] = set()
        self._worker: Any = None
        self._drained = False
        self._born = time.monotonic()
        self._state: dict[str, Any] = {
            "revision": 0,
            "code": None,
            "words": "",
            "tail": "",
            "gave_up": False,
            "host": socket.gethostname(),
            "device": "",
            "log": order["log"],
            "starts": 0,
        }
        threading.Thread(target=self._serve, name="owner", daemon=True).start()

    async def watch(self, launcher: str, revision: int) -> dict[str, Any]:
        """Return the state as soon as it is another one than `revision`, or after a few seconds."""
        until = time.monotonic() + _ANSWER_WITHIN_S
        while self._state["revision"] == revision and time.monotonic() < until and launcher not in self._gone:
            self._watchers[launcher] = time.monotonic()
            await asyncio.sleep(_TICK_S)
        return {**self._state, "age": time.monotonic() - self._born}

    async def drain(self, launcher: str) -> bool:
        """Have the worker give its trial back and end; False, and nothing is done, while another launcher watches."""
        self._gone.add(launcher)
        self._watchers.pop(launcher, None)
        if any(time.monotonic() - seen < _ABSENT_AFTER_S for seen in self._watchers.values()):
            return False
        self._drained = True
        if self._worker is not None:
            self._worker.drain()
        return True

    def _serve(self) -> None:
        """Run workers, one after the other, until one ends because the work is done; the thread that owns them."""
        try:
            words = unfit(self._order)
            if words:
                self._change(code=REFUSED, words=words)
            else:
                self._keep_working()
        except Exception as error:
            self._change(code=1, words=f"{type(error).__name__}: {error}")
        time.sleep(_LINGER_S)
        self._leave()

    def _keep_working(self) -> None:
        from tuner.launch.local import LocalLauncher, last_lines
        from tuner.launch.supervisor import RestartBackoff, describe_exit
        from tuner.worker.exit_codes import QUARANTINED, REPLACE

        order = local_order(self._order)
        patience = RestartBackoff()
        while True:
            began = time.monotonic()
            self._worker = LocalLauncher().launch(order)
            self._change(device=order.device, starts=self._state["starts"] + 1)
            if self._drained:  # asked for in the moment of its start
                self._worker.drain()
            while self._worker.exit_code() is None:
                time.sleep(_TICK_S)
            code = self._worker.exit_code()
            if code == REPLACE and not self._drained:  # over one trial; nothing is wrong with the node
                continue
            pause = patience.next_delay(time.monotonic() - began)
            over = patience.exhausted(code)
            if code in (0, QUARANTINED) or self._drained or over:
                times = f", {patience.early} times running and at once" if over else ""
                self._change(code=code, words=describe_exit(code) + times, tail=last_lines(order.log), gave_up=over)
                return
            time.sleep(pause)
            if self._drained:
                self._change(code=code, words=describe_exit(code))
                return

    def _change(self, **values: Any) -> None:
        self._state = {**self._state, **values, "revision": self._state["revision"] + 1}

    def _leave(self) -> None:
        """End this actor in a way that Ray takes for intended, and does not undo."""
        import ray

        until = time.monotonic() + _FAREWELL_S
        while time.monotonic() < until:
            try:
                ray.get_actor(self._order["name"], namespace=NAMESPACE).__ray_terminate__.remote()
            except Exception:  # the head of the cluster is away
                time.sleep(_LINGER_S)
            else:
                return
        os._exit(0)


def local_order(order: dict[str, Any]) -> Any:
    """Return the order for a process of this node, where Ray shows a worker its own GPU only, as the first one."""
    from tuner.launch.launcher import WorkerSpec
    from tuner.settings import Settings

    places = order["settings"]
    settings = Settings(
        storage=places["storage"],
        artifacts=Path(places["artifacts"]),
        data_root=Path(places["data_root"]) if places["data_root"] else None,
        cache=Path(places["cache"]),
        artifacts_url=places.get("artifacts_url"),
    )
    return WorkerSpec(
        study=order["study"],
        settings=settings,
        slot=order["slot"],
        device=os.environ.get(DEVICE) or ("cuda:0" if order["gpu"] else "cpu"),
        threads=order["threads"],
        log=Path(order["log"]),
    )


def unfit(order: dict[str, Any]) -> str:
    """Say why this node cannot run a worker, or nothing."""
    here, host = installed(), socket.gethostname()
    if here != order["version"]:
        found = f"has version {here}" if here else "has none"
        return f"node {host} {found} of {PACKAGE}, and the launcher {order['version']}: install the same everywhere"
    if order["host"] not in (None, host):
        return f"node {host} cannot reach an SQLite file of {order['host']}: several machines need PostgreSQL"
    return ""


def installed() -> str | None:
    """Return the version of this package that this node would run, or None."""
    try:
        from tuner import __version__
    except ImportError:
        return None
    return str(__version__)


def look(places: dict[str, Any]) -> dict[str, Any]:
    """Look at what a node has, and whether it reaches what a worker needs.

    `places`: `storage` (None: not to be looked at), `data_root` (or None), `artifacts_url` (or None) and `marker`, a
    file that the launcher has just written into the artifacts, where those are no address.
    """
    found: dict[str, Any] = {
        "host": socket.gethostname(),
        "python": platform.python_version(),
        "version": installed(),
        "problems": [],
    }
    if places.get("artifacts_url"):
        words = _unwritable(places["artifacts_url"]) if found["version"] == places["version"] else ""
        found["problems"] += [f"cannot keep the files of trials: {words}"] if words else []
    elif not Path(places["marker"]).exists():
        found["problems"].append(
            f"does not see {Path(places['marker']).parent}, where the files of the trials are kept"
        )
    if places["data_root"] and not Path(places["data_root"]).is_dir():
        found["problems"].append(f"has no folder {places['data_root']} (the data root)")
    if places["storage"] and found["version"] == places["version"]:
        words = _unreachable(places["storage"])
        if words:
            found["problems"].append(f"does not reach the storage: {words}")
    return found


def _unwritable(address: str) -> str:
    from tuner.artifacts.remote import FsspecClient
    from tuner.errors import TunerError

    try:
        FsspecClient(address, retry_timeout_s=5.0).check()
    except TunerError as error:
        return str(error)
    return ""


def _unreachable(url: str) -> str:
    from tuner.errors import TunerError
    from tuner.storage.engine import Database

    try:
        Database.open(url, read_only=True).close()
    except TunerError as error:
        return str(error)
    return ""


def measure(question: str) -> str:
    """Ask the devices of this node (`tuner.launch.device_probe`); question and answer are JSON."""
    import json
    import subprocess

    from tuner.launch.launcher import python_command

    asked = json.loads(question)
    if asked["devices"] != ["cpu"] and DEVICE in os.environ:
        asked["devices"] = [os.environ[DEVICE]]
    environment = dict(os.environ)
    environment["OMP_WAIT_POLICY"] = "passive"
    done = subprocess.run(  # noqa: S603 (our own interpreter, a list of words, no shell)
        python_command("tuner.launch.device_probe"),
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        env=environment,
        check=True,
    )
    return done.stdout.splitlines()[-1]

"""Workers on a Ray cluster: a named, detached actor for each slot, which any launcher of the same study finds again."""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tuner import __version__
from tuner.launch.launcher import WorkerSpec
from tuner.launch.ray_cluster.bridge_client import BridgeClient, Event

logger = logging.getLogger(__name__)

_RETRY_S = (1.0, 5.0, 15.0, 30.0)
WAITS_S = 20.0
"""Seconds for which a worker may wait for room before the user is told."""


@dataclass(frozen=True, slots=True)
class RayPlace:
    """Where a study's workers are, and what each of them reserves."""

    address: str
    identity: str
    """The study's identity: two studies of one name, in two storages, are not each other's."""
    gpus: float
    """Share of a GPU."""
    host: str | None = None
    """The only host on which the workers may run: that of an SQLite file."""
    on_message: Callable[[str], None] = field(default=logger.info)


class RayLauncher:
    """Starts workers as actors, or finds those that an earlier launcher has started.

    A bridge that ends, because Ray has ended it or its cluster does not answer, is replaced; the workers do not notice.
    """

    def __init__(self, place: RayPlace) -> None:
        self._place = place
        self._workers: dict[str, RayWorker] = {}
        self._closed = False
        self._met = threading.Event()
        self._failures = 0
        self._reminder: threading.Timer | None = None
        self._wire = self._connect()

    def launch(self, order: WorkerSpec) -> "RayWorker":
        """Have a worker in a slot, as soon as the cluster has room; returns at once."""
        worker = RayWorker(self, actor_name(order.study, self._place.identity, order.slot), order)
        self._workers[worker.name] = worker
        if self._met.is_set():
            self._keep(worker)
        return worker

    def close(self) -> None:
        """Leave the cluster; whatever works there goes on."""
        self._closed = True
        self._wire.close()

    def send(self, do: str, worker: "RayWorker") -> None:
        """Give an order about one worker; while the cluster does not answer, it is left as it is."""
        if self._met.is_set():
            self._wire.send(do, name=worker.name)
            return
        worker.take({"code": 0})
        self._place.on_message(
            f"worker {worker.order.slot} cannot be told while the cluster does not answer; "
            f"`tuner stop {worker.order.study}` tells it by the storage"
        )

    def _keep(self, worker: "RayWorker") -> None:
        order, settings = worker.order, worker.order.settings
        root = settings.data_root
        self._wire.send(
            "keep",
            name=worker.name,
            gpus=self._place.gpus,
            cpus=order.threads,
            order={
                "study": order.study,
                "slot": order.slot,
                "name": worker.name,
                "threads": order.threads,
                "gpu": self._place.gpus > 0,
                "log": str(order.log),
                "version": __version__,
                "host": self._place.host,
                "settings": {
                    "storage": settings.storage,
                    "artifacts": str(settings.artifacts),
                    "artifacts_url": settings.artifacts_url,
                    "data_root": str(root) if root else None,
                    "cache": str(settings.cache),
                },
            },
        )

    def _connect(self) -> BridgeClient:
        wire = BridgeClient(self._take)
        wire.send("meet", address=self._place.address)
        return wire

    def _take(self, event: Event) -> None:
        """Take what the bridge tells; called in its own thread."""
        kind = event["event"]
        if kind == "met":
            if self._failures:
                self._place.on_message("the Ray cluster answers again")
            self._failures = 0
            self._met.set()
            for worker in list(self._workers.values()):
                if worker.exit_code() is None:
                    self._keep(worker)
        elif kind == "slot" and event["name"] in self._workers:
            worker = self._workers[event["name"]]
            for words in worker.take(event["state"]):
                self._place.on_message(words)
            if worker.waiting:
                self._remind()
        elif kind == "note":
            self._place.on_message(str(event["words"]))
        elif kind == "refused":
            logger.warning("the Ray cluster: %s", event["words"])
            self._wire.close()
        elif kind == "gone" and not self._closed:
            self._come_back()

    def _come_back(self) -> None:
        self._met.clear()
        self._wire.close(0.0)
        if not self._failures:
            self._place.on_message(
                "the Ray cluster does not answer; its workers go on by themselves, and it is tried again"
            )
        pause = _RETRY_S[min(self._failures, len(_RETRY_S) - 1)]
        self._failures += 1
        time.sleep(pause)
        if not self._closed:
            self._wire = self._connect()

    def _remind(self) -> None:
        if self._reminder is None or not self._reminder.is_alive():
            self._reminder = threading.Timer(WAITS_S, self._say_who_waits)
            self._reminder.daemon = True
            self._reminder.start()

    def _say_who_waits(self) -> None:
        """Say how many workers are up, when some have waited for a while."""
        alive = [worker for worker in self._workers.values() if worker.exit_code() is None]
        waiting = sum(worker.waiting for worker in alive)
        if waiting and not self._closed and self._met.is_set():
            self._place.on_message(
                f"{len(alive) - waiting} of {len(self._workers)} workers are up; "
                f"{waiting} wait{'s' * (waiting == 1)} for room in the cluster"
            )


class RayWorker:
    """An actor that owns a worker, as the bridge last told of it."""

    def __init__(self, launcher: RayLauncher, name: str, order: WorkerSpec) -> None:
        self.order = order
        self.name = name
        self._launcher = launcher
        self._state: dict[str, Any] = {"waiting": True, "code": None, "words": "", "tail": "", "gave_up": False}
        self._asked = False

    @property
    def waiting(self) -> bool:
        """Whether the cluster had no room for it yet."""
        return bool(self._state["waiting"])

    @property
    def gave_up(self) -> bool:
        """Whether it was replaced where it was, until that made no sense."""
        return bool(self._state["gave_up"])

    @property
    def location(self) -> str:
        """Device and host."""
        host = self._state.get("host")
        return f"{self._state.get('device') or self.order.device} of {host}" if host else self.order.device

    def exit_code(self) -> int | None:
        """Return the code with which it ended, or None while it works, or waits for room."""
        code: int | None = self._state["code"]
        return code

    def drain(self) -> None:
        """Ask it to give its trial back and to end, unless another launcher watches it."""
        if self.exit_code() is None and not self._asked:
            self._asked = True
            self._launcher.send("drain", self)

    def kill(self) -> None:
        """End it at once."""
        if self.exit_code() is None:
            self._launcher.send("kill", self)

    def exit_message(self) -> tuple[str, str]:
        """Return how it ended, and the end of its log, as the node has sent them."""
        return str(self._state["words"] or "ended"), str(self._state["tail"] or "(its node has sent none)")

    def take(self, state: dict[str, Any]) -> list[str]:
        """Take what is new; return what the user should know of it."""
        before = self._state
        self._state = {**before, **state}
        slot = self.order.slot
        if state.get("left"):
            self._state["code"] = 0
            return [f"worker {slot} goes on: another launcher watches it"]
        if state.get("waiting") and state.get("words"):
            return [f"worker {slot} on {before['host']} was lost ({state['words']}); the cluster starts it again"]
        starts = self._state.get("starts", 0)
        if not starts or self.waiting or self._state["code"] is not None:
            return []
        if before["waiting"] and state.get("found"):
            return [f"worker {slot} was found at work on {self.location}"]
        if before["waiting"] or before.get("starts") != starts:
            return [f"worker {slot} is up{f' again (start {starts})' if starts > 1 else ''} on {self.location}"]
        return []


def actor_name(study: str, identity: str, slot: int) -> str:
    """Return the name under which every launcher of a study finds the worker of a slot."""
    return f"{study}/{identity[:12]}/{slot}"

"""Process that talks to Ray, and its client."""

import json
import os
import queue
import sys
import threading
import time
import uuid
from collections.abc import Callable
from typing import Any

from tuner.launch.ray_cluster import actor
from tuner.launch.ray_cluster.actor import NAMESPACE, WorkerActor, look, measure
from tuner.launch.ray_cluster.connect import check_cluster_auth, reason

INSPECT_TIMEOUT_S = 60.0
"""Seconds that all nodes have to answer."""
MEASURE_S = 60.0
RESTARTS = 20
"""Times that Ray starts an actor again, by itself, whose node or process was lost."""
FIND_AGAIN = 2
"""Times that an actor is looked for again which was dead when it was found; one that cannot be made always is."""
_TICK_S = 0.3


def tell(event: str, **values: Any) -> None:
    """Write an event."""
    sys.stdout.write(json.dumps({"event": event, **values}) + "\n")
    sys.stdout.flush()


class Slot:
    """One actor that is watched. `make` finds it by its name, or has the cluster start one."""

    def __init__(self, make: Callable[[], Any], launcher: str, name: str) -> None:
        self._make = make
        self._launcher = launcher
        self._found = 0.0
        self._seen = False
        self._errors = 0
        self.name = name
        self.revision = -1
        self.waiting = True
        self.draining: Any = None
        self.handle: Any = None
        self.asked: Any = None
        self._find()
        self.tell(waiting=True)

    def tell(self, **state: Any) -> None:
        """Tell the launcher how it is."""
        tell("slot", name=self.name, state=state)

    def follow(self, ray: Any) -> bool:
        """Take an answer that has come; False when this actor is no more."""
        from ray.exceptions import ActorUnavailableError, RayError

        try:
            state = ray.get(self.asked)
        except ActorUnavailableError:
            self._lose_sight()
            return True
        except RayError as error:
            self._errors += 1
            if not self._seen and self._errors <= FIND_AGAIN:
                self._find()
                return True
            self.tell(waiting=False, code=-9, words=f"was lost: {reason(error)}", tail="", gave_up=False)
            return False
        found = self._is_of_before(state["age"])
        if state["code"] is not None and found:
            time.sleep(_TICK_S)
            self._find()
            return True
        self._seen = True
        if state["revision"] != self.revision:
            self.revision, self.waiting = state["revision"], False
            self.tell(waiting=False, found=found, **state)
        if state["code"] is not None:
            return False
        self.asked = self.handle.watch.remote(self._launcher, self.revision)
        return True

    def _find(self) -> None:
        self._found = time.monotonic()
        self.handle = self._make()
        self.asked = self.handle.watch.remote(self._launcher, self.revision)

    def _is_of_before(self, age: float) -> bool:
        """Whether what first answers under the name was there before it was asked for."""
        return not self._seen and age > time.monotonic() - self._found

    def _lose_sight(self) -> None:
        if not self.waiting:
            self.tell(waiting=True, words="its node or its process has ended")
        self.waiting, self.revision = True, -1
        time.sleep(_TICK_S)
        self.asked = self.handle.watch.remote(self._launcher, self.revision)


class Bridge:
    """Carries out the launcher's orders."""

    def __init__(self) -> None:
        self.launcher = uuid.uuid4().hex[:12]
        self.slots: dict[str, Slot] = {}
        self.orders: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self.ray: Any = None

    def run(self) -> None:
        """Work until stdin ends: then the launcher is gone, and its workers go on."""
        threading.Thread(target=self._listen, name="orders", daemon=True).start()
        while True:
            for order in self._waiting_orders():
                if order is None:
                    return
                getattr(self, f"_{order.pop('do')}")(**order)
            self._follow()

    def _listen(self) -> None:
        for line in sys.stdin:
            self.orders.put(json.loads(line))
        self.orders.put(None)

    def _waiting_orders(self) -> list[dict[str, Any] | None]:
        found: list[dict[str, Any] | None] = []
        try:
            found.append(self.orders.get(timeout=0.02 if self.slots else 1.0))
            while True:
                found.append(self.orders.get_nowait())
        except queue.Empty:
            return found

    def _follow(self) -> None:
        if not self.slots:
            return
        by_answer = {slot.asked: slot for slot in self.slots.values()}
        done, _ = self.ray.wait(list(by_answer), num_returns=len(by_answer), timeout=_TICK_S)
        for answer in done:
            slot = by_answer[answer]
            if not slot.follow(self.ray):
                self.slots.pop(slot.name, None)
        for slot in list(self.slots.values()):
            self._see_drained(slot)

    def _see_drained(self, slot: Slot) -> None:
        """Take the answer to a wish to drain: an actor that others watch is left to them."""
        from ray.exceptions import RayError

        if slot.draining is None or not self.ray.wait([slot.draining], timeout=0)[0]:
            return
        try:
            left = not self.ray.get(slot.draining)
        except RayError:
            left = False
        slot.draining = None
        if left:
            slot.tell(left=True)
            self.slots.pop(slot.name, None)

    def _meet(self, address: str) -> None:
        import ray
        from ray import cloudpickle
        from ray.exceptions import AuthenticationError, RayError

        self.ray = ray
        tell("ready")
        try:
            place = check_cluster_auth(address)
            ray.init(address=place, namespace=NAMESPACE, log_to_driver=False, logging_level="error")
        except AuthenticationError as error:
            return tell("refused", why="token", words=reason(error))
        except OSError as error:
            return tell("refused", why="nobody", words=reason(error))
        except (RayError, RuntimeError, ValueError) as error:
            return tell("refused", why="cluster", words=reason(error))
        cloudpickle.register_pickle_by_value(actor)
        return tell("met", address=place, nodes=self._nodes())

    def _nodes(self) -> list[dict[str, Any]]:
        return [
            {
                "id": node["NodeID"],
                "host": node["NodeManagerHostname"],
                "cpus": node["Resources"].get("CPU", 0),
                "gpus": node["Resources"].get("GPU", 0),
            }
            for node in self.ray.nodes()
            if node["Alive"]
        ]

    def _look(self, places: dict[str, Any]) -> None:
        from ray.exceptions import RayError
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        task = self.ray.remote(look)
        asked = {}
        for node in self._nodes():
            if not node["cpus"]:
                continue  # a head that only leads
            there = NodeAffinitySchedulingStrategy(node["id"], soft=False)
            options = {"num_cpus": 0, "max_retries": 0, "scheduling_strategy": there}
            asked[task.options(**options).remote(places)] = node
        done, silent = (
            self.ray.wait(list(asked), num_returns=len(asked), timeout=INSPECT_TIMEOUT_S) if asked else ([], [])
        )
        found = [
            {"host": asked[a]["host"], "problems": [f"did not answer within {INSPECT_TIMEOUT_S:.0f} s"]} for a in silent
        ]
        for answer in done:
            try:
                found.append(self.ray.get(answer))
            except RayError as error:
                found.append({"host": asked[answer]["host"], "problems": [reason(error)]})
        tell("looked", nodes=found)

    def _measure(self, question: dict[str, Any], gpus: float, cpus: float) -> None:
        from ray.exceptions import RayError

        task = self.ray.remote(measure).options(num_cpus=cpus, num_gpus=gpus, max_retries=0)
        asked = task.remote(json.dumps(question))
        answer = None
        try:
            if self.ray.wait([asked], timeout=MEASURE_S)[0]:
                answer = json.loads(self.ray.get(asked))
            else:
                self.ray.cancel(asked, force=True)
        except (RayError, ValueError) as error:
            tell("note", words=f"no node could measure a training step: {reason(error)}")
        tell("measured", answer=answer)

    def _keep(self, name: str, order: dict[str, Any], gpus: float, cpus: float) -> None:
        """Find the actor of that name, or have the cluster start one as soon as there is room."""
        actor = self.ray.remote(WorkerActor).options(
            name=name,
            namespace=NAMESPACE,
            lifetime="detached",
            get_if_exists=True,
            num_cpus=cpus,
            num_gpus=gpus,
            max_restarts=RESTARTS,
            scheduling_strategy="SPREAD",
        )
        if name not in self.slots:
            self.slots[name] = Slot(lambda: actor.remote(order), self.launcher, name)

    def _drain(self, name: str) -> None:
        slot = self.slots.get(name)
        if slot is None:
            return
        if slot.waiting:  # it has not begun: what is not there need not be drained
            self._kill(name)
        else:
            slot.draining = slot.handle.drain.remote(self.launcher)

    def _kill(self, name: str) -> None:
        slot = self.slots.pop(name, None)
        if slot is not None:
            self.ray.kill(slot.handle, no_restart=True)
            slot.tell(waiting=False, code=-9, words="was killed", tail="", gave_up=False)


def main() -> None:
    """Run the bridge."""
    bridge = Bridge()
    bridge.run()
    sys.stdout.flush()
    os._exit(0)  # Ray's own farewell may wait for a cluster that is gone


if __name__ == "__main__":
    main()

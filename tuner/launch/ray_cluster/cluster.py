"""A Ray cluster as the place of a study's workers: who may be there, what it has, how many workers fit.

Everything that speaks against a launch is found here, before a study is created or a worker started.
"""

import importlib.util
import math
import platform
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tuner import __version__
from tuner.errors import RequestError, RunError, SpecError
from tuner.launch.device_probe import CORES_EACH, ProbeRequest, ProbeResult
from tuner.launch.ray_cluster.bridge_client import BridgeSession, ask_without_token
from tuner.settings import Settings

START_S = 60.0
"""Seconds that Ray's own code may take to be loaded, on a busy machine."""
DOOR_S = 60.0
ANSWER_S = 10.0
"""Seconds within which a cluster answers, or is refused."""
INSPECT_TIMEOUT_S = 90.0
MEASURE_S = 120.0
GRAIN = 10_000
"""Ray counts resources in ten-thousandths."""

Node = Mapping[str, Any]


@dataclass(slots=True)
class Plan:
    """What a worker of this launch reserves."""

    gpus: float = 0.0
    """Share of a GPU; 0: it works on the CPU."""


class RayCluster:
    """A cluster that has been met and found fit.

    Args:
        address: `host:port` of its head, or `auto`: the cluster of this machine.
        insecure: take one that lets anybody in.
        say: told what the user should know.
    """

    def __init__(self, address: str, *, insecure: bool, on_message: Callable[[str], None]) -> None:
        self.say = on_message
        self.plan = Plan()
        _demand_ray()
        self._talk = BridgeSession()
        try:
            met = self._meet(address)
            self.address = str(met["address"])
            self.nodes: Sequence[Node] = met["nodes"]
            _demand_token(self.address, insecure=insecure, on_message=on_message)
        except BaseException:
            self._talk.wire.close(0.0)
            raise

    def close(self) -> None:
        """Leave it; whatever works there goes on."""
        self._talk.wire.close()

    def check(self, settings: Settings) -> None:
        """Look whether every node can work: storage, artifacts, data, versions. Raises RequestError that lists why."""
        if settings.storage.startswith("sqlite"):
            self._refuse_sqlite(settings)
        with _marker(settings.artifacts) as marker:
            places = {
                "storage": None if settings.storage.startswith("sqlite") else settings.storage,
                "data_root": str(settings.data_root) if settings.data_root else None,
                "artifacts_url": settings.artifacts_url,
                "marker": str(marker),
                "version": __version__,
            }
            answer = self._talk.ask("look", seconds=INSPECT_TIMEOUT_S, answers=("looked",), places=places)
        if answer is None:
            raise RunError("the Ray cluster has stopped answering.", where=self.address)
        problems = [line for node in answer["nodes"] for line in _problems(node)]
        if problems:
            raise RequestError(
                "not every node of the Ray cluster can work on this study:\n  " + "\n  ".join(problems),
                hint="All nodes need the same Python and tuner, a storage that they reach, and --artifacts in a folder "
                "that they share.",
                where=self.address,
            )

    def ask(self, question: ProbeRequest) -> ProbeResult:
        """Return how many workers fit on the cluster, what each gets, and what a node says about a training step.

        Raises:
            SpecError: Devices are asked for that the cluster cannot have.
        """
        gpu = self._with_gpus(question.devices)
        gpus_each = question.gpus_each if gpu else 1
        kind, least = ("gpus", gpus_each) if gpu else ("cpus", 1)
        rooms = [node for node in self.nodes if node[kind] >= least]
        found = self._measure(question, gpu=gpu) if rooms else None
        each = question.per_device or (_each(rooms, len(found["slots"])) if found and gpu else 1)
        if gpus_each > 1:
            each = 1
        count = question.workers or sum(_fitting(node, gpu=gpu, each=each) // gpus_each for node in rooms)
        if not count:
            raise SpecError(
                [f"the Ray cluster has no {'GPU' if gpu else 'CPU'} now, so the number of workers is unknown"],
                where="--workers",
                hint="Name it: --workers 8 waits until the cluster has grown.",
            )
        share = float(gpus_each) if gpus_each > 1 else math.floor(GRAIN / each) / GRAIN
        self.plan = Plan(gpus=share if gpu else 0.0)
        return ProbeResult(
            slots=("gpu" if gpu else "cpu",) * count,
            threads=_threads(rooms, gpu=gpu, each=each, count=count),
            precision=found["precision"] if found else None,
            sample_s=found["sample_s"] if found else None,
        )

    def room_for(self, threads: int) -> bool:
        """Tell whether any node of now is large enough for a worker; one that comes later may be."""
        return any(node["cpus"] >= threads and node["gpus"] >= self.plan.gpus for node in self.nodes)

    def needs(self, threads: int) -> str:
        """Say what a worker reserves."""
        cpus = _count(threads, "CPU")
        return f"{self.plan.gpus:g} GPU and {cpus}" if self.plan.gpus else cpus

    def words(self, threads: int) -> str:
        """Say what the cluster has, and what a worker reserves of it."""
        gpus, cpus = (sum(node[kind] for node in self.nodes) for kind in ("gpus", "cpus"))
        return (
            f"Ray cluster {self.address}: {_count(len(self.nodes), 'node')} with {_count(gpus, 'GPU')} and "
            f"{_count(cpus, 'CPU')}; "
            f"a worker reserves {self.needs(threads)}"
        )

    def _meet(self, address: str) -> Mapping[str, Any]:
        self._talk.ask("meet", seconds=START_S, answers=("ready",), address=address)
        answer = self._talk.hear(ANSWER_S, ("met", "refused"))
        if answer is None or (answer["event"] == "refused" and answer["why"] == "nobody"):
            why = f" within {ANSWER_S:.0f} s" if answer is None else f" ({answer['words']})"
            raise RequestError(
                f"no Ray cluster answers at {address!r}{why}.",
                hint="Start one by `ray start --head`, or name its head by --ray-address HOST:6379 (RAY_ADDRESS).",
                where="--ray-address",
            )
        if answer["event"] == "met":
            return answer
        if answer["why"] == "token":
            raise RequestError(
                "the Ray cluster does not take this token, or there is none.",
                hint="Put the cluster's token into RAY_AUTH_TOKEN, or into the file ~/.ray/auth_token.",
                where=address,
            )
        raise RequestError(
            f"the Ray cluster cannot be used: {answer['words']}",
            hint="This machine must be one of its nodes (ray start --address HOST:6379), with the same Python and Ray.",
            where=address,
        )

    def _refuse_sqlite(self, settings: Settings) -> None:
        others = [node for node in self.nodes if node["host"] != platform.node()]
        if len(self.nodes) > 1 or others:
            raise RequestError(
                f"an SQLite file serves one machine, and the Ray cluster has {_count(len(self.nodes), 'node')}.",
                hint="Use a PostgreSQL server (--storage postgresql://…) and --artifacts in a folder that all share.",
                where=settings.storage,
            )

    def _with_gpus(self, devices: Sequence[str]) -> bool:
        if list(devices) == ["cpu"]:
            return False
        if list(devices) == ["cuda:0"]:
            return True
        if list(devices) == ["auto"]:
            return any(node["gpus"] >= 1 for node in self.nodes)
        raise SpecError(
            [f"Ray chooses the devices: write auto, cpu or cuda, not {','.join(devices)}"], where="--devices"
        )

    def _measure(self, question: ProbeRequest, *, gpu: bool) -> Mapping[str, Any] | None:
        if question.config is None and not question.precision and (question.per_device or not gpu):
            return None
        asked = {
            "devices": ["auto" if gpu else "cpu"],
            "per_device": question.per_device if gpu else 1,
            "workers": None,
            "config": question.config.as_dict() if question.config else None,
            "shape": list(question.shape),
            "classes": question.classes,
        }
        answer = self._talk.ask(
            "measure", seconds=MEASURE_S, answers=("measured",), question=asked, gpus=float(gpu), cpus=1.0
        )
        found: Mapping[str, Any] | None = answer["answer"] if answer else None
        if found is None or "error" in found:
            self.say(
                "no node of the Ray cluster had room for a measurement; the first trials will tell how long they take"
            )
            return None
        return found


def _count(number: float, what: str) -> str:
    return f"{number:g} {what}{'s' * (number != 1)}"


def _fitting(node: Node, *, gpu: bool, each: int) -> int:
    return int(node["gpus"]) * each if gpu else max(1, int(node["cpus"]) // CORES_EACH)


def _each(rooms: Sequence[Node], measured: int) -> int:
    """Return the workers for each GPU: what its memory allows, as long as each has a CPU core beside it."""
    return max(1, min(measured, *(int(node["cpus"] // node["gpus"]) for node in rooms)))


def _threads(rooms: Sequence[Node], *, gpu: bool, each: int, count: int) -> int:
    """Return the threads of a worker, so that on every node as many workers fit as are meant to be there."""
    if not rooms:
        return 1
    shares = [int(node["cpus"]) // max(1, _fitting(node, gpu=gpu, each=each)) for node in rooms]
    spread = int(sum(node["cpus"] for node in rooms)) // count
    return max(1, min(shares) if gpu else min(spread, min(int(node["cpus"]) for node in rooms)))


def _problems(node: Mapping[str, Any]) -> list[str]:
    host = node["host"]
    found = [f"{host} {problem}" for problem in node["problems"]]
    if "version" in node and node["version"] != __version__:
        has = f"has tuner {node['version']}" if node["version"] else "has no tuner"
        found.append(f"{host} {has} (this is {__version__})")
    if "python" in node and node["python"] != platform.python_version():
        found.append(f"{host} has Python {node['python']} (this is {platform.python_version()})")
    return found


def _demand_ray() -> None:
    if importlib.util.find_spec("ray") is None:
        raise RequestError(
            "Ray is not installed.", hint="Install it by: pip install 'segmentation-tuner[ray]'", where="--launcher ray"
        )


def _demand_token(address: str, *, insecure: bool, on_message: Callable[[str], None]) -> None:
    answer = ask_without_token(address, DOOR_S)
    if answer == "closed":
        return
    words = (
        "the Ray cluster lets anybody in who reaches it: whoever can connect runs programs on its nodes."
        if answer == "open"
        else f"whether the Ray cluster asks for a token could not be found out ({answer})."
    )
    if not insecure:
        raise RequestError(
            words,
            hint="Start it with RAY_AUTH_MODE=token and a token on all nodes (ray get-auth-token --generate), or "
            "insist by --ray-insecure on a network of your own.",
            where=address,
        )
    on_message(f"Warning: {words}")


@contextmanager
def _marker(folder: Path) -> Iterator[Path]:
    """Write a file that the nodes should see; afterwards nothing of it is left, nor a folder that was made for it."""
    made = [place for place in (folder, *folder.parents) if not place.exists()]
    marker = folder / f".seen-{uuid.uuid4().hex}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        marker.touch()
    except OSError as error:
        raise RequestError(
            f"{folder} cannot be written: {error.strerror}.",
            hint="Name a folder for the files of the trials by --artifacts or TUNER_ARTIFACTS.",
        ) from error
    try:
        yield marker
    finally:
        marker.unlink(missing_ok=True)
        for place in made:
            if place.is_dir() and not any(place.iterdir()):
                place.rmdir()

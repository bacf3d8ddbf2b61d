"""A Ray cluster of several nodes on this machine, in a process group of its own: `with running_cluster() as cluster`.

The nodes and their GPUs are fake, everything else is real. The module is also the program that holds the cluster, and
does what it is told on its stdin.
"""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.cli.shell import REPOSITORY

TOKEN = "0123456789abcdef0123456789abcdef"
STORE = 80 * 2**20


class RayNodes:
    """The cluster, seen from a test."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process
        self._answers: list[str] = []
        self._came = threading.Condition()
        threading.Thread(target=self._read, daemon=True).start()
        self.address = self._wait("address")

    def add(self, *, cpus: float = 1, gpus: float = 0) -> int:
        """Start a node; return its number."""
        return int(self._do(f"add {cpus} {gpus}"))

    def kill(self, node: int) -> None:
        """End a node without a farewell, and whatever runs on it: SIGKILL for all its processes at the same moment."""
        self._do(f"kill {node}")

    def clear(self) -> None:
        """End all nodes but the head, and what runs on them."""
        self._do("clear")

    def actors(self) -> int:
        """Return how many actors live or wait for room."""
        return int(self._do("actors"))

    def logs(self) -> Path:
        """Return the folder of Ray's own logs."""
        return Path(self._do("logs"))

    def _do(self, words: str) -> str:
        assert self._process.stdin is not None
        self._process.stdin.write(words + "\n")
        self._process.stdin.flush()
        return self._wait("done")

    def _wait(self, word: str) -> str:
        with self._came:
            ready = self._came.wait_for(lambda: any(line.startswith(word) for line in self._answers), timeout=120)
            assert ready, f"the cluster says {self._answers}"
            line = next(line for line in self._answers if line.startswith(word))
            self._answers.remove(line)
        return line.removeprefix(word).strip()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with self._came:
                self._answers.append(line.strip())
                self._came.notify_all()


@contextmanager
def running_cluster(*, secure: bool = True) -> Iterator[RayNodes]:
    """Run a cluster whose head has no room for workers. Nothing of it is left afterwards."""
    strangers = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment = {
        **strangers,
        **(token() if secure else {"RAY_AUTH_MODE": "disabled"}),
        "PYTHONPATH": str(REPOSITORY),
        "OMP_NUM_THREADS": "1",
        "TUNER_ALLOW_ENTRY": "tests",
        "TUNER_RAY_DEVICE": "cpu",  # the GPUs are fake
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.launch.ray_nodes"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment,
        cwd=REPOSITORY,
        text=True,
        start_new_session=True,
    )
    try:
        yield RayNodes(process)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        assert process.stdout is not None
        process.stdout.close()


def token() -> dict[str, str]:
    """Return the environment of whoever may use the cluster."""
    return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN}


def family(pids: set[int]) -> set[int]:
    """Return processes with all their descendants."""
    parents = {}
    for name in os.listdir("/proc"):
        if name.isdecimal():
            try:
                with open(f"/proc/{name}/stat", encoding="ascii", errors="replace") as file:
                    parents[int(name)] = int(file.read().rpartition(")")[2].split()[1])
            except OSError:
                continue
    found = set(pids)
    while fresh := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= fresh
    return found


def _kill(cluster: Any, node: Any) -> None:
    own = {info.process.pid for infos in node.all_processes.values() for info in infos}
    for pid in family(own):
        os.kill(pid, signal.SIGKILL)
    cluster.remove_node(node, allow_graceful=False)


def _main() -> None:
    from ray.cluster_utils import Cluster

    os.makedirs("/tmp/ray", exist_ok=True)
    head = {"num_cpus": 0, "include_dashboard": False, "include_log_monitor": False, "object_store_memory": STORE}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    nodes: list[Any] = []
    sys.stdout.write(f"address {cluster.address}\n")
    sys.stdout.flush()
    for line in sys.stdin:
        word, *values = line.split()
        if word == "add":
            cpus, gpus = (float(value) for value in values)
            nodes.append(cluster.add_node(num_cpus=cpus, num_gpus=gpus, object_store_memory=STORE))
            sys.stdout.write(f"done {len(nodes) - 1}\n")
        elif word in ("kill", "clear"):
            for number in [int(value) for value in values] or range(len(nodes)):
                if nodes[number] is not None:
                    _kill(cluster, nodes[number])
                    nodes[number] = None
            sys.stdout.write("done\n")
        elif word == "actors":
            states = [actor["State"] for actor in cluster.global_state.actor_table(None, None, None).values()]
            sys.stdout.write(f"done {len(states) - states.count('DEAD')}\n")
        elif word == "logs":
            sys.stdout.write(f"done {cluster.head_node.get_logs_dir_path()}\n")
        sys.stdout.flush()
    cluster.shutdown()


if __name__ == "__main__":
    _main()

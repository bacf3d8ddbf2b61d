"""Workers on a Ray cluster of several nodes (fake GPUs, the rest is real) on PostgreSQL: nodes and launchers die."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.faults import bookkeeping
from tests.launch.ray_nodes import RayNodes, family, running_cluster, token
from tests.postgres import Server, running_server
from tests.worker.studies import TINY
from tuner.config.study import load_spec
from tuner.config.yaml_reader import parse_yaml
from tuner.settings import Settings
from tuner.storage.storage import Storage

pytest.importorskip("ray")
pytestmark = [pytest.mark.slow, pytest.mark.postgres, pytest.mark.timeout(900)]

PASSWORD = "open-sesame-of-the-test"
STUDY = (
    TINY.replace("epochs: 3", "epochs: 12")
    .replace("{trials: 4}", "{trials: 5, retries: 20}")
    .replace("slices: 4", "slices: 40")
    + "pruner: {name: none}\n"
)


@pytest.fixture(scope="module")
def cluster() -> Iterator[RayNodes]:
    """One cluster for all; each test adds its nodes and ends them."""
    with running_cluster() as nodes:
        yield nodes


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """One PostgreSQL for all."""
    with running_server() as running:
        yield running


@dataclass
class Site:
    """A folder that the nodes share, a database, and the cluster."""

    folder: Path
    url: str
    cluster: RayNodes

    @property
    def places(self) -> Settings:
        return Settings(self.url, self.folder / "artifacts", None, self.folder / "cache")

    def launch(self, *words: str, study: str = STUDY) -> "subprocess.Popen[str]":
        """Start `tuner launch` (or what `words` begin with) on the cluster."""
        (self.folder / "tiny.yaml").write_text(study, encoding="utf-8")
        first = [] if words[:1] == ("resume",) else ["launch", "tiny.yaml"]
        log = (self.folder / "launch.log").open("a")
        with log:
            return subprocess.Popen(
                [sys.executable, "-m", "tuner", *first, *words, "--launcher", "ray"],
                cwd=self.folder,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                text=True,
            )

    def said(self) -> str:
        """Return what all launches have said so far."""
        return (self.folder / "launch.log").read_text(encoding="utf-8")

    def _environment(self) -> dict[str, str]:
        own = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        return {
            **own,
            **token(),
            "RAY_ADDRESS": self.cluster.address,
            "TUNER_STORAGE": self.url,
            "TUNER_ARTIFACTS": str(self.places.artifacts),
            "TUNER_CACHE": str(self.places.cache),
            "OMP_NUM_THREADS": "1",
        }


@pytest.fixture
def site(tmp_path: Path, cluster: RayNodes, server: Server) -> Iterator[Site]:
    """An empty place; launchers and nodes of the test are ended, whatever happened."""
    url = server.new_database().replace("tuner@", f"tuner:{PASSWORD}@")
    begun: list[subprocess.Popen[str]] = []
    made = Site(tmp_path, url, cluster)
    launch = made.launch

    def noted(*words: str, **options: Any) -> "subprocess.Popen[str]":
        begun.append(launch(*words, **options))
        return begun[-1]

    made.launch = noted  # type: ignore[method-assign]
    try:
        yield made
    finally:
        for process in begun:
            process.kill()
            process.wait()
        cluster.clear()


@pytest.fixture
def store(site: Site) -> Iterator[Storage]:
    """The site's storage, made before anybody comes."""
    with Storage.open(site.url, create=True) as opened:
        yield opened


def until(condition: Callable[[], Any], site: Site, seconds: float = 240.0) -> Any:
    """Wait for something to become true, and return it; else show what the launcher has said."""
    limit = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < limit, site.said()
        time.sleep(0.2)
    return found


def running(store: Storage) -> list[dict[str, Any]]:
    """Return the trials that run and have ended at least two epochs."""
    if not any(study["name"] == "tiny" for study in store.queries.studies()):
        return []
    return [row for row in store.queries.trials("tiny", state="RUNNING") if row["epochs"] >= 2]


def pids(store: Storage) -> set[int]:
    """Return the processes of the live workers."""
    return {worker["pid"] for worker in store.workers.live("tiny")}


def bridge_of(launcher: int) -> int:
    """Return the process of a launcher that talks to Ray; one that was lost may take a moment to be started anew."""
    limit = time.monotonic() + 60
    while time.monotonic() < limit:
        for pid in sorted(family({launcher}), reverse=True):  # the one that asked about nodes before is older
            with suppress(OSError):
                if b"ray_cluster.bridge" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    return pid
        time.sleep(0.2)
    raise AssertionError("it has no bridge")


def check(store: Storage, site: Site, study: str = STUDY) -> bookkeeping.Figures:
    """Check the books, and that nobody stays in the cluster."""
    until(lambda: site.cluster.actors() == 0, site, 60)
    assert [row["message"] for row in store.queries.trials("tiny", state="FAIL")] == []
    return bookkeeping.check(store, site.places, load_spec(parse_yaml(study)), again=site.folder / "again", most=1)


def test_a_node_that_dies_costs_no_finished_epoch(site: Site, store: Storage) -> None:
    """A pre-empted node is what happens every night: its trial goes on elsewhere, the cluster replaces the worker."""
    first = site.cluster.add(gpus=1)
    site.cluster.add(gpus=1)
    launcher = site.launch()
    until(lambda: len(running(store)) == 2, site)

    site.cluster.kill(first)
    until(lambda: "was lost" in site.said(), site)
    site.cluster.add(gpus=1)
    until(lambda: site.said().count("is up") >= 3, site)

    assert launcher.wait(400) == 0, site.said()
    figures = check(store, site)
    assert (figures.trials, figures.continued) == (5, 1)
    assert figures.kept >= 2
    assert figures.repeated == 1
    assert "3 nodes with 2 GPUs and 2 CPUs; a worker reserves 1 GPU and 1 CPU" in site.said()
    assert list((site.places.artifacts / "tiny" / "workers").glob("*.log"))


def test_the_workers_outlive_their_launcher_and_are_found_again(site: Site, store: Storage) -> None:
    """A laptop is closed, a session ends: the study goes on, and who comes back watches the same workers."""
    site.cluster.add(cpus=2, gpus=1)
    longer = STUDY.replace("epochs: 12", "epochs: 40")  # than what is done to it
    launcher = site.launch("--workers-per-device", "2", study=longer)
    until(lambda: len(running(store)) == 2, site)
    before = pids(store)
    os.kill(bridge_of(launcher.pid), signal.SIGKILL)  # so does Ray, when the head of the cluster has been away
    until(lambda: "the Ray cluster answers again" in site.said(), site)
    until(lambda: site.said().count("was found at work") == 2, site)
    epochs = {row["number"]: row["epochs"] for row in running(store)}
    assert pids(store) == before

    launcher.send_signal(signal.SIGKILL)
    launcher.wait()
    until(lambda: any(row["epochs"] > epochs.get(row["number"], 0) + 2 for row in running(store)), site)
    assert pids(store) == before
    again = site.launch("resume", "tiny", "--workers", "3")  # one more than there is room for
    until(lambda: "wait for room" in site.said() or "waits for room" in site.said(), site)

    assert pids(store) == before
    assert site.cluster.actors() == 3
    assert site.said().count("was found at work") == 4
    assert again.wait(400) == 0, site.said()
    assert check(store, site, longer).continued == 0
    assert "0.5 GPU and 1 CPU" in site.said()


def test_a_dead_worker_is_replaced_and_no_log_and_no_process_list_shows_a_password(site: Site, store: Storage) -> None:
    """What the system kills for its memory comes back where it was. Ray's logs and `ps` are open to all on a node."""
    site.cluster.add(gpus=1)
    site.launch()
    until(lambda: running(store), site)
    (worker,) = pids(store)
    os.kill(worker, signal.SIGKILL)
    until(lambda: "is up again (start 2)" in site.said(), site)
    assert site.cluster.actors() == 1
    until(lambda: running(store), site)

    for path in [*site.cluster.logs().rglob("*"), *site.places.artifacts.rglob("*.log"), site.folder / "launch.log"]:
        assert not path.is_file() or PASSWORD.encode() not in path.read_bytes(), path
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            assert PASSWORD.encode() not in path.read_bytes()
        except OSError:
            continue
    store.studies.stop("tiny", "user")
    until(lambda: site.cluster.actors() == 0, site, 90)


def test_ctrl_c_gives_the_trials_back_unless_another_launcher_watches(site: Site, store: Storage) -> None:
    """Who helps for a while and leaves must not stop the others; the last one takes the workers with him."""
    site.cluster.add(gpus=1)
    first = site.launch()
    until(lambda: running(store), site)
    before = pids(store)
    second = site.launch("resume", "tiny")
    until(lambda: "was found at work" in site.said(), site)

    second.send_signal(signal.SIGINT)
    assert second.wait(90) == 130, site.said()
    assert "another launcher watches it" in site.said()
    assert pids(store) == before
    time.sleep(1)
    first.send_signal(signal.SIGINT)
    assert first.wait(120) == 130, site.said()

    until(lambda: site.cluster.actors() == 0, site, 60)
    counts = store.queries.status("tiny")["trials"]
    assert counts["running"] == 0
    assert counts["waiting"] + counts["complete"] == 5
    assert store.workers.live("tiny") == []


def test_an_open_cluster_and_one_file_for_many_machines_are_refused(tmp_path: Path, site: Site) -> None:
    """Whoever reaches a cluster without a token runs programs on it; an SQLite file serves one machine."""
    site.url = f"sqlite:///{tmp_path / 'tuner.db'}"
    site.cluster.add()
    refused = site.launch()
    assert refused.wait(90) == 2
    assert "an SQLite file serves one machine" in site.said()

    with running_cluster(secure=False) as cluster:
        site.cluster = cluster
        cluster.add()
        assert site.launch().wait(90) == 2
        assert "lets anybody in" in site.said()
        assert "--ray-insecure" in site.said()
        assert not (tmp_path / "tuner.db").exists()
        assert not (tmp_path / "artifacts").exists()


def test_two_launchers_wait_for_a_cluster_that_grows_and_share_its_workers(site: Site, store: Storage) -> None:
    """An autoscaler starts nodes when somebody waits for them; two who type the same command help each other."""
    both = [site.launch("--devices", "cuda", "--workers", "2") for _ in range(2)]
    until(lambda: site.said().count("2 wait for room in the cluster") == 2, site)
    assert store.queries.status("tiny")["phase"] == "queued"

    site.cluster.add(cpus=2, gpus=2)
    until(lambda: len(running(store)) == 2, site)
    assert site.cluster.actors() == 2
    assert len(pids(store)) == 2

    assert [launcher.wait(400) for launcher in both] == [0, 0], site.said()
    assert check(store, site).attempts == 5

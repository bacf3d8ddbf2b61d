"""The parts of the Ray launcher that need no cluster: refusals, what fits where, an actor's care for its worker."""

import asyncio
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import here, tuner  # noqa: F401 (fixtures)
from tests.cli.shell import Shell
from tuner import __version__
from tuner.errors import SpecError
from tuner.launch import supervisor
from tuner.launch.launcher import WorkerSpec
from tuner.launch.local import worker_environment
from tuner.launch.placement import _address
from tuner.launch.ray_cluster import actor
from tuner.launch.ray_cluster.actor import DEVICE, REFUSED, WorkerActor, look
from tuner.launch.ray_cluster.bridge_client import bridge_environment
from tuner.launch.ray_cluster.cluster import _each, _fitting, _marker, _problems, _threads
from tuner.launch.ray_cluster.launcher import RayLauncher, RayWorker, actor_name
from tuner.launch.study_setup import Resources
from tuner.settings import Settings


def node(cpus: float, gpus: float = 0) -> dict[str, Any]:
    """Return a node as the cluster describes it."""
    return {"cpus": cpus, "gpus": gpus}


def test_without_ray_the_line_to_type_is_said(tuner: Shell, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    """Ray is a large extra that most users do not need."""
    monkeypatch.setitem(sys.modules, "ray", None)

    result = tuner("launch", "--dataset", "phantom", "--launcher", "ray")

    assert result.code == 2
    assert "pip install 'segmentation-tuner[ray]'" in result.err
    assert list(here.iterdir()) == []


def test_a_cluster_that_does_not_answer_is_refused_in_time(tuner: Shell, here: Path) -> None:  # noqa: F811
    """Ray itself waits for most of a minute, and then ends the process that has asked."""
    pytest.importorskip("ray")
    began = time.monotonic()

    result = tuner("launch", "--dataset", "phantom", "--ray-address", "127.0.0.1:9")

    assert result.code == 2
    assert "no Ray cluster answers at '127.0.0.1:9'" in result.err
    assert time.monotonic() - began < 60  # not Ray's own patience; what the contract demands is measured elsewhere
    assert list(here.iterdir()) == []


@pytest.mark.parametrize("address", ["ray://head:10001", "http://head:8265", "head", "head:", ":6379"])
def test_what_is_no_address_of_a_head_is_refused(address: str) -> None:
    """Ray's three ports are easily mixed up."""
    with pytest.raises(SpecError, match="write HOST:PORT of its head"):
        _address(Resources(launcher="ray", ray_address=address))


@pytest.mark.parametrize(
    ("nodes", "gpu", "each", "workers", "threads"),
    [
        ([node(8, 2), node(16, 4)], True, 1, 6, 4),
        ([node(8, 2), node(16, 4)], True, 2, 12, 2),
        ([node(4, 4), node(64, 4)], True, 1, 8, 1),
        ([node(2, 4)], True, 1, 4, 1),
        ([node(8), node(2)], False, 1, 3, 2),
        ([node(3)], False, 1, 1, 3),
    ],
    ids=["gpus", "half a gpu each", "the poorest node decides", "more gpus than cores", "cpus", "one small node"],
)
def test_every_node_is_filled_and_overfills_nowhere(
    nodes: list[dict[str, Any]], gpu: bool, each: int, workers: int, threads: int
) -> None:
    """A worker that reserves more than a node has would wait for ever."""
    count = sum(_fitting(n, gpu=gpu, each=each) for n in nodes)

    assert count == workers
    assert _threads(nodes, gpu=gpu, each=each, count=count) == threads


def test_a_gpu_takes_no_more_workers_than_have_a_core() -> None:
    """By its memory it would take eight; they would wait for each other's data."""
    assert _each([node(8, 4), node(64, 4)], measured=8) == 2
    assert _each([node(2, 4)], measured=8) == 1


def test_a_node_with_another_version_is_said_in_words() -> None:
    """Two versions of the code give two kinds of numbers in one study."""
    found = _problems({"host": "gpu7", "problems": ["has no folder /data"], "version": "0.0.9", "python": "3.9.1"})

    assert found[0] == "gpu7 has no folder /data"
    assert "gpu7 has tuner 0.0.9" in found[1]
    assert "gpu7 has Python 3.9.1" in found[2]
    assert "gpu8 has no tuner" in _problems({"host": "gpu8", "problems": [], "version": None})[0]


def test_a_look_finds_what_a_node_lacks(tmp_path: Path) -> None:
    """A study that starts on nodes which cannot see its files fails an hour later."""
    places = {"storage": "postgresql://tuner@127.0.0.1:1/none", "data_root": str(tmp_path / "data")}
    with _marker(tmp_path / "a" / "b") as marker:
        seen = look({**places, "storage": None, "data_root": None, "marker": str(marker), "version": __version__})
        blind = look({**places, "marker": str(tmp_path / "other"), "version": __version__})

    assert seen["problems"] == []
    assert [words.split(" ")[0] + " " + words.split(" ")[1] for words in blind["problems"]] == [
        "does not",
        "has no",
        "does not",
    ]
    assert list(tmp_path.iterdir()) == []  # nothing of the look is left


def test_a_token_at_hand_is_used_and_no_training_gets_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray uses its token file for `auto` only; a study's code has no business with the cluster."""
    monkeypatch.setenv("HOME", str(tmp_path))
    assert "RAY_AUTH_MODE" not in bridge_environment({})
    assert bridge_environment({"RAY_AUTH_TOKEN": "x"})["RAY_AUTH_MODE"] == "token"
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("x")
    assert bridge_environment({})["RAY_AUTH_MODE"] == "token"
    assert bridge_environment({"RAY_AUTH_MODE": "disabled"})["RAY_AUTH_MODE"] == "disabled"

    assert "RAY_AUTH_TOKEN" not in worker_environment(order(tmp_path), {"RAY_AUTH_TOKEN": "x", "PATH": "/bin"})


def order(folder: Path, study: str = "organs") -> WorkerSpec:
    """Return the order for a worker."""
    places = Settings(f"sqlite:///{folder / 'tuner.db'}", folder, None, folder)
    return WorkerSpec(study, places, 0, "cpu", 1, folder / "worker.log")


class Actor(WorkerActor):
    """An actor without a cluster: it has nothing to leave."""

    def _leave(self) -> None:
        self.left = True


def ordered(folder: Path, **changes: Any) -> dict[str, Any]:
    """Return an order as it travels to an actor."""
    places = {"storage": f"sqlite:///{folder / 'none.db'}", "artifacts": str(folder), "data_root": None}
    return {
        "study": "organs",
        "slot": 0,
        "name": "organs/1/0",
        "threads": 1,
        "gpu": False,
        "log": str(folder / "worker.log"),
        "version": __version__,
        "host": None,
        "settings": {**places, "cache": str(folder)},
        **changes,
    }


@pytest.fixture
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses are not what these tests are about."""
    monkeypatch.setattr(supervisor, "BACKOFF_S", (0.0,))
    monkeypatch.setattr(actor, "_LINGER_S", 0.0)


def follow(actor: WorkerActor) -> dict[str, Any]:
    """Watch an actor until its worker has ended."""

    async def watch() -> dict[str, Any]:
        state = await actor.watch("me", -1)
        while state["code"] is None:
            state = await actor.watch("me", state["revision"])
        return state

    return asyncio.run(asyncio.wait_for(watch(), 60))


@pytest.mark.usefixtures("_quick")
@pytest.mark.parametrize(
    ("changes", "words"),
    [({"version": "9.9.9"}, "and the launcher 9.9.9"), ({"host": "elsewhere"}, "cannot reach an SQLite file")],
    ids=["another version", "another machine"],
)
def test_an_unfit_node_starts_nothing_and_says_why(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    """A node that came after the launch was never looked at."""
    state = follow(Actor(ordered(tmp_path, **changes)))

    assert state["code"] == REFUSED
    assert words in state["words"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("_quick")
def test_an_actor_replaces_its_worker_until_that_makes_no_sense(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its launcher may be gone: what the actor does not do itself nobody does, and it must come to an end."""
    monkeypatch.setenv(DEVICE, "nonsense")  # the first thing that a worker looks at

    state = follow(Actor(ordered(tmp_path)))

    assert state["starts"] == supervisor.EARLY_ENDS
    assert state["gave_up"]
    assert state["words"] == "ended with code 2, 3 times running and at once"
    assert "nonsense" in state["tail"]


@pytest.mark.usefixtures("_quick")
def test_only_the_last_launcher_that_watches_ends_a_worker(tmp_path: Path) -> None:
    """Who helps for a while and leaves must not stop the others, not even while his last question is open."""

    async def leave_both() -> list[bool]:
        actor = Actor(ordered(tmp_path, host="elsewhere"))
        asked = [asyncio.create_task(actor.watch(name, actor._state["revision"])) for name in ("one", "two")]
        await asyncio.sleep(0.3)
        asked += [asyncio.create_task(actor.watch(name, 1)) for name in ("one", "two")]
        await asyncio.sleep(0.3)
        answers = [await actor.drain("one")]
        await asyncio.sleep(0.3)
        answers.append(await actor.drain("two"))
        await asyncio.gather(*asked)
        return answers

    assert asyncio.run(leave_both()) == [False, True]


def test_names_tell_studies_of_one_name_apart() -> None:
    """Two users of a cluster may both search `synapse`, each in a storage of his own."""
    assert actor_name("organs", "a" * 32, 3) != actor_name("organs", "b" * 32, 3)
    assert actor_name("organs", "a" * 32, 3) == actor_name("organs", "a" * 32, 3)


def test_what_the_nodes_tell_is_said_once(tmp_path: Path) -> None:
    """A worker is up, is lost, is up again; one that another launcher watches goes on without this one."""
    worker = RayWorker(RayLauncher.__new__(RayLauncher), "organs/1/0", order(tmp_path))
    up = {"waiting": False, "code": None, "host": "gpu7", "device": "cuda:0", "starts": 1, "words": ""}

    assert worker.waiting
    assert worker.take({"waiting": True}) == []
    assert worker.take(up) == ["worker 0 is up on cuda:0 of gpu7"]
    assert worker.take(up) == []
    assert worker.take({"waiting": True, "words": "its node has ended"})[0].startswith("worker 0 on gpu7 was lost")
    assert worker.take({**up, "host": "gpu8"}) == ["worker 0 is up on cuda:0 of gpu8"]
    assert worker.take({**up, "host": "gpu8", "starts": 2}) == ["worker 0 is up again (start 2) on cuda:0 of gpu8"]
    assert worker.take({"waiting": True}) == []  # another bridge has begun to look for it
    assert worker.take({**up, "found": True}) == ["worker 0 was found at work on cuda:0 of gpu7"]
    assert worker.exit_code() is None
    assert "another launcher" in worker.take({"left": True})[0]
    assert worker.exit_code() == 0

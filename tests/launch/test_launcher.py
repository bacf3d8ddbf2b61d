"""Devices, slots, and the environment of a worker."""

import os
import sys
from pathlib import Path

import pytest

from tuner.errors import SpecError
from tuner.launch.launcher import LAUNCHERS, WorkerSpec, cores, deal, log_path, read_devices, threads_each, worker_logs
from tuner.launch.local import PARENT, last_lines, worker_environment
from tuner.registry import load
from tuner.settings import Settings


def order(tmp_path: Path, device: str = "cpu", slot: int = 0) -> WorkerSpec:
    """Describe a worker."""
    settings = Settings(
        storage="postgresql+psycopg://tuner:secret@host/db",
        artifacts=tmp_path / "artifacts",
        data_root=tmp_path / "data",
        cache=tmp_path / "cache",
    )
    return WorkerSpec("organs", settings, slot, device, threads=3, log=tmp_path / "worker.log")


@pytest.mark.parametrize(
    ("devices", "per_device", "total", "slots"),
    [
        (["cpu"], 1, None, ["cpu"]),
        (["cuda:0", "cuda:1"], 2, None, ["cuda:0", "cuda:1", "cuda:0", "cuda:1"]),
        (["cuda:0", "cuda:1"], 1, 3, ["cuda:0", "cuda:1", "cuda:0"]),
    ],
    ids=["one", "devices times per device", "a total, dealt in turn"],
)
def test_slots_are_dealt_in_turn(devices: list[str], per_device: int, total: int | None, slots: list[str]) -> None:
    """`--workers` overrides the total; no device gets two before all have one."""
    assert deal(devices, per_device=per_device, total=total) == slots


@pytest.mark.parametrize(
    ("text", "devices"),
    [("auto", ["auto"]), ("CPU", ["cpu"]), ("cuda", ["cuda:0"]), ("cuda:0, cuda:1,cuda:0", ["cuda:0", "cuda:1"])],
    ids=str,
)
def test_devices_are_read(text: str, devices: list[str]) -> None:
    """As the contract writes them, with a person's spaces."""
    assert read_devices(text) == devices


@pytest.mark.parametrize("text", ["", "gpu", "cuda:x", "cuda:-1", "auto,cpu", ","], ids=repr)
def test_what_is_no_device_is_refused(text: str) -> None:
    """Before torch is asked, which takes seconds."""
    with pytest.raises(SpecError, match=r"cuda:0|stands alone"):
        read_devices(text)


def test_a_worker_gets_its_threads_and_places(tmp_path: Path) -> None:
    """Threads change the numbers; a password in a URL must not stand in `ps`."""
    values = worker_environment(order(tmp_path), {"HOME": "/home/x", "CUDA_VISIBLE_DEVICES": "0,1"})

    assert values["OMP_NUM_THREADS"] == values["MKL_NUM_THREADS"] == "3"
    assert values["OMP_WAIT_POLICY"] == "passive"
    assert values["TUNER_STORAGE"] == "postgresql+psycopg://tuner:secret@host/db"
    assert values["TUNER_DATA_ROOT"] == str(tmp_path / "data")
    assert values[PARENT] == str(os.getpid())
    assert values["HOME"] == "/home/x"


def test_a_worker_on_the_cpu_sees_no_cuda_device(tmp_path: Path) -> None:
    """It would leave a context on a device that nobody has given it."""
    inherited = {"CUDA_VISIBLE_DEVICES": "0,1"}

    assert worker_environment(order(tmp_path), inherited)["CUDA_VISIBLE_DEVICES"] == ""


@pytest.mark.parametrize(
    ("inherited", "expected"), [(None, "1"), ("2,3", "3"), ("GPU-a, GPU-b", "GPU-b"), ("5", "1")], ids=str
)
def test_a_worker_on_a_gpu_sees_no_other_one(tmp_path: Path, inherited: str | None, expected: str) -> None:
    """cuda:1 is the second of those that the launcher sees."""
    given = {} if inherited is None else {"CUDA_VISIBLE_DEVICES": inherited}

    values = worker_environment(order(tmp_path, "cuda:1"), given)

    assert values["CUDA_VISIBLE_DEVICES"] == expected
    assert values["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"


def test_logs_of_workers_are_found_oldest_first(tmp_path: Path) -> None:
    """`tuner logs` shows them in the order of what happened."""
    for age, name in enumerate(("new", "old")):
        path = log_path(tmp_path, "organs", name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("line\n" * 20, encoding="utf-8")
        os.utime(path, (1000 - age, 1000 - age))

    assert [path.stem for path in worker_logs(tmp_path, "organs")] == ["old", "new"]
    assert worker_logs(tmp_path, "others") == []
    assert last_lines(log_path(tmp_path, "organs", "new"), 3) == "line\nline\nline"
    assert "cannot be read" in last_lines(tmp_path / "missing.log")


def test_cores_are_shared_and_nobody_gets_none() -> None:
    """More workers than cores still need a thread each."""
    assert 1 <= cores() <= (os.cpu_count() or 1)
    assert threads_each(1) == cores()
    assert threads_each(10_000) == 1


def test_every_launcher_that_starts_something_can_be_loaded() -> None:
    """A row that names code which is not there fails at the worst moment."""
    assert set(LAUNCHERS) == {"local", "inline", "ray", "none"}
    for entry in LAUNCHERS.values():
        if entry.fn is not None:
            assert callable(load(entry.fn).launch)


def test_launching_imports_no_torch() -> None:
    """The launcher would hold its memory for as long as a study runs."""
    import subprocess

    script = "import sys, tuner.launch.study_setup, tuner.launch.local, tuner.launch.supervisor, tuner.cli.launch; "
    script += "sys.exit('torch' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0

"""Workers on clusters: what is printed is parsed, and the command lines in it are run."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cli.shell import Shell, environment, run_apart
from tests.cli.test_processes import slow_study, wait_for

SECRET = "postgresql://tuner:geheim@db.lab/tuner"


def directives(script: str) -> dict[str, str]:
    """Return what a script asks Slurm for."""
    lines = [line.removeprefix("#SBATCH --") for line in script.splitlines() if line.startswith("#SBATCH")]
    return {name: value for name, _, value in (line.partition("=") for line in lines)}


def on_the_path(folder: Path, **more: str) -> dict[str, str]:
    """Return an environment with `tuner` and the programs of `folder` on the path, and a storage in `folder`."""
    path = os.pathsep.join([str(folder), str(Path(sys.executable).parent), os.environ["PATH"]])
    return environment(folder) | {
        "PATH": path,
        "HOME": str(folder),
        "TUNER_STORAGE": f"sqlite:///{folder / 'tuner.db'}",
        "TUNER_ARTIFACTS": str(folder / "artifacts"),
        **more,
    }


def test_a_slurm_script_says_what_the_worker_needs(tuner: Shell) -> None:
    """An hour in the queue for a script that lacks the GPU, or that everybody reads the password in."""
    words = ["worker", "--any", "--print-sbatch", "--storage", SECRET, "--count", "4", "--time", "8:00:00"]
    result = tuner(*words, "--partition", "gpu", "--log-format", "json")

    asked = directives(result.out)
    assert result.code == 0, result.err
    assert "geheim" not in result.out
    assert subprocess.run(["bash", "-n"], input=result.out, text=True, check=False).returncode == 0
    assert asked["signal"] == "B:USR1@120"
    assert (asked["array"], asked["time"], asked["partition"]) == ("1-4", "8:00:00", "gpu")
    assert (asked["gres"], asked["cpus-per-task"], asked["mem"]) == ("gpu:1", "4", "16G")
    assert {"requeue", "open-mode"} <= asked.keys()
    assert "worker --any --until-idle 15m --log-format json &" in result.out
    cpu = directives(tuner(*words, "--device", "cpu").out)
    assert "gres" not in cpu


def test_a_manifest_says_what_the_worker_needs(tuner: Shell) -> None:
    """Kubernetes takes it as it is: no root, secrets by reference, time to give the trial back."""
    result = tuner("worker", "--any", "--print-k8s", "--storage", SECRET, "--count", "3", "--gpus", "2")

    assert result.code == 0, result.err
    assert "geheim" not in result.out
    document = yaml.safe_load(result.out)
    pod = document["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert (document["kind"], document["spec"]["replicas"]) == ("Deployment", 3)
    assert document["spec"]["selector"]["matchLabels"] == document["spec"]["template"]["metadata"]["labels"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == 2
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["terminationGracePeriodSeconds"] > 60
    storage = next(entry for entry in container["env"] if entry["name"] == "TUNER_STORAGE")
    assert storage == {"name": "TUNER_STORAGE", "valueFrom": {"secretKeyRef": {"name": "tuner", "key": "storage"}}}
    assert {m["name"] for m in container["volumeMounts"]} == {v["name"] for v in pod["volumes"]}
    liveness = container["livenessProbe"]
    assert liveness["periodSeconds"] * liveness["failureThreshold"] >= 300


def test_a_study_becomes_a_job_that_an_eviction_does_not_finish(tuner: Shell) -> None:
    """Its workers end when the study does; a name that Kubernetes would refuse is written otherwise."""
    text = tuner("worker", "--study", "Organs_2.b", "--print-k8s", "--storage", SECRET, "--device", "cpu").out

    document = yaml.safe_load(text)
    pod = document["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert (document["kind"], document["metadata"]["name"]) == ("Job", "tuner-organs-2-b")
    assert (pod["restartPolicy"], document["spec"]["parallelism"]) == ("Never", 1)
    assert "tuner worker --study Organs_2.b --device cpu &" in container["command"][2]
    assert subprocess.run(["bash", "-n"], input=container["command"][2], text=True, check=False).returncode == 0
    assert "nvidia.com/gpu" not in container["resources"]["limits"]


@pytest.mark.parametrize("flag", ["--print-sbatch", "--print-k8s"])
def test_every_command_in_it_is_one_that_we_have(tuner: Shell, flag: str) -> None:
    """A flag that was renamed would be found out on the cluster."""
    text = tuner("worker", "--any", flag, "--storage", SECRET).out
    if flag == "--print-k8s":
        (container,) = yaml.safe_load(text)["spec"]["template"]["spec"]["containers"]
        commands: list[list[str]] = [container["args"]]
        commands += [container[f"{kind}Probe"]["exec"]["command"][1:] for kind in ("startup", "readiness", "liveness")]
    else:
        commands = [line.split("tuner ", 1)[1].split()[:-1] for line in text.splitlines() if line.endswith(" &")]

    assert commands
    for words in commands:
        assert tuner(*words, "--help").code == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--any", "--print-sbatch"], "SQLite file cannot be shared"),
        (["--any", "--print-sbatch", "--print-k8s", "--storage", SECRET], "two texts"),
        (["--any", "--print-sbatch", "--storage", SECRET, "--partition", "gpu;rm"], "name of a partition"),
        (["--any", "--print-sbatch", "--storage", SECRET, "--time", "a day"], "24:00:00"),
        (["--study", "$(id)", "--print-k8s", "--storage", SECRET], "name of a study"),
        (["--any", "--probe", "well"], "Known: alive, ready"),
        (["--any", "--log-format", "xml"], "Known: json, text"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else "",
)
def test_what_would_not_run_is_refused(tuner: Shell, words: list[str], said: str) -> None:
    """Here, not after an hour in the queue; and nothing that a shell would take for something else gets into it."""
    result = tuner("worker", *words)

    assert result.code == 2
    assert said in result.err
    assert result.out == ""


def test_slurms_warning_gives_the_trial_back_and_queues_the_job_again(tuner: Shell, here: Path) -> None:
    """The script itself, by bash, with a worker in it: SIGUSR1 two minutes before the time limit loses nothing."""
    made = tuner("launch", str(slow_study(here)), "--launcher", "none", "--devices", "cpu")
    assert made.code == 0, made.err
    words = ["worker", "--study", "tiny", "--device", "cpu", "--print-sbatch", "--log-format", "json"]
    (here / "job.sh").write_text(tuner(*words, "--storage", SECRET).out)
    (here / "scontrol").write_text(f'#!/bin/sh\necho "$@" >> {here / "asked"}\n')
    (here / "scontrol").chmod(0o755)

    around = on_the_path(here, SLURM_JOB_ID="77", TUNER_CACHE=os.environ["TUNER_CACHE"])
    with (here / "log").open("w") as log:
        job = subprocess.Popen(["bash", "job.sh"], cwd=here, env=around, stdout=log, stderr=log)
    try:
        wait_for(here, "RUNNING")
        assert tuner("worker", "--probe", "ready").code == 0
        job.send_signal(signal.SIGUSR1)
        code = job.wait(60)
    finally:
        job.kill()

    lines = (here / "log").read_text()
    assert code == 0, lines
    assert (here / "asked").read_text() == "requeue 77\n"
    document = tuner("status", "tiny", "--json").json()
    assert (document["trials"]["waiting"], document["trials"]["running"], document["workers"]) == (2, 0, [])
    rows: list[dict[str, Any]] = tuner("trials", "tiny", "--all", "--json").json()
    assert [row["reason"] for row in rows if row["reason"]] == ["interrupted"]
    assert all(json.loads(line)["level"] for line in lines.splitlines())
    assert tuner("worker", "--probe", "alive").code == 1


def test_a_storage_that_is_away_speaks_against_being_ready_but_not_against_the_worker(tuner: Shell, here: Path) -> None:
    """While the database restarts, nobody must kill all workers of the cluster: they wait for it."""
    assert tuner("worker", "--probe", "alive").code == 0
    assert tuner("worker", "--probe", "ready").code == 1
    assert list(here.iterdir()) == []


@pytest.mark.slow
def test_an_evicted_pod_does_not_end_the_job(tmp_path: Path) -> None:
    """Its worker ends well, having given its trial back; the pod must not pass for one that found the study done."""
    slow_study(tmp_path)
    made = run_apart(tmp_path, "launch", "tiny.yaml", "--launcher", "none", "--devices", "cpu")
    assert made.code == 0, made.err
    words = ["worker", "--study", "tiny", "--device", "cpu", "--print-k8s", "--storage", SECRET]
    document = yaml.safe_load(run_apart(tmp_path, *words).out)
    command = document["spec"]["template"]["spec"]["containers"][0]["command"]

    pod = subprocess.Popen(command, cwd=tmp_path, env=on_the_path(tmp_path))
    try:
        wait_for(tmp_path, "RUNNING")
        pod.terminate()
        assert pod.wait(60) == 143
    finally:
        pod.kill()
    assert run_apart(tmp_path, "status", "tiny", "--json").json()["trials"]["waiting"] == 2


def test_files_at_an_address_need_no_volume(tuner: Shell) -> None:
    """A cluster without a ReadWriteMany volume is what buckets are for."""
    text = tuner("worker", "--any", "--print-k8s", "--storage", SECRET, "--artifacts", "memory://bucket/lab").out
    pod = yaml.safe_load(text)["spec"]["template"]["spec"]
    (container,) = pod["containers"]

    assert {"name": "TUNER_ARTIFACTS", "value": "memory://bucket/lab"} in container["env"]
    assert [mount["name"] for mount in container["volumeMounts"]] == ["data", "cache", "shm"]
    assert [volume["name"] for volume in pod["volumes"]] == ["data", "cache", "shm"]
    assert "Files of trials go to memory://bucket/lab" in text

"""docker-compose.yml, as far as it can be held without an engine: it parses, and each command is one that we have."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
FILE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = FILE["services"]
OURS = {name: service for name, service in SERVICES.items() if "build" in service}
WORKERS = {name: service for name, service in OURS.items() if "worker" in service["command"]}
COMMANDS = {name: service["command"] for name, service in OURS.items()} | {
    f"{name}'s health": service["healthcheck"]["test"][2:] for name, service in WORKERS.items()
}


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_understood(name: str) -> None:
    """A flag that was renamed would be found out on the day of the installation."""
    words = [str(word) for word in COMMANDS[name]]

    done = subprocess.run(
        [sys.executable, "-m", "tuner", *words, "--help"], capture_output=True, text=True, timeout=60, check=False
    )

    assert done.returncode == 0, done.stderr
    for word in words:
        assert not word.startswith("--") or word in done.stdout


def test_nothing_but_the_dashboard_is_published_and_no_secret_is_written_down() -> None:
    """The database of a lab is nobody else's business."""
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}

    assert published == {"dashboard": ["127.0.0.1:8000:8000"]}
    assert "PASSWORD:?" in SERVICES["db"]["environment"]["POSTGRES_PASSWORD"]
    assert all("TOKEN:?" in s["environment"]["TUNER_API_TOKEN"] for s in OURS.values())
    assert all("PASSWORD:?" in s["environment"]["TUNER_STORAGE"] for s in OURS.values())


def test_what_runs_for_long_is_watched_and_has_no_rights_that_it_does_not_need() -> None:
    """Health that is asked for, users that are not root, and time to give a trial back."""
    lasting = {name: service for name, service in SERVICES.items() if service["restart"] != "no"}

    assert set(SERVICES) - set(lasting) == {"schema"}
    assert all("healthcheck" in service for service in lasting.values())
    assert all(service["cap_drop"] == ["ALL"] for service in OURS.values())
    assert SERVICES["db"]["user"] == "postgres"
    assert all(service["stop_grace_period"] == "90s" for service in WORKERS.values())
    (gpus,) = WORKERS["gpu-worker"]["deploy"]["resources"]["reservations"]["devices"]
    assert gpus["capabilities"] == ["gpu"]
    assert gpus["count"] == "all"  # a number would be the first ones, in every container
    assert WORKERS["gpu-worker"]["command"] == ["worker", "--any", "--device", "all"]


def test_every_volume_is_declared_and_the_image_has_its_folder() -> None:
    """A folder that the image does not have would belong to root, and nobody could write there."""
    image = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    named = {volume.split(":")[0]: volume.split(":")[1] for s in SERVICES.values() for volume in s.get("volumes", [])}
    declared = {name for name in named if not name.startswith("$")}

    assert declared == set(FILE["volumes"])
    assert all(name == "database" or f" {named[name]}" in image for name in declared)
    for variable in ("TUNER_DATA_ROOT=/data", "TUNER_CACHE=/cache", "TUNER_ARTIFACTS=/artifacts"):
        assert variable in image


def test_the_image_runs_as_somebody_who_is_not_root_and_is_built_of_what_is_there() -> None:
    """`COPY` of a file that was moved, or that the context leaves out, is found out here and not in the lab."""
    image = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    context = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    copied = [word for line in re.findall(r"^COPY (?!--from)(.*)$", image, re.MULTILINE) for word in line.split()[:-1]]

    assert re.findall(r"^USER (.*)$", image, re.MULTILINE)[-1] not in ("root", "0")
    assert copied
    for name in copied:
        assert (ROOT / name).exists(), name
        assert f"!{name}" in context

"""docker-compose.yml, as far as it can be held without an engine: it parses, and each command is one that we have."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))[
    "services"
]


@pytest.mark.parametrize("name", [name for name, service in SERVICES.items() if "build" in service])
def test_every_command_is_understood(name: str) -> None:
    """A flag that was renamed would be found out on the day of the installation."""
    words = [str(word) for word in SERVICES[name]["command"]]

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
    assert all("TOKEN:?" in s["environment"]["TUNER_API_TOKEN"] for s in SERVICES.values() if "build" in s)

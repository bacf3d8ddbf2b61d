"""Requests that nobody would write by hand, made from our own OpenAPI document; bounded in number and in time."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

LEFT_OUT = "ignored_auth,positive_data_acceptance"
"""No token is set here; and a study file can be legal JSON and still name a loss that there is not."""
ALWAYS = ("--exclude-checks", LEFT_OUT, "--no-color", "--request-timeout", "120")
"""A request may raise the budget to a million trials, and beside other work that takes its time."""


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(("--max-examples", "3", "--generation-deterministic", "--no-shrink"), id="every time the same"),
        pytest.param(("--max-examples", "40"), id="at random", marks=[pytest.mark.slow, pytest.mark.timeout(1800)]),
    ],
)
def test_schemathesis_finds_nothing(writer: httpx.Client, words: tuple[str, ...]) -> None:
    """Clients are generated from the document: whatever it says must be true, and nothing may end in a 500."""
    beside = Path(sys.executable).with_name("schemathesis")
    program = str(beside) if beside.exists() else shutil.which("schemathesis")
    if program is None:
        message = "schemathesis is not installed: pip install schemathesis"
        pytest.fail(message) if os.environ.get("CI") == "true" else pytest.skip(message)

    done = subprocess.run(
        [program, "run", f"{writer.base_url}/openapi.json", *words, *ALWAYS],
        capture_output=True,
        text=True,
        timeout=1700,
        check=False,
    )

    assert done.returncode == 0, done.stdout[-6000:]
    assert writer.get("/healthz").status_code == 200

"""The tutorial, typed as it stands."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.test_site import BLOCK, ROOT


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_the_tutorial_leads_from_data_to_a_verdict_and_home(tmp_path: Path) -> None:
    """Code is run, the study file is saved under the name that the text gives it, commands end with 0."""
    text = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
    outputs = []
    for found in BLOCK.finditer(text):
        language, block = found[1], found[2]
        if language == "yaml":
            (tmp_path / "cells.yaml").write_text(block, encoding="utf-8")
            continue
        command = [sys.executable, "-c", block] if language == "python" else ["bash", "-euc", block]
        tuner = Path(sys.executable).parent
        environment = {**os.environ, "PATH": f"{tuner}:{os.environ['PATH']}", "TUNER_CACHE": str(tmp_path / "cache")}
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{block}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        outputs.append(done.stdout)

    assert any("verdict" in output.lower() for output in outputs)
    assert sorted(path.name for path in (tmp_path / "predicted").iterdir())[:1] == ["cell00.png"]

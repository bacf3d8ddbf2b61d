"""The survey's experiment in small, on the phantom and on the samples: both study files, both networks, one report."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

NO_CONFIRMATION = ("--set", "confirm=null")
"""The studies go on to one; this is about the table of what they search."""
LOSSES = "search.loss=[cross_entropy, dice, loss.boundary, combo]"
SMALL = ("train.batch_size=4", "model.width=4", "dataset.size=64", "train.augment=none")
SETS = {
    "phantom": ("synapse", ("dataset={name: phantom, size: 64, cases: 6, slices: 4, validation: 0.34}",)),
    "synapse": ("synapse", ("dataset.validation=0.5",)),
    "cityscapes": ("cityscapes", ("dataset.width=64", "dataset.validation=0.3")),
}


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.realdata
@pytest.mark.parametrize("name", list(SETS))
def test_the_survey_runs_in_small(tmp_path: Path, test_data: Path, name: str) -> None:
    """Every loss as published with a CNN and a transformer and two seeds, then tuned, then the table of both."""
    study, options = SETS[name]
    environment = {**os.environ, "TUNER_CACHE": str(tmp_path / "cache"), "TUNER_DATA_ROOT": str(test_data)}

    def tuner(*words: str) -> None:
        done = subprocess.run(
            [sys.executable, "-m", "tuner", *words],
            cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=1500, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{words}\n{done.stderr}"

    shared = [word for text in (LOSSES, *SMALL, *options) if "model.width" not in text for word in ("--set", text)]
    published = ["search.model.name=[unet, transunet_tiny]", "search.train.seed=[0, 1]", "search.model.unet.width=4"]
    words = [word for text in published for word in ("--set", text)]
    tuner(
        "launch", "--dataset", f"survey-{study}", "--trials", "16", "--epochs", "1", *shared, *words, *NO_CONFIRMATION
    )
    tuner("launch", "--dataset", f"survey-{study}-tuned", "--epochs", "1", "--set", "budget.trials_per_loss=2",
          "--set", "model.width=4", *shared, *NO_CONFIRMATION)  # fmt: skip
    tuner("report", f"survey-{study}", f"survey-{study}-tuned", "-o", "survey.html", "--test")

    text = (tmp_path / "survey.html").read_text(encoding="utf-8")
    assert "Losses with unet" in text
    assert "Losses with transunet_tiny" in text
    for family in ("Pixel level", "Region level", "Boundary level", "Combination"):
        assert family in text
    assert len(re.findall(r"\d ± \d\.\d+ \(2\)", text)) >= 8
    assert "data:image/png;base64," in text

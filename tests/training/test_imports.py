"""What a training imports: seconds of CPU for every worker that starts."""

import subprocess
import sys
from pathlib import Path

SCRIPT = """
import sys
from pathlib import Path

import torch

from tests.training.samples import make_config, make_data
from tuner.models.build import build_model
from tuner.training.trainer import train

config = make_config(model={"name": "monai_unet", "width": 4, "depth": 2, "dropout": 0.0}, epochs=1)
folder = Path(sys.argv[1])
reports = list(train(config, data=make_data(folder), device="cpu", folder=folder / "run", stop=lambda: False))
assert len(reports) == 1
for name in ("dynunet", "swin_unetr"):
    network = build_model({"name": name}, channels=1, classes=2, spatial_dims=2)
    network(torch.zeros(1, 1, 64, 64))
heavy = [name for name in ("torch._dynamo", "sympy", "monai", "pandas", "scipy.stats") if name in sys.modules]
assert not heavy, heavy

import monai
from monai.transforms import Compose

assert monai.networks.nets.UNet and Compose and "scipy.stats" in sys.modules
assert build_model({"name": "attention_unet"}, channels=1, classes=2, spatial_dims=2)
"""


def test_a_training_imports_what_it_uses(tmp_path: Path) -> None:
    """torch.compile's code and all of MONAI are seconds of CPU; whoever wants MONAI afterwards gets the whole of it."""
    command = [sys.executable, "-c", SCRIPT, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)

    assert done.returncode == 0, done.stderr[-2000:]

"""A training step on a pretended GPU: the host feeds it without ever waiting for it."""

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.pretended_cuda import LOG, MEMORY, pretend
from tests.training.samples import make_config, make_data
from tuner.training import loop
from tuner.training.loop import TrainingState

STEPS: dict[str, tuple[int, dict[str, Any]]] = {
    "resident": (MEMORY, {}),
    "augmented": (MEMORY, {"augment": "default"}),
    "streamed": (0, {}),
    "patches": (MEMORY, {"patch": [16, 16]}),
    "bfloat16": (MEMORY, {"precision": "bfloat16"}),
    "float16": (MEMORY, {"precision": "float16"}),
    "float16-sgd": (MEMORY, {"precision": "float16", "optimizer": "sgd"}),
    "maps": (MEMORY, {"loss": "hausdorff"}),
    "skeletons": (MEMORY, {"loss": "skeleton_recall"}),
    "objects": (MEMORY, {"loss": "blob"}),
    "deterministic": (MEMORY, {"deterministic": True, "augment": "default"}),
    "patches-streamed": (0, {"patch": [16, 16], "augment": "default"}),
    "picked": (MEMORY, {"loss": "conditional_boundary", "augment": "default"}),
}
"""Bytes that the device has free, and what the training does."""


@pytest.mark.parametrize(("free", "train"), STEPS.values(), ids=STEPS)
def test_a_step_does_not_wait(free: int, train: dict[str, Any], tmp_path: Path) -> None:
    """A host that waits once a step cannot run ahead, and the GPU idles while it prepares the next."""
    config = make_config(**{"precision": "float32", "augment": "none"} | train)
    with pretend(free=free) as device:
        run = TrainingState(config, make_data(tmp_path), device)
        run.trial.loss.on_epoch(1, 3)
        run.samples.begin(1)
        augmenting = torch.Generator().manual_seed(0)
        index = torch.arange(4)
        run.step(index, augmenting)
        loop._CHECKED_LABELS.add(run._labels)  # the first epoch on a data set checks every batch, and waits for it
        LOG.clear()
        loss = run.step(index, augmenting)
        waits, pageable = dict(LOG.waits), dict(LOG.pageable)

        assert not waits
        assert not pageable
        assert torch.isfinite(loss)

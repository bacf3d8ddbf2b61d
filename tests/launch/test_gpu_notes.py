"""What a launch says of GPUs that torch cannot use, or that several workers share."""

from pathlib import Path

import pytest
import torch

from tuner.launch.device_probe import shared_gpus, unusable_gpus

VERSION = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  470.57.02  Tue Jul 13 16:14:05 UTC 2021\n"


def test_a_wheel_or_driver_that_does_not_fit_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`auto` falls back to the CPU: fifty times slower, and nobody would know why."""
    driver = tmp_path / "version"
    assert unusable_gpus(["cpu"], driver) == []
    driver.write_text(VERSION)
    monkeypatch.setattr(torch.version, "cuda", None)
    assert "driver (470.57.02), but torch" in unusable_gpus(["cpu"], driver)[0]
    monkeypatch.setattr(torch.version, "cuda", "12.8")
    assert "finds no GPU with the driver 470.57.02" in unusable_gpus(["cpu"], driver)[0]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert unusable_gpus(["cpu"], driver) == []  # hidden on purpose
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: ["sm_75", "sm_90", "compute_90"])
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (6, 1) if device == "cuda:1" else (9, 0))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "GTX 1080")
    (note,) = unusable_gpus(["cuda:0", "cuda:1", "cpu"], driver)
    assert "no kernels for GTX 1080 (cuda:1, compute capability 6.1): those begin with 7.5" in note


def test_workers_that_share_a_gpu_by_turns_are_told_of_mps(tmp_path: Path) -> None:
    """Two small trainings on one GPU are hardly faster than one after the other, unless MPS runs."""
    without = {"CUDA_MPS_PIPE_DIRECTORY": str(tmp_path)}

    assert shared_gpus(["cuda:0", "cuda:1"], without) == shared_gpus(["cpu", "cpu"], without) == []
    assert "share cuda:0 by turns" in shared_gpus(["cuda:0", "cuda:0"], without)[0]
    (tmp_path / "control").touch()
    assert shared_gpus(["cuda:0", "cuda:0"], without) == []

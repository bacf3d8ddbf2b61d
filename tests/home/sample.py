"""Samples in nnU-Net's format, of the phantom and of pictures, and nnU-Net's programs on them."""

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from PIL import Image

from tuner.data.preparation import open_source

NUMBER = 901
NAME = f"Dataset{NUMBER}_Phantom"
TINY = "2d_tiny"
PHANTOM = {"name": "phantom", "size": 64, "slices": 12}


def write_sample(raw: Path, *, cases: int = 10, tests: int = 1, name: str = NAME, **described: Any) -> Path:
    """Write cases of the phantom as an nnU-Net data set below `raw`; `described` replaces keys of its dataset.json."""
    _, _, source = open_source({**PHANTOM, "cases": cases + tests}, None)
    folder = raw / name
    halves = [("Tr", source.training[:cases]), ("Ts", source.training[cases : cases + tests])]
    highest = 0
    for half, names in halves:
        for kind in ("images", "labels"):
            (folder / f"{kind}{half}").mkdir(parents=True, exist_ok=True)
        for case in names:
            found = source.original(case)
            image, label = np.asarray(found.image, np.float32), np.asarray(found.label, np.uint8)
            spacing = found.spacing or (1.0, 1.0, 1.0)
            affine = np.diag([*reversed(spacing), 1.0])
            image = image.reshape(label.shape)
            # NIfTI's first axis is x
            nib.save(nib.Nifti1Image(image.T, affine), folder / f"images{half}" / f"{case}_0000.nii.gz")
            nib.save(nib.Nifti1Image(label.T, affine), folder / f"labels{half}" / f"{case}.nii.gz")
            highest = max(highest, int(label.max()))
    labels = {"background": 0, **{f"organ_{n}": n for n in range(1, highest + 1)}}
    document = {
        "channel_names": {"0": "CT"},
        "labels": labels,
        "numTraining": cases,
        "file_ending": ".nii.gz",
        **described,
    }
    (folder / "dataset.json").write_text(json.dumps(document))
    return folder


def write_pictures(raw: Path, pictures: Path, names: Iterable[str], *, name: str, reduced: int = 1) -> None:
    """Write pictures of two classes, `images/NAME.png` and `masks/NAME.png` (255: class 1), in nnU-Net's format.

    Both are made smaller by the factor `reduced`, images by averages and masks by the nearest pixel.
    """
    images, labels = raw / name / "imagesTr", raw / name / "labelsTr"
    images.mkdir(parents=True, exist_ok=True)
    labels.mkdir(exist_ok=True)
    count = 0
    for case in names:
        image = Image.open(pictures / "images" / f"{case}.png").convert("RGB")
        image.reduce(reduced).save(images / f"{case}_0000.png")
        mask = np.asarray(Image.open(pictures / "masks" / f"{case}.png").convert("L")) > 127
        mask = mask[reduced // 2 :: reduced, reduced // 2 :: reduced]
        Image.fromarray(mask.astype(np.uint8)).save(labels / f"{case}.png")
        count += 1
    document = {
        "channel_names": {"0": "R", "1": "G", "2": "B"},
        "labels": {"background": 0, "foreground": 1},
        "numTraining": count,
        "file_ending": ".png",
    }
    (raw / name / "dataset.json").write_text(json.dumps(document))


def nnunet_environment(root: Path) -> dict[str, str]:
    """Return the environment of nnU-Net's programs: its folders and trainers below `root`, one process and thread."""
    folders = {key: str(root / key) for key in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")}
    for folder in folders.values():
        Path(folder).mkdir(parents=True, exist_ok=True)
    quiet = {"nnUNet_n_proc_DA": "0", "nnUNet_def_n_proc": "1", "nnUNet_compile": "f", "PYTHONWARNINGS": "ignore"}
    # a file that nnU-Net imports after it has asked for a thread of every core: those wait for each other where others
    # compute, too
    trainers = root / "trainers"
    trainers.mkdir(exist_ok=True)
    (trainers / "a_single_thread.py").write_text("import torch\n\ntorch.set_num_threads(1)\n")
    places = {"nnUNet_extTrainer": str(trainers), "OMP_NUM_THREADS": "1"}
    return {**os.environ, **folders, **quiet, **places}


def run(program: str, *words: str, env: dict[str, str], cwd: Path | None = None, fails: bool = False) -> str:
    """Run a program of this environment and return what it printed."""
    path = Path(sys.executable).with_name(program)
    done = subprocess.run([str(path), *words], env=env, cwd=cwd, capture_output=True, text=True, check=False)
    text = done.stdout + done.stderr
    assert (done.returncode != 0) is fails, f"{program} {' '.join(words)}: exit {done.returncode}\n{text[-4000:]}"
    return text


def plan(env: dict[str, str], number: int = NUMBER, name: str = NAME, **changed: Any) -> None:
    """Plan and preprocess a sample for slices, and add a tiny configuration of the same data to the plans.

    `changed` are keys of that configuration.
    """
    # the planner takes the number of augmenting processes for one of threads, which must be at least 1
    alone = {**env, "nnUNet_n_proc_DA": "1"}
    run("nnUNetv2_plan_and_preprocess", "-d", str(number), "-c", "2d", "-np", "1", "-npfp", "1", env=alone)
    path = Path(env["nnUNet_preprocessed"]) / name / "nnUNetPlans.json"
    plans = json.loads(path.read_text())
    architecture = plans["configurations"]["2d"]["architecture"]
    stages = 4
    per_stage = ("kernel_sizes", "strides", "n_conv_per_stage")
    sizes = {key: architecture["arch_kwargs"][key][:stages] for key in per_stage}
    decoder = architecture["arch_kwargs"]["n_conv_per_stage_decoder"][: stages - 1]
    small = {"n_stages": stages, "features_per_stage": [8, 16, 32, 32], "n_conv_per_stage_decoder": decoder, **sizes}
    network = {**architecture, "arch_kwargs": {**architecture["arch_kwargs"], **small}}
    plans["configurations"][TINY] = {"inherits_from": "2d", "batch_size": 8, "architecture": network, **changed}
    path.write_text(json.dumps(plans, indent=1))

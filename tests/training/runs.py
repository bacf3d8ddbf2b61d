"""Folders as `train` leaves them, without the time that a training takes: fresh weights stand for trained ones."""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from tuner.config.trial import TrialConfig, load_config
from tuner.config.yaml_reader import dump_yaml
from tuner.data.preparation import PreparedData
from tuner.training.components import build_network
from tuner.training.run_dir import write_data_card


def tiny(dataset: dict[str, Any], **train: Any) -> TrialConfig:
    """A network of a few hundred weights on a data set of the test's."""
    return load_config(
        {
            "dataset": dataset,
            "model": {"name": "unet", "width": 4, "depth": 1},
            "loss": "dice_cross_entropy",
            "train": {"epochs": 1, "batch_size": 2, "threads": 1, "seed": 3, "precision": "float32"} | train,
        }
    )


def make_run(folder: Path, config: TrialConfig, data: PreparedData) -> Path:
    """Write what `predict` reads: configuration, facts and weights."""
    folder.mkdir(parents=True)
    torch.manual_seed(3)
    net = build_network(config, data, "cpu")
    with torch.no_grad():
        for parameter in net.model.parameters():
            parameter.normal_()  # so that all classes are predicted somewhere
    (folder / "config.yaml").write_text(dump_yaml(config.as_dict()))
    weights = {name: tensor.contiguous() for name, tensor in net.model.state_dict().items()}
    save_file(weights, folder / "best.safetensors", metadata={"epoch": "1"})
    write_data_card(folder, data)
    return folder

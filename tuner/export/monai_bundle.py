"""A trial as a MONAI bundle: configurations, weights, and the sources that they name; it needs MONAI, not this package.

The data are the arrays that the trial was prepared, in their folder. The loss, the network and the metric are the
trial's; augmentation is MONAI's, and the learning rate falls by MONAI's and torch's schedules of the same names.
"""

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tuner import __version__
from tuner.config.trial import TrialConfig
from tuner.data.preparation import PreparedData
from tuner.export.embedding import assembled
from tuner.export.torch_file import head_lines, torch_export
from tuner.metrics.catalog import MASK_METRICS, METRICS
from tuner.models.catalog import MODELS

PARTS = "tuner.export.bundle_parts"
FORMS = ("ct", "volumes", "pictures")
TOLERANCE = 1e-4
"""What the metric may differ by on another device; in float32 on the same one it is the same."""


@dataclass(frozen=True, slots=True)
class Unit:
    """What is scored as one: its samples and the size of a pixel in mm."""

    start: int
    stop: int
    single: bool
    spacing: tuple[float, ...] | None


def monai_bundle(
    config: TrialConfig,
    facts: Mapping[str, Any],
    weights: Mapping[str, Tensor] | None,
    data: PreparedData,
    units: list[Unit],
) -> tuple[dict[str, bytes], tuple[str, ...]]:
    """Return the files of a bundle by their paths in it, and what it does not hold.

    Args:
        config: The trial.
        facts: Its `data.json`.
        weights: Of its network; None where they are not kept any more.
        data: What it was trained on, prepared.
        units: What is scored as one in the validation split, in order.

    Raises:
        RequestError: The loss is code of the user's own, or `data.json` is of an earlier version.
    """
    made = torch_export(config, facts, weights, beside="exported.pt", networks=tuple(MODELS))
    settings = _settings(config, facts, data, units)
    left_out = list(made.left_out)
    of_probabilities = [of.metric for of in config.objectives if of.metric not in MASK_METRICS]
    if of_probabilities and not made.left_out:
        left_out.append(f"{', '.join(of_probabilities)}: the bundle is judged by its masks, by {settings['metric']}")
    files = {
        "scripts/__init__.py": b"",
        "scripts/exported.py": made.text.encode(),
        "scripts/exported.pt": made.tensors,
        "scripts/parts.py": _parts(config, settings).encode(),
        "configs/metadata.json": _json(_metadata(config, settings)),
        "configs/logging.conf": _LOGGING,
    }
    if not made.left_out and weights is not None:
        buffer = io.BytesIO()
        torch.save({key: tensor.contiguous() for key, tensor in weights.items()}, buffer)
        files["models/model.pt"] = buffer.getvalue()
        files["configs/train.json"] = _json(_train(config, settings, data))
        files["configs/evaluate.json"] = _json(_evaluate(settings, data))
        if settings["reading"].get("form") in FORMS:
            files["configs/inference.json"] = _json(_inference())
        else:
            left_out.append("configs/inference.json: the data set does not say how further images are read")
    files["docs/README.md"] = _readme(config, left_out).encode()
    return files, tuple(left_out)


def _metric_of_masks(config: TrialConfig) -> str:
    """Return the first objective that the bundle can measure: its evaluation sees masks, and no probabilities."""
    names = [objective.metric for objective in config.objectives]
    return next((name for name in names if name in MASK_METRICS), "dice")


def _settings(config: TrialConfig, facts: Mapping[str, Any], data: PreparedData, units: list[Unit]) -> dict[str, Any]:
    patch = config.train.patch_shape(data.spatial_dims)
    metric, first = _metric_of_masks(config), config.objectives[0].metric
    told = config.provenance
    return {
        "metric": metric,
        "value": told.get("value") if metric == first else told.get("metrics", {}).get(metric),
        "class_names": list(data.class_names),
        "classes": data.classes,
        "channels": data.channels,
        "ignore_index": data.ignore_index,
        "background": data.background,
        "spatial_dims": data.spatial_dims,
        "sample_shape": list(data.sample_shape),
        "patch": None if patch is None else list(patch),
        "overlap": config.train.overlap,
        "batch_size": config.train.batch_size,
        "reading": dict(facts.get("reading") or {}),
        "cases": {"train": list(data.train.cases), "validation": list(data.validation.cases)},
        "units": [
            {
                "start": unit.start,
                "stop": unit.stop,
                "single": unit.single,
                "spacing": None if unit.spacing is None else list(unit.spacing),
            }
            for unit in units
        ],
    }


def _parts(config: TrialConfig, settings: Mapping[str, Any]) -> str:
    head = "\n".join([*head_lines(config), "What the bundle's configurations name beside MONAI and ignite."])
    return assembled((PARTS,), head=head, settings=settings)


_COMMON: dict[str, Any] = {
    "bundle_root": ".",
    "device": "$torch.device('cuda' if torch.cuda.is_available() else 'cpu')",
}
_IMPORTS = ["$import torch", "$import scripts.parts as parts", "$import scripts.exported as exported"]


def _validation(settings: Mapping[str, Any], *, handlers: list[Any]) -> dict[str, Any]:
    return {
        "dataset": {"_target_": "scripts.parts.PreparedSamples", "folder": "@dataset_dir", "split": "validation"},
        "dataloader": {
            "_target_": "DataLoader",
            "dataset": "@validate#dataset",
            # samples of one size in batches, others alone
            "batch_size": settings["batch_size"] if 0 not in settings["sample_shape"] else 1,
            "shuffle": False,
            "num_workers": 0,
        },
        "metric": {
            "_target_": "scripts.parts.TrialMetric",
            "output_transform": "$monai.handlers.from_engine(['pred', 'label'])",
        },
        "evaluator": {
            "_target_": "SupervisedEvaluator",
            "device": "@device",
            "val_data_loader": "@validate#dataloader",
            "network": "@network",
            "inferer": {"_target_": "scripts.parts.TrialInferer"},
            "key_val_metric": {settings["metric"]: "@validate#metric"},
            "metric_cmp_fn": "$lambda now, best: now < best"
            if METRICS[settings["metric"]].direction == "minimize"
            else "$lambda now, best: now > best",
            "val_handlers": handlers,
        },
    }


def _train(config: TrialConfig, settings: Mapping[str, Any], data: PreparedData) -> dict[str, Any]:
    train = config.train
    metric = settings["metric"]
    return {
        "imports": ["$import monai", *_IMPORTS],
        **_COMMON,
        "output_dir": "$@bundle_root + '/models'",
        "dataset_dir": str(data.folder),
        "epochs": train.epochs,
        "batch_size": train.batch_size if settings["patch"] is None else max(1, train.batch_size // train.patches),
        "lr": train.lr,
        "weight_decay": train.weight_decay,
        "clip_norm": train.clip_norm,
        "seed": train.seed or 0,
        "network": "$exported.network(pretrained=False).to(@device)",
        "loss": "$parts.BundleLoss(exported.loss()).to(@device)",
        "optimizer": _optimizer(config),
        "steps": "$@epochs * len(@train#dataloader)",
        "schedule": _schedule(config),
        "train": {
            "transforms": {"_target_": "Compose", "transforms": _augmentation(config, settings)},
            "dataset": {
                "_target_": "scripts.parts.PreparedSamples",
                "folder": "@dataset_dir",
                "split": "train",
                "transform": "@train#transforms",
            },
            "dataloader": {
                "_target_": "DataLoader",
                "dataset": "@train#dataset",
                "batch_size": "@batch_size",
                "shuffle": True,
                "num_workers": 0,
            },
            "handlers": [
                {"_target_": "LrScheduleHandler", "lr_scheduler": "@schedule", "epoch_level": False},
                {"_target_": "scripts.parts.LossProgress", "loss": "@loss"},
                {
                    "_target_": "ValidationHandler",
                    "validator": "@validate#evaluator",
                    "epoch_level": True,
                    "interval": train.validate_every,
                },
                {
                    "_target_": "StatsHandler",
                    "tag_name": "train_loss",
                    "output_transform": "$monai.handlers.from_engine(['loss'], first=True)",
                },
            ],
            "trainer": {
                "_target_": "SupervisedTrainer",
                "max_epochs": "@epochs",
                "device": "@device",
                "train_data_loader": "@train#dataloader",
                "network": "@network",
                "loss_function": "@loss",
                "optimizer": "@optimizer",
                "inferer": {"_target_": "SimpleInferer"},
                "train_handlers": "@train#handlers",
            },
        },
        "validate": _validation(
            settings,
            handlers=[
                {"_target_": "StatsHandler", "iteration_log": False},
                {
                    "_target_": "CheckpointSaver",
                    "save_dir": "@output_dir",
                    "save_dict": {"model": "@network"},
                    "save_key_metric": True,
                    "key_metric_filename": "trained.pt",
                    "key_metric_negative_sign": METRICS[metric].direction == "minimize",
                },
            ],
        ),
        "initialize": [
            "$monai.utils.set_determinism(seed=@seed)",
            "$parts.clip_gradients(@optimizer, @clip_norm)",
        ],
        "run": ["$@train#trainer.run()"],
    }


def _optimizer(config: TrialConfig) -> dict[str, Any]:
    train = config.train
    groups = "$parts.parameter_groups(@network, @loss, @weight_decay)"
    if train.optimizer == "sgd":
        more = {"momentum": train.momentum, "nesterov": train.momentum > 0}
        return {"_target_": "torch.optim.SGD", "params": groups, "lr": "@lr", **more}
    return {"_target_": "torch.optim.AdamW", "params": groups, "lr": "@lr", "betas": [train.momentum, 0.999]}


def _schedule(config: TrialConfig) -> dict[str, Any]:
    train = config.train
    given: dict[str, Any] = {"optimizer": "@optimizer"}
    if train.schedule == "cosine":
        warmup = f"$int({train.warmup} * @steps)"
        return {
            "_target_": "monai.optimizers.WarmupCosineSchedule",
            **given,
            "warmup_steps": warmup,
            "t_total": "@steps",
        }
    if train.schedule == "one_cycle":
        share = max(train.warmup, 1e-3)
        more = {"max_lr": "@lr", "total_steps": "$@steps + 1", "pct_start": share, "cycle_momentum": False}
        return {"_target_": "torch.optim.lr_scheduler.OneCycleLR", **given, **more}
    if train.schedule == "polynomial":
        return {"_target_": "torch.optim.lr_scheduler.PolynomialLR", **given, "total_iters": "@steps", "power": 0.9}
    return {"_target_": "torch.optim.lr_scheduler.ConstantLR", **given, "factor": 1.0, "total_iters": 1}


def _augmentation(config: TrialConfig, settings: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return MONAI's transforms of a sample: patches, where the trial was trained on them, and light changes."""
    train, both = config.train, ["image", "label"]
    dims = settings["spatial_dims"]
    found: list[dict[str, Any]] = []
    if settings["patch"] is not None:
        patch = settings["patch"]
        ignored = settings["ignore_index"]
        found += [
            {"_target_": "SpatialPadd", "keys": both, "spatial_size": patch, "value": [0, ignored]},
            {
                "_target_": "RandCropByPosNegLabeld",
                "keys": both,
                "label_key": "label",
                "spatial_size": patch,
                "pos": train.foreground,
                "neg": 1 - train.foreground,
                "num_samples": train.patches,
                "allow_smaller": False,
            },
        ]
    if train.augment == "none":
        return found
    angle = 0.26
    return [
        *found,
        {
            "_target_": "RandAffined",
            "keys": both,
            "prob": 0.5,
            "rotate_range": [angle] if dims == 2 else [angle, 0.0, 0.0],
            "scale_range": [0.1] * dims,
            "mode": ["bilinear", "nearest"],
            "padding_mode": ["zeros", "border"],
        },
        {"_target_": "RandScaleIntensityd", "keys": "image", "prob": 0.3, "factors": 0.1},
        {"_target_": "RandGaussianNoised", "keys": "image", "prob": 0.2, "std": 0.05},
    ]


_LOADER = {
    "_target_": "CheckpointLoader",
    "load_path": "@ckpt_path",
    "load_dict": {"model": "@network"},
    "map_location": "@device",
}
_TRAINED = {
    "ckpt_path": "$@bundle_root + '/models/model.pt'",
    "network": "$exported.network(pretrained=False).to(@device)",
}


def _evaluate(settings: Mapping[str, Any], data: PreparedData) -> dict[str, Any]:
    return {
        "imports": ["$import monai", *_IMPORTS],
        **_COMMON,
        **_TRAINED,
        "dataset_dir": str(data.folder),
        "tolerance": TOLERANCE,
        "validate": _validation(settings, handlers=[_LOADER]),
        "run": ["$@validate#evaluator.run()", "$parts.report(@validate#evaluator, @tolerance)"],
    }


def _inference() -> dict[str, Any]:
    return {
        "imports": ["$import monai", *_IMPORTS],
        **_COMMON,
        **_TRAINED,
        "input_dir": "$@bundle_root + '/images'",
        "output_dir": "$@bundle_root + '/predicted'",
        "dataset": {
            "_target_": "Dataset",
            "data": "$parts.list_cases(@input_dir)",
            "transform": {"_target_": "scripts.parts.ReadCase"},
        },
        "dataloader": {"_target_": "DataLoader", "dataset": "@dataset", "batch_size": 1, "num_workers": 0},
        "evaluator": {
            "_target_": "SupervisedEvaluator",
            "device": "@device",
            "val_data_loader": "@dataloader",
            "network": "@network",
            "inferer": {"_target_": "scripts.parts.CaseInferer"},
            "postprocessing": {"_target_": "scripts.parts.SaveMask", "folder": "@output_dir"},
            "val_handlers": [_LOADER],
        },
        "run": ["$@evaluator.run()"],
    }


def _metadata(config: TrialConfig, settings: Mapping[str, Any]) -> dict[str, Any]:
    import monai
    import numpy as np

    names = {str(number): name for number, name in enumerate(settings["class_names"])}
    shape = settings["patch"] or settings["sample_shape"][1:]
    return {
        "version": "0.1.0",
        "changelog": {"0.1.0": "as exported"},
        "monai_version": monai.__version__,
        "pytorch_version": torch.__version__.partition("+")[0],
        "numpy_version": np.__version__,
        "required_packages_version": {"pytorch-ignite": "0.5.0", "fire": "0.5.0", "nibabel": "5.2.0", "scipy": "1.13"},
        "name": f"{config.provenance.get('study', 'trial')} {config.provenance.get('trial')}",
        "task": "Semantic segmentation",
        "description": " ".join(head_lines(config)),
        "authors": f"exported by tuner {__version__}",
        "copyright": "",
        "data_type": str(config.dataset["name"]),
        "eval_metrics": {settings["metric"]: settings["value"]},
        "network_data_format": {
            "inputs": {
                "image": {
                    "type": "image",
                    "format": "magnitude",
                    "num_channels": settings["channels"],
                    "spatial_shape": list(shape),
                    "dtype": "float32",
                    "value_range": [],
                    "is_patch_data": settings["patch"] is not None,
                    "channel_def": {str(number): f"channel {number}" for number in range(settings["channels"])},
                }
            },
            "outputs": {
                "pred": {
                    "type": "image",
                    "format": "segmentation",
                    "num_channels": settings["classes"],
                    "spatial_shape": list(shape),
                    "dtype": "float32",
                    "value_range": [],
                    "is_patch_data": settings["patch"] is not None,
                    "channel_def": names,
                }
            },
        },
    }


_LOGGING = b"""[loggers]
keys=root

[handlers]
keys=console

[formatters]
keys=plain

[logger_root]
level=INFO
handlers=console

[handler_console]
class=StreamHandler
level=INFO
formatter=plain
args=(sys.stdout,)

[formatter_plain]
format=%(asctime)s %(levelname)s %(message)s
"""


def _readme(config: TrialConfig, left_out: list[str]) -> str:
    lines = [
        "# " + head_lines(config)[0],
        "",
        *head_lines(config)[1:],
        "",
        *(f"Not in it: {what}." for what in left_out),
    ]
    return "\n".join(lines).rstrip() + _COMMANDS


_COMMANDS = """

Needs MONAI, pytorch-ignite, fire, nibabel and SciPy. From this folder:

    python -m scripts.exported                                        # loss and network against stored values, to 1e-6
    python -m monai.bundle run --config_file configs/evaluate.json    # the validation metric, against the trial's
    python -m monai.bundle run --config_file configs/train.json       # trains again, into models/trained.pt
    python -m monai.bundle run --config_file configs/inference.json --input_dir IMAGES --output_dir MASKS

`dataset_dir` is the folder of prepared data; name another one by `--dataset_dir`.
"""


def _json(content: Mapping[str, Any]) -> bytes:
    return (json.dumps(content, indent=4, ensure_ascii=False) + "\n").encode()

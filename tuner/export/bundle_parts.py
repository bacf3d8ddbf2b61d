"""What a bundle's configurations name beside MONAI and ignite: samples, the loss on them, inference, the metric.

Samples are the arrays that the trial was trained on, in a folder of prepared data. Symbols: C channels, *S space.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from ignite.engine import Engine, Events
from ignite.metrics import Metric
from monai.inferers import Inferer, sliding_window_inference
from monai.transforms import EnsureChannelFirst, LoadImage, Orientation
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import Dataset

from tuner.metrics.scoring import mean_scores, score_case, without_absent

SETTINGS: dict[str, Any] = {}

Sample = dict[str, Any]


class PreparedSamples(Dataset[Sample]):
    """One split of a folder of prepared data: image [C, *S] float32, label [1, *S] int64.

    Args:
        folder: Of prepared data.
        split: "train" or "validation".
        transform: Of a sample, a dictionary; may return several.
    """

    def __init__(self, folder: str, split: str, transform: Callable[[Sample], Any] | None = None) -> None:
        self._transform = transform
        place = Path(folder)
        manifest = json.loads((place / "manifest.json").read_text(encoding="utf-8"))
        self._spaces: list[tuple[int, ...]] | None = None
        ending = ""
        if "spaces" in manifest:
            cases = SETTINGS["cases"][split]
            self._spaces = [tuple(space) for case in cases for space in manifest["spaces"][case]]
            ending = "-flat"
        self._images = np.load(place / f"{split}-images{ending}.npy", mmap_mode="r")
        self._labels = np.load(place / f"{split}-labels{ending}.npy", mmap_mode="r")
        self._ends = np.cumsum([int(np.prod(space)) for space in self._spaces or ()], dtype=np.int64)

    def __len__(self) -> int:
        return len(self._labels) if self._spaces is None else len(self._spaces)

    def __getitem__(self, index: int) -> Any:
        """Return a sample, or what the transform makes of it."""
        if self._spaces is None:
            image, label = self._images[index], self._labels[index]
        else:
            space, channels = self._spaces[index], SETTINGS["channels"]
            end, size = int(self._ends[index]), int(np.prod(self._spaces[index]))
            image = self._images[(end - size) * channels : end * channels].reshape(channels, *space)
            label = self._labels[end - size : end].reshape(space)
        sample = {
            "image": torch.from_numpy(np.array(image, np.float32)),
            "label": torch.from_numpy(np.array(label, np.int64))[None],
        }
        return sample if self._transform is None else self._transform(sample)


class BundleLoss(nn.Module):
    """The trial's loss on labels [B, 1, *S], as MONAI hands them."""

    def __init__(self, loss: nn.Module) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the loss, a scalar."""
        value: Tensor = self.loss(logits, torch.as_tensor(labels).squeeze(1).long())
        return value


class LossProgress:
    """Tells a loss with a schedule which epoch of how many begins."""

    def __init__(self, loss: BundleLoss) -> None:
        self.loss = loss

    def attach(self, engine: Engine) -> None:
        """Listen to an engine."""
        engine.add_event_handler(Events.EPOCH_STARTED, self)

    def __call__(self, engine: Engine) -> None:
        """Pass the epoch on."""
        self.loss.loss.on_epoch(engine.state.epoch, engine.state.max_epochs)  # type: ignore[operator]


def parameter_groups(network: nn.Module, loss: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Return groups for an optimizer: biases and norms do not decay, nor does what the loss learns."""
    parameters = [p for p in network.parameters() if p.requires_grad]
    groups: list[dict[str, Any]] = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
        {"params": [p for p in loss.parameters() if p.requires_grad], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def clip_gradients(optimizer: torch.optim.Optimizer, norm: float | None) -> None:
    """Clip the gradients to a norm before every step from now on; None: never."""

    def clip(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        assert norm is not None
        torch.nn.utils.clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]], norm)

    if norm is not None:
        optimizer.register_step_pre_hook(clip)


class TrialInferer(Inferer):  # type: ignore[misc]
    """Predicts as the trial did: batches [B, C, *S] of samples, whole or by sliding windows."""

    def __call__(self, inputs: Tensor, network: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
        """Return logits [B, classes, *S]."""
        patch = SETTINGS["patch"]
        if patch is None:
            return network(inputs)
        found: Tensor = sliding_window_inference(
            inputs,
            roi_size=patch,
            sw_batch_size=SETTINGS["batch_size"],
            predictor=network,
            overlap=SETTINGS["overlap"],
            mode="gaussian",
            sigma_scale=0.125,
        )
        return found


class CaseInferer(TrialInferer):
    """Predicts a case of any size, [1, C, D, H, W] (D is 1 for a picture): labels [1, 1, D, H, W] in its own size."""

    def __call__(self, inputs: Tensor, network: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
        """Return the labels."""
        image = torch.as_tensor(inputs)[0]
        depth, *plane = image.shape[1:]
        size, dims = SETTINGS["sample_shape"][-2:], SETTINGS["spatial_dims"]
        if 0 not in size and list(size) != list(plane):
            image = F.interpolate(image, size=list(size), mode="bilinear", antialias=True)
        samples = image.transpose(0, 1) if dims == 2 else self._slabs(image)
        labels = [super(CaseInferer, self).__call__(part, network).argmax(1) for part in torch.split(samples, 1)]
        found = torch.cat(labels) if dims == 2 else torch.cat([part[0] for part in labels])
        found = found[:depth]
        if list(found.shape[1:]) != list(plane):
            rows, columns = (_nearest(old, new) for old, new in zip(found.shape[1:], plane, strict=True))
            found = found[:, rows[:, None], columns[None, :]]
        return found[None, None]

    @staticmethod
    def _slabs(image: Tensor) -> Tensor:
        """Cut a volume [C, D, H, W] into samples of the trial's depth, the last plane repeated: [N, C, *S]."""
        step = SETTINGS["sample_shape"][1]
        if step == 0:
            return image[None]
        missing = -image.shape[1] % step
        whole = torch.cat([image, image[:, -1:].expand(-1, missing, -1, -1)], 1)
        return whole.reshape(len(whole), -1, step, *whole.shape[2:]).transpose(0, 1)


def _nearest(old: int, new: int) -> Tensor:
    return ((2 * torch.arange(new) + 1) * old) // (2 * new)


class TrialMetric(Metric):  # type: ignore[misc]
    """The trial's objective on the validation split, which must come in its own order: the mean over cases and classes.

    Takes (logits [B, classes, *S], labels [B, 1, *S]).
    """

    def __init__(self, output_transform: Callable[..., Any] = lambda output: output) -> None:
        super().__init__(output_transform)

    def reset(self) -> None:
        """Forget what was predicted."""
        self._found: list[Any] = []
        self._truth: list[Any] = []

    def update(self, output: tuple[Sequence[Tensor], Sequence[Tensor]]) -> None:
        """Take a batch."""
        for logits, label in zip(*output, strict=True):
            self._found.append(torch.as_tensor(logits).argmax(0).to(torch.uint8).cpu().numpy())
            self._truth.append(torch.as_tensor(label)[0].to(torch.uint8).cpu().numpy())

    def compute(self) -> float:
        """Return the value; nan where no case holds a class."""
        scores, occurring = [], np.zeros(SETTINGS["classes"], bool)
        for unit in SETTINGS["units"]:
            cut = slice(unit["start"], unit["stop"])
            found, truth = (
                items[unit["start"]] if unit["single"] else np.stack(items[cut]) for items in (self._found, self._truth)
            )
            occurring |= np.bincount(truth.ravel(), minlength=256)[: SETTINGS["classes"]] > 0
            scores.append(
                score_case(
                    found,
                    truth,
                    SETTINGS["classes"],
                    SETTINGS["ignore_index"],
                    (SETTINGS["metric"],),
                    spacing=unit["spacing"],
                    background=SETTINGS["background"],
                )
            )
        if not SETTINGS["background"]:
            scores = without_absent(scores, occurring.tolist())
        value = mean_scores(scores)[0][SETTINGS["metric"]]
        return float("nan") if value is None else value


def report(engine: Engine, tolerance: float) -> None:
    """Print the validation metric and compare it with the trial's. Raises ValueError where it is another one."""
    found, wanted = engine.state.metrics[SETTINGS["metric"]], SETTINGS["value"]
    print(f"{SETTINGS['metric']} {found:.6f}, the trial's was {wanted}")  # noqa: T201
    if wanted is not None and not abs(found - wanted) <= tolerance:
        raise ValueError(f"{SETTINGS['metric']} is {found}; it was {wanted}, and may differ by {tolerance}")


def list_cases(folder: str) -> list[dict[str, Any]]:
    """Return the images of a folder, as `ReadCase` takes them: a file each, or CASE_0000, CASE_0001, … of a case."""
    groups: dict[str, list[str]] = {}
    several = SETTINGS["reading"].get("files", 1) > 1
    for path in sorted(Path(folder).iterdir()):
        if path.name.endswith(ENDINGS):
            ending = next(ending for ending in ENDINGS if path.name.endswith(ending))
            stem = path.name[: -len(ending)]
            name = stem[:-5] if several or (stem[-5:-4] == "_" and stem[-4:].isdigit()) else stem
            groups.setdefault(name, []).append(str(path))
    if not groups:
        raise FileNotFoundError(f"{folder} holds no image ({', '.join(ENDINGS)})")
    return [{"name": name, "paths": paths} for name, paths in groups.items()]


ENDINGS = (".nii.gz", ".nii", ".mha", ".nrrd", ".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
PICTURES = ENDINGS[4:]


class ReadCase:
    """Reads an image [C, D, H, W] and normalises it as the images were that the network was trained on.

    Volumes are turned as in training. Pictures have 8 bits a channel.
    """

    def __call__(self, case: Mapping[str, Any]) -> dict[str, Any]:
        """Return name and image."""
        reading = SETTINGS["reading"]
        if case["paths"][0].endswith(PICTURES):
            mode = "L" if SETTINGS["channels"] == 1 else "RGB"
            picture = np.asarray(Image.open(case["paths"][0]).convert(mode), np.float32) / 255
            image = torch.from_numpy(picture.reshape(*picture.shape[:2], -1)).permute(2, 0, 1)[:, None]
            return {"name": case["name"], "image": image, "path": case["paths"][0]}
        loaded = EnsureChannelFirst()(LoadImage(image_only=True)(case["paths"]))
        if axes():
            loaded = Orientation(axcodes=axes())(loaded)
        image = loaded.as_tensor().float()
        kinds = [str(kind).lower() for kind in reading.get("kinds", ["noNorm"])]
        kinds = kinds if len(kinds) == len(image) else kinds[:1] * len(image)
        if reading["form"] == "ct":
            kinds = ["ct"] * len(image)
        for channel, kind in zip(image, kinds, strict=True):
            if kind == "ct":
                low, high = float(reading["low"]), float(reading["high"])
                channel.clamp_(low, high).sub_(low).div_(high - low)
            elif kind not in ("nonorm", "rgb_to_0_1"):
                deviation = channel.double().std(unbiased=False).float()
                channel.sub_(channel.double().mean().float()).div_(deviation if deviation > 0 else 1)
        return {"name": case["name"], "image": image, "path": case["paths"][0]}


def axes() -> str | None:
    """Return how the axes of volumes run in training; None: as in the files."""
    reading = SETTINGS["reading"]
    found: str | None = "SPL" if reading["form"] == "ct" else reading.get("axes")
    return found if found and len(found) == 3 and set(found) <= set("RLAPSI") else None


class SaveMask:
    """Writes labels [1, D, H, W] as a mask beside the image's geometry: NIfTI of a volume, PNG of a picture."""

    def __init__(self, folder: str) -> None:
        self._folder = Path(folder)

    def __call__(self, case: dict[str, Any]) -> dict[str, Any]:
        """Write one; labels have the numbers that they have in the data set."""
        numbers = np.asarray(SETTINGS["reading"].get("labels") or range(SETTINGS["classes"]))
        labels = numbers[torch.as_tensor(case["pred"])[0].cpu().numpy()]
        labels = labels.astype(np.uint8 if labels.max(initial=0) < 256 else np.int32)
        self._folder.mkdir(parents=True, exist_ok=True)
        if case["path"].endswith(PICTURES):
            Image.fromarray(labels[0]).save(self._folder / f"{case['name']}.png")
            return case
        image = EnsureChannelFirst()(LoadImage(image_only=True)(case["path"]))
        if axes():
            # back to the directions of the file
            there = nib.orientations.axcodes2ornt(axes())
            here = nib.orientations.io_orientation(image.affine.numpy())
            labels = nib.orientations.apply_orientation(labels, nib.orientations.ornt_transform(there, here))
        nib.save(nib.Nifti1Image(labels, image.affine.numpy()), self._folder / f"{case['name']}.nii.gz")
        return case

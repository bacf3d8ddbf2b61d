"""A study that searches with nnU-Net's own training: a commented study file, and the trainer class that it runs."""

import json
import shlex
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tuner.data.layouts import guess_group
from tuner.errors import DataError, RequestError
from tuner.launch.loss_choice import LossChoice
from tuner.launch.study_file import comment, flow, losses_text
from tuner.losses.catalog.registry import LOSSES, competing_name

TRAINER = "nnUNetTrainerSearched"
PROGRAM = "nnUNetv2_train"
FOLDERS = ("nnUNet_raw", "nnUNet_preprocessed")
"""Environment variables of nnU-Net that have to be set; results go to the folders of the trials."""
_OF_THE_NETWORK = frozenset({"features", "classifier_weight", "boundary_head"})
"""What a loss may need of a network beside its outputs, which nnU-Net's do not give."""


@dataclass(frozen=True, slots=True)
class NnunetWish:
    """What was asked."""

    name: str
    dataset_id: int
    configuration: str = "2d"
    plans: str = "nnUNetPlans"
    device: str = "cuda"
    """As nnU-Net names it: cuda, cpu or mps"""
    epochs: int = 50
    iterations: int = 250
    trials: int = 30
    seconds: float | None = None
    folds: int = 5
    seed: int = 0


@dataclass(frozen=True, slots=True)
class NnunetPlace:
    """A data set as nnU-Net has it on this machine."""

    raw: Path
    """nnUNet_raw"""
    dataset: str
    """`Dataset123_Name`"""
    description: Mapping[str, Any]
    configurations: tuple[str, ...]

    @property
    def cases(self) -> list[str]:
        """Names of the training cases."""
        ending = str(self.description.get("file_ending", ".nii.gz"))
        found = (self.raw / self.dataset / "labelsTr").glob(f"*{ending}")
        return sorted(path.name.removesuffix(ending) for path in found if not path.name.startswith("."))

    @property
    def has_regions(self) -> bool:
        """Whether labels overlap; the study names no data set then, which reads none of that kind."""
        return any(isinstance(value, list) for value in self.description.get("labels", {}).values())


def find_place(wish: NnunetWish, environment: Mapping[str, str]) -> NnunetPlace:
    """Find a planned and preprocessed data set.

    Raises:
        RequestError: nnU-Net's folders are not named, or the data set, its plans or the configuration are not there.
    """
    missing = [name for name in FOLDERS if not environment.get(name)]
    if missing:
        raise RequestError(
            f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} not set.",
            hint="nnU-Net finds its data by them, as in: export nnUNet_raw=/data/nnUNet_raw",
            where="tuner init nnunet",
        )
    raw, preprocessed = (Path(environment[name]) for name in FOLDERS)
    names = {place: _number(place, wish.dataset_id) for place in (raw, preprocessed)}
    if not names[raw]:
        there = sorted(path.name for path in raw.glob("Dataset*"))[:8] if raw.is_dir() else []
        raise DataError(
            f"there is no Dataset{wish.dataset_id:03d}_NAME.",
            hint=f"There is {', '.join(there)}." if there else "The folder holds no data set of nnU-Net v2.",
            where=str(raw),
        )
    dataset = names[raw][0]
    plans = preprocessed / dataset / f"{wish.plans}.json"
    if not plans.is_file():
        raise DataError(
            f"there are no plans {wish.plans!r} of {dataset}: it was not planned and preprocessed yet.",
            hint=f"nnUNetv2_plan_and_preprocess -d {wish.dataset_id} -c {wish.configuration}",
            where=str(plans),
        )
    try:
        content = json.loads(plans.read_text(encoding="utf-8"))
        description = json.loads((raw / dataset / "dataset.json").read_text(encoding="utf-8"))
        known = tuple(content["configurations"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"cannot be read: {error}.", where=str(plans)) from error
    if not isinstance(description, dict) or not isinstance(description.get("labels"), dict):
        raise DataError("labels is missing, as in {'background': 0, 'liver': 1}.", where=str(raw / dataset))
    if wish.configuration not in known:
        raise DataError(
            f"the plans have no configuration {wish.configuration!r}.",
            hint=f"There is {', '.join(known)}.",
            where=str(plans),
        )
    return NnunetPlace(raw, dataset, description, known)


def _number(folder: Path, number: int) -> list[str]:
    return sorted(path.name for path in folder.glob(f"Dataset{number:03d}_*") if path.is_dir())


def find_program() -> str:
    """Return how nnU-Net's training is called. Raises RequestError where it is not on the path."""
    if shutil.which(PROGRAM) is None:
        raise RequestError(
            f"{PROGRAM} is not on the path.",
            hint="Activate the environment that has nnU-Net v2 (tuner itself may be in another one).",
            where="tuner init nnunet",
        )
    return PROGRAM


def only_outputs(choices: Sequence[LossChoice]) -> list[LossChoice]:
    """Return the choices without losses that need more of a network than its outputs."""
    kept, left = [], []
    for choice in choices:
        needs = _OF_THE_NETWORK & set(LOSSES[choice.loss].needs)
        if choice.is_in and not needs:
            kept.append(choice)
        elif needs:
            left.append(LossChoice(choice.loss, False, "needs more of a network than nnU-Net's outputs"))
        else:
            left.append(choice)
    return kept + left


def study_content(wish: NnunetWish, place: NnunetPlace, called: str, losses: Sequence[str]) -> dict[str, Any]:
    """Return the study file as plain data."""
    group = guess_group(place.cases)
    command = [called, str(wish.dataset_id), wish.configuration, "0", "-tr", TRAINER, "-p", wish.plans]
    command += ["-device", wish.device, "--c"]
    # one value is a fixed value: the trainer finds it in config.json as it finds those that are searched
    params: dict[str, Any] = {
        "nnunet.iterations": wish.iterations,
        "nnunet.validation_iterations": max(1, wish.iterations // 5),
        "nnunet.split_seed": wish.seed,
    }
    content: dict[str, Any] = {"name": wish.name}
    if place.has_regions:
        params |= {"nnunet.folds": wish.folds, "nnunet.fold": 0}
    else:
        content["dataset"] = {
            "name": "nnunet",
            "path": place.dataset,
            "size": 32,
            "validation": {"folds": wish.folds, "fold": 0},
            **({"group": group} if group is not None else {}),
        }
    budget: dict[str, Any] = {"trials": wish.trials, "retries": 3}
    if wish.seconds is not None:
        budget["timeout"] = f"{max(1, round(wish.seconds / 60))}m"
    return content | {
        "train": {
            "command": command,
            "epochs": wish.epochs,
            "optimizer": "sgd",
            "momentum": 0.99,
            "lr": 0.01,
            "weight_decay": 3.0e-5,
        },
        "search": {
            "loss": [competing_name(name) for name in losses],
            "train.lr": {"low": 1.0e-3, "high": 3.0e-2, "log": True},
            "train.weight_decay": {"low": 1.0e-6, "high": 1.0e-3, "log": True},
            **params,
        },
        "objectives": [{"metric": "dice"}],
        "sampler": {"name": "auto"},
        "pruner": {"name": "auto"},
        "budget": budget,
        "seed": wish.seed,
        "confirm": {"top": 2, "seeds": 3},
    }


def setup_lines(folder: Path, called: str) -> list[str]:
    """Return what is to be typed before the study is launched: where the trainer is, and what workers may run."""
    return [
        f"export nnUNet_extTrainer={shlex.quote(str(folder.resolve()))}",
        f"export TUNER_ALLOW_COMMAND={shlex.quote(called)}",
    ]


def study_text(
    wish: NnunetWish,
    place: NnunetPlace,
    content: Mapping[str, Any],
    losses: Sequence[LossChoice],
    commands: Sequence[str],
) -> str:
    """Return the text of the study file, with what each part is for.

    Args:
        wish: What was asked.
        place: Where nnU-Net has the data.
        content: As `study_content` returns it.
        losses: Every loss of the catalogue, in or out.
        commands: What is typed to start the study.
    """
    parts = [
        comment(
            f"Written by `tuner init nnunet` for {place.dataset}. nnU-Net's own training runs in every "
            f"trial ({wish.configuration} of {wish.plans}: its preprocessing, network, augmentation and validation); "
            "searched are loss, learning rate and weight decay. Start it by:"
        ),
        *(f"#   {command}" for command in commands),
        f"name: {flow(content['name'])}",
        "",
    ]
    if "dataset" in content:
        parts += [
            comment(
                "Which cases train and which validate: a division of its own for every run, in splits_final.json of "
                "its folder, by patient where `group: '{group}_*'` says what one is. tuner reads the raw data only to "
                "check it; `size` is that of its own small copy, and nothing that nnU-Net sees."
            ),
            f"dataset: {flow(content['dataset'])}",
            "",
        ]
    parts += [
        comment(
            f"The trainer {TRAINER} takes these from the trial's config.json. nnU-Net's own are 1000 epochs of 250 "
            "steps: a search ranks shorter trainings, and the leader is then trained by the same class for as long as "
            "you like (docs/nnunet.md)."
        ),
        f"train:{_block(content['train'])}",
        "",
        losses_text(losses, content["search"]),
        "",
        comment(
            "nnU-Net's pseudo Dice, of patches of the validation cases, after each epoch. The Dice of whole cases "
            "comes with the last one, and is what a confirmation judges."
        ),
        f"objectives: {flow(content['objectives'])}",
        f"sampler: {flow(content['sampler'])}",
        f"pruner: {flow(content['pruner'])}",
        f"budget: {flow(content['budget'])}",
        f"seed: {content['seed']}",
        "",
        comment(
            "Then the best are trained again with fresh seeds, the same for all; `folds: 5` adds the other divisions, "
            "and with them the claim reaches new cases."
        ),
        f"confirm: {flow(content['confirm'])}",
    ]
    return "\n".join(parts) + "\n"


def _block(train: Mapping[str, Any]) -> str:
    """Return a mapping with the command on a line of its own."""
    lines = [f"  {key}: {flow(value)}" for key, value in train.items()]
    return "\n" + "\n".join(lines)

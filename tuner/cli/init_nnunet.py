"""`init nnunet`: a study that searches with nnU-Net's own training."""

import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tuner.cli import output

if TYPE_CHECKING:
    from tuner.launch.loss_choice import LossChoice
    from tuner.launch.nnunet_study import NnunetPlace, NnunetWish

NNUNET = "nnunet"
_PANEL = "nnU-Net (tuner init nnunet --dataset-id 123)"
TRAINER_FOLDER = "{name}-trainer"


@dataclass(frozen=True, slots=True, kw_only=True)
class NnunetOptions:
    """What `init nnunet` takes beside what `init` does."""

    dataset_id: Annotated[
        int | None,
        typer.Option("--dataset-id", metavar="N", help="N of DatasetN_NAME.", min=1, rich_help_panel=_PANEL),
    ] = None
    configuration: Annotated[
        str | None,
        typer.Option("--configuration", metavar="NAME", help="Of its plans. Default: 2d.", rich_help_panel=_PANEL),
    ] = None
    plans: Annotated[
        str | None, typer.Option("--plans", metavar="NAME", help="Default: nnUNetPlans.", rich_help_panel=_PANEL)
    ] = None
    epochs: Annotated[
        int | None,
        typer.Option("--epochs", metavar="N", help="Of a trial. Default: 50.", min=1, rich_help_panel=_PANEL),
    ] = None
    iterations: Annotated[
        int | None,
        typer.Option(
            "--iterations", metavar="N", help="Steps of an epoch. Default: 250.", min=1, rich_help_panel=_PANEL
        ),
    ] = None
    trials: Annotated[
        int | None, typer.Option("--trials", metavar="N", help="Budget. Default: 30.", min=1, rich_help_panel=_PANEL)
    ] = None
    folds: Annotated[
        int | None,
        typer.Option(
            "--folds", metavar="N", help="Parts of the cases; one validates. Default: 5.", min=2, rich_help_panel=_PANEL
        ),
    ] = None

    def given(self) -> dict[str, Any]:
        """Return those that were given, by their names as fields."""
        names = [field.name for field in fields(NnunetOptions)]
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}


def init_nnunet(
    options: NnunetOptions,
    *,
    name: str,
    file: Path,
    devices: str,
    task: str | None,
    seconds: float | None,
    cache: Path | None,
    force: bool,
    as_json: bool,
) -> None:
    """Write the study file and the trainer class. Raises RequestError for what is not there, or is there already."""
    from tuner.errors import RequestError
    from tuner.export.nnunet_search import search_trainer_source
    from tuner.launch.nnunet_study import (
        TRAINER,
        NnunetWish,
        find_place,
        find_program,
        only_outputs,
        setup_lines,
        study_content,
        study_text,
    )

    wish = NnunetWish(name=name, seconds=seconds, **options.given())
    place = find_place(wish, os.environ)
    called = find_program()
    wish = replace(wish, device=_device(devices))
    folder = file.parent / TRAINER_FOLDER.format(name=wish.name)
    trainer = folder / f"{TRAINER}.py"
    for path in (file, trainer):
        if path.exists() and not force:
            raise RequestError(
                f"{path} is there already; nothing was touched.", hint="--force overwrites it.", where=str(path)
            )
    output.tell(f"{place.dataset}: configurations {', '.join(place.configurations)}")
    losses = only_outputs(_choices(wish, place, task, cache))
    kept = [choice.loss for choice in losses if choice.is_in]
    content = study_content(wish, place, called, kept)
    words = ["tuner", "launch", str(file)]
    words += [] if place.has_regions else ["--data-root", str(place.raw)]
    words += ["--devices", devices] if devices != "auto" else []
    commands = [*setup_lines(folder, called), shlex.join(words)]
    _write(file, study_text(wish, place, content, losses, commands), trainer, search_trainer_source())
    if as_json:
        output.put_json({"file": str(file), "trainer": str(trainer), "commands": commands, "study": content})
        return
    output.tell(
        f"  {len(kept)} losses compete in {wish.trials} trials of {wish.epochs} epochs of {wish.iterations} steps"
    )
    output.put(f"Written: {file} and {trainer}\nRead the study, change what you like, then type:\n")
    for command in commands:
        output.put(f"  {command}")


def _device(devices: str) -> str:
    """Return the kind of device, as nnU-Net names it."""
    from tuner.launch.device_probe import ProbeRequest, probe_devices
    from tuner.launch.launcher import read_devices

    machine = probe_devices(ProbeRequest(devices=read_devices(devices), per_device=1, workers=None, precision=False))
    return machine.slots[0].partition(":")[0]


def _choices(wish: "NnunetWish", place: "NnunetPlace", task: str | None, cache: Path | None) -> "Sequence[LossChoice]":
    """Choose losses by what the labels hold; those of regions, which overlap, are not measured."""
    from tuner.cli.options import settings_of
    from tuner.cli.search import show_progress
    from tuner.launch.loss_choice import LossChoice, choose_losses, suggested_task
    from tuner.launch.study_proposal import TRIALS_EACH, survey_data
    from tuner.losses.catalog.registry import LOSSES

    most = max(2, wish.trials // TRIALS_EACH)
    if place.has_regions:
        able = [name for name, row in LOSSES.items() if row.multilabel]
        first = ["dice_cross_entropy", "dice", "cross_entropy", "dice_focal", "tversky", "focal"]
        kept = [name for name in first if name in able][:most]
        return [
            LossChoice(name, name in kept, "has a form for regions" if name in able else "has no form for regions")
            for name in LOSSES
        ]
    output.tell("measuring what the labels hold")
    settings = settings_of(data_root=place.raw, cache=cache)
    survey = survey_data({"name": "nnunet", "path": place.dataset}, settings, seed=wish.seed, on_progress=show_progress)
    return choose_losses(survey.profile, task or suggested_task(survey.profile), most=most)


def _write(file: Path, study: str, trainer: Path, source: str) -> None:
    from tuner.atomic_io import explain_os_error, write_atomically
    from tuner.config.study import load_spec
    from tuner.config.yaml_reader import parse_yaml

    load_spec(parse_yaml(study, source=str(file)))
    with explain_os_error(file.parent, purpose="the study", hint="name another file with -o FILE."):
        trainer.parent.mkdir(exist_ok=True)
        write_atomically(trainer, source.encode())
        write_atomically(file, study.encode())

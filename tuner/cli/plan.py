"""`plan`: what a study will take, before it starts."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tuner.cli import output
from tuner.cli.help import PanelCommand
from tuner.cli.launch import (
    DevicesOption,
    EpochsOption,
    PerDeviceOption,
    SetOption,
    TimeoutOption,
    TrialsOption,
    WorkersOption,
    study_document,
    values_of,
)
from tuner.cli.options import ArtifactsOption, CacheOption, DataRootOption, JsonOption, StorageOption, settings_of

if TYPE_CHECKING:
    from tuner.launch.cost_estimate import Plan


_PANEL = "Search"


def register(app: typer.Typer) -> None:
    """Enter the commands of this module."""
    app.command("plan", rich_help_panel=_PANEL, cls=PanelCommand)(plan)


def plan(
    study: Annotated[
        Path | None, typer.Argument(metavar="[STUDY.yaml]", help="A study file of yours.", show_default=False)
    ] = None,
    dataset: Annotated[
        str | None, typer.Option("--dataset", metavar="NAME", help="Take studies/NAME.yaml instead.")
    ] = None,
    seconds: Annotated[
        float, typer.Option("--seconds", metavar="N", help="Time for all measurements together.", min=1.0)
    ] = 60.0,
    trials: TrialsOption = None,
    epochs: EpochsOption = None,
    overrides: SetOption = None,
    timeout: TimeoutOption = None,
    workers: WorkersOption = None,
    devices: DevicesOption = None,
    per_device: PerDeviceOption = None,
    storage: StorageOption = None,
    artifacts: ArtifactsOption = None,
    data_root: DataRootOption = None,
    cache: CacheOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say what a study will take, from a probe of a minute: nothing of its budget is run."""
    from tuner.cli.search import show_progress
    from tuner.config.study import load_spec
    from tuner.launch.cost_estimate import plan_study
    from tuner.launch.study_setup import Request, Resources

    document = study_document(study, dataset)
    values = values_of(name=None, trials=trials, epochs=epochs, seed=None, timeout=timeout)
    request = Request(
        spec=load_spec(document, overrides or [], values),
        settings=settings_of(storage, artifacts, data_root, cache),
        resources=Resources(workers=workers, devices=devices, per_device=per_device),
    )
    found = plan_study(request, seconds=seconds, on_message=output.tell, on_progress=show_progress)
    if as_json:
        output.put_json({"name": request.spec.name, **found.as_dict()})
    else:
        _put(found, request.spec.name, request.spec.budget.hours_per_loss)


def _put(plan: "Plan", name: str, hours: float | None) -> None:
    fastest = min((p.step_s for p in plan.prices if p.step_s is not None), default=None)
    rows = [
        (
            p.loss,
            None if p.step_s is None else f"{1000 * p.step_s:.0f} ms",
            None if p.step_s is None or fastest is None else f"{p.step_s / fastest:.2f}",
            None if p.memory is None else f"{p.memory / 2**20:.0f} MiB",
            output.duration(p.trial_s),
        )
        for p in plan.prices
    ]
    columns = ("loss", "step", "× fastest", "memory", "a whole trial")
    output.put_table(columns, rows, right=columns[1:])
    output.put()
    share = "" if plan.trials == 1 else "s"
    about = "" if hours is None else f"{hours:g} h of training for each loss, about "
    output.put(f"{name}: {about}{plan.trials} trial{share}, {plan.workers} worker{'s' * (plan.workers > 1)}")
    output.put(
        f"  device time  at most {output.duration(plan.most_device_s)}, "
        f"with pruning about {output.duration(plan.likely_device_s)}"
    )
    output.put(f"  until done   about {output.duration(plan.wall_s)}")
    if plan.fitting is not None:
        output.put(f"  a device     holds {plan.fitting} worker{'s' * (plan.fitting > 1)} of the largest loss")
    if plan.disk is not None:
        output.put(f"  disk         about {plan.disk / 1e9:.2g} GB of weights and checkpoints")
    for text in plan.warnings:
        output.put(f"  mind: {text}")

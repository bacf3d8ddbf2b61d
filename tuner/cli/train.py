"""`export` and `train`: the best configuration as a file, and trained again; differences from its trial are told."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tuner.cli import output
from tuner.cli.help import PanelCommand
from tuner.cli.options import (
    ArtifactsOption,
    CacheOption,
    DataRootOption,
    JsonOption,
    NameArgument,
    StorageOption,
    settings_of,
)

if TYPE_CHECKING:
    from tuner.artifacts.local import Artifacts
    from tuner.config.trial import TrialConfig


_PANEL = "Results"


def register(app: typer.Typer) -> None:
    """Enter the commands of this module."""
    app.command("export", rich_help_panel=_PANEL, cls=PanelCommand)(export)
    app.command("train", rich_help_panel=_PANEL, cls=PanelCommand)(train)


def export(
    name: NameArgument,
    path: Annotated[Path, typer.Option("-o", "--output", metavar="PATH", help="File to write.", show_default=False)],
    trial: Annotated[int | None, typer.Option("--trial", metavar="N", help="This trial, not the best.", min=0)] = None,
    form: Annotated[
        str | None,
        typer.Option("--format", metavar="FORMAT", help="yaml, json, python or torch. Default: by the ending."),
    ] = None,
    storage: StorageOption = None,
    artifacts: ArtifactsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write the confirmed leader, else the best (or the named) trial, as a configuration that stands alone."""
    from tuner.analysis.export import export_trial, format_of, render, write_export
    from tuner.artifacts.remote import artifacts_of
    from tuner.cli.stored import open_store

    settings = settings_of(storage, artifacts)
    chosen = format_of(path, form)
    _check_landed(chosen)
    with open_store(settings.storage) as store:
        files = artifacts_of(settings, owner=store.studies.folder_mark)
        config = export_trial(store, name, number=trial, artifacts=files)
    is_torch = chosen == "torch"
    replaced = _write_torch(path, config, files) if is_torch else write_export(path, render(config, chosen))
    origin = config.provenance
    if as_json:
        output.put_json({"path": str(path), "format": chosen, "replaced": replaced, "config": config.as_dict()})
        return
    value = "no value" if origin["value"] is None else f"{config.objectives[0].metric} {output.number(origin['value'])}"
    word = "Replaced" if replaced else "Wrote"
    of = "a baseline" if origin["trial"] is None else f"trial {origin['trial']}"
    output.tell(f"{word} {path}: {of} of {name}, {value}{output.loss_of(config.loss_name)}")
    if "confirmation" in origin:
        output.tell(f"  the confirmed leader: {origin['confirmation']['text']}")
    for text in origin["caveats"]:
        output.tell(f"  mind: {text}")
    steps = {"python": f"python {path}   trains it", "torch": f"python {path}   compares it with the trial's own parts"}
    steps["command"] = f"sh {path} final   runs the program again"
    output.tell(f"  {steps.get(chosen, f'tuner train {path} -o final   trains it')}")


def _check_landed(form: str) -> None:
    """Refuse a format of the contract that is still to come."""
    from tuner.errors import RequestError

    if form in ("nnunet", "monai", "smp", "mmseg"):
        raise RequestError(
            f"the format {form!r} is not in this version.",
            hint="There are yaml, json, python and torch.",
            where="--format",
        )


def _write_torch(path: Path, config: "TrialConfig", files: "Artifacts") -> bool:
    """Write the winner as one file of torch, its tensors beside it; return whether it replaced a file."""
    import json

    from safetensors.torch import load

    from tuner.analysis.export import write_export
    from tuner.analysis.torch_export import check_not_own, torch_export
    from tuner.errors import NotFoundError

    check_not_own(config)
    study, number = str(config.provenance["study"]), int(config.provenance["trial"])
    with files.open(study, number, "data.json") as file:
        facts = json.load(file)
    try:
        with files.open(study, number, "best.safetensors") as file:
            weights = load(file.read())
    except NotFoundError:
        weights = None
    beside = path.with_suffix(".pt")
    made = torch_export(config, facts, weights, beside=beside.name)
    write_export(beside, made.tensors)
    replaced = write_export(path, made.text)
    for what in made.left_out:
        output.tell(f"  not in it: {what}")
    return replaced


def train(
    config_path: Annotated[
        Path, typer.Argument(metavar="CONFIG.yaml", help="What export wrote (yaml or json).", show_default=False)
    ],
    folder: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="DIR", help="Default: the file's name without ending.")
    ] = None,
    epochs: Annotated[
        int | None, typer.Option("--epochs", metavar="N", help="Other epochs than the configuration has.", min=1)
    ] = None,
    device: Annotated[str, typer.Option("--device", metavar="D", help="auto, cpu, mps or cuda:N.")] = "auto",
    data_root: DataRootOption = None,
    cache: CacheOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train what export wrote, from scratch, and score the test cases."""
    from tuner.cli.final_training import train_here
    from tuner.cli.options import limit_threads
    from tuner.config.trial import load_config
    from tuner.config.yaml_reader import read_yaml
    from tuner.launch.launcher import read_devices

    document = read_yaml(config_path)
    config = load_config(document.content, where=document.source)
    read_devices(device)
    if epochs is not None:
        config = config.model_copy(update={"train": config.train.model_copy(update={"epochs": epochs})})
    target = folder or config_path.with_suffix("")
    _check_target(target)
    limit_threads(config.train.threads)
    settings = settings_of(data_root=data_root, cache=cache)

    result = train_here(config, settings, device=device, folder=target, epochs_changed=epochs is not None)
    if as_json:
        output.put_json({"folder": str(target), **result})
    else:
        _put_result(config, target, result)


def _check_target(folder: Path) -> None:
    from tuner.errors import RequestError
    from tuner.launch.study_setup import check_writable

    if folder.exists() and not folder.is_dir():
        raise RequestError("it is a file; name a folder.", where=str(folder))
    if folder.is_dir() and any(folder.iterdir()) and not (folder / "config.yaml").is_file():
        raise RequestError(
            "the folder holds something else than a training.", hint="Name a new one with -o DIR.", where=str(folder)
        )
    check_writable(folder)


def _put_result(config: "TrialConfig", folder: Path, result: Mapping[str, Any]) -> None:
    metric = config.objectives[0].metric
    output.put(f"{metric} {output.number(result['value'])} on the validation cases, epoch {result['epoch']}")
    trial_value = config.provenance.get("value")
    if trial_value is not None:
        same = "the same as" if result["value"] == trial_value else f"{result['value'] - trial_value:+.4g} against"
        output.put(f"  {same} trial {config.provenance['trial']} of {config.provenance['study']}")
    tests = result["test"]
    if tests:
        scores = {key: value for key, value in tests["metrics"].items() if value is not None}
        output.put(f"test: {output.format_value(scores)} ({len(tests['cases'])} cases)")
    output.put(f"Weights, metrics and a picture: {folder}")

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
    from torch import Tensor

    from tuner.artifacts.local import Artifacts
    from tuner.config.trial import TrialConfig
    from tuner.settings import Settings


_PANEL = "Results"
HOME_FORMATS = ("torch", "nnunet", "monai", "smp", "mmseg")
"""What a trial becomes for other programs: files that carry a test of themselves."""


def register(app: typer.Typer) -> None:
    """Enter the commands of this module."""
    app.command("export", rich_help_panel=_PANEL, cls=PanelCommand)(export)
    app.command("train", rich_help_panel=_PANEL, cls=PanelCommand)(train)


def export(
    name: NameArgument,
    path: Annotated[
        Path, typer.Option("-o", "--output", metavar="PATH", help="File to write; monai: a folder.", show_default=False)
    ],
    trial: Annotated[int | None, typer.Option("--trial", metavar="N", help="This trial, not the best.", min=0)] = None,
    form: Annotated[
        str | None,
        typer.Option(
            "--format",
            metavar="FORMAT",
            help="yaml, json, python, command, torch, nnunet, monai, smp or mmseg. Default: by the ending.",
        ),
    ] = None,
    storage: StorageOption = None,
    artifacts: ArtifactsOption = None,
    data_root: DataRootOption = None,
    cache: CacheOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write the confirmed leader, else the best (or the named) trial, as a configuration that stands alone."""
    from tuner.analysis.export import export_trial, format_of, render, write_export
    from tuner.artifacts.remote import artifacts_of
    from tuner.cli.stored import open_store

    settings = settings_of(storage, artifacts)
    chosen = format_of(path, form)
    _check_format(chosen)
    with open_store(settings.storage) as store:
        files = artifacts_of(settings, owner=store.studies.folder_mark)
        config = export_trial(store, name, number=trial, artifacts=files)
    if chosen == "monai":
        replaced = False
        _write_bundle(path, config, files, settings_of(data_root=data_root, cache=cache))
    elif chosen in HOME_FORMATS:
        replaced = _write_home(path, chosen, config, files)
    else:
        replaced = write_export(path, render(config, chosen))
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
    steps = {
        "python": f"python {path}   trains it",
        "torch": f"python {path}   compares it with the trial's own parts",
        "monai": f"cd {path} && python -m monai.bundle run --config_file configs/evaluate.json   scores it again",
        "nnunet": f"python {path}   compares its loss; its head says how nnU-Net finds the trainer",
        "smp": f"python {path}   compares it with the trial's own parts; its head says how a training loop takes it",
        "mmseg": f"python {path}   compares its loss; its head holds what a configuration says",
        "command": f"sh {path} final   runs the program again",
    }
    output.tell(f"  {steps.get(chosen, f'tuner train {path} -o final   trains it')}")


def _check_format(form: str) -> None:
    """Refuse a format of which there is no writer."""
    from tuner.analysis.export import FORMATS
    from tuner.errors import UnknownNameError

    if form not in (*FORMATS, *HOME_FORMATS):
        raise UnknownNameError(kind="format", name=form, known=[*FORMATS, *HOME_FORMATS], where="--format")


def _write_home(path: Path, form: str, config: "TrialConfig", files: "Artifacts") -> bool:
    """Write a trial as one file for another program, its tensors beside it; return whether it replaced a file."""
    from tuner.analysis.export import write_export
    from tuner.export.mmseg import mmseg_export
    from tuner.export.nnunet import nnunet_export
    from tuner.export.smp import smp_export
    from tuner.export.torch_file import torch_export

    _check_module(path, form)
    facts, weights = _kept(config, files)
    beside = path.with_suffix(".pt")
    if form == "nnunet":
        made = nnunet_export(config, facts, beside=beside.name)
    elif form == "mmseg":
        made = mmseg_export(config, facts, module=path.stem, beside=beside.name)
    elif form == "smp":
        made = smp_export(config, facts, weights, beside=beside.name)
    else:
        made = torch_export(config, facts, weights, beside=beside.name)
    write_export(beside, made.tensors)
    replaced = write_export(path, made.text)
    for what in made.left_out:
        output.tell(f"  not in it: {what}")
    return replaced


def _check_module(path: Path, form: str) -> None:
    """Refuse a file that Python would not import: what is written is used by its name, its tensors lie beside it."""
    import keyword

    from tuner.errors import RequestError

    named = form in ("smp", "mmseg")  # where a program, or a configuration, writes `import NAME`
    if path.suffix != ".py" or (named and (not path.stem.isidentifier() or keyword.iskeyword(path.stem))):
        raise RequestError(
            f"{path.name!r} is no file that Python can import.", hint="Name one such as best.py with -o.", where="-o"
        )


def _write_bundle(path: Path, config: "TrialConfig", files: "Artifacts", settings: "Settings") -> None:
    """Write a trial as a MONAI bundle into a new folder."""
    from tuner.analysis.export import write_folder
    from tuner.data.preparation import prepare
    from tuner.export.monai_bundle import Unit, monai_bundle
    from tuner.training.evaluate import score_units

    facts, weights = _kept(config, files)
    seed = int(config.provenance.get("seed") or 0)
    data = prepare(config.dataset, data_root=settings.data_root, cache=settings.cache, seed=seed)
    scored = score_units(data.validation, stacked=data.stacked)
    units = [Unit(unit.start, unit.stop, unit.single, unit.spacing) for unit in scored]
    made, left_out = monai_bundle(config, facts, weights, data, units)
    write_folder(path, made)
    for what in left_out:
        output.tell(f"  not in it: {what}")


def _kept(config: "TrialConfig", files: "Artifacts") -> tuple[dict[str, Any], dict[str, "Tensor"] | None]:
    """Return what a trial has kept of its data, and its weights where they are still there."""
    import json

    from safetensors.torch import load

    from tuner.errors import NotFoundError, RequestError
    from tuner.export.torch_file import check_not_own

    check_not_own(config)
    study, number = str(config.provenance["study"]), config.provenance["trial"]
    if number is None:
        raise RequestError(
            "the confirmed leader is a baseline that no trial of the search had, and has no folder.",
            hint="--trial N exports a trial of the search.",
            where="--format",
        )
    with files.open(study, int(number), "data.json") as file:
        facts = json.load(file)
    try:
        with files.open(study, int(number), "best.safetensors") as file:
            return facts, load(file.read())
    except NotFoundError:
        return facts, None


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
    what = "What the program has written" if config.train.command else "Weights, metrics and a picture"
    output.put(f"{what}: {folder}")

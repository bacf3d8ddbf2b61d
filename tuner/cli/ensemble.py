"""`ensemble`: several finished trials whose probabilities are averaged."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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
    from tuner.analysis.ensemble import Ensemble


def register(app: typer.Typer) -> None:
    """Enter the commands of this module."""
    app.command("ensemble", rich_help_panel="Results", cls=PanelCommand)(ensemble)


def ensemble(
    name: NameArgument,
    folder: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="DIR", help="Write it here, for tuner predict.", show_default=False),
    ] = None,
    size: Annotated[
        int, typer.Option("--size", metavar="K", help="Places; a trial may take several.", min=1, max=100)
    ] = 10,
    trials: Annotated[
        str | None,
        typer.Option("--trials", metavar="N,M", help="Choose among these. Default: the 20 best.", show_default=False),
    ] = None,
    metric: Annotated[
        str | None,
        typer.Option("--metric", metavar="M", help="Default: the study's first objective.", show_default=False),
    ] = None,
    device: Annotated[str, typer.Option("--device", metavar="D", help="auto, cpu, mps or cuda:N.")] = "auto",
    storage: StorageOption = None,
    artifacts: ArtifactsOption = None,
    data_root: DataRootOption = None,
    cache: CacheOption = None,
    as_json: JsonOption = False,
) -> None:
    """Choose finished trials whose averaged probabilities score best, and say what that gains.

    Greedy forward selection with replacement (Caruana et al. 2004) on the validation cases, predicted again by the
    trials' weights. The gain over the best single trial is measured on cases that took no part in choosing.
    """
    from tuner.artifacts.remote import artifacts_of
    from tuner.cli.options import limit_threads
    from tuner.cli.stored import open_store, stored_spec
    from tuner.launch.launcher import read_devices

    numbers = None if trials is None else _numbers(trials)
    read_devices(device)
    if folder is not None:
        from tuner.analysis.export import check_new_folder

        check_new_folder(folder)
    settings = settings_of(storage, artifacts, data_root, cache)
    with open_store(settings.storage) as store:
        limit_threads(stored_spec(store.studies.get(name)).base.train.threads)

        from tuner.analysis.ensemble import find_ensemble, write_ensemble
        from tuner.training.device import resolve_device

        found = find_ensemble(
            store,
            artifacts_of(settings, owner=store.studies.folder_mark),
            settings,
            name,
            device=resolve_device(device),
            size=size,
            trials=numbers,
            metric=metric,
            on_progress=output.tell,
        )
    if folder is not None:
        write_ensemble(found, folder)
    if as_json:
        output.put_json({**found.as_dict(), "folder": None if folder is None else str(folder)})
    else:
        _put(found, folder)


def _numbers(trials: str) -> list[int]:
    from tuner.errors import RequestError

    words = [word.strip() for word in trials.split(",")]
    if not all(word.isdecimal() for word in words):
        raise RequestError(f"{trials!r} are no numbers of trials, as in --trials 24,80.", where="--trials")
    return [int(word) for word in words]


def _put(found: "Ensemble", folder: Path | None) -> None:
    for item in found.left_out:
        output.tell(f"left out: trial {item.trial}: {item.why}")
    for note in found.notes:
        output.tell(f"mind: {note}")
    weights, values = found.weights, found.single_values
    rows = [
        (of.number, of.loss or "", output.number(weights[of.number]), output.number(values[of.number]))
        for of, _ in found.members
    ]
    columns = ("trial", "loss", "weight", f"{found.metric} by itself")
    output.put_table(columns, rows, right=("trial", "weight", columns[-1]))
    for line in found.sentences():
        output.put(line)
    if folder is None:
        output.tell(f"  tuner ensemble {found.study} -o DIR   writes it; tuner predict DIR IMAGES -o MASKS uses it")
    else:
        output.put(f"Written: {folder}")
        output.tell(f"  tuner predict {folder} IMAGES -o MASKS   makes masks with it")

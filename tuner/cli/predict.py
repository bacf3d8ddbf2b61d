"""`predict`: masks for new images, in their format."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tuner.cli import output
from tuner.cli.help import PanelCommand
from tuner.cli.options import JsonOption, settings_of

if TYPE_CHECKING:
    from tuner.data.inference_inputs import NewCase
    from tuner.training.predict import Prediction, Predictor


def register(app: typer.Typer) -> None:
    """Enter the commands of this module."""
    app.command("predict", rich_help_panel="Results", cls=PanelCommand)(predict)


def predict(
    run: Annotated[
        str,
        typer.Argument(
            metavar="RUN",
            help="Folder that train or ensemble wrote, or of a trial; or its URL.",
            show_default=False,
        ),
    ],
    inputs: Annotated[
        list[str],
        typer.Argument(metavar="INPUT…", help="Images: files, folders, or quoted patterns.", show_default=False),
    ],
    folder: Annotated[
        Path, typer.Option("-o", "--output", metavar="DIR", help="Where the masks go.", show_default=False)
    ],
    device: Annotated[str, typer.Option("--device", metavar="D", help="auto, cpu, mps or cuda:N.")] = "auto",
    overlap: Annotated[
        float | None,
        typer.Option(
            "--overlap", metavar="SHARE", help="Overlap of sliding windows. Default: the run's.", min=0.0, max=0.9
        ),
    ] = None,
    threads: Annotated[
        int | None, typer.Option("--threads", metavar="N", help="CPU threads. Default: the run's.", min=1)
    ] = None,
    each_region: Annotated[
        bool, typer.Option("--each-region", help="Of regions, also a mask of 0 and 1 each: DIR/REGION/….")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Make masks for new images, in their format, with the label ids of the data set.

    Volumes (NIfTI, NRRD, MetaImage, TIFF) keep their place and size, pictures become PNG with a palette, .npz and .h5
    get an array `label`. Needs no data set. An image that cannot be read is named, the others go on, and the exit code
    is 1.
    """
    from tuner.cli.options import limit_threads
    from tuner.config.trial import load_config
    from tuner.config.yaml_reader import read_yaml
    from tuner.data.inference_inputs import find_cases
    from tuner.data.mask_writer import mask_path
    from tuner.errors import RequestError
    from tuner.launch.launcher import read_devices

    read_devices(device)
    run_folder = _fetch(run)
    path = _configuration(run_folder)
    if path.is_file():  # torch reads the number of threads when it is imported; what is wrong is said below
        trained = load_config(read_yaml(path).content, where=str(path)).train.threads
        limit_threads(threads or trained)

    from tuner.training.device import resolve_device
    from tuner.training.ensemble import open_ensemble
    from tuner.training.ensemble_folder import is_ensemble
    from tuner.training.predict import open_run, read_run

    _, facts = read_run(path.parent)
    if each_region and facts.regions is None:
        raise RequestError(
            "the classes of this run exclude each other: it has no regions.", where="--each-region", hint=_NO_REGIONS
        )
    place = resolve_device(device)
    found = find_cases(inputs, facts.reading)
    _check_target(folder, found.cases, [Path(word) for word in inputs], mask_path)
    opened = open_ensemble if is_ensemble(run_folder) else open_run
    trained_run = opened(run_folder, place, overlap=overlap, threads=threads, allow_entry=settings_of().allow_entry)
    for file in found.passed_over:
        output.tell(f"passed over, no image: {file}")
    predictions = _predict(trained_run, found.cases, folder, quiet=as_json, each_region=each_region)
    if as_json:
        output.put_json(_document(trained_run, folder, predictions, found.passed_over))
    failed = [item for item in predictions if item.mask is None]
    if failed:
        output.tell(f"{len(failed)} of {len(predictions)} images failed:")
        for item in failed:
            output.tell(f"  {item.message}")
        raise typer.Exit(1)


def _configuration(folder: Path) -> Path:
    """Return where the configuration of a run lies; of an ensemble, that of its first member."""
    from tuner.training.ensemble_folder import is_ensemble, read_ensemble

    return (read_ensemble(folder)[0][0] if is_ensemble(folder) else folder) / "config.yaml"


def _fetch(run: str) -> Path:
    """Return the run's folder: where it is, or a copy of the trial at an address `<artifacts>/<study>/<trial>`."""
    from tuner.artifacts.remote import artifacts_of
    from tuner.errors import RequestError
    from tuner.settings import is_address

    if not is_address(run):
        return Path(run)
    root, _, inside = run.rstrip("/").rpartition("/")
    root, _, study = root.rpartition("/")
    if not inside.isdecimal() or not is_address(f"{root}/"):
        raise RequestError("the address of a trial ends with the study's name and the trial's number.", where=run)
    artifacts = artifacts_of(settings_of(artifacts=root))
    if not artifacts.listing(study, int(inside)):
        raise RequestError("there is no trial.", where=f"{artifacts.place}/{study}/{inside}")
    return artifacts.fetched(study, int(inside))


_NO_REGIONS = "Leave the flag out: the label map says everything."


def _predict(
    run: "Predictor", cases: "Sequence[NewCase]", folder: Path, *, quiet: bool, each_region: bool
) -> "list[Prediction]":
    from tuner.training.predict import predict_cases

    output.tell(
        f"{len(cases)} images, {len(run.facts.class_names)} classes of {run.facts.dataset}, on {run.net.device}; "
        f"values in the masks: {output.format_value(labels_of(run))}"
    )
    found = []
    for item in predict_cases(run, cases, folder, each_region=each_region):
        found.append(item)
        if item.mask is None:
            output.tell(f"{len(found)} of {len(cases)}: failed: {item.message}")
            continue
        output.tell(f"{len(found)} of {len(cases)}: {item.case.name}  {output.duration(item.seconds)}")
        if item.note:
            output.tell(f"  {item.note}")
        if not quiet:
            for path in (item.mask, *item.regions.values()):
                output.put(str(path))
    return found


def labels_of(run: "Predictor") -> dict[str, str | int]:
    """Return the value of each class in a mask: a number, or a colour."""
    from tuner.data.images import COLOUR, code_text

    ids = run.facts.reading["labels"]
    return {
        name: code_text(code) if code >= COLOUR else code for name, code in zip(run.facts.class_names, ids, strict=True)
    }


def _check_target(folder: Path, cases: "Sequence[NewCase]", inputs: Sequence[Path], mask_path: Any) -> None:
    """Refuse a folder in which masks would take the place of images, or be taken for images the next time."""
    from tuner.errors import RequestError
    from tuner.launch.study_setup import check_writable

    if folder.exists() and not folder.is_dir():
        raise RequestError("it is a file; name a folder.", where=str(folder))
    images = {path.resolve() for case in cases for path in case.paths}
    for case in cases:
        if mask_path(folder, case).resolve() in images:
            raise RequestError(
                f"the mask of {case.paths[0]} would take the place of an image.",
                hint="Name another folder with -o DIR.",
                where=str(folder),
            )
    for path in inputs:
        if path.is_dir() and folder.resolve().is_relative_to(path.resolve()):
            raise RequestError(
                f"it lies in {path}, whose files are the images: its masks would be taken for images the next time.",
                hint="Name a folder outside of it with -o DIR.",
                where=str(folder),
            )
    check_writable(folder)


def _document(
    run: "Predictor", folder: Path, predictions: "Sequence[Prediction]", passed_over: Sequence[Path]
) -> Mapping[str, Any]:
    names = run.facts.class_names
    return {
        "run": str(run.folder),
        "folder": str(folder),
        "dataset": run.facts.dataset,
        "device": run.net.device,
        "labels": labels_of(run),
        "written": [
            {
                "input": [str(path) for path in item.case.paths],
                "mask": str(item.mask),
                "shape": list(item.shape),
                "pixels": dict(zip(names, item.pixels, strict=True)),
                "seconds": round(item.seconds, 3),
                "note": item.note,
                **({"regions": {key: str(path) for key, path in item.regions.items()}} if item.regions else {}),
            }
            for item in predictions
            if item.mask is not None
        ],
        "failed": [
            {"input": [str(path) for path in item.case.paths], "message": item.message}
            for item in predictions
            if item.mask is None
        ],
        "passed_over": [str(path) for path in passed_over],
    }

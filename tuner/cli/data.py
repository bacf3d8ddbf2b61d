"""`data`: prepare, check and describe data sets."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tuner.cli import output
from tuner.cli.help import PanelCommand, make_group
from tuner.cli.options import CacheOption, DataRootOption, JsonOption, settings_of

if TYPE_CHECKING:
    from tuner.data.catalog import DatasetSpec
    from tuner.settings import Settings


data = make_group("Prepare, check and describe data sets.")

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="Name of a data set.", show_default=False)]

OverridesOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="An option: size=128, path=nuclei.")
]


def register(app: typer.Typer) -> None:
    """Enter the commands of this module."""
    app.add_typer(data, name="data", rich_help_panel="Maintenance")


@data.command("prepare", cls=PanelCommand)
def prepare_command(
    name: NameArgument,
    raw: Annotated[Path, typer.Option("--raw", metavar="DIR", help="The raw download.", show_default=False)],
    test: Annotated[str, typer.Option("--test", metavar="CASE,…", help="Further test cases.")] = "",
    data_root: DataRootOption = None,
    as_json: JsonOption = False,
) -> None:
    """Convert a raw download into the layout that launch reads, below the data root."""
    from tuner.data.catalog import DATASETS
    from tuner.errors import RequestError
    from tuner.registry import load

    entry = DATASETS.find(name, where="tuner data prepare")
    if entry.convert is None:
        if entry.check is None:
            raise RequestError(f"{name!r} is computed; there is nothing to convert.")
        raise RequestError(
            f"{name!r} is read as it is; there is nothing to convert.", hint=f"Expected:\n{entry.layout}"
        )
    settings = settings_of(data_root=data_root)
    if settings.data_root is None:
        raise RequestError("where shall it go? Name a data root.", hint="--data-root DIR or TUNER_DATA_ROOT")
    if not raw.is_dir():
        raise RequestError(f"{str(raw)!r} is not a folder.", where="--raw")
    out = settings.data_root / name
    cases = tuple(case.strip() for case in test.split(",") if case.strip())
    roles: dict[str, str] = load(entry.convert)(
        raw, out, cases, lambda case, done, total: output.tell(f"{done} of {total}: {case}")
    )
    if as_json:
        output.put_json({"name": name, "folder": str(out), "cases": roles})
    else:
        counts = {role: list(roles.values()).count(role) for role in ("train", "test")}
        output.put(f"{out}: {counts['train']} training and {counts['test']} test cases")
        for role, what in (("train", "train on"), ("test", "test on")):
            if not counts[role]:
                output.tell(
                    f"There is nothing to {what} yet: none of these cases is a {role} case of the usual division.\n"
                    "--test CASE,… says which cases are for testing; type it again with that."
                )


@data.command("check", cls=PanelCommand)
def check_command(
    name: NameArgument,
    overrides: OverridesOption = None,
    raw: Annotated[
        Path | None, typer.Option("--raw", metavar="DIR", help="Check a raw download instead.", show_default=False)
    ] = None,
    data_root: DataRootOption = None,
    as_json: JsonOption = False,
) -> None:
    """Open every file and name every one that is broken or missing, a line each; exit 1 when there is one.

    What is read as classes, and what is no defect and yet worth knowing, is told on stderr and in the JSON.
    """
    from tuner.data.catalog import DATASETS
    from tuner.data.checks import Findings, check, check_download

    entry = DATASETS.find(name, where="tuner data check")
    section = dataset_options(entry, overrides or [])
    if raw is not None:
        defects = Findings(check_download(entry, raw))
    else:
        defects = check(section, data_root=settings_of(data_root=data_root).data_root)
    if as_json:
        output.put_json(
            {
                "name": name,
                "ok": not defects,
                "defects": list(defects),
                "notes": defects.notes,
                "classes": [found.as_dict() for found in defects.classes],
            }
        )
    else:
        for defect in defects:
            output.put(defect)
        for line in (*(f"note: {note}" for note in defects.notes), *(found.text() for found in defects.classes)):
            output.tell(line)
        output.tell(f"{name}: {len(defects)} defects" if defects else f"{name}: every file is good")
    if defects:
        raise typer.Exit(1)


@data.command("describe", cls=PanelCommand)
def describe_command(
    name: NameArgument,
    overrides: OverridesOption = None,
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="Seed of the division into splits.", min=0)] = 0,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FILE", help="Draw it too: FILE.svg or FILE.html.", show_default=False),
    ] = None,
    data_root: DataRootOption = None,
    cache: CacheOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say, and draw, what a data set holds: sizes, intensities, class frequencies, the shapes of its objects."""
    from tuner.data.catalog import DATASETS
    from tuner.data.describe import describe
    from tuner.data.source import FoundClass

    if out is not None:
        _check_figure(out)
    entry = DATASETS.find(name, where="tuner data describe")
    settings = settings_of(data_root=data_root, cache=cache)
    section = dataset_options(entry, overrides or [])
    document = describe(
        section, data_root=settings.data_root, cache=settings.cache, seed=seed, on_progress=output.every_tenth()
    )
    noise = _label_noise(section, settings, seed, document)
    if out is not None:
        _write_figure(out, document, noise)
    if as_json:
        output.put_json(document)
        return
    output.put(f"{document['name']}: {len(document['classes'])} classes, fingerprint {document['fingerprint'][:16]}")
    output.put(f"most frequent class / rarest: {document['imbalance']:.4g}")
    if document["label_noise"] is not None:
        output.put(_noise_line(document["label_noise"]))
    for found in document["found_classes"]:
        output.put(f"  {FoundClass(**found).text()}")
    for split in ("train", "validation"):
        _put_split(split, document[split])
    output.put()
    output.put_table(
        ("class", "share of training pixels"),
        [(key, output.percent(share)) for key, share in document["class_frequencies"].items()],
        right=("share of training pixels",),
    )


def _label_noise(section: dict[str, Any], settings: "Settings", seed: int, document: dict[str, Any]) -> bytes | None:
    """Add what label noise changes to the document, and return its picture; None where labels are clean."""
    from tuner.data.label_noise import KEY, LabelNoise
    from tuner.data.preparation import prepare
    from tuner.report.label_noise_figure import changed_percent, draw_label_noise

    document[KEY] = None
    noise = LabelNoise.of(section)
    if noise is None:
        return None
    clean, noisy = (
        prepare(each, data_root=settings.data_root, cache=settings.cache, seed=seed)
        for each in ({key: value for key, value in section.items() if key != KEY}, section)
    )
    document[KEY] = {**asdict(noise), "changed_percent": changed_percent(clean, noisy)}
    return draw_label_noise(clean, noisy)


def _noise_line(noise: Mapping[str, Any]) -> str:
    changed = ", ".join(f"{name} {percent:.3g} %" for name, percent in noise["changed_percent"].items())
    kind, rate, seed = noise["kind"], noise["rate"], noise["seed"]
    return f"label noise: {kind}, rate {rate:g}, seed {seed}; training pixels with another label: {changed}"


def _check_figure(out: Path) -> None:
    from tuner.errors import RequestError

    if out.suffix.lower() not in (".svg", ".html"):
        raise RequestError(f"{out.name!r} is neither FILE.svg nor FILE.html.", where="-o")
    if not out.parent.is_dir():
        raise RequestError(f"the folder {str(out.parent)!r} is not there.", where="-o")


def _write_figure(out: Path, document: Mapping[str, Any], noise: bytes | None) -> None:
    from tuner.atomic_io import explain_os_error, write_atomically
    from tuner.report.dataset_figure import draw_fingerprint, fingerprint_page

    figure = draw_fingerprint(document)
    as_svg = out.suffix.lower() == ".svg"
    with explain_os_error(out.parent, purpose="the figure", hint="name another file with -o FILE."):
        write_atomically(out, figure.to_svg() if as_svg else fingerprint_page(document, figure, noise))
    output.tell(f"drawn: {out}")


def dataset_options(entry: "DatasetSpec", overrides: list[str]) -> dict[str, Any]:
    """Return the section of a data set with `--set KEY=VALUE` laid over it. Raises SpecError."""
    from tuner.config.trial import dataset_section
    from tuner.config.yaml_reader import parse_yaml
    from tuner.errors import Problems, SpecError

    given: dict[str, Any] = {"name": entry.name}
    for text in overrides:
        key, separator, value = text.partition("=")
        if not separator:
            raise SpecError([f"{text!r} is not KEY=VALUE, as in `--set size=128`"], where="--set")
        *path, name = key.strip().removeprefix("dataset.").split(".")
        target = given
        for part in path:
            target = target.setdefault(part, {})
            if not isinstance(target, dict):
                raise SpecError([f"{text!r}: {part!r} has a value and no options"], where="--set")
        target[name] = parse_yaml(value, source=f"--set {key}").content
    problems = Problems()
    section = dataset_section(given, problems)
    problems.refuse(where="--set")
    return section


def _put_split(name: str, split: Mapping[str, Any]) -> None:
    size = " × ".join(map(str, split["size"]))
    cases = ", ".join(f"{case} ({count})" for case, count in split["cases"].items())
    output.put(f"\n{name}: {len(split['cases'])} cases, {split['samples']} samples of {size}: {cases}")
    for what, table in split["recorded"].items():
        if table:
            shown = ", ".join(f"{value} ({count})" for value, count in list(table.items())[:8])
            output.put(f"{what} of the files: {shown}{', …' if len(table) > 8 else ''}")
    for number, channel in enumerate(split["intensity"]["channels"]):
        places = ", ".join(f"{percent} %: {value:.4g}" for percent, value in channel["percentiles"].items())
        output.put(
            f"channel {number}: {channel['min']:.4g} to {channel['max']:.4g}, mean {channel['mean']:.4g} "
            f"± {channel['std']:.4g}; {places}"
        )
    columns = (
        "organ",
        "percent",
        "samples",
        "cases",
        "objects",
        "smallest",
        "size",
        "width",
        "thinness",
        "boundary / area",
    )
    output.put_table(columns, [_row(organ, facts) for organ, facts in split["organs"].items()], right=columns[1:])


def _row(organ: str, facts: Mapping[str, Any]) -> tuple[Any, ...]:
    size, thinness = (facts[key] and facts[key]["median"] for key in ("object_size", "object_thinness"))
    counts = (facts[key] for key in ("percent", "samples", "cases", "objects"))
    smallest = facts["object_size"] and facts["object_size"]["min"]
    return (organ, *counts, smallest, size, facts["width"], thinness, facts["boundary_per_area"])

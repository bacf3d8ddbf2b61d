"""`losses`, `datasets`, `models`: what there is, with options, defaults, legal intervals and search ranges.

`losses --probe` also draws behaviour curves: a panel a perturbation, the loss above, its gradient below.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from tuner.cli import output
from tuner.cli.help import PanelCommand
from tuner.cli.options import JsonOption

_PANEL = "Catalogue"
_OVERLAPPING = {
    "": "no: its classes exclude each other",
    "joint": "classes may overlap (activation=sigmoid in the library), all in one formula",
    "per_class": "classes may overlap (activation=sigmoid in the library), each against the rest, then the mean",
}
_BY_FILES = "those that the files hold"
RowName = Annotated[str | None, typer.Argument(metavar="[NAME]", help="One of them, in full.", show_default=False)]

ProbeOption = Annotated[
    bool, typer.Option("--probe", help="Show how the loss and its gradient respond as a prediction drifts off.")
]
FiguresOption = Annotated[
    Path | None,
    typer.Option("-o", "--output", metavar="DIR", help="With --probe: write a PNG per loss.", show_default=False),
]


def register(app: typer.Typer) -> None:
    """Enter the commands of this module."""
    for name, command in (("losses", losses), ("datasets", datasets), ("models", models)):
        app.command(name, rich_help_panel=_PANEL, cls=PanelCommand)(command)


def losses(
    name: RowName = None,
    as_json: JsonOption = False,
    probe: ProbeOption = False,
    output_folder: FiguresOption = None,
) -> None:
    """List the losses, or show one: formula, options, paper, what it is good and bad for."""
    from tuner.losses.catalog.registry import LOSSES, competing_name

    rows = [LOSSES.find(name)] if name else list(LOSSES.values())
    if output_folder is not None and not probe:
        raise typer.BadParameter("only --probe draws figures: add it, or leave -o out", param_hint="-o")
    if probe:
        _put_probe(rows, as_json=as_json, folder=output_folder)
    elif as_json:
        documents = [loss_document(row) for row in rows]
        output.put_json(documents[0] if name else documents)
    elif name:
        row = rows[0]
        facts = [
            ("family", row.family + (", in the survey" if row.survey else "")),
            ("formula", row.formula),
            ("good for", row.good_for),
            ("bad for", row.bad_for),
            ("needs", ", ".join(row.needs) or "logits and labels only"),
            ("overlapping", _OVERLAPPING[row.multilabel] + ("; soft labels" if row.soft_labels else "")),
            ("paper", row.paper),
        ]
        if competing_name(row.name) != row.name:
            facts.append(
                ("compete", f"{competing_name(row.name)} in search.loss; {row.name} there is the whole family")
            )
        for preset, options in row.presets.items():
            facts.append((f"preset {preset}", ", ".join(f"{key} {value}" for key, value in options.items())))
        if not row.standalone:
            facts.append(("alone", "never: always base + weight * this loss"))
        _put_one(f"{row.name}: {row.summary}", facts, row.options, f"loss.{row.name}")
    else:
        output.put_table(
            ("loss", "family", "options", "summary"),
            [(r.name, r.family, [o.name for o in r.options], r.summary) for r in rows],
        )


def _put_probe(rows: Sequence[Any], *, as_json: bool, folder: Path | None) -> None:
    from tuner.losses.behavior import document
    from tuner.report.behavior_figure import write_figures

    curves = document(rows)
    if folder is not None:
        for path in write_figures(curves, folder):
            output.tell(f"wrote {path}")
    if as_json:
        output.put_json(curves)
    elif folder is None:
        output.put_table(
            ("loss", "drift", "object", "from", "to", "loss along it", "gradient norm along it"),
            [
                (
                    loss["name"],
                    curve["drift"],
                    curve["object"],
                    curve["amounts"][0],
                    curve["amounts"][-1],
                    *("  ".join(f"{value:.3g}" for value in curve[key][::2]) for key in ("values", "gradients")),
                )
                for loss in curves["losses"]
                for curve in loss["curves"]
            ],
        )


def datasets(name: RowName = None, as_json: JsonOption = False) -> None:
    """List the data sets, or show one: what has to lie where, how to get it, its options."""
    from tuner.data.catalog import DATASETS, VALIDATION_FORMS

    rows = [DATASETS.find(name)] if name else list(DATASETS.values())
    if as_json:
        documents = [_dataset_document(row) for row in rows]
        output.put_json(documents[0] if name else documents)
    elif name:
        row = rows[0]
        facts = [
            ("classes", ", ".join(row.class_names) or _BY_FILES),
            ("validation", VALIDATION_FORMS),
            ("how to get it", row.how_to_get),
        ]
        _put_one(f"{row.name}: {row.summary}", facts, row.options, "dataset")
        output.put("\nLayout\n" + "\n".join(f"  {line}" for line in row.layout.splitlines()))
    else:
        output.put_table(
            ("dataset", "classes", "options", "summary"),
            [(r.name, len(r.class_names) or "-", [o.name for o in r.options], r.summary) for r in rows],
            right=("classes",),
        )


def models(name: RowName = None, as_json: JsonOption = False) -> None:
    """List the models, or show one with its options."""
    from tuner.models.catalog import MODELS

    rows = [MODELS.find(name)] if name else list(MODELS.values())
    if as_json:
        documents = [row.as_dict() for row in rows]
        output.put_json(documents[0] if name else documents)
    elif name:
        row = rows[0]
        facts = [("trained on", row.takes), ("paper", row.paper)]
        if row.extra:
            facts.append(("needs", f"pip install 'segmentation-tuner[{row.extra}]'"))
        _put_one(f"{row.name}: {row.summary}", facts, row.all_options, "model")
    else:
        output.put_table(
            ("model", "trained on", "options", "summary"),
            [(r.name, r.takes, [o.name for o in r.options], r.summary) for r in rows],
        )
        output.tell("All take `weights`. A network of your own: model: {entry: package.module:function, ...}")


def loss_document(row: Any) -> dict[str, Any]:
    """Return a loss as the contract's `losses --json` has it."""
    return {
        "name": row.name,
        "family": row.family,
        "survey": row.survey,
        "options": [option.as_dict() for option in row.options],
        "paper": row.paper,
        "needs": list(row.needs),
        "formula": row.formula,
        "summary": row.summary,
        "good_for": row.good_for,
        "bad_for": row.bad_for,
        "alone": row.standalone,
        "multilabel": row.multilabel,
        "soft_labels": row.soft_labels,
        "presets": {name: dict(options) for name, options in row.presets.items()},
    }


def _dataset_document(row: Any) -> dict[str, Any]:
    return {
        "name": row.name,
        "summary": row.summary,
        "channels": row.channels,
        "classes": list(row.class_names) or None,
        "options": [option.as_dict() for option in row.options],
        "layout": row.layout,
        "how_to_get": row.how_to_get,
    }


def _put_one(title: str, facts: Iterable[tuple[str, str]], options: Sequence[Any], prefix: str) -> None:
    output.put(title)
    for key, value in facts:
        output.put(f"  {(key + ':').ljust(15)}{value}")
    if not options:
        output.put("\nNo options.")
        return
    output.put()
    output.put_table(
        ("option", "default", "legal", "searched", "meaning"),
        [(f"{prefix}.{o.name}", o.default, o.legal(), _search_text(o), o.summary) for o in options],
    )


def _search_text(option: Any) -> str:
    search = option.search
    if search is None:
        return "-"
    if search.choices is not None:
        return ", ".join(map(output.format_value, search.choices))
    return f"{search.low:g} to {search.high:g}" + (" (log)" if search.log else "")


# Okabe and Ito's blue and vermilion, told apart by colour-blind readers; the marks differ as well

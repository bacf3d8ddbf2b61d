"""`recommend`: which losses to try first on a data set, before anything is trained."""

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from tuner.cli import output
from tuner.cli.data import OverridesOption, dataset_options
from tuner.cli.help import PanelCommand
from tuner.cli.options import CacheOption, DataRootOption, JsonOption, settings_of

_PANEL = "Search"


def register(app: typer.Typer) -> None:
    """Enter the commands of this module."""
    app.command("recommend", rich_help_panel=_PANEL, cls=PanelCommand)(recommend)


def recommend(
    dataset: Annotated[str, typer.Argument(metavar="DATASET", help="Name of a data set.", show_default=False)],
    overrides: OverridesOption = None,
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="Seed of the division into splits.", min=0)] = 0,
    data_root: DataRootOption = None,
    cache: CacheOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say which losses to try first on a data set and why, from its classes and shapes; nothing is trained."""
    from tuner.analysis.data_facts import measure_facts
    from tuner.analysis.recommend import recommend as judge
    from tuner.data.catalog import DATASETS
    from tuner.data.preparation import prepare
    from tuner.search.task_prior import shipped_prior

    entry = DATASETS.find(dataset, where="tuner recommend")
    settings = settings_of(data_root=data_root, cache=cache)
    data = prepare(
        dataset_options(entry, overrides or []),
        data_root=settings.data_root,
        cache=settings.cache,
        seed=seed,
        on_progress=output.every_tenth(),
    )
    document = judge(data.name, measure_facts(data), shipped_prior())
    if as_json:
        output.put_json(document)
        return
    _put(document)


def _put(document: Mapping[str, Any]) -> None:
    from tuner.analysis.data_facts import MEANINGS

    tasks = document["tasks"]
    output.put(f"{document['dataset']}, beside the tasks of LossBench, the most similar first:")
    columns = ("fact", document["dataset"], *(f"{task['task']} ({task['similarity']:.2f})" for task in tasks))
    rows = [
        (MEANINGS[name], f"{value:.3g}", *(f"{task['facts'].get(name, float('nan')):.3g}" for task in tasks))
        for name, value in document["facts"].items()
    ]
    output.put_table(columns, rows, right=columns[1:])
    output.put("\nexpected before any training (in standard deviations of a task's values, with a band of 80 %):")
    columns = ("loss", "expected", "band", "best in", "train.lr", *(f"place {task['task']}" for task in tasks))
    output.put_table(columns, [_row(loss, tasks) for loss in document["losses"]], right=columns[1:])
    output.put("\nthe literature on such data (not measured here):")
    for each in document["guidance"]:
        output.put(f"  {each['reason']}: {', '.join(each['losses'])}")
    for line in _cautions(document):
        output.put(f"\n{line}")


def _row(loss: Mapping[str, Any], tasks: list[Mapping[str, Any]]) -> tuple[Any, ...]:
    places = (loss["ranks"].get(task["task"], "") for task in tasks)
    band = f"{loss['low']:+.2f} to {loss['high']:+.2f}"
    rate = "" if loss["train.lr"] is None else f"{loss['train.lr']:.1g}"
    return (loss["loss"], f"{loss['expected']:+.2f}", band, output.percent(loss["best_share"]), rate, *places)


def _cautions(document: Mapping[str, Any]) -> list[str]:
    from tuner.analysis.data_facts import MEANINGS

    few = f"This rests on {len(document['tasks'])} data sets, small images and short trainings of one small network: "
    lines = [few + "it says where to begin, not which loss is better. Bands that overlap tell nothing apart."]
    if document["outside"]:
        names = ", ".join(MEANINGS[name] for name in document["outside"])
        lines.append(f"This data set lies outside of what those span in: {names}. Expect less of it there.")
    first = [row["loss"] for row in document["losses"][:5]]
    if first:
        lines.append(
            f"Begin with: tuner launch --dataset {document['dataset']} --set 'search.loss=[{', '.join(first)}]' "
            "--warm-start auto"
        )
    return lines

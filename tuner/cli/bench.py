"""`tuner bench`: learning curves of real trainings as a table, and searches replayed on one in seconds."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tuner.cli import output
from tuner.cli.help import PanelCommand, make_group
from tuner.cli.options import JsonOption, StorageOption, settings_of
from tuner.search.catalog import DEFAULT_PRUNER, DEFAULT_SAMPLER

if TYPE_CHECKING:
    from tuner.search.curve_table import Curve
    from tuner.storage.storage import Storage

_PANEL = "Inspect"

bench = make_group("Learning curves as a table, and searches replayed on it.")


def register(app: typer.Typer) -> None:
    """Enter the commands of this module."""
    bench.command("record", cls=PanelCommand)(record)
    bench.command("replay", cls=PanelCommand)(replay)
    app.add_typer(bench, name="bench", rich_help_panel=_PANEL)


def record(
    studies: Annotated[list[str], typer.Argument(metavar="STUDY…", help="Names of studies.", show_default=False)],
    out: Annotated[
        Path, typer.Option("--output", "-o", metavar="TABLE.csv[.gz]", help="The table.", show_default=False)
    ],
    task: Annotated[
        str | None, typer.Option("--task", metavar="NAME", help="Name of the task. Default: that of each study.")
    ] = None,
    storage: StorageOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write the complete curves of studies as a table, a row an epoch. Trials that were ended early are left out."""
    from tuner.cli.stored import open_store
    from tuner.errors import DataError
    from tuner.search.curve_table import write_curves

    curves: list[Curve] = []
    skipped: dict[str, int] = {}
    with open_store(settings_of(storage).storage) as store:
        for name in dict.fromkeys(studies):
            curves += _curves(store, name, task or name, skipped)
    left_out = ", ".join(f"{many} {why}" for why, many in sorted(skipped.items()))
    if not curves:
        raise DataError(
            f"no trial of {', '.join(studies)} was trained to its end ({left_out or 'there is none'}).",
            hint="Curves are complete where nothing is pruned: `pruner: {name: none}`.",
        )
    write_curves(out, curves)
    if as_json:
        document = {"table": str(out), "trainings": len(curves), "rows": sum(len(c.values) for c in curves)}
        output.put_json(document | {"left_out": skipped})
    else:
        output.tell(f"{len(curves)} trainings written to {out}" + (f"; left out: {left_out}" if left_out else ""))


def replay(
    table: Annotated[Path, typer.Argument(metavar="TABLE.csv", help="What `record` wrote.", show_default=False)],
    sampler: Annotated[
        str,
        typer.Option("--sampler", metavar="S", help="One of ours, or optuna_tpe, optuna_tpe_multivariate, optuna_gp."),
    ] = DEFAULT_SAMPLER,
    pruner: Annotated[
        str, typer.Option("--pruner", metavar="P", help="One of ours, or optuna_median, optuna_hyperband, optuna_asha.")
    ] = DEFAULT_PRUNER,
    parallel: Annotated[int, typer.Option("--parallel", metavar="N", help="Workers.", min=1, max=4096)] = 1,
    trials: Annotated[
        int | None,
        typer.Option("--trials", metavar="N", help="Of each search. Default: as many as are recorded.", min=1),
    ] = None,
    repeats: Annotated[int, typer.Option("--repeats", metavar="R", help="Searches.", min=1, max=100_000)] = 50,
    task: Annotated[str | None, typer.Option("--task", metavar="NAME", help="One task of the table.")] = None,
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="Of the first search.", min=0)] = 0,
    as_json: JsonOption = False,
) -> None:
    """Search on recorded trainings: what it costs to come near the best configuration, with any sampler and pruner."""
    from tuner.errors import UnknownNameError
    from tuner.search import replay as engine
    from tuner.search.curve_table import read_curves
    from tuner.search.prior_fit import prior_without

    tasks = engine.read_tasks(read_curves(table))
    if task is not None and task not in tasks:
        raise UnknownNameError(kind="task", name=task, known=tasks, where=str(table))
    documents = [
        engine.replay(
            tasks[name],
            engine.Rule(sampler, pruner, parallel, prior=prior_without(name, tasks) if sampler == "auto" else None),
            trials=trials,
            repeats=repeats,
            seed=seed,
        )
        for name in ([task] if task is not None else tasks)
    ]
    if trials is not None and any(document["trials"] < trials for document in documents):
        output.tell(f"note: fewer than {trials} configurations are recorded; a search ends when all are taken")
    if as_json:
        output.put_json(documents[0] if len(documents) == 1 else documents)
        return
    rows = [_row(document) for document in documents]
    output.put_table(tuple(rows[0]), [tuple(row.values()) for row in rows], right=tuple(rows[0])[1:])
    output.tell(
        f"\n{sampler}, {pruner}, {parallel} workers, {repeats} repeats. Regret of the mean over seeds of the "
        "configuration that would be recommended; the band holds 80 % of the repeats. Seconds of training until "
        "the mean regret stays within 1 % of the best mean, and within the standard deviation between seeds."
    )


def _row(document: dict[str, Any]) -> dict[str, Any]:
    final = document["final"]
    return {
        "task": document["task"],
        "trials": document["trials"],
        "seconds": final["cost"],
        "pruned": final["pruned"],
        "regret": final["regret_mean"],
        "band": f"{final['regret_low']:.4f} to {final['regret_high']:.4f}",
        "to 1 %": final["seconds_to"]["one_percent"],
        "to noise": final["seconds_to"]["noise"],
        "best mean": final["best_mean"],
        "noise": final["noise"],
    }


def _curves(store: "Storage", name: str, task: str, skipped: dict[str, int]) -> "list[Curve]":
    """Return the curves of a study's trials that ran to their end, or diverged; count the others by their reason."""
    import hashlib
    import json
    import math

    from tuner.cli.stored import stored_spec
    from tuner.errors import SpecError
    from tuner.search.curve_table import Curve

    record = store.studies.get(name)
    spec = stored_spec(record)
    if spec.base.train.validate_every != 1 or spec.space.find("train.validate_every"):
        raise SpecError([f"study {name}: train.validate_every is not 1, and a table has a value for each epoch"])
    sign = 1.0 if record.directions[0] == "maximize" else -1.0
    curves = []
    for trial in store.queries.trials(name):
        diverged = trial["state"] == "PRUNED" and trial["reason"] == "diverged"
        epochs = store.queries.epochs(name, trial["number"])
        values = [sign * row["value"] if row["value"] is not None else math.nan for row in epochs]
        if not (trial["state"] == "COMPLETE" or diverged) or any(math.isnan(v) for v in values):
            why = trial["reason"] or (trial["state"].lower() if trial["state"] != "COMPLETE" else "without a value")
            skipped[why] = skipped.get(why, 0) + 1
            continue
        seconds = [row["seconds"] or 0.0 for row in epochs]
        if diverged:
            values.append(math.nan)
            seconds.append(seconds[-1] if seconds else 0.0)  # nobody knows how far it came in its last epoch
        config = spec.config(trial["params"])
        params = {key: value for key, value in trial["params"].items() if key != "train.seed"}
        text = json.dumps(params, sort_keys=True)
        curves.append(
            Curve(
                task,
                hashlib.sha256(text.encode()).hexdigest()[:10],
                str(trial["loss"]),
                params,
                int(config.train.seed or 0),
                len(values) if trial["state"] == "COMPLETE" else config.train.epochs,
                tuple(values),
                tuple(seconds),
            )
        )
    unique = {(curve.configuration, curve.seed): curve for curve in curves}
    if len(curves) > len(unique):
        skipped["the same configuration and seed again"] = len(curves) - len(unique)
    return list(unique.values())

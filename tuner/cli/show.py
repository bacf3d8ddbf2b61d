"""`studies`, `status`, `trials`, `best`, `logs`: reading commands. They open the storage read-only, without Optuna."""

import csv
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tuner.artifacts.remote import artifacts_of
from tuner.cli import output
from tuner.cli.help import PanelCommand
from tuner.cli.options import ArtifactsOption, JsonOption, NameArgument, StorageOption, settings_of
from tuner.errors import NotFoundError
from tuner.launch.launcher import worker_logs
from tuner.settings import Settings

if TYPE_CHECKING:
    from tuner.storage.storage import Storage


LOG = "log.txt"
_POLL_S = 0.5
_FETCH_S = 5.0


def show_trial_log(settings: Settings, name: str, store: "Storage", number: int, *, follow: bool) -> None:
    """Print the log of one attempt; with `follow`, until the trial has ended."""
    row = store.queries.trial(name, number)
    artifacts = artifacts_of(settings, owner=store.studies.folder_mark)
    if not any(file.name == LOG for file in artifacts.listing(name, number)) and not follow:
        words = "has not begun" if row["state"] == "WAITING" else "has no log here"
        raise NotFoundError(
            f"trial {number} of {name!r} {words}.", hint=row["message"], where=f"{artifacts.place}/{name}/{number}"
        )
    poll_s = _POLL_S if settings.artifacts_url is None else _FETCH_S

    def goes_on() -> bool:
        more = follow and store.queries.trial(name, number)["state"] in ("WAITING", "RUNNING")
        artifacts.fetched(name, number, (LOG,))
        return more

    path = artifacts.fetched(name, number, (LOG,)) / LOG
    for line in _growing([path], goes_on, poll_s=poll_s):
        output.put(line)


def show_worker_logs(root: Path, name: str, store: "Storage", *, lines: int, follow: bool) -> None:
    """Print the last lines of each worker's log; with `follow`, until the study is done or stopped."""
    paths = worker_logs(root, name)
    if not paths:
        raise NotFoundError(
            f"no worker of {name!r} has left a log below {root}.",
            hint=f"Workers that were started elsewhere log there; `tuner logs {name} N` shows a trial.",
        )
    for path in paths:
        output.put(f"==> {path}")
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:]:
            output.put(line)
    if follow:
        still = store.queries.phase
        for line in _growing(paths, lambda: still(name)[0] not in ("done", "stopped"), skip=True):
            output.put(line)


def _growing(
    paths: list[Path], goes_on: Callable[[], bool], *, skip: bool = False, poll_s: float = _POLL_S
) -> Iterator[str]:
    """Yield whole lines of files as they grow, until `goes_on` says no and all that is there was read."""
    places = {path: path.stat().st_size if skip and path.exists() else 0 for path in paths}
    while True:
        last = not goes_on()
        for path, place in places.items():
            if not path.exists():
                continue
            with path.open("rb") as file:
                file.seek(place)
                text = file.read()
            whole = text if last else text[: text.rfind(b"\n") + 1]
            places[path] = place + len(whole)
            yield from whole.decode("utf-8", "replace").splitlines()
        if last:
            return
        time.sleep(poll_s)


_PANEL = "Inspect"
_ROW = (
    "number",
    "state",
    "value",
    "values",
    "loss",
    "reason",
    "retry_of",
    "attempts",
    "epochs",
    "duration_s",
    "worker",
)
_TIMES = ("started", "finished")


def register(app: typer.Typer) -> None:
    """Enter the commands of this module."""
    for name, command in (("studies", studies), ("status", status), ("trials", trials), ("best", best), ("logs", logs)):
        app.command(name, rich_help_panel=_PANEL, cls=PanelCommand)(command)


def studies(
    every: Annotated[bool, typer.Option("--all", help="Those that are archived as well.")] = False,
    storage: StorageOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the studies of a storage."""
    from tuner.cli.stored import open_store

    with open_store(settings_of(storage).storage) as store:
        found = store.queries.studies()
    documents = [document for document in found if every or not document["archived"]]
    if as_json:
        output.put_json(documents)
        return
    hidden = len(found) - len(documents)
    if hidden:
        output.tell(f"{hidden} archived {'study is' if hidden == 1 else 'studies are'} not shown: tuner studies --all")
    if not documents and hidden:
        return
    if not documents:
        output.tell("There is no study yet. tuner launch --dataset phantom makes the first one.")
        return
    rows = [
        (
            document["name"],
            "foreign" if document.get("foreign") else _phase(document),
            document["dataset"],
            _done_of_total(document["trials"]),
            (document["best"] or {}).get("value"),
            (document["best"] or {}).get("loss"),
        )
        for document in documents
    ]
    output.put_table(("study", "phase", "dataset", "trials", "best", "loss"), rows, right=("best",))


def status(name: NameArgument, storage: StorageOption = None, as_json: JsonOption = False) -> None:
    """Say how a study stands: phase, trials, best so far, losses, workers."""
    from tuner.analysis.leaderboard import leaderboard, remaining_seconds
    from tuner.cli.stored import open_store, published_defaults, stored_spec

    with open_store(settings_of(storage).storage) as store:
        document = store.queries.status(name)
        if as_json:
            output.put_json(document)
            return
        rows = store.queries.trials(name)
        spec = stored_spec(store.studies.get(name))
    objective = document["objectives"][0]
    counts = document["trials"]
    left = counts["waiting"] + counts["running"]
    eta = remaining_seconds(rows, left=left, workers=len(document["workers"]), loss_time=document["loss_time"])
    for line in _summary(document, eta):
        output.put(line)
    standings = leaderboard(rows, objective["direction"], defaults=published_defaults(spec))
    if standings:
        output.put()
        output.put_table(
            ("loss", "family", "best", "trial", "median", "default", "complete", "pruned", "failed"),
            [
                (s.loss, s.family, s.best, s.best_trial, s.median, s.default, s.complete, s.pruned, s.failed)
                for s in standings
            ],
            right=("best", "trial", "median", "default", "complete", "pruned", "failed"),
        )
    if document["workers"]:
        output.put()
        _put_workers(document["workers"], rows)
    _put_troubles(document)
    for line in next_steps(document):
        output.tell(line)


def trials(
    name: NameArgument,
    as_csv: Annotated[bool, typer.Option("--csv", help="Comma-separated values, a column for each parameter.")] = False,
    every: Annotated[
        bool, typer.Option("--all", help="Earlier attempts, and trials that other programs added, as well.")
    ] = False,
    by: Annotated[str | None, typer.Option("--by", metavar="METRIC", help="Rank by another metric.")] = None,
    state: Annotated[str | None, typer.Option("--state", help="Only trials in this state.")] = None,
    loss: Annotated[str | None, typer.Option("--loss", help="Only trials with this loss.")] = None,
    storage: StorageOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the trials of a study, one row for each place of the budget."""
    from tuner.cli.stored import open_store, stored_spec
    from tuner.errors import UnknownNameError

    with open_store(settings_of(storage).storage) as store:
        competing = [c.name for c in stored_spec(store.studies.get(name)).candidates] if loss is not None else []
        if loss is not None and loss not in competing:
            raise UnknownNameError(kind="loss of this study", name=loss, known=competing, where="--loss")
        rows = store.queries.trials(name, all_attempts=every, by=by, state=state.upper() if state else None, loss=loss)
        objectives = store.studies.get(name).objectives
        foreign = store.foreign.rows(name)
    if every:
        rows = sorted([*rows, *foreign], key=lambda row: row["number"]) if by is None else rows
    elif foreign:
        output.tell(
            f"note: {len(foreign)} complete trials were added by another program through Optuna; they steer the "
            "sampler and are no trials of the budget. --all lists them (--json: `foreign`)."
        )
    if as_json:
        output.put_json(rows)
    elif as_csv:
        _write_csv(rows, by)
    else:
        _put_trials(rows, [o["metric"] for o in objectives], by)


def best(name: NameArgument, storage: StorageOption = None, as_json: JsonOption = False) -> None:
    """Show the best trial of a study: its value, its loss and its options."""
    from tuner.cli.stored import best_document, confirmation_lines, open_store
    from tuner.errors import NotFoundError

    settings = settings_of(storage)
    with open_store(settings.storage) as store:
        document = best_document(store, name)
        objectives = store.studies.get(name).objectives
        known = [] if document is None or as_json else confirmation_lines(store, settings, name)
    if document is None:
        raise NotFoundError(
            f"no trial of {name!r} is complete yet.", hint=f"`tuner status {name}` says how the study stands."
        )
    if as_json:
        output.put_json(document)
        return
    for line in [*best_lines(document, objectives), *(f"  {text}" for text in known)]:
        output.put(line)
    output.tell(f"\ntuner export {name} -o best.yaml   writes it as a file that `tuner train` takes")


def logs(
    name: NameArgument,
    number: Annotated[int | None, typer.Argument(metavar="[N]", help="Number of a trial.", min=0)] = None,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on as lines are written.")] = False,
    lines: Annotated[int, typer.Option("-n", "--lines", help="So many last lines of each worker's log.", min=1)] = 40,
    storage: StorageOption = None,
    artifacts: ArtifactsOption = None,
) -> None:
    """Show the log of a trial, or the last lines of the workers' logs."""
    from tuner.cli.stored import open_store

    settings = settings_of(storage, artifacts)
    with open_store(settings.storage) as store:
        store.studies.get(name)
        if number is None:
            show_worker_logs(settings.artifacts, name, store, lines=lines, follow=follow)
        else:
            show_trial_log(settings, name, store, number, follow=follow)


def best_lines(document: Mapping[str, Any], objectives: Sequence[Mapping[str, str]]) -> list[str]:
    """Write a `best` document for people."""
    values = document.get("values") or [document["value"]]
    scores = ", ".join(f"{o['metric']} {output.number(value)}" for o, value in zip(objectives, values, strict=False))
    lines = [f"Best: trial {document['number']}, {scores}{output.loss_of(document['loss'])}"]
    width = max(map(len, document["params"]), default=0)
    lines += [f"  {key.ljust(width)}  {output.format_value(value)}" for key, value in document["params"].items()]
    metrics = {key: value for key, value in document["metrics"].items() if value is not None}
    lines.append(f"  at its best epoch ({document.get('epoch')}): {output.format_value(metrics)}")
    if "front" in document:
        lines.append(f"  {len(document['front'])} trials on the Pareto front; this one is best in the first objective")
    return lines


def next_steps(document: Mapping[str, Any]) -> list[str]:
    """Say which commands make sense now."""
    name, phase = document["name"], document["phase"]
    steps = []
    if phase in ("queued", "stalled"):
        steps.append(f"tuner resume {name}   starts workers")
    if phase in ("paused", "stopped"):
        timeout = " --timeout 2h" if document["phase_reason"] == "timeout" else ""
        steps.append(f"tuner resume {name}{timeout}   goes on")
    if document["best"]:
        steps.append(f"tuner export {name} -o best.yaml   writes the best configuration")
    return ["", *steps] if steps else []


def _put_workers(workers: Sequence[Mapping[str, Any]], rows: Sequence[Mapping[str, Any]]) -> None:
    """Write who does what where."""
    trials = {row["number"]: row for row in rows}
    held = [trials.get(worker["trial"], {}) for worker in workers]
    output.put_table(
        ("worker", "host", "pid", "device", "trial", "loss", "epochs", "last seen"),
        [
            (
                w["id"],
                w["host"],
                w["pid"],
                w["device"],
                w["trial"],
                t.get("loss"),
                t.get("epochs"),
                output.when(w["last_seen"]),
            )
            for w, t in zip(workers, held, strict=True)
        ],
    )


def _put_troubles(document: Mapping[str, Any]) -> None:
    """Write what keeps devices from work."""
    for worker in document["workers"]:
        waits = (worker.get("progress") or {}).get("waits")
        if waits:
            output.put(f"worker {worker['id']} {waits}")
    for device in document["put_aside"]:
        where = f"{device['device']} of {device['host']}"
        output.put(f"\nQuarantined: {where}, {output.when(device['since'])}: {device['why']}")


def _summary(document: Mapping[str, Any], eta: float | None) -> list[str]:
    counts = document["trials"]
    parts = [f"{counts[key]} {key}" for key in ("running", "waiting", "complete", "pruned", "failed") if counts[key]]
    goals = ", ".join(f"{o['metric']} ({o['direction']})" for o in document["objectives"])
    lines = [
        f"{document['name']}: {_phase(document)}",
        f"  dataset {output.format_value(document['dataset'])}, "
        f"model {output.format_value(document['model'])}, {goals}",
        f"  trials {_done_of_total(counts)}: {', '.join(parts)}",
        *_loss_time_lines(document["loss_time"]),
    ]
    if document["best"]:
        found = document["best"]
        value = output.number(found["value"])
        lines.append(f"  best {value} in trial {found['number']}{output.loss_of(found['loss'])}")
        lines.append(f"       {output.format_value(found['params'])}")
    if eta is not None and document["phase"] == "running":
        lines.append(f"  about {output.duration(eta)} left")
    if document.get("message"):
        lines.append(f"  {document['message']}")
    return lines


def _loss_time_lines(loss_time: Mapping[str, Any] | None) -> list[str]:
    """Say how much of its training time each loss has had, the least first."""
    if loss_time is None:
        return []
    had = sorted(loss_time["hours"].items(), key=lambda item: item[1])
    told = ", ".join(f"{loss} {output.duration(3600 * hours)}" for loss, hours in had)
    return [f"  training time, {loss_time['hours_per_loss']:g} h for each loss: {told}"]


def _phase(document: Mapping[str, Any]) -> str:
    reason = document["phase_reason"]
    return f"{document['phase']} ({reason})" if reason and reason != "budget" else str(document["phase"])


def _done_of_total(counts: Mapping[str, int]) -> str:
    return f"{counts['complete'] + counts['pruned'] + counts['failed']} of {counts['total']}"


def _put_trials(rows: Sequence[Mapping[str, Any]], metrics: Sequence[str], by: str | None) -> None:
    several = len(metrics) > 1
    columns = ["trial", "state", *metrics, *([by] if by else []), "loss", "epochs", "time", "reason", "parameters"]
    table = [
        (
            row["number"],
            row["state"],
            *((row["values"] or [None] * len(metrics)) if several else [row["value"]]),
            *([row[by]] if by else []),
            row["loss"],
            row["epochs"],
            output.duration(row["duration_s"]) if row["started"] else None,
            row["reason"],
            {key: value for key, value in row["params"].items() if key != "loss"},
        )
        for row in rows
    ]
    output.put_table(columns, table, right=("trial", "epochs", *metrics, *([by] if by else [])))


def _write_csv(rows: Sequence[Mapping[str, Any]], by: str | None) -> None:
    names = list(dict.fromkeys(key for row in rows for key in row["params"] if key != "loss"))
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow([*_ROW, *([by] if by else []), *_TIMES, *names])
    for row in rows:
        values = {**row, "values": " ".join(map(str, row["values"] or ()))}
        cells = [values[key] for key in (*_ROW, *([by] if by else []), *_TIMES)]
        writer.writerow([*cells, *(row["params"].get(key) for key in names)])

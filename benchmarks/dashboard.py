"""How long pages and API calls take on a large study, and optuna-dashboard beside it on the same storage.

    python -m benchmarks.dashboard [--trials 10000] [--epochs 20] [--copies 1] [--postgresql URL] [--peer] [-o FILE.md]

The study is written straight into the tables (the storage's own arrows would take an hour), then both services are
started as processes of their own and asked over loopback: median and slowest time to the first byte of 15 requests,
bytes on the wire, and CPU seconds of the server: of the first request, and of one on average. On a machine that does
other work the CPU is what to go by: waiting is then mostly waiting for a core.
"""

import argparse
import json
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import Connection, create_engine, func, insert, select

from tests.api import demo
from tuner.settings import normalise_url
from tuner.storage import optuna_schema, schema
from tuner.storage.optuna_schema import distribution_json, internal_value, value_rows
from tuner.storage.records import EpochRow
from tuner.storage.scores import MEAN
from tuner.storage.storage import Storage

NAME = "large"
_TABLES = (
    optuna_schema.trials, optuna_schema.trial_params, optuna_schema.trial_values,
    optuna_schema.trial_intermediate_values, schema.attempts, schema.epochs, schema.scores,
)  # fmt: skip
ROUNDS = 15
PAGES = (
    "/",
    f"/studies/{NAME}",
    f"/studies/{NAME}/leaderboard",
    f"/studies/{NAME}/leaderboard?metric=hd95&class=liver",
    f"/studies/{NAME}/curves",
    f"/studies/{NAME}/parameters",
    f"/studies/{NAME}/trials",
    f"/studies/{NAME}/trials?where=train.lr:0.001:0.01&columns=iou,train.lr",
    f"/studies/{NAME}/trials/rows?offset=5000",
    f"/studies/{NAME}/predictions",
    f"/studies/{NAME}/workers",
    f"/studies/{NAME}/confirmation",
    f"/studies/{NAME}/settings",
    f"/studies/{NAME}/trials/7",
    f"/studies/{NAME}/compare",
    "/losses",
    "/workers",
    "/new",
)
FIGURES = (
    "history", "history?where=train.lr:0.001:0.01", "history?metric=hd95&class=liver", "curves", "curves?axis=time",
    "losses", "edf", "importance", "interactions", "ablation", "slice", "parallel", "contour", "rank", "timeline",
)  # fmt: skip
CALLS = (
    "/api/v1/studies",
    f"/api/v1/studies/{NAME}",
    f"/api/v1/studies/{NAME}/trials?sort=value&order=desc&limit=100",
    f"/api/v1/studies/{NAME}/trials?loss=dice&state=COMPLETE&offset=200",
    f"/api/v1/studies/{NAME}/trials/7",
    f"/api/v1/studies/{NAME}/best",
    *(f"/api/v1/studies/{NAME}/figures/{figure}" for figure in FIGURES),
    "/api/v1/workers",
    "/readyz",
    "/metrics",
)


def fill(url: str, trials: int, epochs: int, copies: int = 1) -> None:
    """Write a finished study of so many trials into the tables, so often one after the other."""
    spec = demo.spec_of(NAME, trials=1, epochs=epochs)
    with Storage.open(url, create=True) as store:
        record = store.studies.create(demo.new_study(spec))
    engine = create_engine(url)
    dice = random.Random(0)
    begin = datetime(2026, 1, 1)
    distributions = {d.name: (d, distribution_json(d)) for d in spec.space}
    with engine.begin() as connection:
        last: int = (
            connection.scalar(optuna_schema.trials.select().with_only_columns(optuna_schema.trials.c.trial_id)) or 0
        )
        connection.execute(
            schema.studies.update().values(
                total=copies * trials, finished=copies * trials, revision=copies * trials, timeout_s=None
            )
        )
        connection.execute(schema.attempts.delete())
        connection.execute(optuna_schema.trial_system_attributes.delete())
        connection.execute(optuna_schema.trials.delete())
        rows: dict[Any, list[dict[str, Any]]] = {}
        for number in range(trials):
            _add(rows, record.study_id, last + number + 1, number, spec.space, distributions, epochs, begin, dice)
            if number % 500 == 499 or number == trials - 1:
                for table, batch in rows.items():
                    connection.execute(insert(table), batch)
                rows = {}
        for copy in range(1, copies):
            _copy(connection, record.study_id, copy * trials, trials)
    if url.startswith("sqlite"):
        with engine.connect() as connection:
            connection.exec_driver_sql("ANALYZE")
    else:
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("VACUUM ANALYZE")
    engine.dispose()


def _copy(connection: Connection, study_id: int, shift: int, trials: int) -> None:
    """Write the first trials once more, that many places later."""
    first = connection.scalar(select(func.min(schema.attempts.c.trial_id))) or 0
    own = {"id", "param_id", "trial_value_id", "trial_intermediate_value_id"}
    shifted = {"trial_id", "number", "slot", "finished_revision"}
    for table in _TABLES:
        columns = [column for column in table.columns if column.name not in own]
        values = [column + shift if column.name in shifted else column for column in columns]
        query = select(*values)
        if "trial_id" in table.columns:
            query = query.where(table.c.trial_id < first + trials)
        else:
            query = query.where(table.c.study_id == study_id, table.c.number < trials)
        connection.execute(insert(table).from_select([column.name for column in columns], query))


def _add(rows: dict[Any, list[dict[str, Any]]], study_id: int, trial_id: int, number: int, space: Any,
         distributions: Any, epochs: int, begin: datetime, dice: random.Random) -> None:  # fmt: skip
    def put(table: Any, row: dict[str, Any]) -> None:
        rows.setdefault(table, []).append(row)

    params = demo.point(space, {}, dice)
    curve = [demo.epoch_row(e, epochs, params, dice) for e in range(1, epochs + 1)]
    state, reason = ("COMPLETE", None) if number % 5 else ("PRUNED", "pruned")
    if state == "PRUNED":
        curve = curve[: max(3, epochs // 3)]
    best = max(curve, key=lambda row: row.value or 0.0)
    start = begin + timedelta(seconds=12 * number)
    seconds = start.timestamp()
    value = best.value if state == "COMPLETE" else None
    ended = start + timedelta(seconds=40)
    row = {"trial_id": trial_id, "number": number, "study_id": study_id, "state": state}
    put(optuna_schema.trials, row | {"datetime_start": start, "datetime_complete": ended})
    for name, given in params.items():
        dimension, written = distributions[name]
        row = {"trial_id": trial_id, "param_name": name, "param_value": internal_value(dimension, given)}
        put(optuna_schema.trial_params, row | {"distribution_json": written})
    if value is not None:
        rows.setdefault(optuna_schema.trial_values, []).extend(value_rows(trial_id, (value,)))
    put(schema.attempts, {
        "trial_id": trial_id, "study_id": study_id, "number": number, "slot": number, "attempt": 1, "lost": 0,
        "urgency": 2, "alone": False, "branch": params["loss"], "params": params, "filled": True,
        "worker_id": f"worker{number % 4}", "claimed_at": seconds, "finished_at": seconds + 40,
        "finished_revision": number + 1, "reason": reason, "value": value,
        "objective_values": None if value is None else [value], "feasible": {"memory": -1.0, "finite": -1.0},
        "empty": False, "last_epoch": len(curve), "last_value": curve[-1].value, "best_epoch": best.epoch,
        "prune_requested": False,
    })  # fmt: skip
    if value is not None:
        rows.setdefault(schema.scores, []).extend(_scores(study_id, number, params["loss"], best))
    so_far = 0.0
    for point in curve:
        so_far = max(so_far, point.value or 0.0)
        put(schema.epochs, {
            "trial_id": trial_id, "study_id": study_id, "epoch": point.epoch, "branch": params["loss"], "bracket": 0,
            "value": point.value, "best": so_far, "metrics": dict(point.metrics), "per_class": dict(point.per_class),
            "train_loss": point.train_loss, "lr": point.lr, "seconds": point.seconds, "at": seconds + 2 * point.epoch,
        })  # fmt: skip
        put(optuna_schema.trial_intermediate_values, {
            "trial_id": trial_id, "step": point.epoch, "intermediate_value": point.value,
            "intermediate_value_type": "FINITE",
        })  # fmt: skip


def _scores(study_id: int, number: int, branch: str, best: EpochRow) -> list[dict[str, Any]]:
    means = [(metric, MEAN, value) for metric, value in best.metrics.items()]
    classes = [(metric, label, value) for metric, of in best.per_class.items() for label, value in of.items()]
    return [
        {"study_id": study_id, "metric": metric, "label": label, "number": number, "branch": branch, "value": value}
        for metric, label, value in (*means, *classes)
        if value is not None
    ]


@contextmanager
def served(command: list[str], port: int, path: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server until it answers, and end it afterwards."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(240):
            try:
                httpx.get(f"http://127.0.0.1:{port}{path}", timeout=120)
                break
            except httpx.TransportError:
                time.sleep(0.25)
        yield process
    finally:
        process.terminate()
        process.wait(30)


def cpu_seconds(pid: int) -> float:
    """Return the CPU seconds of a process and its threads so far, to the nanosecond."""
    nanoseconds = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(FileNotFoundError):
            nanoseconds += int((task / "schedstat").read_text().split()[0])
    return nanoseconds / 1e9


def first_bytes(client: httpx.Client, path: str, headers: dict[str, str]) -> tuple[float, int, int, str | None]:
    """Ask once: milliseconds until the headers are there, bytes on the wire, status, ETag."""
    begin = time.perf_counter()
    with client.stream("GET", path, headers=headers) as answer:
        waited = 1000 * (time.perf_counter() - begin)
        size = sum(len(chunk) for chunk in answer.iter_raw())
    return waited, size, answer.status_code, answer.headers.get("etag")


def measure(port: int, paths: tuple[str, ...], pid: int, rounds: int = ROUNDS) -> list[dict[str, Any]]:
    """Ask for each path several times, cold (the memory of the service is passed by) and with the ETag."""
    found = []
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=300) as client:
        for path in paths:
            before = cpu_seconds(pid)
            joint = "&" if "?" in path else "?"  # a query of its own passes the service's memory of pages by
            first = first_bytes(client, f"{path}{joint}", {})
            first_cpu = cpu_seconds(pid) - before
            asked = [first, *(first_bytes(client, f"{path}{joint}{'&' * turn}", {}) for turn in range(1, rounds))]
            spent = (cpu_seconds(pid) - before) / rounds
            tag = asked[-1][3]
            same = (
                [first_bytes(client, f"{path}{joint}", {"If-None-Match": tag})[0] for _ in range(rounds)] if tag else []
            )
            found.append({
                "path": path, "first_ms": asked[0][0], "median_ms": statistics.median(a[0] for a in asked),
                "slowest_ms": max(a[0] for a in asked),
                "bytes": asked[-1][1], "status": asked[-1][2], "cpu_ms": 1000 * spent, "first_cpu_ms": 1000 * first_cpu,
                "unchanged_ms": statistics.median(same) if same else None,
            })  # fmt: skip
    return found


def counted_anew(url: str, port: int, pid: int, rounds: int = ROUNDS) -> dict[str, Any]:
    """Ask for the page of the study after a change of its revision each time: nothing that is counted is remembered."""
    engine = create_engine(url)
    waits = []
    first_cpu, before = 0.0, cpu_seconds(pid)
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=300) as client:
        for turn in range(rounds):
            with engine.begin() as connection:
                connection.execute(schema.studies.update().values(revision=schema.studies.c.revision + 1))
            asked = first_bytes(client, f"/studies/{NAME}?{'&' * turn}", {})
            waits.append(asked[0])
            first_cpu = first_cpu or cpu_seconds(pid) - before
    engine.dispose()
    return {
        "path": f"/studies/{NAME}, counted anew each time", "first_ms": waits[0], "median_ms": statistics.median(waits),
        "slowest_ms": max(waits), "bytes": asked[1], "status": asked[2],
        "cpu_ms": 1000 * (cpu_seconds(pid) - before) / rounds, "first_cpu_ms": 1000 * first_cpu, "unchanged_ms": None,
    }  # fmt: skip


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def table(title: str, rows: list[dict[str, Any]]) -> str:
    """Write one table in Markdown."""
    lines = [
        f"### {title}",
        "",
        "| | first ms | median ms | slowest ms | first, CPU ms | CPU ms | unchanged ms | kB |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        same = "" if row["unchanged_ms"] is None else f"{row['unchanged_ms']:.1f}"
        lines.append(
            f"| `{row['path']}` | {row['first_ms']:.0f} | {row['median_ms']:.0f} | {row['slowest_ms']:.0f} "
            f"| {row['first_cpu_ms']:.0f} | {row['cpu_ms']:.0f} | {same} | {row['bytes'] / 1000:.0f} |"
        )
    return "\n".join(lines) + "\n"


def run(url: str, title: str, trials: int, epochs: int, copies: int, *, peer: bool) -> str:
    """Fill a storage, measure, and return the tables."""
    begin = time.perf_counter()
    fill(url, trials, epochs, copies)
    trials *= copies
    print(f"{title}: filled in {time.perf_counter() - begin:.0f} s", file=sys.stderr)
    port = free_port()
    with served(
        [sys.executable, "-m", "tuner", "serve", "--storage", url, "--port", str(port)], port, "/healthz"
    ) as process:
        ours = [*measure(port, (*PAGES, *CALLS), process.pid), counted_anew(url, port, process.pid)]
    text = table(f"{title}, {trials} trials × {epochs} epochs: tuner", ours)
    if peer:
        port = free_port()
        command = ["optuna-dashboard", url, "--port", str(port), "--host", "127.0.0.1"]
        program = str(Path(sys.executable).with_name(command[0]))
        with served([program, *command[1:]], port, "/api/studies") as process:
            study_id = 1
            theirs = measure(port, (f"/api/studies/{study_id}?after=0",), process.pid, rounds=2)
            theirs += measure(port, (f"/api/studies/{study_id}?after={trials}",), process.pid, rounds=2)
        text += "\n" + table(f"{title}: optuna-dashboard (its study view; its poll with nothing new)", theirs)
    return text


def main() -> None:
    """Measure on SQLite, and on PostgreSQL where a URL is given."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--copies", type=int, default=1, help="write these trials so often: quicker than making more")
    parser.add_argument("--postgresql", help="URL of an empty database")
    parser.add_argument("--peer", action="store_true", help="optuna-dashboard as well")
    parser.add_argument("-o", "--output", type=Path)
    words = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        text = run(f"sqlite:///{folder}/large.db", "SQLite", words.trials, words.epochs, words.copies, peer=words.peer)
    if words.postgresql:
        url = normalise_url(words.postgresql)
        text += "\n" + run(url, "PostgreSQL", words.trials, words.epochs, words.copies, peer=words.peer)
    print(text)
    if words.output:
        words.output.write_text(text)
        words.output.with_suffix(".json").write_text(json.dumps({"text": text}))


if __name__ == "__main__":
    main()

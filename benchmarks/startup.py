"""How long a worker takes until it trains, and until the next trial does; what its modules cost to import.

    python -m benchmarks.startup [--trials 5] [--repeats 3] [--model monai_unet] [-o FILE]

`tuner launch` runs as a user starts it, with one worker on one core and bytecode kept; data is prepared beforehand.
Times are read from the worker's own log and from the start time that Linux keeps of its process, its CPU seconds every
20 ms. The first step begins right after the line that says what is trained on. Imports: `python -X importtime`, each
module's own time summed by the package that it belongs to, and the CPU time of the process.
"""

import argparse
import json
import os
import re
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

MODULES = ("tuner", "tuner.losses", "tuner.cli.main", "tuner.worker.worker", "tuner.training.trainer")
SHOWN_MS = 40.0
"""Packages below this are summed up as the rest."""
POLL_S = 0.02
INTERRUPTED = 130
STAGES = ("registered", "claimed", "first step begins", "first epoch reported")
LINES = {
    "registered": re.compile(r"worker \S+ on "),
    "claimed": re.compile(r"trial \d+: claimed"),
    "first step begins": re.compile(r"\d+ samples, \d+ for validation, on "),
    "first epoch reported": re.compile(r"epoch 1 "),
    "ended": re.compile(r"trial \d+: (complete|pruned)"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--model", action="append", help="default: unet and monai_unet")
    parser.add_argument("-o", "--out", type=Path, help="the numbers as JSON")
    args = parser.parse_args()
    found: dict[str, Any] = {"imports": {module: imports(module) for module in MODULES}}
    print_imports(found["imports"])
    for model in args.model or ("unet", "monai_unet"):
        with tempfile.TemporaryDirectory() as folder:
            launch(Path(folder), model, "warm-up", trials=1)
            found[model] = [launch(Path(folder), model, f"r{k}", trials=args.trials) for k in range(args.repeats)]
        print_launches(model, found[model])
    if args.out:
        args.out.write_text(json.dumps(found, indent=1))


def environment() -> dict[str, str]:
    """Return what the commands run with: bytecode is kept, and the logs carry milliseconds."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return kept | {"OMP_NUM_THREADS": "1", "TUNER_LOG_FORMAT": "json"}


def imports(module: str) -> dict[str, float]:
    """Return the milliseconds of importing a module, by top-level package, largest first; `all` is their sum.

    `cpu` are the CPU milliseconds of the whole process.
    """
    command = [sys.executable, "-X", "importtime", "-c", f"import {module}"]
    for _ in range(2):  # the first one may have to compile
        before = children_cpu_s()
        done = subprocess.run(command, capture_output=True, text=True, env=environment(), check=True)
        used = children_cpu_s() - before
    spent: Counter[str] = Counter()
    for line in done.stderr.splitlines():
        numbers, _, name = line.removeprefix("import time:").rpartition("|")
        own = numbers.partition("|")[0].strip()
        if own.isdecimal():
            top = name.strip().partition(".")[0]
            spent["(standard library)" if top.lstrip("_") in STANDARD or top in STANDARD else top] += int(own) / 1000
    return {"cpu": round(1000 * used, 1), "all": round(sum(spent.values()), 1)} | {
        name: round(ms, 1) for name, ms in spent.most_common()
    }


STANDARD = sys.stdlib_module_names | {"encodings", "site", "sitecustomize", "zipimport"}


def children_cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def print_imports(found: dict[str, dict[str, float]]) -> None:
    print("| import | CPU ms of the process | ms | of it |")
    print("|---|---|---|---|")
    for module, spent in found.items():
        parts = {name: ms for name, ms in spent.items() if name not in ("all", "cpu") and ms >= SHOWN_MS}
        shares = ", ".join(f"{name} {ms:.0f}" for name, ms in parts.items())
        print(f"| `{module}` | {spent['cpu']:.0f} | {spent['all']:.0f} | {shares} |")


def launch(folder: Path, model: str, name: str, *, trials: int) -> "dict[str, Pairs]":
    """Run a study and return the wall and CPU seconds between what its worker did."""
    words = ["launch", "--dataset", "phantom", "--name", name, "--trials", str(trials), "--epochs", "2"]
    words += ["--workers", "1", "--devices", "cpu", "--set", "pruner.name=none", "--set", "dataset.size=64"]
    words += ["--set", "dataset.cases=6", "--set", "dataset.slices=4"]  # what is trained is not what is measured
    words += ["--set", f"model.name={model}", "--storage", f"sqlite:///{folder}/tuner.db"]
    words += ["--artifacts", str(folder / "runs"), "--cache", str(folder / "cache")]
    asked = time.time()
    process = subprocess.Popen(
        [sys.executable, "-m", "tuner", *words],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    found = None
    while process.poll() is None and found is None:
        found = find_worker(process.pid)
        time.sleep(5 * POLL_S)
    if found is None:
        raise SystemExit(f"`tuner launch` ended with {process.returncode}:\n{process.communicate()[0][-2000:]}")
    worker, started = found
    told: list[tuple[str, float, float]] = []
    while process.poll() is None:
        cpu = cpu_seconds(worker)
        lines = list(events(folder / "runs" / name / "workers"))
        told += [(what, at, cpu) for what, at in lines[len(told) :]]
        if sum(what == "ended" for what, *_ in told) == trials:
            process.send_signal(signal.SIGINT)  # the confirmation that would follow is not measured
            break
        time.sleep(POLL_S)
    output, _ = process.communicate()
    if process.returncode not in (0, INTERRUPTED):
        raise SystemExit(f"`tuner launch` ended with {process.returncode}:\n{output[-2000:]}")
    return stages(asked, started, told)


def find_worker(parent: int) -> tuple[int, float] | None:
    """Return the process id of a launcher's worker and its start (seconds since 1970); None without a worker."""
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:  # it has ended meanwhile
            continue
        if int(fields[1]) == parent and b"worker" in words:
            uptime = float(Path("/proc/uptime").read_text().split()[0])
            return int(entry.name), time.time() - uptime + int(fields[19]) / TICKS
    return None


TICKS = os.sysconf("SC_CLK_TCK")


def cpu_seconds(process: int) -> float:
    """Return the CPU seconds of a process until now, 0 where it has ended."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / TICKS


def events(logs: Path) -> Iterator[tuple[str, float]]:
    """Yield what the worker's log tells of, and when."""
    for log in sorted(logs.glob("*.log"))[:1]:
        for line in log.read_text().splitlines():
            try:
                entry = json.loads(line)
            except ValueError:  # it is being written
                continue
            for what, words in LINES.items():
                if words.match(entry["message"]):
                    yield what, datetime.fromisoformat(entry["time"]).timestamp()


Pairs = list[tuple[float, float]]
"""Wall and CPU seconds."""


def stages(asked: float, started: float, told: list[tuple[str, float, float]]) -> dict[str, Pairs]:
    """Return the wall and CPU seconds until what the worker did, and between its trials."""
    found: dict[str, Pairs] = {"`tuner launch` is called to the worker's start": [(started - asked, float("nan"))]}
    for stage in STAGES:
        at, cpu = next((at, cpu) for what, at, cpu in told if what == stage)
        found[f"the worker's start to: {stage}"] = [(at - started, cpu)]
    steps = [(at, cpu) for what, at, cpu in told if what == "first step begins"]
    ends = [(at, cpu) for what, at, cpu in told if what == "ended"]
    found["a trial's end to: first step of the next begins"] = [
        (step[0] - end[0], step[1] - end[1]) for end, step in zip(ends, steps[1:], strict=False)
    ]
    return found


def print_launches(model: str, runs: list[dict[str, Pairs]]) -> None:
    print(f"\n{model}\n\n| from, to | wall s: median | lowest | CPU s: median |")
    print("|---|---|---|---|")
    for name in runs[0]:
        pairs = [pair for run in runs for pair in run[name]]
        if pairs:
            wall, cpu = ([pair[k] for pair in pairs] for k in (0, 1))
            print(f"| {name} | {statistics.median(wall):.2f} | {min(wall):.2f} | {statistics.median(cpu):.2f} |")


if __name__ == "__main__":
    main()

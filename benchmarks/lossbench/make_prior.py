"""Writes what the sampler `auto` begins with, from the table of curves and the facts of its data sets.

python -m benchmarks.lossbench.make_prior [--table FILE] [-o FILE]
python -m benchmarks.lossbench.make_prior --facts --data-root DIR      # measure the data sets anew, into facts.json
"""

import argparse
import gzip
import json
import tempfile
from pathlib import Path

from benchmarks.lossbench.record import HERE, TABLE, TASKS, study_of
from tuner.atomic_io import write_atomically
from tuner.search import task_prior
from tuner.search.curve_table import read_curves
from tuner.search.prior_fit import MIN_CONFIGURATIONS, learn_prior
from tuner.search.replay import read_tasks

FACTS = HERE / "facts.json"
OUT = Path(task_prior.__file__).parent / task_prior.FILE


def measure(data_root: Path, cache: Path) -> dict[str, dict[str, float]]:
    from tuner.analysis.data_facts import measure_facts
    from tuner.data.preparation import prepare

    specs = {name: study_of(name) for name in TASKS}
    return {
        name: measure_facts(prepare(spec.base.dataset, data_root=data_root, cache=cache, seed=spec.seed))
        for name, spec in specs.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--table", type=Path, default=TABLE)
    parser.add_argument("-o", "--output", type=Path, default=OUT)
    parser.add_argument("--facts", action="store_true", help="measure the data sets into facts.json, and stop")
    parser.add_argument("--data-root", type=Path, help="holds nuclei/, membranes/, cityscapes/")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "lossbench-cache")
    arguments = parser.parse_args()
    if arguments.facts:
        found = measure(arguments.data_root, arguments.cache)
        write_atomically(FACTS, (json.dumps(found, indent=2) + "\n").encode())
        return
    tasks = [
        task
        for task in read_tasks(read_curves(arguments.table)).values()
        if len(task.configurations) >= MIN_CONFIGURATIONS
    ]
    metrics = {name: study_of(name).objectives[0].metric for name in TASKS}
    prior = learn_prior(tasks, metrics=metrics, facts=json.loads(FACTS.read_text()))
    text = json.dumps(prior.as_dict(), separators=(",", ":")).encode()
    write_atomically(arguments.output, gzip.compress(text, mtime=0))
    for task in prior.tasks:
        print(f"{task.name}: {len(task.rows)} configurations")
    print(prior.settings)


if __name__ == "__main__":
    main()

"""A trial as a configuration that stands alone: yaml, json, or a Python script, with its origin and its caveats."""

import errno
import json
import pprint
import stat
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tuner import __version__
from tuner.analysis.command_export import command_script
from tuner.analysis.confirmation import Leader, confirmed_leader, judge_looks, read_confirmation
from tuner.analysis.leaderboard import caveats
from tuner.artifacts.local import Artifacts
from tuner.atomic_io import scratch_folder, write_atomically
from tuner.config.study import load_spec
from tuner.config.trial import TrialConfig, load_config
from tuner.config.yaml_reader import YamlDocument, dump_yaml
from tuner.errors import ConflictError, DiskFullError, NotFoundError, RequestError, UnknownNameError
from tuner.storage.records import StudyRecord
from tuner.storage.storage import Storage

SEED_OF_SEARCH = "its seed is the one that the search chose; the confirmed mean is over others"
SUFFIXES = {".yaml": "yaml", ".yml": "yaml", ".json": "json", ".py": "python", ".sh": "command"}


def export_trial(
    store: Storage, name: str, *, number: int | None = None, artifacts: Artifacts | None = None
) -> TrialConfig:
    """Return the configuration of the confirmed leader, else of the best trial, or of the named one, with its origin.

    `artifacts`: the trials' files; versions are read from the trial's `environment.json` where it is there.

    Raises NotFoundError when there is no such trial, ConflictError when it has no value.
    """
    record = store.studies.get(name)
    spec = load_spec(YamlDocument(record.spec, {}, f"study {name}"))
    confirmation = None if artifacts is None else read_confirmation(store, name)
    verdict = None if confirmation is None or artifacts is None else judge_looks(confirmation, artifacts)
    leader = None
    if number is None and confirmation is not None and verdict is not None:
        leader = confirmed_leader(confirmation, verdict)
    if leader is not None:
        if leader.finalist.trial is None:
            return _never_tried(name, spec.seed, record, leader)
        number = leader.finalist.trial
    if number is None:
        best = store.queries.best(name)
        if best is None:
            raise NotFoundError(
                f"no trial of {name!r} is complete yet.", hint=f"`tuner status {name}` says how the study stands."
            )
        number = int(best["number"])
    row = store.queries.trial(name, number)
    if not row["params"] and row["state"] == "WAITING":
        raise ConflictError(f"trial {number} of {name!r} waits; its parameters are not chosen yet.")
    epochs = store.queries.epochs(name, number)
    at_best = next((epoch for epoch in epochs if epoch["epoch"] == row["best_epoch"]), None)
    rows = store.queries.trials(name)
    protocol = record.resources.get("protocol")
    config = spec.config(row["params"])
    provenance = {
        "study": name,
        "trial": number,
        "state": row["state"],
        "value": row["value"],
        "metrics": at_best["metrics"] if at_best else {},
        "per_class": at_best["per_class"] if at_best else {},
        "epoch": row["best_epoch"],
        "seed": spec.seed,
        "data_fingerprint": _fingerprint(artifacts, record, number, config.dataset == spec.base.dataset),
        "validation_protocol": protocol,
        "search": {
            "sampler": spec.sampler["name"],
            "pruner": spec.pruner["name"],
            "trials": record.total,
            "finished": sum(r["state"] in ("COMPLETE", "PRUNED", "FAIL") for r in rows),
            "losses": [candidate.name for candidate in spec.candidates],
            "searched": [dimension.name for dimension in spec.space],
        },
        "trained": row["finished"],
        "exported": datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        "versions": _versions(artifacts, name, number),
        "caveats": caveats(
            spec.space,
            record.objectives[0],
            rows,
            row,
            study_seed=spec.seed,
            protocol=protocol,
            verdict=verdict,
        ),
    }
    if leader is not None:
        provenance["confirmation"] = leader.as_dict()
        if config.train.seed != spec.seed:  # the trial's own seed was one of several that were tried
            provenance["caveats"] = [*provenance["caveats"], SEED_OF_SEARCH]
    return config.model_copy(update={"provenance": provenance})


def _never_tried(name: str, seed: int, record: StudyRecord, leader: Leader) -> TrialConfig:
    """Return the configuration of a baseline that no trial of the search had."""
    config = load_config(leader.finalist.config)
    provenance: dict[str, Any] = {
        "study": name,
        "trial": None,
        "value": None,
        "seed": seed,
        "data_fingerprint": record.resources.get("fingerprint"),
        "validation_protocol": record.resources.get("protocol"),
        "confirmation": leader.as_dict(),
        "exported": datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        "versions": {"tuner": __version__},
        "caveats": [],
    }
    train = config.train.model_copy(update={"seed": seed})
    return config.model_copy(update={"train": train, "provenance": provenance})


def render(config: TrialConfig, form: str) -> str:
    """Write a configuration as `yaml`, `json` or `python`. Raises UnknownNameError for another format."""
    if form not in FORMATS:
        raise UnknownNameError(kind="format", name=form, known=FORMATS, where="--format")
    return FORMATS[form](config)


def format_of(path: Path, form: str | None) -> str:
    """Return the format that was asked for, else the one that the file's ending says, else yaml."""
    return form or SUFFIXES.get(path.suffix.lower(), "yaml")


def write_export(path: Path, content: str | bytes) -> bool:
    """Write an export in one step: the file is whole or not there. Returns whether it replaced a regular file.

    Raises RequestError where no file can be, DiskFullError.
    """
    if path.is_symlink():
        path = path.resolve()
    replaced = path.exists()
    if replaced and not stat.S_ISREG(path.stat().st_mode):
        kind = "a folder" if path.is_dir() else "not a regular file"
        raise RequestError(f"it is {kind}; name a file.", where=str(path))
    if not path.absolute().parent.is_dir():
        raise RequestError(f"the folder {path.absolute().parent} does not exist.", hint="Create it first.", where="-o")
    try:
        write_atomically(path, content.encode() if isinstance(content, str) else content)
    except OSError as error:
        if error.errno == 28:
            raise DiskFullError("no space left for the export.", where=str(path)) from error
        raise RequestError(f"cannot be written: {error.strerror}.", where=str(path)) from error
    return replaced


def write_folder(path: Path, files: Mapping[str, bytes]) -> None:
    """Write an export of several files as a new folder, in one step.

    Args:
        path: The folder; one that is there must be empty.
        files: Contents by path in the folder.

    Raises RequestError where it may not be written, DiskFullError.
    """
    check_new_folder(path)
    try:
        with scratch_folder(path) as made:
            for name, content in files.items():
                (made / name).parent.mkdir(parents=True, exist_ok=True)
                (made / name).write_bytes(content)
            made.rename(path)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise DiskFullError("no space left for the export.", where=str(path)) from error
        raise RequestError(f"cannot be written: {error.strerror}.", where=str(path)) from error


def check_new_folder(path: Path) -> None:
    """Raise RequestError unless a new folder may be written there: one that is there must be empty."""
    if path.exists() and not path.is_dir():
        raise RequestError("it is a file; name a folder.", where=str(path))
    if path.is_dir() and any(path.iterdir()):
        raise RequestError("the folder is not empty.", hint="Name a new one with -o DIR.", where=str(path))
    parent = path.absolute().parent
    if not parent.is_dir():
        raise RequestError(f"the folder {parent} does not exist.", hint="Create it first.", where="-o")


def _yaml(config: TrialConfig) -> str:
    return _head(config, "# ") + dump_yaml(config.as_dict())


def _json(config: TrialConfig) -> str:
    return json.dumps(config.as_dict(), indent=2, ensure_ascii=False) + "\n"


def _python(config: TrialConfig) -> str:
    if config.train.command is not None:
        raise RequestError(
            "its training is a program of your own, which the script would not be.",
            hint="`--format command` writes the program with its arguments; `tuner train` takes the yaml.",
            where="--format",
        )
    sections = pprint.pformat(config.as_dict(), indent=1, width=110, sort_dicts=False)
    return _SCRIPT.format(head=_head(config, ""), config=sections)


def _head(config: TrialConfig, mark: str) -> str:
    origin = config.provenance
    if not origin:
        return ""
    metric = config.objectives[0].metric
    value = "no value" if origin["value"] is None else f"{metric} {origin['value']:.4g}"
    of = "A baseline" if origin["trial"] is None else f"Trial {origin['trial']}"
    confirmed = origin.get("confirmation")
    lines = [
        f"{of} of study {origin['study']}: {value}{f', loss {config.loss_name}' if config.loss_name else ''}.",
        *([f"Confirmed: {confirmed['text']}"] if confirmed else []),
        "Train it with: tuner train FILE",
        *(f"Mind: {text}." for text in origin["caveats"]),
    ]
    return "".join(f"{mark}{line}\n" for line in lines)


def _fingerprint(artifacts: Artifacts | None, record: StudyRecord, number: int, is_base: bool) -> str | None:
    """Fingerprint of the data that the trial was trained on; its folder knows it where the fold or size is searched."""
    facts = record.resources if is_base else _read_json(artifacts, record.name, number, "data.json")
    found = facts.get("fingerprint")
    return found if isinstance(found, str) else None


def _versions(artifacts: Artifacts | None, name: str, number: int) -> Mapping[str, Any]:
    """Versions that the trial was trained with, as its folder says; those of this program where there is no folder."""
    document = _read_json(artifacts, name, number, "environment.json")
    try:
        return {**document["versions"], "device": document["device"], "device_name": document["device_name"]}
    except (KeyError, TypeError):
        return {"tuner": __version__}


def _read_json(artifacts: Artifacts | None, name: str, number: int, file_name: str) -> dict[str, Any]:
    """Return a document in a trial's folder; nothing where it is not there or damaged."""
    if artifacts is None:
        return {}
    try:
        with artifacts.open(name, number, file_name) as file:
            document = json.load(file)
    except (NotFoundError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}


FORMATS: dict[str, Callable[[TrialConfig], str]] = {
    "yaml": _yaml,
    "json": _json,
    "python": _python,
    "command": command_script,
}

_SCRIPT = '''"""{head}"""

import argparse
import os
from pathlib import Path

CONFIG = {config}


def main() -> None:
    """Train CONFIG from scratch and score the test cases."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output", type=Path, default=Path("final"))
    parser.add_argument("--device", default="auto")
    parser.add_argument("--data-root", type=Path, default=os.environ.get("TUNER_DATA_ROOT"))
    parser.add_argument("--cache", type=Path, default=os.environ.get("TUNER_CACHE", "~/.cache/tuner"))
    words = parser.parse_args()

    os.environ["OMP_NUM_THREADS"] = str(CONFIG["train"]["threads"] or os.cpu_count())  # before torch starts

    from tuner.config.trial import load_config
    from tuner.data.preparation import prepare, test_cases
    from tuner.training.device import resolve_device
    from tuner.training.final import train_final

    config = load_config(CONFIG)
    places = {{
        "data_root": Path(words.data_root).expanduser() if words.data_root else None,
        "cache": Path(words.cache).expanduser(),
        "seed": CONFIG.get("provenance", {{}}).get("seed", 0),
    }}
    result = train_final(
        config,
        data=prepare(config.dataset, **places) if config.has_data else None,
        tests=test_cases(config.dataset, **places) if config.has_data else (),
        device=resolve_device(words.device),
        folder=words.output,
        on_epoch=lambda report: print(report.epoch, report.train_loss, dict(report.metrics)),
    )
    print(result and result["value"])


if __name__ == "__main__":
    main()
'''

"""Opening stored studies, for commands that read or control one."""

from typing import Any

from tuner.config.study import StudySpec, load_spec
from tuner.config.yaml_reader import YamlDocument
from tuner.storage.records import StudyRecord
from tuner.storage.storage import Storage


def open_store(url: str, *, write: bool = False) -> Storage:
    """Open an existing storage."""
    return Storage.open(url, read_only=not write)


def stored_spec(record: StudyRecord) -> StudySpec:
    """Return the specification that a study was created with."""
    return load_spec(YamlDocument(record.spec, {}, f"study {record.name}"))


def best_document(store: Storage, name: str) -> dict[str, Any] | None:
    """Return the contract's `best` document, with the complete configuration; None when there is none yet."""
    best = store.queries.best(name)
    if best is None:
        return None
    config = stored_spec(store.studies.get(name)).config(best["params"]).as_dict()
    front = {"front": best.pop("front")} if "front" in best else {}
    return {**best, "config": config, **front}


def published_defaults(spec: StudySpec) -> int:
    """Return how many first places of the budget hold published defaults."""
    competing = len(spec.candidates)
    return competing if spec.budget.trials_per_loss else min(competing, spec.total // 3)

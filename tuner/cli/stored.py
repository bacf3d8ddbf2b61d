"""Opening stored studies, for commands that read or control one."""

from typing import Any

from tuner.config.study import StudySpec, load_spec
from tuner.config.yaml_reader import YamlDocument
from tuner.settings import Settings
from tuner.storage.activity import local_actor
from tuner.storage.records import StudyRecord
from tuner.storage.storage import Storage


def open_store(url: str, *, write: bool = False) -> Storage:
    """Open an existing storage."""
    return Storage.open(url, read_only=not write)


def record_activity(store: Storage, name: str, action: str, detail: str = "") -> None:
    """Enter in the log what this command has changed."""
    store.activity.record(name, action, actor=local_actor("cli"), detail=detail)


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
    if spec.budget.hours_per_loss is not None:
        return spec.first_total
    return competing if spec.budget.trials_per_loss else min(competing, spec.total // 3)


def confirmation_lines(store: Storage, settings: Settings, name: str) -> list[str]:
    """Return what may be said of a study's values: its verdict, or that there is none and how to get one."""
    from tuner.analysis.confirmation import verdict_of
    from tuner.analysis.seed_spread import confirm_command, seed_spread, unconfirmed_statement
    from tuner.artifacts.remote import artifacts_of

    verdict = verdict_of(store, artifacts_of(settings, owner=store.studies.folder_mark), name)
    if verdict is not None:
        return verdict.text.splitlines()
    spread = seed_spread(store.queries.trials(name, state="COMPLETE"), study_seed=store.studies.get(name).seed)
    return [f"{unconfirmed_statement(spread)} `{confirm_command(name)}`"]

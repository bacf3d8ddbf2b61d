"""Our own tables, all called `tuner_…`, beside Optuna's in one database.

The state of a trial stands in Optuna's `trials` only. `tuner_attempts` says what Optuna has no room for: which place of
the budget a trial fills, which attempt at it this is, who holds it and why it ended. Times are seconds since 1970 by
the database's clock. Every change needs a migration (`migrations/`); a test compares the two.
"""

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    false,
    text,
)

from tuner.storage.optuna_schema import studies as optuna_studies
from tuner.storage.optuna_schema import trials as optuna_trials

metadata = MetaData()

_json = JSON(none_as_null=True)
_seconds = Float(53)
_name = String(100).with_variant(String(80), "sqlite")  # which keeps any length, and cannot change a column
_long = BigInteger().with_variant(Integer, "sqlite")


def _study() -> ForeignKey:
    return ForeignKey(optuna_studies.c.study_id, ondelete="CASCADE")


def _trial() -> ForeignKey:
    return ForeignKey(optuna_trials.c.trial_id, ondelete="CASCADE")


studies = Table(
    "tuner_studies",
    metadata,
    Column("study_id", Integer, _study(), primary_key=True, autoincrement=False),
    Column("name", _name, nullable=False),  # must equal Optuna's: SQLite gives the ids of deleted studies again
    Column("identity", String(32), nullable=False),
    Column("marks_folder", Boolean, nullable=False, server_default=false()),  # its files' folder says whose it is
    Column("parent", String(32)),  # of a confirmation: the identity of the study whose finalists it trains again
    Column("spec", _json, nullable=False),
    Column("space", _json, nullable=False),
    Column("objectives", _json, nullable=False),
    Column("resources", _json, nullable=False),
    Column("seed", _long, nullable=False),
    Column("loss", String(128)),  # NULL when the loss is searched
    Column("total", Integer, nullable=False),
    Column("retries", Integer, nullable=False),
    Column("timeout_s", _seconds),
    Column("spent_s", _seconds, nullable=False),  # time with at least one live worker
    Column("spent_at", _seconds, nullable=False),  # when a worker last added to it
    Column("alive_since", _seconds, nullable=False),  # since when heartbeats have come without a gap
    Column("wanted", String(8), nullable=False),
    Column("wanted_reason", String(16)),
    Column("message", Text),
    Column("finished", Integer, nullable=False),  # trials that ended COMPLETE or PRUNED
    Column("revision", _long, nullable=False),
    Column("version", String(32), nullable=False),
    Column("created_at", _seconds, nullable=False),
    Column("archived", Boolean, nullable=False, server_default=false()),  # out of lists, and out of use
)

Index("tuner_studies_parent", studies.c.parent)

looks = Table(
    "tuner_looks",
    metadata,
    Column("study_id", Integer, _study(), primary_key=True, autoincrement=False),  # of the confirmation
    Column("look", Integer, primary_key=True, autoincrement=False),  # from 1
    Column("runs", Integer, nullable=False),  # of each configuration: it is due when so many are over
    Column("level", _seconds, nullable=False),  # the part of alpha that it spends
    Column("configurations", _json, nullable=False),  # names of those that are judged
    Column("pairs", Integer, nullable=False),  # of the first look
    Column("planned_at", _seconds, nullable=False),
)

attempts = Table(
    "tuner_attempts",
    metadata,
    Column("trial_id", Integer, _trial(), primary_key=True, autoincrement=False),
    Column("study_id", Integer, _study(), nullable=False),
    Column("number", Integer, nullable=False),
    Column("slot", Integer, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("retry_of", Integer),
    Column("successor", Integer),  # the number of the next attempt; NULL in the newest one
    Column("lost", Integer, nullable=False),  # how many earlier attempts were lost with their workers
    Column("urgency", Integer, nullable=False),  # 0 retries, 1 asked for by the user, 2 the rest
    Column("alone", Boolean, nullable=False),
    Column("branch", String(128)),
    Column("params", _json, nullable=False),
    Column("empty", Boolean, nullable=False),  # no parameter is given
    Column("filled", Boolean, nullable=False),  # every parameter is given
    Column("enqueue_token", String(32)),
    Column("claim_token", String(32)),
    Column("worker_id", String(32)),
    Column("claimed_at", _seconds),
    Column("finished_at", _seconds),
    Column("finished_revision", _long),
    Column("reason", String(32)),
    Column("message", Text),
    Column("value", _seconds),  # Optuna's final value of the first objective, here for the index
    Column("objective_values", _json),
    Column("feasible", _json),
    Column("last_epoch", Integer),
    Column("last_value", _seconds),
    Column("best_epoch", Integer),
    Column("prune_requested", Boolean, nullable=False),
    Column("end_now", Boolean, nullable=False, server_default=false()),  # do not wait for its next report
    UniqueConstraint("study_id", "number", name="tuner_attempts_number"),
    UniqueConstraint("study_id", "slot", "attempt", name="tuner_attempts_slot"),
)


def _partial(name: str, where: str, *columns: str) -> Index:
    condition = text(where)
    return Index(name, *(attempts.c[c] for c in columns), sqlite_where=condition, postgresql_where=condition)


_partial("tuner_attempts_waiting", "claimed_at IS NULL", "study_id", "urgency", "slot")
_partial("tuner_attempts_held", "claimed_at IS NOT NULL AND finished_at IS NULL", "study_id", "worker_id")
_partial("tuner_attempts_newest", "successor IS NULL", "study_id", "number")
_partial("tuner_attempts_value", "value IS NOT NULL", "study_id", "value", "number", "branch")  # all that ranking reads
Index("tuner_attempts_finished", attempts.c.study_id, attempts.c.finished_revision)
_COUNTED = ("study_id", "successor", "branch", "reason", "claimed_at", "finished_at", "number", "trial_id")
Index(
    "tuner_attempts_counted", *(attempts.c[name] for name in _COUNTED)
)  # all that counting by loss and reason reads: rows are wide, and pages count all of them

epochs = Table(
    "tuner_epochs",
    metadata,
    Column("id", _long, primary_key=True, autoincrement=True),
    Column("trial_id", Integer, _trial(), nullable=False),
    Column("study_id", Integer, _study(), nullable=False),
    Column("epoch", Integer, nullable=False),
    Column("branch", String(128)),
    Column("bracket", Integer),  # the group that it competes in; NULL when its trial was tried again
    Column("value", _seconds),
    Column("best", _seconds),  # the best value up to this epoch
    Column("metrics", _json, nullable=False),
    Column("per_class", _json, nullable=False),
    Column("train_loss", _seconds),
    Column("lr", _seconds),
    Column("seconds", _seconds),
    Column("at", _seconds, nullable=False),
    UniqueConstraint("trial_id", "epoch", name="tuner_epochs_epoch"),
)
_PEERS = ("study_id", "epoch", "bracket", "branch", "best", "trial_id")
Index(
    "tuner_epochs_peers", *(epochs.c[name] for name in _PEERS)
)  # all that counting peers reads: it is done each epoch
Index("tuner_epochs_newest", epochs.c.study_id, epochs.c.id)

scores = Table(
    "tuner_scores",
    metadata,
    Column("study_id", Integer, _study(), primary_key=True, autoincrement=False),
    Column("metric", Text, primary_key=True),
    Column("label", Text, primary_key=True),  # a class; empty: the mean of all
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("branch", Text, primary_key=True),  # as in tuner_attempts; empty where that has none
    Column("value", _seconds, primary_key=True),
    sqlite_with_rowid=False,
)  # of complete trials, at their best epochs; the key holds every column, so that its index alone answers

notices = Table(
    "tuner_notices",
    metadata,
    Column("study_id", Integer, _study(), primary_key=True, autoincrement=False),
    Column("event", String(16), primary_key=True),
    Column("subject", String(64), primary_key=True),  # which event of its kind
    Column("taken_at", _seconds, nullable=False),
    Column("sent_at", _seconds),
)

workers = Table(
    "tuner_workers",
    metadata,
    Column("worker_id", String(32), primary_key=True),
    Column("study_id", Integer),  # NULL: serves whichever study has work
    Column("host", String(255), nullable=False),
    Column("pid", Integer, nullable=False),
    Column("process", String(128), nullable=False),
    Column("device", String(64), nullable=False),
    Column("version", String(32), nullable=False),
    Column("progress", _json),
    Column("aside_study_id", Integer),  # the study over which it has put its device aside
    Column("aside_study", _name),
    Column("aside_why", Text),
    Column("started_at", _seconds, nullable=False),
    Column("seen_at", _seconds, nullable=False),
    Column("left_at", _seconds),
    Column("gpu", String(64)),  # its UUID; NULL where the device is none, or nobody tells
)
Index(
    "tuner_workers_aside",
    workers.c.left_at,
    sqlite_where=text("aside_why IS NOT NULL"),
    postgresql_where=text("aside_why IS NOT NULL"),
)

annotations = Table(
    "tuner_annotations",
    metadata,
    Column("study_id", Integer, _study(), primary_key=True, autoincrement=False),
    Column("slot", Integer, primary_key=True, autoincrement=False),  # a place of the budget; -1: the study itself
    Column("notes", Text, nullable=False),  # Markdown
    Column("notes_revision", Integer, nullable=False),  # how often they were changed
    Column("starred", Boolean, nullable=False),
)

tags = Table(
    "tuner_tags",
    metadata,
    Column("study_id", Integer, _study(), primary_key=True, autoincrement=False),
    Column("slot", Integer, primary_key=True, autoincrement=False),  # as in tuner_annotations
    Column("tag", String(50), primary_key=True),
)

activity = Table(
    "tuner_activity",
    metadata,
    Column("id", _long, primary_key=True, autoincrement=True),
    Column("at", _seconds, nullable=False),
    Column("actor", String(100), nullable=False),
    Column("study_id", Integer, _study()),  # NULL: it was deleted
    Column("study", String(100), nullable=False),  # its name then
    Column("action", String(32), nullable=False),
    Column("detail", Text, nullable=False),
)
Index("tuner_activity_newest", activity.c.study_id, activity.c.id)

"""Optuna's tables: the columns that are read and written here, and how Optuna spells what it stores.

The tables are created by Optuna itself (`tuner.storage.migrate`), so that its tools open the same storage;
`OPTUNA_SCHEMA` is the version of that schema which these definitions describe, and every opening checks it.

`optuna_storage` gives the same storage as Optuna's object.
"""

import json
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sqlalchemy import Column, DateTime, Engine, Enum, Float, Integer, MetaData, String, Table, Text, event

from tuner.errors import Problem, SpecError
from tuner.registry import Scalar
from tuner.search.space import Dimension, SearchSpace, describe
from tuner.storage.url import check_file, read_url

if TYPE_CHECKING:
    from optuna.storages import RDBStorage


OPTUNA_SCHEMA = 12

optuna_metadata = MetaData()

STATES = ("RUNNING", "COMPLETE", "PRUNED", "FAIL", "WAITING")

_state = Enum(*STATES, name="trialstate")
_direction = Enum("NOT_SET", "MINIMIZE", "MAXIMIZE", name="studydirection")
_value_type = Enum("FINITE", "INF_POS", "INF_NEG", name="trialvaluetype")
_report_type = Enum("FINITE", "INF_POS", "INF_NEG", "NAN", name="trialintermediatevaluetype")

version_info = Table(
    "version_info",
    optuna_metadata,
    Column("version_info_id", Integer, primary_key=True),
    Column("schema_version", Integer),
    Column("library_version", String),
)

studies = Table(
    "studies",
    optuna_metadata,
    Column("study_id", Integer, primary_key=True),
    Column("study_name", String, nullable=False),
)

study_directions = Table(
    "study_directions",
    optuna_metadata,
    Column("study_direction_id", Integer, primary_key=True),
    Column("direction", _direction, nullable=False),
    Column("study_id", Integer, nullable=False),
    Column("objective", Integer, nullable=False),
)

trials = Table(
    "trials",
    optuna_metadata,
    Column("trial_id", Integer, primary_key=True),
    Column("number", Integer),
    Column("study_id", Integer),
    Column("state", _state, nullable=False),
    Column("datetime_start", DateTime),
    Column("datetime_complete", DateTime),
)


def _attributes(name: str, owner: str) -> Table:
    return Table(
        name,
        optuna_metadata,
        Column(name.rstrip("s") + "_id", Integer, primary_key=True),
        Column(owner, Integer),
        Column("key", String),
        Column("value_json", Text),
    )


study_user_attributes = _attributes("study_user_attributes", "study_id")
study_system_attributes = _attributes("study_system_attributes", "study_id")
trial_user_attributes = _attributes("trial_user_attributes", "trial_id")
trial_system_attributes = _attributes("trial_system_attributes", "trial_id")

trial_params = Table(
    "trial_params",
    optuna_metadata,
    Column("param_id", Integer, primary_key=True),
    Column("trial_id", Integer),
    Column("param_name", String),
    Column("param_value", Float(53)),
    Column("distribution_json", Text),
)

trial_values = Table(
    "trial_values",
    optuna_metadata,
    Column("trial_value_id", Integer, primary_key=True),
    Column("trial_id", Integer, nullable=False),
    Column("objective", Integer, nullable=False),
    Column("value", Float(53)),
    Column("value_type", _value_type, nullable=False),
)

trial_intermediate_values = Table(
    "trial_intermediate_values",
    optuna_metadata,
    Column("trial_intermediate_value_id", Integer, primary_key=True),
    Column("trial_id", Integer, nullable=False),
    Column("step", Integer, nullable=False),
    Column("intermediate_value", Float(53)),
    Column("intermediate_value_type", _report_type, nullable=False),
)

trial_heartbeats = Table(
    "trial_heartbeats",
    optuna_metadata,
    Column("trial_heartbeat_id", Integer, primary_key=True),
    Column("trial_id", Integer, nullable=False),
)

TRIAL_CHILDREN = (
    trial_user_attributes,
    trial_system_attributes,
    trial_params,
    trial_values,
    trial_intermediate_values,
    trial_heartbeats,
)
"""Tables whose rows belong to one trial each, by `trial_id`."""

STUDY_CHILDREN = (study_user_attributes, study_system_attributes, study_directions)
"""Tables whose rows belong to one study each, by `study_id`."""


def distribution_json(dimension: Dimension) -> str:
    """Write a dimension as Optuna writes the distribution that it is."""
    attributes: dict[str, Any]
    if dimension.kind == "categorical":
        name, attributes = "CategoricalDistribution", {"choices": list(dimension.choices)}
    elif dimension.kind == "float":
        name = "FloatDistribution"
        attributes = {
            "step": dimension.step,
            "low": float(dimension.low),
            "high": float(dimension.high),
            "log": dimension.log,
        }
    else:
        name = "IntDistribution"
        step = 1 if dimension.step is None else int(dimension.step)
        attributes = {"log": dimension.log, "step": step, "low": int(dimension.low), "high": int(dimension.high)}
    return json.dumps({"name": name, "attributes": attributes})


def internal_value(dimension: Dimension, value: Scalar) -> float:
    """Return the number that Optuna stores for a parameter: the index of a choice, else the value itself.

    Raises SpecError when the dimension has no such value.
    """
    if dimension.kind == "categorical":
        for index, choice in enumerate(dimension.choices):
            if choice == value and type(choice) is type(value):
                return float(index)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    raise SpecError([Problem(dimension.name, f"{value!r} is outside {describe(dimension)}", value)])


def param_rows(trial_id: int, space: SearchSpace, params: Mapping[str, Scalar]) -> list[dict[str, Any]]:
    """Make the rows of a trial's parameters. Raises SpecError for a value that a dimension does not have."""
    return [
        {
            "trial_id": trial_id,
            "param_name": dimension.name,
            "param_value": internal_value(dimension, params[dimension.name]),
            "distribution_json": distribution_json(dimension),
        }
        for dimension in space.active(params)
    ]


def report_row(trial_id: int, step: int, value: float) -> dict[str, Any]:
    """Make the row of one intermediate value."""
    return {
        "trial_id": trial_id,
        "step": step,
        "intermediate_value": value if math.isfinite(value) else None,
        "intermediate_value_type": "NAN" if math.isnan(value) else _kind(value),
    }


def value_rows(trial_id: int, values: tuple[float, ...]) -> list[dict[str, Any]]:
    """Make the rows of a trial's final values."""
    return [
        {
            "trial_id": trial_id,
            "objective": objective,
            "value": value if math.isfinite(value) else None,
            "value_type": _kind(value),
        }
        for objective, value in enumerate(values)
    ]


def attribute_rows(trial_id: int, attributes: dict[str, Any]) -> list[dict[str, Any]]:
    """Make the rows of a trial's user or system attributes."""
    return [{"trial_id": trial_id, "key": key, "value_json": json.dumps(value)} for key, value in attributes.items()]


def _kind(value: float) -> str:
    if math.isfinite(value):
        return "FINITE"
    return "INF_POS" if value > 0 else "INF_NEG"


_BUSY_S = 30
_CONNECT_S = 10


def optuna_storage(url: str) -> "RDBStorage":
    """Open a storage for Optuna's tools; what is missing of Optuna's tables is created, nothing of ours.

    Unlike a plain `RDBStorage(url)` it survives a restarted server, and on SQLite two askers never take the same
    waiting trial: the write lock is taken at BEGIN, since SQLite ignores row locks.

    Raises:
        RequestError: The URL names no storage.
        StorageError: The file may not be used.
        RuntimeError: Optuna does not know the version of its tables.
        sqlalchemy.exc.DBAPIError: The storage cannot be used.
    """
    from optuna.storages import RDBStorage

    parsed = read_url(url)
    options: dict[str, Any]
    if parsed.get_backend_name() == "sqlite":
        check_file(parsed, create=True)
        options = {"connect_args": {"timeout": _BUSY_S}}
    else:
        options = {"connect_args": {"connect_timeout": _CONNECT_S}, "pool_pre_ping": True}
    # Optuna takes the URL for a template
    template = parsed.render_as_string(hide_password=False).replace("{", "{{").replace("}", "}}")
    storage = RDBStorage(template, engine_kwargs=options)
    if parsed.get_backend_name() == "sqlite":
        _lock_at_begin(storage.engine)
    return storage


def _lock_at_begin(engine: Engine) -> None:
    engine.dispose()  # connections from before the next lines would not obey them

    @event.listens_for(engine, "connect")
    def leave_transactions_to_us(connection: Any, record: Any) -> None:
        connection.isolation_level = None

    @event.listens_for(engine, "begin")
    def begin(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

"""The same storage as an object of Optuna's, for whatever speaks Optuna: its own tools, a notebook, another program."""

from typing import TYPE_CHECKING, Any

from sqlalchemy import Engine, event

from tuner.storage.url import check_file, read_url

if TYPE_CHECKING:
    from optuna.storages import RDBStorage


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

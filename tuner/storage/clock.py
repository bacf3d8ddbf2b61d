"""The database's clock: the only one that counts, since the clocks of hosts differ."""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import DateTime, Float
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement


class seconds_now(FunctionElement[float]):  # noqa: N801 - reads as the SQL function that it is
    """Seconds since 1970 (UTC) by the database's clock, at the moment of the statement."""

    type = Float(53)
    inherit_cache = True


class utc_now(FunctionElement[datetime]):  # noqa: N801
    """The same moment as naive UTC, which is how Optuna stores the times of trials."""

    type = DateTime()
    inherit_cache = True


@compiles(seconds_now, "postgresql")
def _seconds_postgresql(element: Any, compiler: Any, **options: Any) -> str:
    return "EXTRACT(EPOCH FROM clock_timestamp())::double precision"


@compiles(seconds_now, "sqlite")
def _seconds_sqlite(element: Any, compiler: Any, **options: Any) -> str:
    # julianday is exact to about 0.1 ms; unixepoch('subsec') would need SQLite 3.42
    return "((julianday('now') - 2440587.5) * 86400.0)"


@compiles(utc_now, "postgresql")
def _utc_postgresql(element: Any, compiler: Any, **options: Any) -> str:
    return "(clock_timestamp() AT TIME ZONE 'UTC')"


@compiles(utc_now, "sqlite")
def _utc_sqlite(element: Any, compiler: Any, **options: Any) -> str:
    return "(strftime('%Y-%m-%d %H:%M:%f', 'now') || '000')"


def iso(seconds: float | None) -> str | None:
    """Write a stored moment for JSON: `2026-01-31T12:00:00.250Z`."""
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")

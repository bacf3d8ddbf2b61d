"""What a database's error means: try again, the disk is full, or a person must look."""

from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from tuner.errors import DiskFullError, StorageError, TunerError

_SQLITE_BUSY, _SQLITE_LOCKED, _SQLITE_READONLY = 5, 6, 8
_SQLITE_IOERR, _SQLITE_FULL, _SQLITE_CANTOPEN, _SQLITE_PROTOCOL, _SQLITE_NOTADB = 10, 13, 14, 15, 26
_SQLITE_TRANSIENT = {_SQLITE_BUSY, _SQLITE_LOCKED, _SQLITE_PROTOCOL}
_SQLITE_REASONS = {
    _SQLITE_READONLY: ("it may not be written", "Choose a folder that this user may write to."),
    _SQLITE_CANTOPEN: ("it cannot be opened", "The folder must exist, and this user must be allowed to write there."),
    _SQLITE_IOERR: ("reading or writing it failed", "Check the disk; put the file on a local one."),
    _SQLITE_NOTADB: ("the file is not a database", "Name another file, or move this one away."),
}

_POSTGRES_TRANSIENT_CLASSES = ("08", "40", "57P")
_POSTGRES_TRANSIENT = {"55P03", "53300", "57014", "25P03"}  # lock timeout, too many clients, statement timeout, idle
_POSTGRES_FULL = "53100"


def is_transient(error: BaseException) -> bool:
    """Tell whether the same transaction may well succeed a moment later."""
    if isinstance(error, PoolTimeoutError):
        return True
    if not isinstance(error, DBAPIError):
        return False
    code = _sqlite_code(error)
    if code is not None:
        return code in _SQLITE_TRANSIENT
    state = _sqlstate(error)
    if state is not None:
        return state.startswith(_POSTGRES_TRANSIENT_CLASSES) or state in _POSTGRES_TRANSIENT
    # psycopg gives no SQLSTATE when the connection itself was refused, cut or timed out
    return error.connection_invalidated or type(error.orig).__name__ in ("OperationalError", "ConnectionTimeout")


def explain(error: BaseException, place: str) -> TunerError:
    """Say it as an error of ours; `place` is the storage's URL without its password."""
    if isinstance(error, PoolTimeoutError):
        return StorageError("every connection of this process is busy", where=place)
    original = getattr(error, "orig", None) or error
    words = (str(original).strip().splitlines() or [type(original).__name__])[0]
    code, state = _sqlite_code(error), _sqlstate(error)
    if code == _SQLITE_FULL or state == _POSTGRES_FULL:
        return DiskFullError(
            f"no space left on the disk of the storage ({words}).",
            hint="Free some space, then `tuner resume`: nothing that was reported is lost.",
            where=place,
        )
    if code in _SQLITE_TRANSIENT:
        return StorageError(
            f"the database stayed locked by another process ({words}).",
            hint="See which program holds it; many workers want PostgreSQL.",
            where=place,
        )
    if code in _SQLITE_REASONS:
        reason, hint = _SQLITE_REASONS[code]
        return StorageError(f"{reason} ({words}).", hint=hint, where=place)
    if is_transient(error):
        return StorageError(
            f"the storage does not answer ({words}).",
            hint="Check the address, and that the server runs and can be reached from here.",
            where=place,
        )
    return StorageError(f"the storage refused: {words}", where=place)


def _sqlite_code(error: BaseException) -> int | None:
    code = getattr(getattr(error, "orig", None), "sqlite_errorcode", None)
    return None if code is None else int(code) & 0xFF


def _sqlstate(error: BaseException) -> str | None:
    return getattr(getattr(error, "orig", None), "sqlstate", None)

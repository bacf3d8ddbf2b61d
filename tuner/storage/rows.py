"""The type of a row of any query."""

from typing import TYPE_CHECKING, Any

from sqlalchemy import Row

if TYPE_CHECKING:
    AnyRow = Row[*tuple[Any, ...]]
else:
    AnyRow = Row

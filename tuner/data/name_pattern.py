"""Which group (patient, recording) a file belongs to, by a pattern of its name.

Not a regular expression: a study may be posted by anyone, and some expressions take forever.
"""

import re
from collections.abc import Callable

from tuner.errors import DataError

_WHERE = "dataset.group"
_MOST = 6


def group_of(pattern: str) -> Callable[[str], str | None]:
    """Return the function from a file's name (without ending) to its group; None where the pattern does not fit.

    In the pattern `{group}` stands for the group, as short as it fits, `*` for anything and `?` for one character; an
    empty pattern makes every file a group of its own.

    Raises:
        DataError: `{group}` does not stand in it exactly once, or there are too many stars.
    """
    if not pattern:
        return lambda name: name
    if pattern.count("{group}") != 1:
        raise DataError(
            f"{{group}} has to stand once in {pattern!r}.", hint="As in `group: '{group}_slice*'`.", where=_WHERE
        )
    if pattern.count("*") > _MOST or len(pattern) > 200:
        raise DataError(f"{pattern!r} is too long, or has more than {_MOST} stars.", where=_WHERE)
    parts = {"{group}": "(.+?)", "*": ".*", "?": "."}
    pieces = re.split(r"(\{group\}|\*|\?)", pattern)
    expression = re.compile("".join(parts.get(piece, re.escape(piece)) for piece in pieces), re.DOTALL)

    def find(name: str) -> str | None:
        match = expression.fullmatch(name)
        return match[1] if match else None

    return find

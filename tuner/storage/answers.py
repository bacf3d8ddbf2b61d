"""A connection to PostgreSQL that does not wait for ever: statements are bounded on this side of the wire as well.

The server bounds them on its side (`statement_timeout`), and TCP notices a host that is gone. Neither helps when what
is between the two, a balancer or a firewall, has forgotten the connection, or the server's process stands still.
"""

import time
from collections.abc import Generator
from typing import Any

import psycopg

SILENT_S = 90.0
"""No answer for so long, more than the server's own limit: the connection is given up, and the work done on another."""


class BoundedConnection(psycopg.Connection[Any]):
    """Raises OperationalError, and is closed, when a statement was not answered within SILENT_S."""

    def wait(self, gen: Generator[Any, Any, Any], *args: Any, **options: Any) -> Any:
        """Run one exchange with the server."""
        return super().wait(self._within(gen, time.monotonic() + SILENT_S), *args, **options)

    def _within(self, gen: Generator[Any, Any, Any], deadline: float) -> Generator[Any, Any, Any]:
        """Pass everything on; the waiting side looks in several times a second with nothing in its hands."""
        try:
            state = next(gen)
            while True:
                ready = yield state
                if not ready and time.monotonic() > deadline:
                    self.pgconn.finish()
                    raise psycopg.OperationalError(f"no answer within {SILENT_S:.0f} s")
                state = gen.send(ready)
        except StopIteration as end:
            return end.value

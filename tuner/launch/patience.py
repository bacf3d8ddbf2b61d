"""How often a worker that dies is replaced, and after which pause, before whoever replaces it gives up."""

from dataclasses import dataclass

EARLY_S = 20.0
"""A worker that ends sooner than that after its start has hardly worked."""
EARLY_ENDS = 3
"""Early ends by itself, one after the other in one slot, before it is given up."""
EARLY_KILLS = 10
"""The same for ends by a signal: somebody, or the system when memory is short, kills workers."""
BACK_OFF_S = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0)


@dataclass(slots=True)
class Patience:
    """What is remembered of one slot's dead workers."""

    early: int = 0
    """Early ends in a row."""

    def take(self, lasted_s: float) -> float:
        """Note that a worker has ended after so many seconds; return the seconds before another one may start."""
        self.early = self.early + 1 if lasted_s < EARLY_S else 0
        return BACK_OFF_S[min(self.early, len(BACK_OFF_S) - 1)]

    def is_over(self, code: int) -> bool:
        """Tell whether no other worker is to be started after one that ended with this code."""
        return self.early >= (EARLY_KILLS if code < 0 else EARLY_ENDS)


def manner(code: int) -> str:
    """Say how a process ended."""
    return f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"

"""States of a trial, reasons, verdicts, and phases of a study: what may follow what.

            claim              finish(COMPLETE)
 WAITING ──────────► RUNNING ───────────────────► COMPLETE
    ▲                  │  │  finish(PRUNED) ────► PRUNED
    │                  │  └─ finish(FAIL), or the worker was lost
    └── a new attempt ◄┴──────────────────────────► FAIL
        (same place in the budget, same parameters, in the same transaction as the FAIL)

One method of the store for each arrow, each a compare-and-set that says whether it won; no other code sets a state.
The phase of a study is never stored: it follows from what is wanted, what is left, and who is alive.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """State of a trial, in Optuna's spelling."""

    WAITING = "WAITING"
    RUNNING = "RUNNING"
    COMPLETE = "COMPLETE"
    PRUNED = "PRUNED"
    FAIL = "FAIL"


class Reason(StrEnum):
    """Why a trial did not complete."""

    PRUNED = "pruned"
    DIVERGED = "diverged"
    COLLAPSED = "collapsed"
    OUT_OF_MEMORY = "out_of_memory"
    ERROR = "error"
    INTERRUPTED = "interrupted"
    WORKER_LOST = "worker_lost"
    TIMEOUT = "timeout"
    STALLED = "stalled"


class Verdict(StrEnum):
    """What the store answers to a report."""

    CONTINUE = "go_on"
    STOP = "stop"
    PRUNE_BY_HAND = "prune_manually"
    LOST = "lost"


class DesiredState(StrEnum):
    """What the user asked of a study."""

    RUN = "run"
    PAUSE = "pause"
    STOP = "stop"


NOT_FINITE = frozenset({Reason.DIVERGED, Reason.COLLAPSED})


def constraints(state: State, reason: Reason | None) -> dict[str, float]:
    """Return the two constraints that every finished trial carries: 1 where its parameters are to blame, else -1."""
    blamed = state is State.PRUNED
    return {
        "memory": 1.0 if blamed and reason is Reason.OUT_OF_MEMORY else -1.0,
        "finite": 1.0 if blamed and reason in NOT_FINITE else -1.0,
    }


def keep_intermediate_value(state: State, reason: Reason | None) -> bool:
    """Tell whether a trial's last report may stand among Optuna's intermediate values.

    TPE ranks pruned trials by their step first, so a late divergence would beat an early pruning.
    """
    return state is State.COMPLETE or (state is State.PRUNED and reason is Reason.PRUNED)


@dataclass(frozen=True, slots=True)
class StudyFacts:
    """What the phase of a study follows from."""

    wanted: DesiredState
    wanted_reason: str | None
    timed_out: bool
    left: int
    """Trials that wait or run."""
    started: bool
    """Whether any trial was ever claimed."""
    live_workers: int
    ready: Callable[[], bool] = lambda: False
    """Whether a worker that serves any study is there and free."""


ENOUGH = ("plateau", "target")
"""Reasons for which a study is done though trials of its budget wait: `budget.stop`."""


def phase(facts: StudyFacts) -> tuple[str, str | None]:
    """Return the phase of a study and its reason, in the contract's words."""
    if facts.wanted is DesiredState.STOP and facts.wanted_reason in ENOUGH:
        return "done", facts.wanted_reason
    if facts.left == 0:
        return "done", "budget"
    if facts.wanted is DesiredState.STOP:
        return "stopped", facts.wanted_reason or "user"
    if facts.timed_out:
        return "stopped", "timeout"
    if facts.wanted is DesiredState.PAUSE:
        return "paused", facts.wanted_reason or "user"
    if facts.live_workers:
        return "running", None
    return ("stalled" if facts.started and not facts.ready() else "queued"), None

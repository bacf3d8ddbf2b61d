"""Which trials stand beside each other, and in which order their cases come: for predictions and comparisons."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from fastapi import Query

from api.config import Service
from api.figure_service import FigureService
from tuner.errors import Problem, SpecError
from tuner.storage.dashboard_queries import FigureQueries

TrialsQuery = Annotated[str, Query(max_length=2000, pattern=r"^[0-9, ]*$")]
ComparedQuery = Annotated[str, Query(max_length=4000, pattern=r"^[A-Za-z0-9._:, -]*$")]
"""Trials of the study by their numbers, of others as `STUDY:NUMBER`."""
ByQuery = Annotated[Literal["loss", "family"] | None, Query()]
CaseOrder = Literal["hardest", "easiest", "disagreement", "name"]
WallView = Literal["difference", "prediction", "first"]
"""Of the pictures: against the truth, as they are, or against the first trial."""

MAX_TRIALS = 8
LEADERS = 4


def ordered_cases(columns: Sequence[dict[str, Any]], order: CaseOrder, *, maximizes: bool) -> list[dict[str, Any]]:
    """Return the cases that a trial has pictures of, each with the mean and the range of its scores over the trials.

    `hardest`: the worst mean first; `disagreement`: the widest range of scores first. Cases without a score come last.
    """
    pictured = next((c for c in columns if c["pictures"]), None)
    if pictured is None:
        return []
    scores: dict[str, list[float]] = {}
    for column in columns:
        for row in column["cases"]:
            if row["value"] is not None:
                scores.setdefault(row["case"], []).append(row["value"])
    found = []
    for picture in pictured["pictures"]:
        own = scores.get(picture["case"], [])
        mean = sum(own) / len(own) if own else None
        found.append(picture | {"mean": mean, "range": max(own) - min(own) if own else None})
    keys: dict[str, Any] = {
        "hardest": lambda row: row["mean"] if maximizes else -row["mean"],
        "easiest": lambda row: -row["mean"] if maximizes else row["mean"],
        "disagreement": lambda row: -row["range"],
        "name": lambda row: row["case"],
    }
    scored = sorted((row for row in found if row["mean"] is not None), key=keys[order])
    return scored + [row for row in found if row["mean"] is None]


def numbers_in(text: str) -> list[int]:
    """Return the numbers of trials that a text names, each once. Raises SpecError for one that no database holds."""
    found = list(dict.fromkeys(int(part) for part in text.replace(",", " ").split()))
    if any(number > 2**31 - 1 for number in found):
        raise SpecError([Problem("trials", "there is no trial with such a number", text)])
    return found


def trials_in(text: str, study: str) -> list[tuple[str, int]]:
    """Return the trials that a text names, each once: `3, 14` of the study itself, `other:5` of another one.

    Raises SpecError for what is no trial.
    """
    found: dict[tuple[str, int], None] = {}
    for part in text.replace(",", " ").split():
        name, colon, number = part.rpartition(":")
        if not number.isdecimal() or (colon and not name):
            raise SpecError([Problem("trials", f"{part!r} is no trial; write its number, or STUDY:NUMBER", part)])
        found[name or study, numbers_in(number)[0]] = None
    return list(found)


def best_of_each(service: Service, figures: FigureQueries, name: str, by: str | None) -> list[int]:
    """Return the best trials of a few losses; with `by`, of every loss or of each family; best first."""
    ranked = [n for n in FigureService(service, figures, name).losses() if n.best_trial is not None]
    if by == "family":
        ranked = list({n.family: n for n in reversed(ranked)}.values())[::-1]
    return [n.best_trial for n in ranked if n.best_trial is not None][: None if by else LEADERS]

"""Confirmation of a study: the verdict on its finalists, or what is not known before there is one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Annotated, Any, BinaryIO, Literal

import numpy as np
from fastapi import APIRouter, Path, Query, Request, Response
from markupsafe import Markup

from api.config import Service
from api.dependencies import MAX_NUMBER, FiguresDep, ServiceDep, StudyName, TrialNumber
from api.http_cache import tag_of, unless_matches
from api.pages.study_frame import StudyView, study_page
from api.prediction_service import PredictionService
from tuner.analysis.confirmation import Confirmation, RunFiles, judge_looks, load_scores, read_confirmation
from tuner.analysis.score_table import ScoreTable
from tuner.analysis.seed_spread import confirm_command
from tuner.analysis.verdict import Verdict, decimals, judge
from tuner.data.catalog import DATASETS
from tuner.errors import DataError, NotFoundError
from tuner.launch.confirmation import others_today
from tuner.metrics.catalog import METRICS
from tuner.report.verdict_document import MEMORY_NOTE, interval, memory, methods_paragraph, number, pair_verdict
from tuner.report.verdict_figures import DRAWINGS, shown_pairs
from tuner.storage.records import ConfirmationRun

router = APIRouter()

MAX_CLASSES = 24
MAX_CASES = 6

Shown = Literal["means", "groups", "differences", "variance", "classes", "cases", "methods"]
EVIDENCE: Mapping[Shown, str] = {
    "means": "Means",
    "groups": "Groups",
    "differences": "Differences",
    "variance": "Variance",
    "classes": "Classes and metrics",
    "cases": "Cases",
    "methods": "Methods section",
}
"""What the verdict rests on, one of which the page shows at a time, and its title."""


@router.get("/studies/{name}/confirmation")
def show_confirmation(
    name: StudyName, request: Request, service: ServiceDep, figures: FiguresDep, show: Shown = "means"
) -> Response:
    """Show the verdict of a study and a part of its evidence, or what is not known before a confirmation."""
    return study_page(request, service, figures, name, "confirmation", lambda view: confirmation_context(view, show))


@router.get("/studies/{name}/confirmation/{number}/pictures/{case}")
def show_run_picture(
    name: StudyName,
    number: TrialNumber,
    case: Annotated[str, Path(max_length=200)],
    request: Request,
    service: ServiceDep,
    view: Annotated[Literal["image", "truth", "prediction", "difference"], Query()] = "difference",
    slice: Annotated[int, Query(ge=0, le=MAX_NUMBER)] = 0,
) -> Response:
    """Return a PNG of one slice of one case by one run of a confirmation."""
    tag = tag_of(service.store.queries.revision(name))
    unless_matches(request, tag)
    record = service.store.confirmations.find(name)
    if record is None:
        raise NotFoundError(f"study {name!r} has no confirmation.", hint=f"`{confirm_command(name)}` makes one.")

    def make() -> bytes:
        return PredictionService(service, record, number).picture(case, slice, view)

    key = (tag, record.name, str(number), case, view, str(slice))
    content = request.app.state.remembered.get(key, make)
    return Response(content, media_type="image/png", headers={"ETag": tag, "Cache-Control": "no-cache"})


def confirmation_context(view: StudyView, show: Shown) -> dict[str, Any]:
    """Return what the template needs; of the evidence only what is shown."""
    service, name = view.service, view.study.name
    found = read_confirmation(service.store, name)
    problem, verdict = None, None
    try:
        if found is not None:
            confirmation = found.record
            verdict = service.verdicts.get(
                confirmation.identity, confirmation.revision, lambda: judge_looks(found, service.artifacts)
            )
    except DataError as error:
        problem = error.message
    context = {
        "command": confirm_command(name),
        "problem": problem,
        "progress": None if found is None else _progress(found),
        "verdict": verdict,
    }
    if found is None or verdict is None:
        standing = view.standing.standing
        return context | {"best_seen": standing.text, "unconfirmed": standing.note}
    others = service.newer_finalists.get(
        f"{view.study.identity} {found.record.identity}",
        view.study.revision,
        lambda: others_today(service.store, name),
    )
    page = ConfirmationView(service, name, found, verdict, FilesOnce(service.artifacts))
    return context | {"others": others} | page.context(show)


def _progress(found: Confirmation) -> dict[str, int]:
    states = [row["state"] for row in found.rows.values()]
    over = sum(state in ("COMPLETE", "PRUNED", "FAIL") for state in states)
    return {"total": len(states), "over": over, "running": states.count("RUNNING")}


class FilesOnce:
    """Files of runs, each read once: every class and metric is in the same ones, and opening asks who owns them."""

    def __init__(self, files: RunFiles) -> None:
        self._files = files
        self._read: dict[tuple[str, int, str], bytes] = {}

    @property
    def place(self) -> str:
        """Where the files are."""
        return self._files.place

    def open(self, study: str, number: int, name: str) -> BinaryIO:
        """Open a file of a run. Raises NotFoundError."""
        key = (study, number, name)
        if key not in self._read:
            with self._files.open(study, number, name) as file:
                self._read[key] = file.read()
        return BytesIO(self._read[key])


@dataclass(frozen=True, slots=True)
class ConfirmationView:
    """The page of a study that has a verdict."""

    service: Service
    name: str
    found: Confirmation
    verdict: Verdict
    files: FilesOnce

    def context(self, show: Shown) -> dict[str, Any]:
        """Return what the template needs."""
        verdict, digits = self.verdict, decimals(self.verdict)
        headline, *sentences = verdict.text.splitlines()
        return {
            "headline": headline,
            "sentences": sentences,
            "rows": [self._row(c, digits) for c in verdict.configurations],
            "show": show,
            "evidence": EVIDENCE,
            "drawing": self._drawing(show),
            "pairs": self._pairs(digits) if show == "differences" else [],
            "parts": self._parts() if show == "classes" else [],
            "cases": self._cases() if show == "cases" else None,
            "methods": methods_paragraph(verdict) if show == "methods" else None,
            "memory_note": MEMORY_NOTE,
        }

    def _drawing(self, show: Shown) -> dict[str, Any] | None:
        """Return the drawing that is shown; None where there is nothing to draw."""
        draw = DRAWINGS.get(show)
        drawn = None if draw is None else draw(self.verdict)
        if drawn is None:
            return None
        svg = Markup(drawn.drawing.to_svg().decode())  # noqa: S704 - our drawing, its texts escaped
        return {"title": drawn.drawing.title, "svg": svg, "caption": drawn.caption}

    def _pairs(self, digits: int) -> list[dict[str, Any]]:
        return [
            {
                "a": pair.a,
                "b": pair.b,
                "words": pair_verdict(pair),
                "difference": number(pair.difference, digits, signed=True),
                "interval": interval(pair.interval, digits),
                "adjusted": interval(pair.interval_adjusted, digits),
            }
            for pair in shown_pairs(self.verdict)
        ]

    def _row(self, c: Any, digits: int) -> dict[str, Any]:
        seen, half = c.seen_in_search, None if c.interval is None else (c.interval[1] - c.interval[0]) / 2
        gap = None if seen is None or c.mean is None else seen - c.mean
        return {
            "name": c.name,
            "loss": c.loss,
            "trial": c.trial,
            "groups": c.groups or "–",
            "mean": number(c.mean, digits),
            "half": None if half is None else number(half, digits),
            "seen": number(seen, digits),
            "gap": number(gap, digits, signed=True),
            "sd": number(c.sd_runs, digits),
            "runs": c.runs,
            "failed": c.runs_failed,
            "collapsed": c.runs_collapsed,
            "best": "–" if c.probability_best is None else f"{100 * c.probability_best:.0f} %",
            "seconds": c.seconds,
            "memory": memory(c),
        }

    def _table(self, **wish: Any) -> ScoreTable | None:
        try:
            return load_scores(self.service.store, self.files, self.name, **wish)
        except (DataError, NotFoundError):
            return None

    def _parts(self) -> list[dict[str, Any]]:
        """Return the means by class of the judged metric, then by metric, with intervals; nothing is claimed."""
        first = self.verdict.metric
        wishes: list[tuple[str, dict[str, Any]]] = [(f"{first} of {c}", {"label": c}) for c in self._classes()]
        wishes += [(metric, {"metric": metric}) for metric in METRICS if metric != first]
        parts = []
        for title, wish in wishes:
            table = self._table(**wish)
            if table is None:
                continue
            judged = judge(table, random_cases=self.found.plan.random_cases, draws=0)
            digits = decimals(judged)
            cells = {
                c.name: f"{number(c.mean, digits)} ({interval(c.interval, digits)})" for c in judged.configurations
            }
            parts.append({"title": title, "cells": [cells.get(c.name, "–") for c in self.verdict.configurations]})
        return parts

    def _classes(self) -> Sequence[str]:
        for row in self.found.rows.values():
            if row["best_epoch"] is not None:
                epochs = self.service.store.queries.epochs(self.found.record.name, row["number"])
                of = next((e["per_class"].get(self.verdict.metric) for e in epochs if e["per_class"]), None)
                return list(of or {})[:MAX_CLASSES]
        entry = DATASETS.get(str(self.found.record.spec.get("dataset", {}).get("name")))
        return entry.class_names[1:] if entry else ()

    def _cases(self) -> dict[str, Any] | None:
        """Return the cases on which the two best finalists differ most, each with a run of both."""
        table = self._table()
        names = [c.name for c in self.verdict.configurations[:2]]
        if table is None or len(names) < 2 or not set(names) <= set(table.names):
            return None
        first, second = (table.values[table.names.index(name)].mean(axis=0) for name in names)
        order = np.argsort(-np.abs(first - second), kind="stable")[:MAX_CASES]
        numbers = [self._number(name) for name in names]
        pictured = self._pictured(numbers)
        return {
            "names": names,
            "numbers": numbers,
            "rows": [
                {
                    "case": table.cases[k],
                    "values": [f"{first[k]:.3f}", f"{second[k]:.3f}"],
                    "difference": number(float(first[k] - second[k]), 3, signed=True),
                    "slice": pictured.get(table.cases[k]),
                }
                for k in order.tolist()
            ],
        }

    def _number(self, configuration: str) -> int | None:
        folds = self.found.plan.section.folds
        row = self.found.rows.get(ConfirmationRun(configuration, 1, 0 if folds else None))
        return None if row is None or row["best_epoch"] is None else int(row["number"])

    def _pictured(self, numbers: Sequence[int | None]) -> dict[str, int]:
        """Return the cases of which both runs have pictures, and the slice that says most."""
        found: list[dict[str, int]] = []
        for run in numbers:
            if run is None:
                return {}
            pictures, _ = PredictionService(self.service, self.found.record, run).cases()
            found.append({str(p["case"]): int(p["slice"]) for p in pictures})
        return {case: place for case, place in found[0].items() if all(case in other for other in found[1:])}

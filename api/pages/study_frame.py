"""What all pages of one study share: head, navigation, controls, and the numbers that are computed once a revision."""

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

from fastapi import Request, Response

from api.config import Service
from api.figure_service import FigureService
from api.leaderboard_view import LeaderboardView, Standing, standing_of
from api.study_files import spec_yaml
from api.templating import page, render
from tuner.analysis.confirmation import verdict_of
from tuner.analysis.seed_spread import SEED
from tuner.errors import ConflictError, DataError
from tuner.figures.data import LossNumbers, axis_of, label
from tuner.storage.dashboard_queries import FigureQueries
from tuner.storage.records import StudyRecord
from tuner.storage.trial_selection import Selection

TABS = (
    ("", "Overview"),
    ("leaderboard", "Leaderboard"),
    ("curves", "Curves"),
    ("parameters", "Parameters"),
    ("trials", "Trials"),
    ("predictions", "Predictions"),
    ("workers", "Workers"),
    ("confirmation", "Confirmation"),
    ("settings", "Settings"),
)
"""Pages of a study: the last part of the address, and the title."""
FOLLOWED = ("leaderboard", "curves", "parameters", "trials")
"""Pages that filters and the chosen metric go along to."""
FOR_SPREAD = 300


class StudyView:
    """What the pages of a study say; each page takes its part of it."""

    def __init__(self, service: Service, figures: FigureQueries, name: str) -> None:
        self.service = service
        self.figures = figures
        self.drawing = FigureService(service, figures, name)
        self.study: StudyRecord = self.drawing.study
        self.maximizes = self.study.directions[0] == "maximize"

    @cached_property
    def status(self) -> dict[str, Any]:
        """The document of `tuner status --json`."""
        found: dict[str, Any] = self.service.store.queries.status(self.study.name)
        return found

    @cached_property
    def standing(self) -> LeaderboardView:
        """The leaderboard, remembered for each revision."""
        return self.service.standings.get(self.study.identity, self.study.revision, self._standing)

    @cached_property
    def trial_tags(self) -> list[str]:
        """Tags of its trials."""
        return self.service.store.annotations.tags(self.study.study_id)

    def frame(self, tab: str) -> dict[str, Any]:
        """Return what head, navigation and dialogs of every page need."""
        return {
            "study": self.status,
            "record": self.study,
            "tab": tab,
            "tabs": TABS,
            "followed": FOLLOWED,
            "metric": self.study.objectives[0]["metric"],
            "maximizes": self.maximizes,
            "several": len(self.study.objectives) > 1,
            "dimensions": list(self.study.space),
            "competing": competing_losses(self.study),
            "about_losses": self.study.space.find("loss") is not None,
        }

    def standing_by(self, selection: Selection) -> LeaderboardView:
        """Return the leaderboard of some trials, or by another stored metric; nothing is said of a confirmation."""

        def make() -> LeaderboardView:
            losses = self.drawing.losses(selection)
            return LeaderboardView(losses, self._best_options(losses), Standing(""), [], "")

        key = self.drawing.key_of(selection)
        return self.service.selected_standings.get(key, self.study.revision, make)

    def _standing(self) -> LeaderboardView:
        losses = self.drawing.losses()
        return LeaderboardView(
            losses,
            self._best_options(losses),
            self._what_is_known(losses),
            self.figures.failures(self.study),
            spec_yaml(self.study),
        )

    def _what_is_known(self, losses: list[LossNumbers]) -> Standing:
        sample: list[dict[str, Any]] = []
        if self.study.space.find(SEED):
            rows = self.figures.points(self.study, most=FOR_SPREAD).rows
            sample = [{"state": "COMPLETE", "value": row.value, "params": row.params} for row in rows]
        try:
            verdict = verdict_of(self.service.store, self.service.artifacts, self.study.name)
        except DataError as error:
            return Standing(error.message)
        return standing_of(losses, sample, study_seed=self.study.seed, verdict=verdict)

    def _best_options(self, losses: list[LossNumbers]) -> dict[str, list[tuple[str, str]]]:
        """Return the options of each loss in its best trial, by their short names."""
        params = self.figures.params_of(self.study, [n.best_trial for n in losses if n.best_trial is not None])
        return {
            n.loss: [
                (name.removeprefix(f"loss.{n.loss}."), label(value))
                for name, value in params.get(n.best_trial if n.best_trial is not None else -1, {}).items()
                if name.startswith(f"loss.{n.loss}.")
            ]
            for n in losses
        }


def competing_losses(study: StudyRecord) -> list[str]:
    """Return the losses that compete in a study; none where the loss is not searched."""
    dimension = study.space.find("loss")
    return [str(choice) for choice in dimension.choices] if dimension is not None else []


def figure_controls(view: StudyView) -> dict[str, Any]:
    """Return what can be chosen above figures: metrics, classes, and parameters to filter by."""
    metrics, classes = view.figures.measures(view.study)
    return {
        "trial_tags": view.trial_tags,
        "shared": [d.name for d in view.study.space.shared],
        "metrics": metrics,
        "classes": classes,
        "axes": [axis_of(d) for d in view.study.space],
    }


def study_page(
    request: Request,
    service: Service,
    figures: FigureQueries,
    name: str,
    tab: str,
    parts: Callable[[StudyView], Mapping[str, Any]],
    more: Callable[[], str] = str,
) -> Response:
    """Answer with one page of a study; a study of another Optuna program is shown as far as it can be.

    `more`: what changes with that which the page shows beside, and no write to the study tells.
    """

    def context() -> dict[str, Any]:
        view = StudyView(service, figures, name)
        return view.frame(tab) | dict(parts(view))

    try:
        return page(request, f"study_{tab or 'overview'}.html", lambda: f"{figures.pulse(name)}-{more()}", context)
    except ConflictError:
        if tab:
            raise
        found = next(s for s in service.store.queries.studies() if s["name"] == name)
        body = render("foreign.html", request, study=found).encode("utf-8", "replace")
        return Response(body, media_type="text/html; charset=utf-8")

"""The section `confirm` of a study file: which finalists are trained again, how often, and on what they are judged."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from tuner.config.section import Section, build_section
from tuner.data.splits import MAX_FOLDS
from tuner.errors import Problems

NO_BASELINE = "none"
DEFAULT_BASELINE = "dice_cross_entropy"
UNTIL_SURE_SEEDS = 8
"""The most seeds of `until: sure` where none are named."""


class ConfirmSection(Section):
    """A confirmation that is asked for. Fields that were not given (`model_fields_set`) are as stored, else default."""

    top: int = Field(3, ge=1, le=50, description="Best losses whose best trials are finalists.")
    seeds: int = Field(5, ge=1, le=100, description="Fresh training seeds of each finalist; with `until`, the most.")
    folds: int | None = Field(
        None, ge=2, le=MAX_FOLDS, description="Whole passes over so many folds, divided anew from each seed."
    )
    on: Literal["validation", "test"] = Field("validation", description="Cases that are judged on.")
    baseline: str | None = Field(DEFAULT_BASELINE, description="Loss whose published options compete; none: no such.")
    trials: tuple[Annotated[int, Field(strict=True)], ...] | None = Field(
        None, description="Trials that are finalists instead of the best ones."
    )
    margin: float | None = Field(None, gt=0, description="Differences below it do not matter; null: the metric's own.")
    until: Literal["sure"] | None = Field(None, description="sure: stop adding seeds when every pair is decided.")

    @property
    def most_seeds(self) -> int:
        """Return how many seeds there may be at the end."""
        given = "seeds" in self.model_fields_set
        return self.seeds if given or self.until is None else UNTIL_SURE_SEEDS

    def over(self, stored: "ConfirmSection") -> "ConfirmSection":
        """Return this section with what was not given as it is stored."""
        given = {key: getattr(self, key) for key in self.model_fields_set}
        before = {key: getattr(stored, key) for key in stored.model_fields_set}
        if given.get("until") and stored.until is None and "seeds" not in given:
            before.pop("seeds", None)  # that many were enough without
        return ConfirmSection(**(before | given))


def confirm_section(given: object, problems: Problems, path: str = "confirm") -> ConfirmSection | None:
    """Check the section; null and false mean none. Problems are appended, never raised."""
    if given is None or given is False:
        return None
    content: Any = dict(given) if isinstance(given, Mapping) else given
    if isinstance(content, dict):
        for key in (True, "True"):  # what YAML reads where `on` is written
            if key in content:
                content["on"] = content.pop(key)
        if content.get("baseline") == NO_BASELINE:
            content["baseline"] = None
        trials = content.get("trials")
        if isinstance(trials, list):
            content["trials"] = tuple(trials)
    found: ConfirmSection | None = build_section(ConfirmSection, content, path, problems)
    if found is not None:
        problems.extend(problem.below(path) for problem in section_problems(found))
    return found


def section_problems(section: ConfirmSection) -> Problems:
    """Say what does not go together."""
    found = Problems()
    if section.on == "test" and section.folds is not None:
        found.add(
            "folds",
            f"{section.folds} with `on: test`; folds divide the training cases, test cases are judged as a whole",
            section.folds,
        )
    if section.until is not None and section.most_seeds < 3:
        found.add("seeds", f"{section.most_seeds} with `until: sure`, which first looks after 3", section.most_seeds)
    if section.trials is not None and (
        not section.trials or len(set(section.trials)) < len(section.trials) or min(section.trials) < 0
    ):
        found.add(
            "trials", f"{list(section.trials)}; name numbers of trials, each once, as in [24, 80]", section.trials
        )
    return found

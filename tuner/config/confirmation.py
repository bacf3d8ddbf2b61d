"""A confirmation as it is stored: the finalists with their whole configurations, and what the runs differ in.

It is a study whose trials are points (configuration, run, fold) of a fixed queue: no sampler, no pruner.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from tuner.config.confirm_section import ConfirmSection, confirm_section
from tuner.config.study import StudySpec, load_spec
from tuner.config.trial import TrialConfig, load_config
from tuner.config.yaml_reader import YamlDocument
from tuner.errors import Problems, SpecError
from tuner.registry import Scalar
from tuner.search.space import Dimension, SearchSpace

SECTION = "confirmation"
CASES_LEFT_OUT = "search_cases.json"
"""File of a run: `{"cases": [...]}`, the validation cases of the search, which chose the finalists, and
`{"groups": {case: group}}` where cases are not independent."""
TEST_CASES = "test_cases.jsonl"
"""File of a run that is judged on the test cases: a line for each, as in `cases.jsonl`."""
MAX_RUNS = 1000


@dataclass(frozen=True, slots=True)
class Finalist:
    """A configuration that is trained again."""

    name: str
    loss: str
    trial: int | None
    """Its trial in the search; None for a baseline that was never tried so."""
    seen_in_search: float | None
    baseline: bool
    config: Mapping[str, Any]
    """A whole configuration, as `export` writes it."""

    def as_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return {f.name: getattr(self, f.name) for f in fields(self)}


@dataclass(frozen=True, slots=True)
class ConfirmationPlan:
    """What the runs of a confirmation have in common, and what they differ in."""

    finalists: tuple[Finalist, ...]
    section: ConfirmSection
    first_seed: int
    """Seed of run 1; run r has `first_seed + r - 1`. No trial of the search has used any of them."""
    metric: str
    direction: str
    alpha: float
    margin: float | None
    spent: tuple[float, ...] = ()
    """Levels of the looks that earlier confirmations of the study have had: what is left of alpha is for this one."""

    def seed(self, run: int) -> int:
        """Return the training seed of a run, from 1."""
        return self.first_seed + run - 1

    def finalist(self, name: str) -> Finalist:
        """Return the finalist of that name. Raises KeyError."""
        return {finalist.name: finalist for finalist in self.finalists}[name]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the finalists, best of the search first."""
        return tuple(finalist.name for finalist in self.finalists)

    @property
    def random_cases(self) -> bool:
        """Whether cases are judged that took no part in choosing the finalists."""
        return self.section.on == "test" or self.section.folds is not None

    @property
    def space(self) -> SearchSpace:
        """Return what the runs differ in, for Optuna's tools."""
        dimensions = [
            Dimension("configuration", "categorical", choices=self.names),
            Dimension("run", "int", 1, MAX_RUNS),
        ]
        if self.section.folds is not None:
            dimensions.append(Dimension("fold", "int", 0, self.section.folds - 1))
        return SearchSpace(tuple(dimensions))

    def as_dict(self) -> dict[str, Any]:
        """Return plain data."""
        section = self.section.model_dump(mode="json")
        return {
            "finalists": [finalist.as_dict() for finalist in self.finalists],
            "section": {
                key: section[key] for key in ConfirmSection.model_fields if key in self.section.model_fields_set
            },
            "first_seed": self.first_seed,
            "metric": self.metric,
            "direction": self.direction,
            "alpha": self.alpha,
            "margin": self.margin,
            "spent": list(self.spent),
        }

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> "ConfirmationPlan":
        """Read it back from the specification of a stored confirmation. Raises SpecError."""
        content = dict(stored[SECTION])
        problems = Problems()
        section = confirm_section(content["section"], problems, f"{SECTION}.section")
        if problems or section is None:
            raise SpecError(problems)
        finalists = tuple(Finalist(**finalist) for finalist in content["finalists"])
        spent = tuple(content.get("spent", ()))
        return cls(**(content | {"section": section, "finalists": finalists, "spent": spent}))


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfirmationSpec(StudySpec):
    """The specification that a worker serves a confirmation by."""

    plan: ConfirmationPlan
    configs: Mapping[str, TrialConfig] = field(default_factory=dict)

    @property
    def space(self) -> SearchSpace:
        """What the runs differ in."""
        return self.plan.space

    def config(self, params: Mapping[str, Scalar]) -> TrialConfig:
        """Return the configuration of one run, or of one fold of it, with its seed."""
        config = self.configs[str(params["configuration"])]
        train = config.train.model_copy(update={"seed": self.plan.seed(_integer(params["run"]))})
        changes: dict[str, Any] = {"train": train}
        if self.plan.section.folds is not None:
            validation = {"folds": self.plan.section.folds, "fold": _integer(params["fold"])}
            changes["dataset"] = {**config.dataset, "validation": validation}
        return config.model_copy(update=changes)

    def division_seed(self, config: TrialConfig) -> int:
        """Return the seed that divides the cases: with folds the run's, so that every run has another division."""
        if self.plan.section.folds is None or config is self.base or config.train.seed is None:
            return self.seed
        return config.train.seed


def _integer(value: Scalar) -> int:
    assert isinstance(value, (int, float))
    return int(value)


def confirmation_spec(stored: Mapping[str, Any], name: str) -> ConfirmationSpec:
    """Read the specification of a stored confirmation. Raises SpecError."""
    plan = ConfirmationPlan.of(stored)
    search = {key: value for key, value in stored.items() if key != SECTION}
    spec = load_spec(YamlDocument(search, {}, f"study {name}"))
    plain = {f.name: getattr(spec, f.name) for f in fields(StudySpec)}
    plain |= {"sampler": {"name": "random"}, "pruner": {"name": "none"}, "confirm": None}
    configs = {finalist.name: load_config(finalist.config, where=finalist.name) for finalist in plan.finalists}
    return ConfirmationSpec(**plain, plan=plan, configs=configs)


def served_spec(stored: Mapping[str, Any], name: str) -> StudySpec:
    """Return the specification of a stored study, be it a search or a confirmation."""
    if SECTION in stored:
        return confirmation_spec(stored, name)
    return load_spec(YamlDocument(dict(stored), {}, f"study {name}"))

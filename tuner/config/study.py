"""StudySpec: a study file, checked against everything that it names before anything is created.

`load_spec` turns YAML (or JSON, or a dataset's name) and overrides into a StudySpec; `StudySpec.space` is what is
searched, `StudySpec.config(params)` is the complete configuration of one trial.

`--set KEY=VALUE` overrides are applied to the file's content first.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

from pydantic import Field

from tuner.config.command import placeholder_problems, variable_problems
from tuner.config.confirm_section import ConfirmSection, confirm_section
from tuner.config.search_space import SearchSection, read_search
from tuner.config.section import Section, build_section, unknown_keys
from tuner.config.trackers_section import trackers_section
from tuner.config.trial import (
    Objective,
    TrialConfig,
    loss_problems,
    objectives_section,
    params_section,
    patch_problems,
    sections,
    train_section,
)
from tuner.config.yaml_reader import YamlDocument, parse_yaml, read_yaml
from tuner.errors import ConfigError, Problem, Problems, SpecError, UnknownNameError, unknown_name
from tuner.models.catalog import MODELS
from tuner.registry import Scalar, complete_options
from tuner.search.catalog import DEFAULT_PRUNER, DEFAULT_SAMPLER, PRUNERS, SAMPLERS
from tuner.search.grid import grid_queue, grid_size
from tuner.search.initial_points import LEARNED, CandidateLoss, left_out, queue, round_robin
from tuner.search.space import SearchSpace

_DURATION = re.compile(r"(?:(\d+(?:\.\d+)?)d)?(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m(?:in)?)?(?:(\d+(?:\.\d+)?)s?)?")


def apply_overrides(content: Mapping[str, Any], overrides: Sequence[str], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a study file's content with `KEY=VALUE` texts, then dotted keys with values, laid over it."""
    raw = _copy(content)
    for text in overrides:
        key, value = _parse_override(text)
        _override(raw, key, value)
    for key, value in values.items():
        _override(raw, key, value)
    return raw


def parse_duration(value: object, where: str, problems: Problems) -> float | None:
    """Read a duration: a number of seconds, or `90s`, `30m`, `2h`, `1d12h`; None stays None."""
    if value is None:
        return None
    if isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0:
        return float(value)
    match = _DURATION.fullmatch(value.strip().lower()) if isinstance(value, str) and value.strip() else None
    if match and any(match.groups()):
        days, hours, minutes, rest = (float(part or 0) for part in match.groups())
        total = 86400 * days + 3600 * hours + 60 * minutes + rest
        if total > 0:
            return total
    problems.add(where, f"{value!r} is not a duration; write seconds, or 90s, 30m, 2h, 1d12h", value)
    return None


def _parse_override(text: str) -> tuple[str, Any]:
    key, separator, value = text.partition("=")
    if not separator or not key.strip():
        raise SpecError([f"{text!r} is not KEY=VALUE, as in `--set train.lr=0.001`"], where="--set")
    return key.strip(), parse_yaml(value, source=f"--set {key.strip()}").content


def _override(raw: dict[str, Any], key: str, value: Any) -> None:
    """Set one dotted key. Setting a key that is searched fixes it; `search.` and the rest is one searched key."""
    if key.startswith("search."):
        searched = key.removeprefix("search.")
        raw["search"] = {**(raw.get("search") or {}), searched: value}
        if searched == "loss":
            raw.pop("loss", None)
        return
    search = raw.get("search")
    if isinstance(search, Mapping):
        if key.startswith("loss.") and "loss" in search:
            raw["search"] = {**search, key: value}
            return
        if key in ("loss", "loss.name") and "loss" in search:
            raw["search"] = _fix_loss(search, value)
            return
        raw["search"] = {k: v for k, v in search.items() if k != key}
    parts = key.split(".")
    target = raw
    for part in parts[:-1]:
        below = target.get(part)
        if isinstance(below, str):
            below = {"name": below}
        target[part] = dict(below) if isinstance(below, Mapping) else {}
        target = target[part]
    target[parts[-1]] = value


def _fix_loss(search: Mapping[str, Any], value: Any) -> dict[str, Any]:
    """Let one loss compete alone; its options stay searched, those of the others go."""
    options = dict(value) if isinstance(value, Mapping) and "name" in value else {}
    name = options.pop("name", value)
    label = next(iter(value), None) if isinstance(value, Mapping) and "name" not in value else name
    kept = {k: v for k, v in search.items() if not k.startswith("loss.") or k.split(".")[1] == label}
    return {**kept, "loss": [name], **{f"loss.{name}.{key}": option for key, option in options.items()}}


def _copy(content: Mapping[str, Any]) -> dict[str, Any]:
    return {str(k): _copy(v) if isinstance(v, Mapping) else v for k, v in content.items()}


NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")
SECTIONS = (
    "name",
    "dataset",
    "model",
    "loss",
    "train",
    "search",
    "objectives",
    "sampler",
    "pruner",
    "budget",
    "seed",
    "confirm",
    "trackers",
)


MAX_TRIALS = 1_000_000
"""Trials of a study; with `hours_per_loss`, what `trials` is where it is not given."""


class StopRule(Section):
    """When a study ends before its budget is used up, by its first objective."""

    no_gain_in: int | None = Field(
        None,
        ge=1,
        le=1_000_000,
        description="So many trials running, complete or pruned, since the last new best value.",
    )
    target: float | None = Field(None, description="A value as good as this one is enough.")


class Budget(Section):
    """How much a study may take."""

    trials: int = Field(100, ge=1, le=MAX_TRIALS, description="Trials of the study.")
    trials_per_loss: int | None = Field(None, ge=1, le=100_000, description="Trials of every competing loss instead.")
    hours_per_loss: float | None = Field(
        None,
        gt=0,
        le=100_000,
        description="Hours of training of every competing loss instead; a trial under way is finished. Numbers of "
        "trials are then the most there may be.",
    )
    timeout: float | None = Field(None, gt=0, description="Seconds with at least one live worker.")
    trial_timeout: float | None = Field(None, gt=0, description="Seconds that one trial may take from its first step.")
    stall_timeout: float | None = Field(
        900.0, gt=0, description="Seconds without a step after which a training counts as hanging; null: never."
    )
    retries: int = Field(3, ge=0, le=1000, description="Lost workers that a trial survives.")
    stop: StopRule | None = Field(None, description="Ends the study early: {no_gain_in: N}, {target: V}, or both.")


@dataclass(frozen=True, slots=True)
class StudySpec:
    """One study, complete and consistent."""

    name: str
    base: TrialConfig
    search: SearchSection
    sampler: dict[str, Any]
    pruner: dict[str, Any]
    budget: Budget
    seed: int
    confirm: ConfirmSection | None = None
    """What is trained again when the search is over."""
    trackers: tuple[dict[str, Any], ...] = ()
    """Experiment trackers that are told of the trials: `name` and options."""

    @property
    def space(self) -> SearchSpace:
        """What is searched."""
        return self.search.space

    @property
    def objectives(self) -> tuple[Objective, ...]:
        """What is optimised, the first one first."""
        return self.base.objectives

    @property
    def directions(self) -> tuple[str, ...]:
        """Return `maximize` or `minimize` for each objective."""
        return tuple(objective.direction for objective in self.objectives)

    @property
    def candidates(self) -> tuple[CandidateLoss, ...]:
        """The losses that compete, with their published defaults; one when the loss is fixed."""
        return self.search.candidates

    @property
    def total(self) -> int:
        """Number of trials of the budget; with `hours_per_loss`, the most that there may be."""
        per_loss = self.budget.trials_per_loss
        return per_loss * len(self.candidates) if per_loss else self.budget.trials

    @property
    def first_total(self) -> int:
        """Number of trials that are queued at first: all, or with `hours_per_loss` one of each loss."""
        return self.total if self.budget.hours_per_loss is None else min(self.total, len(self.candidates))

    def config(self, params: Mapping[str, Scalar]) -> TrialConfig:
        """Return the complete configuration of the trial with these parameters. Raises SpecError."""
        raw = self.search.overlay(self.base, params)
        problems = Problems()
        train = train_section(raw["train"], problems)
        config = TrialConfig(
            **sections(raw, train, problems),
            train=train,
            params=params_section(raw.get("params"), train, problems),
            objectives=self.objectives,
        )
        problems += patch_problems(config) + loss_problems(config)
        problems.refuse()
        if config.train.seed is None:
            config = config.model_copy(update={"train": config.train.model_copy(update={"seed": self.seed})})
        return config

    def division_seed(self, config: TrialConfig) -> int:
        """Return the seed that divides the cases of a trial into those that train and those that validate."""
        return self.seed

    @property
    def chosen_for_defaults(self) -> tuple[str, ...]:
        """Searched parameters outside the losses that the sampler chooses where a published default is tried.

        The learning rate that suits one loss ruins another, and other data sets tell more of it than the file does.
        """
        taught = self.sampler["name"] == "auto" and self.sampler.get("prior", True) and len(self.objectives) == 1
        if not taught or self.space.find("loss") is None:
            return ()
        return tuple(name for name in LEARNED if self.space.find(name) is not None)

    def queue(self, trials: int | None = None) -> list[dict[str, Scalar]]:
        """Return the points that fill the budget: published defaults, families in turn, then empty ones.

        With `hours_per_loss` the published defaults only: the storage adds what the time allows.
        """
        trials, base = trials or self.first_total, self.base.parameters()
        if self.sampler["name"] == "grid":
            return grid_queue(self.space, self.candidates, base, trials)
        per_loss = self.budget.trials_per_loss if self.budget.hours_per_loss is None else 1
        return queue(self.space, self.candidates, base, trials, per_loss, self.chosen_for_defaults)

    def left_out(self) -> tuple[tuple[str, ...], int]:
        """Losses whose published defaults the budget does not hold, and how many trials would hold all."""
        if self.budget.hours_per_loss is not None:
            turn = round_robin(self.candidates)
            return tuple(loss.name for loss in turn[self.first_total :]), len(turn)
        return left_out(self.candidates, self.total, self.budget.trials_per_loss)

    def as_dict(self) -> dict[str, Any]:
        """Return the study file that gives this study again, with every default written out."""
        return {
            "name": self.name,
            "dataset": self.base.dataset,
            "model": self.base.model if "name" in self.base.model else {},
            **({} if "loss" in self.search.raw else {"loss": self.base.loss}),
            "train": self.base.train.model_dump(mode="json"),
            "search": self.search.raw,
            "objectives": [o.as_dict() for o in self.objectives],
            "sampler": self.sampler,
            "pruner": self.pruner,
            "budget": self.budget.model_dump(mode="json"),
            "seed": self.seed,
            **({} if self.confirm is None else {"confirm": self.confirm.model_dump(mode="json", exclude_unset=True)}),
            **({"trackers": list(self.trackers)} if self.trackers else {}),
        }

    def with_train(self, **values: object) -> "StudySpec":
        """Return the same study with some values of `train` resolved (threads, precision)."""
        train = self.base.train.model_copy(update=values)
        return replace(self, base=self.base.model_copy(update={"train": train}))


def find_study_file(name: str) -> YamlDocument:
    """Read the study file that ships for a dataset. Raises UnknownNameError with the known ones."""
    folder = _studies()
    path = folder / f"{name}.yaml"
    if not NAME.fullmatch(name) or not path.is_file():
        raise UnknownNameError(kind="dataset", name=name, known=shipped_studies(), where="--dataset")
    document = read_yaml(path)
    return YamlDocument(document.content, {}, f"studies/{name}.yaml")


def shipped_studies() -> list[str]:
    """Return the names of the study files that ship with the package."""
    return sorted(path.stem for path in _studies().glob("*.yaml"))


def load_spec(
    document: YamlDocument, overrides: Sequence[str] = (), values: Mapping[str, Any] | None = None
) -> StudySpec:
    """Check a study file with its overrides and return the StudySpec.

    Args:
        document: what the study file held.
        overrides: `KEY=VALUE` as after `--set`; VALUE is YAML.
        values: dotted keys with values that come from flags (`budget.trials`), applied last.

    Raises:
        SpecError: lists every problem: the dotted path, the value, what is legal, the closest name; with file and line.
    """
    content = document.content
    if not isinstance(content, Mapping):
        raise SpecError(
            [f"a study file is a mapping with at least `dataset`, not {type(content).__name__}"], where=document.source
        )
    if "provenance" in content:
        raise ConfigError(
            "this is an exported configuration, not a study file",
            hint="Train it with `tuner train FILE`.",
            where=document.source,
        )
    raw = apply_overrides(content, overrides, values or {})
    problems = Problems()
    spec = _build(raw, problems)
    if problems or spec is None:
        raise SpecError([replace(p, line=document.line(p.path)) for p in problems], where=document.source)
    return spec


def _build(raw: dict[str, Any], problems: Problems) -> StudySpec | None:
    problems.extend(unknown_keys(raw, SECTIONS, ""))
    train = train_section(raw.get("train"), problems)
    if raw.get("dataset") is None and not train.is_own:
        problems.add("dataset", "missing; a study needs one, as in `dataset: {name: phantom}`")
        return None
    search_raw = raw.get("search") or {}
    if not isinstance(search_raw, Mapping):
        problems.add("search", f"{search_raw!r} is not a mapping", search_raw)
        search_raw = {}
    searches_model = "model.name" in search_raw
    parts = {key: raw.get(key) for key in ("dataset", "model", "loss")}
    named = parts | ({"model": None} if searches_model else {}) | ({"loss": None} if "loss" in search_raw else {})
    found = sections(named, train, problems)
    dataset = found["dataset"]
    name = raw.get("name", dataset.get("name", ""))
    if not isinstance(name, str) or not NAME.fullmatch(name):
        problems.add(
            "name",
            f"{name!r}; a study's name begins with a letter or digit, goes on with letters, digits, `._-`, "
            "and has at most 80 characters",
            name,
        )
    model, loss = found["model"], {} if "loss" in search_raw else found["loss"]
    if searches_model:
        model = dict(raw["model"]) if isinstance(raw.get("model"), Mapping) else {}
    if "loss" in search_raw and raw.get("loss") is not None:
        problems.add("loss", "given and searched (`search.loss`) at once; keep one of the two")
    base = TrialConfig(
        dataset=dataset,
        model=model,
        loss=loss,
        train=train,
        objectives=objectives_section(raw.get("objectives"), problems, own=train.is_own),
    )
    budget = _budget(raw.get("budget"), problems)
    seed = raw.get("seed", 0)
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**63:
        problems.add("seed", f"{seed!r} is not an integer from 0 to 2**63 - 1", seed)
        seed = 0
    search = read_search(search_raw, base, problems)
    confirm = confirm_section(raw.get("confirm"), problems)
    trackers = trackers_section(raw.get("trackers"), problems)
    sampler = _row(raw.get("sampler"), SAMPLERS, "sampler", DEFAULT_SAMPLER, problems)
    pruner = _row(raw.get("pruner"), PRUNERS, "pruner", DEFAULT_PRUNER, problems)
    if problems or search is None:
        return None
    spec = StudySpec(str(name), base, search, sampler, pruner, budget, int(seed), confirm, trackers)
    if sampler["name"] == "grid" and "trials" not in (raw.get("budget") or {}) and all(d.grid() for d in spec.space):
        spec = replace(spec, budget=budget.model_copy(update={"trials": grid_size(spec.space)}))
    _cross_check(spec, problems)
    return spec


def _cross_check(spec: StudySpec, problems: Problems) -> None:
    if "name" in spec.base.loss:
        problems.extend(loss_problems(spec.base, spec.search.raw))
    if not {"train.patch", "dataset.resize", "dataset.dimensions"} & set(spec.search.raw):
        problems.extend(patch_problems(spec.base))
    if spec.sampler["name"] == "grid":
        _check_grid(spec, problems)
    elif spec.sampler["name"] == "cmaes" and len(spec.objectives) > 1:
        problems.add("sampler.name", "`cmaes` is for one objective; with several, take `auto`, `tpe` or `nsga2`")
    elif spec.sampler["name"] == "nsga2" and len(spec.objectives) < 2:
        problems.add("sampler.name", "`nsga2` is for several objectives; with one, `auto` is the default")
    if spec.total > MAX_TRIALS:
        problems.add("budget", f"{spec.total} trials; at most {MAX_TRIALS}", spec.total)
    if spec.budget.trials_per_loss and not spec.candidates:
        problems.add("budget.trials_per_loss", "the study is about no loss; give `trials`", spec.budget.trials_per_loss)
    if spec.base.train.command is not None:
        problems.extend(_command_problems(spec))


def _command_problems(spec: StudySpec) -> Problems:
    """Say which placeholders of a command have no value, and which parameters cannot be told apart."""
    sometimes = {name for candidate in spec.candidates for name in candidate.defaults}
    always = {*spec.base.parameters(), *spec.search.fixed, *(d.name for d in spec.space.shared)} - sometimes
    if len(spec.candidates) == 1:
        always, sometimes = always | sometimes, set()
    models = [d.choices for d in spec.space if d.name == "model.name"]
    sometimes |= {f"model.{option.name}" for names in models for n in names for option in MODELS[str(n)].all_options}
    found = variable_problems(sorted(always | sometimes))
    return Problems([*found, *placeholder_problems(spec.base.train.command or "", always=always, sometimes=sometimes)])


def _check_grid(spec: StudySpec, problems: Problems) -> None:
    lacking = [d.name for d in spec.space if not d.grid()]
    wanted = "the sampler `grid` needs a list of choices, or `steps: N` or `step: WIDTH` beside `low` and `high`"
    problems.extend(Problem(f"search.{name}", wanted) for name in lacking)
    if not lacking and spec.total > (most := grid_size(spec.space)):
        problems.add(
            "budget.trials",
            f"{spec.total}, but the grid is complete after {most} trials; leave `trials` out to take all",
            spec.total,
        )


def _budget(given: object, problems: Problems) -> Budget:
    if given is not None and not isinstance(given, Mapping):
        problems.add("budget", f"{given!r} is not a mapping as in `{{trials: 100}}`", given)
        given = None
    content = dict(given or {})
    for key in ("timeout", "trial_timeout", "stall_timeout"):
        if key in content:
            content[key] = parse_duration(content[key], f"budget.{key}", problems)
    if isinstance(hours := content.get("hours_per_loss"), (str, bool)):
        problems.add("budget.hours_per_loss", f"{hours!r} is not a number of hours as in 2 or 0.5", hours)
        del content["hours_per_loss"]
    if content.get("hours_per_loss") is not None:
        content.setdefault("trials", MAX_TRIALS)
    if content.get("stop") is not None:
        content["stop"] = build_section(StopRule, content["stop"], "budget.stop", problems)
    return build_section(Budget, content, "budget", problems) or Budget()


def _row(given: object, registry: Any, path: str, default: str, problems: Problems) -> dict[str, Any]:
    content = {"name": default} if given is None else {"name": given} if isinstance(given, str) else given
    if not isinstance(content, Mapping) or not isinstance(content.get("name", default), str):
        problems.add(path, f"{given!r} is neither a name nor a mapping as in `{{name: {default}}}`", given)
        return {"name": default}
    name = content.get("name", default)
    if name not in registry:
        problems.append(unknown_name(path, name, registry, f"{path}.name"))
        return {"name": default}
    options = {str(k): v for k, v in content.items() if k != "name"}
    return {"name": name} | complete_options(registry[name].options, options, path, problems)


def _studies() -> Path:
    packaged = Path(str(files("tuner"))) / "studies"
    return packaged if packaged.is_dir() else Path(str(files("tuner"))).parent / "studies"

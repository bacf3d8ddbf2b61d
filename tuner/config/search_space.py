"""The `search` section of a study file: what competes, what is searched, and what is fixed.

A key of the section is a parameter's one name (`loss.focal.gamma`, `train.lr`), or `loss` (what competes), or
`options` (whether the losses' own published ranges are searched). A value is a range (`{low, high, log, step, steps}`),
a list of choices, or a scalar that fixes it.
"""

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tuner.config.loss_rules import has_regions, is_supervised_deeply, unfit, unfit_terms
from tuner.config.section import section_options, unknown_keys
from tuner.config.trial import MAX_PATCH, TrainConfig, TrialConfig, own_loss, sum_problems, term_options
from tuner.data.catalog import DATASETS
from tuner.data.label_noise import KEY as NOISE
from tuner.data.label_noise import OPTIONS as NOISE_OPTIONS
from tuner.data.splits import FOLD
from tuner.errors import Problem, Problems, unknown_name
from tuner.losses.catalog.registry import EXPLICIT, FAMILIES, LOSSES, competing
from tuner.losses.declared import options_as_data, options_from_data
from tuner.losses.spec import term_weight
from tuner.models.catalog import ENTRY, MODELS
from tuner.models.custom_section import own_option
from tuner.registry import Option, OptionType, Scalar, Search
from tuner.search.initial_points import CandidateLoss
from tuner.search.space import Dimension, SearchSpace, tidy

_RANGE_KEYS = ("low", "high", "log", "step", "steps")
_NEVER_SEARCHED = {
    "dataset.name": "one study is about one data set",
    "dataset.validation": "trials that are validated on different cases cannot be compared (repeats over folds: "
    "`dataset: {validation: {folds: 5}}` and `search: {dataset.validation.fold: [0, 1, 2, 3, 4]}`)",
    "dataset.regions": "trials that are scored on different regions cannot be compared",
    "dataset.regions_class_order": "it says how a label map is written",
    "train.entry": "it names code",
    "model.entry": "it names code",
    "train.threads": "it is resolved when the study is created",
    "train.command": "it names a program",
    "train.devices": "all trials of a study have the same number",
    "train.memory_gib": "all trials of a study have the same limit",
}
_OWN_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*(\.[A-Za-z0-9_-]+)*")


@dataclass(frozen=True, slots=True)
class SearchSection:
    """What competes and what is searched; makes a trial's sections from its parameters."""

    raw: dict[str, Any]
    space: SearchSpace
    candidates: tuple[CandidateLoss, ...]
    fixed: dict[str, Scalar]
    sums: dict[str, tuple[str, ...]]
    own: dict[str, dict[str, Any]]
    """Losses of the user's own by name: `entry` and what it has `declared`."""
    unfit: dict[str, str]
    """Losses of `all` or a family that do not compete, and why"""
    params: frozenset[str] = frozenset()
    """Parameters of names of the user's own, for a training that is."""

    def overlay(self, base: TrialConfig, params: Mapping[str, Scalar]) -> dict[str, Any]:
        """Lay fixed values and a trial's parameters over the base; returns raw sections."""
        values = {**self.fixed, **params}
        sections: dict[str, Any] = {
            "dataset": dict(base.dataset),
            "model": dict(base.model),
            "loss": {k: dict(v) if isinstance(v, Mapping) else v for k, v in base.loss.items()},
            "train": base.train.model_dump(),
        }
        name = values.pop("loss", None)
        if name is not None:
            sections["loss"] = {"name": name}
            if name in self.sums:
                sections["loss"]["terms"] = list(self.sums[str(name)])
            sections["loss"] |= self.own.get(str(name), {})
        label = sections["loss"].get("name")
        model = values.pop("model.name", None)
        if model is not None:
            sections["model"] = {"name": model}
        model = sections["model"].get("name")
        for key, value in values.items():
            if key in self.params:
                sections.setdefault("params", {})[key] = value
                continue
            section, *path = key.split(".")
            if section == "loss" and path[0] != label:
                continue
            if section == "model" and len(path) > 1 and path[0] != model:
                continue
            target = sections[section]
            for part in path[:-1]:
                target[part] = dict(target.get(part) or {})
                target = target[part]
            target[path[-1]] = value
        return sections


def read_search(raw: Mapping[str, Any], base: TrialConfig, problems: Problems) -> SearchSection | None:
    """Read the `search` section against the rest of the study. Problems are appended; None when there are some."""
    before = len(problems)
    reader = SearchSectionParser(raw, base, problems)
    section = reader.read()
    return section if len(problems) == before else None


class SearchSectionParser:
    """Reads the `search` section of a study file, and collects what is wrong with it."""

    def __init__(self, raw: Mapping[str, Any], base: TrialConfig, problems: Problems) -> None:
        self.raw = {str(key): value for key, value in raw.items()}
        self.base = base
        self.problems = problems
        self.dimensions: list[Dimension] = []
        self.fixed: dict[str, Scalar] = {}
        self.sums: dict[str, tuple[str, ...]] = {}
        self.own: dict[str, dict[str, Any]] = {}
        self.own_options: dict[str, tuple[Option, ...]] = {}
        self.params: set[str] = set()
        self.unfit: dict[str, str] = {}
        self.regions = has_regions(base.dataset)
        self.supervised = is_supervised_deeply(base.model, self.raw)

    def read(self) -> SearchSection:
        """Return the section; what is wrong was added to `problems`."""
        mode = self.raw.get("options", "search")
        if mode not in ("search", "default"):
            self.problems.add("search.options", f"{mode!r} is neither `search` nor `default`", mode)
        names = self._read_candidates() if "loss" in self.raw else []
        models = self._models() if "model.name" in self.raw else []
        if names:
            self.dimensions.append(Dimension("loss", "categorical", choices=tuple(names)))
        if models:
            self.dimensions.append(Dimension("model.name", "categorical", choices=tuple(models)))
        options = self._loss_options(names)
        known = set(options) | {"loss", "options", "model.name"}
        for key in self.raw:
            if key not in known:
                self._other(key, models, options)
        for path, (option, when, published) in options.items():
            if path in self.raw:
                self._place(path, self.raw[path], option, when)
            elif mode == "search" and published is not None and names:
                self._published(path, option, when, published)
        return SearchSection(
            self.raw,
            SearchSpace(tuple(self.dimensions)),
            self._candidates(names, options),
            self.fixed,
            self.sums,
            self.own,
            self.unfit,
            frozenset(self.params),
        )

    def _read_candidates(self) -> list[str]:
        given = self.raw["loss"]
        items = [given] if isinstance(given, (str, Mapping)) else given
        if isinstance(items, (list, tuple)):
            # what was read of a user's source is stored with the study: others have no source to read
            items = [self._own_loss(item) if _is_own(item) else item for item in items]
            self.raw["loss"] = items
        if not isinstance(items, (list, tuple)) or not items:
            self.problems.add("search.loss", f"{given!r} is not a list of losses, families, `all`, or sums", given)
            return []
        names: list[str] = []
        named: list[str] = []
        for item in items:
            if _is_own(item):
                name = str(item["entry"]).partition(":")[2]
                names.extend([name] if name in self.own else [])
            elif isinstance(item, Mapping):
                for label, terms in item.items():
                    found = sum_problems(str(label), terms, where=f"search.loss.{label}")
                    self.problems.extend(found)
                    named += terms if not found else ()
                    if not found:
                        self.sums[str(label)] = tuple(terms)
                        names.append(str(label))
            elif item == "all":
                names.extend(self._fitting(competing()))
            elif str(item).startswith(EXPLICIT) and str(item).removeprefix(EXPLICIT) in LOSSES:
                names.append(str(item).removeprefix(EXPLICIT))
                named.append(names[-1])
            elif item in FAMILIES:
                names.extend(self._fitting(competing(item)))
            elif item in LOSSES:
                names.append(item)
                named.append(item)
            else:
                self.problems.append(unknown_name("loss", str(item), [*LOSSES, *FAMILIES, "all"], "search.loss"))
        for line in unfit_terms(named, regions=self.regions, supervised=self.supervised):
            self.problems.add("search.loss", line)
        if not names and self.unfit:
            self.problems.add("search.loss", f"none of {', '.join(self.unfit)} can be trained here", given)
        return list(dict.fromkeys(names))

    def _fitting(self, names: Iterable[str]) -> Iterator[str]:
        """Yield the losses that can be trained; the others are noted."""
        for name in names:
            why = unfit(name, regions=self.regions, supervised=self.supervised)
            if why is None:
                yield name
            else:
                self.unfit[name] = why

    def _own_loss(self, item: Mapping[str, Any]) -> dict[str, Any]:
        """Take in a loss of the user's own, `{entry: package.module:function}`; return it with its declarations."""
        wrong = Problems()
        for key in item:
            if key not in _OWN_KEYS:
                wrong.add("loss", f"unknown key {key!r} beside `entry`", key)
        found = own_loss(item, wrong)
        self.problems.extend(problem.below("search") for problem in wrong)
        if found is None:
            return dict(item)
        name, path, options = found
        self.own[name] = {"entry": path, "declared": options_as_data(options)}
        self.own_options[name] = options
        return dict(self.own[name])

    def _models(self) -> list[str]:
        given = self.raw["model.name"]
        items = [given] if isinstance(given, str) else given
        if not isinstance(items, (list, tuple)) or not items:
            self.problems.add("search.model.name", f"{given!r} is not a list of models", given)
            return []
        self.problems.extend(
            unknown_name("model", str(item), MODELS, "search.model.name") for item in items if item not in MODELS
        )
        return [str(item) for item in dict.fromkeys(items) if item in MODELS]

    def _loss_options(self, names: list[str]) -> dict[str, tuple[Option, tuple[str, str] | None, Search | None]]:
        """Every option that the competing losses (or the fixed one) have, by its dotted name."""
        found: dict[str, tuple[Option, tuple[str, str] | None, Search | None]] = {}
        if names:
            for name in names:
                for path, option in self._options_of(name, self.sums.get(name)):
                    # of regions none is background
                    is_void = self.regions and option.name == "include_background"
                    found[path] = (option, ("loss", name), None if is_void else option.search)
        elif self.base.loss:
            name, terms = self.base.loss["name"], self.base.loss.get("terms")
            for path, option in self._options_of(name, tuple(terms) if terms else None):
                found[path] = (option, None, option.search)
        return found

    def _options_of(self, name: str, terms: tuple[str, ...] | None) -> Iterable[tuple[str, Option]]:
        own = self.own_options.get(name)
        if own is None and name == self.base.loss.get("name") and "entry" in self.base.loss:
            own = options_from_data(self.base.loss["declared"])
        if own is not None:
            yield from ((f"loss.{name}.{option.name}", option) for option in own)
            return
        if terms is None:
            yield from ((f"loss.{name}.{option.name}", option) for option in LOSSES[name].options)
            return
        for term in terms[1:]:
            yield f"loss.{name}.weight.{term}", term_weight(term)
        for term in terms:
            yield from ((f"loss.{name}.{term}.{option.name}", option) for option in term_options(LOSSES[term]))

    def _other(self, key: str, models: list[str], losses: Mapping[str, Any]) -> None:
        """Place a key that is no loss option: `train.*`, `dataset.*`, `model.*`."""
        if key in _NEVER_SEARCHED:
            self.problems.add(f"search.{key}", f"cannot be searched: {_NEVER_SEARCHED[key]}")
            return
        if key == FOLD and self._fold_option() is None:
            self.problems.add(f"search.{key}", "there are no folds; name them: `dataset: {validation: {folds: 5}}`")
            return
        section, _, rest = key.partition(".")
        if self.base.train.is_own and self._is_free(section, models, losses):
            self._own_parameter(key)
            return
        options: dict[str, tuple[Option, tuple[str, str] | None]] = {}
        if section == "train":
            options = {f"train.{name}": (option, None) for name, option in _train_options().items()}
        elif section == "dataset" and self.base.has_data and self.base.dataset:
            options = {f"dataset.{o.name}": (o, None) for o in DATASETS[self.base.dataset["name"]].options}
            fold = self._fold_option()
            options |= {FOLD: (fold, None)} if fold else {}
            options |= {f"dataset.{NOISE}.{o.name}": (o, None) for o in NOISE_OPTIONS}
        elif section == "model" and models:
            options = {f"model.{m}.{o.name}": (o, ("model.name", m)) for m in models for o in MODELS[m].all_options}
        elif section == "model" and self.base.model.get("name") == ENTRY:
            options = {key: (own_option(rest, self.raw[key]), None)}
        elif section == "model" and self.base.model:
            options = {f"model.{o.name}": (o, None) for o in MODELS[self.base.model["name"]].all_options}
        elif section == "loss":
            if rest.split(".")[0] in LOSSES and not any(
                path.startswith(f"loss.{rest.split('.')[0]}.") for path in losses
            ):
                self.problems.add(
                    f"search.{key}", f"{rest.split('.')[0]!r} does not compete in this study (search.loss)"
                )
                return
            options = {path: (option, when) for path, (option, when, _) in losses.items()}
        if key in options:
            self._place(key, self.raw[key], *options[key])
            return
        sections = [] if options else ["loss", "options", "model.name", "train.lr", "train.weight_decay"]
        self.problems.append(unknown_name("key", key, [*options, *sections], f"search.{key}"))

    def _is_free(self, section: str, models: Sequence[str], losses: Mapping[str, Any]) -> bool:
        """Tell whether names that begin with this word are the user's to give: the study has no such section."""
        filled = {"dataset": self.base.has_data, "model": models or self.base.model, "loss": losses, "train": True}
        return not filled.get(section)

    def _own_parameter(self, key: str) -> None:
        if not _OWN_NAME.fullmatch(key) or len(key) > 120:
            self.problems.add(f"search.{key}", "a parameter's name has letters, digits, _, - and dots between", key)
            return
        self.params.add(key)
        given = self.raw[key]
        numbers = [given.get(end) for end in ("low", "high", "step")] if isinstance(given, Mapping) else []
        whole = all(isinstance(number, (int, type(None))) for number in numbers)
        kind: OptionType = "str" if not isinstance(given, Mapping) else "int" if whole else "float"
        self._place(key, given, OwnParameter(key, kind, None, "A parameter of the training."), None)

    def _fold_option(self) -> Option | None:
        """The fold, where the study divides its cases in folds: repeats over all of them are one study."""
        validation = self.base.dataset.get("validation")
        if isinstance(validation, Mapping) and isinstance(folds := validation.get("folds"), int):
            return Option("fold", "int", 0, "Which fold validates.", low=0, high=folds - 1)
        return None

    def _published(self, path: str, option: Option, when: tuple[str, str] | None, search: Search) -> None:
        if search.choices is not None:
            self.dimensions.append(Dimension(path, "categorical", choices=search.choices, when=when))
        elif search.low is not None and search.high is not None:
            kind = "int" if option.type == "int" else "float"
            self.dimensions.append(
                Dimension(path, kind, low=search.low, high=search.high, log=search.log, when=when)  # type: ignore[arg-type]
            )

    def _place(self, path: str, given: Any, option: Option, when: tuple[str, str] | None) -> None:
        where = f"search.{path}"
        if self.regions and option.name == "include_background" and path.startswith("loss."):
            self.problems.add(where, "has no meaning with `dataset.regions`: none of them is background; leave it out")
            return
        if isinstance(given, Mapping):
            dimension = self._range(path, given, option, when)
            if dimension is not None and dimension.low == dimension.high:  # one value is a fixed value
                self.fixed[path] = _convert(option, dimension.nearest(dimension.low))
            elif dimension is not None:
                self.dimensions.append(dimension)
        elif isinstance(given, (list, tuple)):
            found = [_problem(option, value) for value in given]
            self.problems.extend(
                Problem(where, problem, value) for problem, value in zip(found, given, strict=True) if problem
            )
            if not given:
                self.problems.add(where, "an empty list; give at least one value", given)
            elif not any(found):
                values = tuple(dict.fromkeys(_convert(option, value) for value in given))
                self.dimensions.append(Dimension(path, "categorical", choices=values, when=when))
        else:
            problem = option.problem(given)
            if problem:
                self.problems.add(where, problem, given)
            else:
                self.fixed[path] = _convert(option, given)

    def _range(
        self, path: str, given: Mapping[str, Any], option: Option, when: tuple[str, str] | None
    ) -> Dimension | None:
        where = f"search.{path}"
        found = unknown_keys(given, _RANGE_KEYS, where)
        published = option.search or Search()
        low, high = given.get("low", published.low), given.get("high", published.high)
        log = given.get("log", published.log and published.choices is None)
        steps = given.get("steps")
        if option.type not in ("float", "int"):
            found.add(where, f"a range, but {option.name!r} takes {option.legal()}; give a list of choices", given)
        elif low is None or high is None:
            found.add(where, "a range needs `low` and `high`, as in {low: 0.1, high: 1}", given)
        else:
            ends = {"low": low, "high": high}
            ends_wrong = [Problem(f"{where}.{end}", p, v) for end, v in ends.items() if (p := option.problem(v))]
            found.extend(ends_wrong)
            if not ends_wrong and low > high:
                found.add(where, f"the range is upside down: low {low!r} is above high {high!r}", given)
            if not ends_wrong and log is True and low <= 0:
                found.add(where, f"a logarithmic range begins above 0, not at {low!r}", low)
        if not isinstance(log, bool):
            found.add(f"{where}.log", f"{log!r} is neither true nor false", log)
        if steps is not None and (isinstance(steps, bool) or not isinstance(steps, int) or not 2 <= steps <= 10_000):
            found.add(f"{where}.steps", f"{steps!r} is not an integer from 2 to 10000", steps)
        step = given.get("step")
        if step is not None:
            found += _step_problems(where, step, steps, log, whole=option.type == "int")
        if found:
            self.problems.extend(found)
            return None
        kind = "int" if option.type == "int" else "float"
        number = int if kind == "int" else float
        if step is not None:
            if step > high - low and high > low:
                self.problems.add(f"{where}.step", f"{step!r} is wider than the range, {low!r} to {high!r}", step)
                return None
            high = tidy(low + math.floor((high - low) / step + 1e-9) * step)  # the last that a step reaches
        return Dimension(
            path,
            kind,  # type: ignore[arg-type]
            low=number(low),
            high=number(high),
            log=log,
            steps=steps,
            step=None if step is None else float(step),
            when=when,
        )

    def _candidates(
        self, names: list[str], options: Mapping[str, tuple[Option, tuple[str, str] | None, Search | None]]
    ) -> tuple[CandidateLoss, ...]:
        if not names:
            name = self.base.loss.get("name")
            return (CandidateLoss(name, self._family(name), {}),) if name else ()
        defaults: dict[str, dict[str, Scalar]] = {name: {} for name in names}
        for path, (option, when, _) in options.items():
            if when is not None:
                defaults[when[1]][path] = option.default
        return tuple(CandidateLoss(name, self._family(name), defaults[name]) for name in names)

    def _family(self, name: str) -> str:
        return LOSSES[name].family if name in LOSSES else "sum"


_OWN_KEYS = ("entry", "declared")


def _is_own(item: object) -> bool:
    """Tell whether an item of `search.loss` names a function of the user's own."""
    return isinstance(item, Mapping) and isinstance(item.get("entry"), str)


def _step_problems(where: str, step: Any, steps: Any, log: Any, *, whole: bool) -> Problems:
    found = Problems()
    if isinstance(step, bool) or not isinstance(step, (int, float)) or not 0 < step < math.inf:
        found.add(f"{where}.step", f"{step!r} is not a number above 0", step)
    elif whole and not float(step).is_integer():
        found.add(f"{where}.step", f"{step!r} is no whole number, and the parameter takes only such", step)
    if log is True:
        found.add(where, "`step` and `log: true` exclude each other; give a list of choices")
    if steps is not None:
        found.add(where, "`step` (a width) and `steps` (a number of points) exclude each other; keep one")
    return found


def _train_options() -> dict[str, Option]:
    """Describe what of `train` can be searched; a patch is, in a search, one number for all axes."""
    patch = Option("patch", "int", None, "Size along every axis.", low=1, high=MAX_PATCH, nullable=True)
    return {**section_options(TrainConfig), "patch": patch}


def _problem(option: Option, value: object) -> str | None:
    if option.name == "patch" and isinstance(value, (list, tuple)):
        return f"{value!r} cannot be searched: only one number can, the same size along every axis"
    return option.problem(value)


class OwnParameter(Option):
    """A parameter of a training of the user's own: any scalar is legal."""

    __slots__ = ()

    def problem(self, value: object) -> str | None:
        """Say what is wrong with a value."""
        if self.type != "str":
            return Option.problem(self, value)
        if isinstance(value, (bool, int, float, str, type(None))):
            return None if not isinstance(value, float) or math.isfinite(value) else f"{value!r} is not finite"
        return f"{value!r} is neither a number, text, true, false nor null"

    def legal(self) -> str:
        """Describe what is legal."""
        return "any number, text, true, false or null"


def _convert(option: Option, value: Any) -> Scalar:
    if option.type == "float" and value is not None:
        return float(value)
    result: Scalar = value
    return result

"""TrialConfig: everything that one training needs, complete. What `export` writes and `tuner train` reads.

The nested form mirrors the parameters' names: the option `loss.focal.gamma` is `config["loss"]["focal"]["gamma"]`.
"""

import re
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, field_validator, model_serializer, model_validator
from pydantic_core import PydanticCustomError

from tuner.config.command import split_command
from tuner.config.loss_rules import has_regions, is_supervised_deeply, terms_of, unfit_terms
from tuner.config.section import Section, build_section, unknown_keys
from tuner.data.catalog import DATASETS
from tuner.data.label_noise import KEY
from tuner.data.label_noise import OPTIONS as NOISE_OPTIONS
from tuner.data.label_rules import LABELS, labels_problem, labels_text
from tuner.data.regions import complete_regions
from tuner.data.splits import complete_validation, validation_problem
from tuner.errors import ConfigError, Problem, Problems, SpecError, UnknownNameError, closest, unknown_name
from tuner.losses.catalog.registry import FAMILIES, LOSSES
from tuner.losses.declared import SPELLING, declared_options, options_as_data, options_from_data
from tuner.losses.spec import PRESET, LossSpec, term_weight, with_preset
from tuner.metrics.catalog import METRICS
from tuner.models.catalog import ENTRY, MODELS, WEIGHTS
from tuner.models.custom_section import is_own, own_model_section
from tuner.models.rules import rule_problems
from tuner.registry import Option, Scalar, complete_options

MAX_PATCH = 4096
"""Pixels along an axis."""


class TrainConfig(Section):
    """How a model is trained."""

    epochs: int = Field(60, ge=1, le=100_000, description="Passes over the training cases.")
    batch_size: int = Field(
        16, ge=1, le=4096, description="Slices (2-D), volumes (3-D) or patches in an optimiser step."
    )
    optimizer: Literal["adamw", "sgd"] = Field("adamw", description="adamw, or sgd with Nesterov momentum.")
    lr: float = Field(3e-4, gt=0, le=10, description="Peak learning rate.")
    weight_decay: float = Field(
        1e-4, ge=0, le=1, description="Weight decay (decoupled with adamw); not on biases and norms."
    )
    momentum: float = Field(0.9, ge=0, lt=1, description="Momentum of sgd, first beta of adamw.")
    schedule: Literal["cosine", "one_cycle", "polynomial", "constant"] = Field(
        "cosine", description="How the learning rate falls over all optimiser steps."
    )
    warmup: float = Field(0.05, ge=0, le=0.5, description="Share of the steps in which the learning rate rises.")
    clip_norm: float | None = Field(12.0, gt=0, le=1e6, description="Largest gradient norm; null: no clipping.")
    precision: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="Autocast type; auto is resolved when the study is created and stored."
    )
    augment: Literal["none", "light", "default"] = Field("default", description="Strength of the augmentation.")
    validate_every: int = Field(1, ge=1, le=1000, description="Epochs from one validation to the next.")
    seed: int | None = Field(None, ge=0, le=2**63 - 1, description="Seed of the training; null: the study's.")
    threads: int | None = Field(
        None, ge=1, le=1024, description="CPU threads; null: cores // workers, resolved when the study is created."
    )
    deterministic: bool = Field(False, description="Bit for bit repeatable on CUDA as well, slower.")
    compile: bool = Field(False, description="torch.compile the model: minutes once, then faster steps.")
    patch: int | list[int] | None = Field(
        None,
        description="Size of the pieces that are trained on, [D, H, W], [H, W] or one number for all axes; "
        "validation slides a window of this size. null: whole samples.",
    )
    patches: int = Field(4, ge=1, le=10_000, description="Patches drawn from every sample in an epoch.")
    foreground: float = Field(
        0.33, ge=0, le=1, description="Share of the patches that hold a voxel of a class drawn among the sample's."
    )
    overlap: float = Field(0.25, ge=0, le=0.9, description="Overlap of neighbouring windows of the size of a patch.")
    entry: str | None = Field(
        None, description="`package.module:function` that trains instead: (config, device, folder) -> epoch metrics."
    )
    command: str | list[str] | None = Field(
        None, description="Program that trains instead, as in `python train.py --lr {train.lr} --out {folder}`."
    )
    devices: int = Field(1, ge=1, le=64, description="GPUs that each trial of `command` is given.")
    memory_gib: float | None = Field(
        None, gt=0, le=1_000_000, description="Most memory in GiB of all processes of `command` together; null: any."
    )

    @field_validator("patch", mode="plain")
    @classmethod
    def _check_patch(cls, given: Any) -> int | list[int] | None:
        sides = given if isinstance(given, list) and len(given) in (2, 3) else [given]
        whole = all(isinstance(side, int) and not isinstance(side, bool) and 1 <= side <= MAX_PATCH for side in sides)
        if given is not None and not whole:
            raise PydanticCustomError(
                "patch", "a patch is [D, H, W], [H, W], or one number for all axes, each from 1 to 4096 pixels"
            )
        return None if given is None else given

    @field_validator("command", mode="plain")
    @classmethod
    def _check_command(cls, given: Any) -> str | list[str] | None:
        if given is None:
            return None
        if not isinstance(given, str) and not (isinstance(given, list) and all(isinstance(w, str) for w in given)):
            raise PydanticCustomError("command", "a command is a text, or a list of texts (numbers in quotes)")
        try:
            split_command(given)
        except ValueError as error:
            raise PydanticCustomError("command", "{why}", {"why": str(error)}) from error
        return given

    @property
    def is_own(self) -> bool:
        """Whether code of the user's trains, and not ours."""
        return self.entry is not None or self.command is not None

    def patch_shape(self, spatial_dims: int) -> tuple[int, ...] | None:
        """Return the size of a patch along each of so many axes; None when whole samples are trained on."""
        if self.patch is None:
            return None
        return (self.patch,) * spatial_dims if isinstance(self.patch, int) else tuple(self.patch)


class Objective(Section):
    """One metric to optimise; the direction comes with the metric, one of the user's own states it."""

    metric: str = "dice"
    direction: Literal["maximize", "minimize"] = "maximize"
    """In Optuna's words."""

    @model_validator(mode="before")
    @classmethod
    def _complete(cls, given: Any) -> Any:
        if isinstance(given, dict) and given.get("metric", "dice") in METRICS and "direction" not in given:
            return {**given, "direction": METRICS[given.get("metric", "dice")].direction}
        return given

    @model_serializer
    def as_dict(self) -> dict[str, str]:
        """Return what a study file says: the direction only where the metric does not bring it."""
        own = {} if self.metric in METRICS else {"direction": self.direction}
        return {"metric": self.metric, **own}


class TrialConfig(Section):
    """One training, complete: the sections of a study file with every option given a value."""

    dataset: dict[str, Any]
    model: dict[str, Any]
    loss: dict[str, Any]
    train: TrainConfig
    params: dict[str, Scalar] = Field(default_factory=dict)
    """Parameters of a training of the user's own by their names; only there."""
    objectives: tuple[Objective, ...] = (Objective(),)
    provenance: dict[str, Any] = Field(default_factory=dict)

    def parameters(self) -> dict[str, Any]:
        """Return every option under its one name: `train.lr`, `model.width`, `loss`, `loss.focal.gamma`."""
        found: dict[str, Any] = {}
        for section in ("dataset", "model"):
            found |= flatten(getattr(self, section), section)
        found |= {f"train.{key}": value for key, value in self.train.model_dump().items()}
        if self.loss:
            name = self.loss["name"]
            found |= {"loss": name} | flatten(self.loss.get(name, {}), f"loss.{name}")
        return found | self.params

    @property
    def has_data(self) -> bool:
        """Whether a data set is named; a training of the user's own needs none."""
        return has_data(self.dataset)

    @property
    def loss_name(self) -> str | None:
        """Name of the loss; None for a training of the user's own that is about none of ours."""
        name = self.loss.get("name")
        return None if name is None else str(name)

    def as_dict(self) -> dict[str, Any]:
        """Return plain data for YAML and JSON."""
        record: dict[str, Any] = self.model_dump(mode="json")
        for key in ("provenance", "params"):
            if not record[key]:
                del record[key]
        return record


def load_config(content: Any, *, where: str | None = None) -> TrialConfig:
    """Check a configuration that `export` (or a person) wrote. Raises SpecError with every problem in it."""
    if not isinstance(content, Mapping):
        raise ConfigError("a configuration is a mapping with `dataset`, `model`, `loss` and `train`", where=where)
    problems = unknown_keys(content, TrialConfig.model_fields, "")
    if isinstance(content.get("search"), Mapping):
        raise ConfigError(
            "this is a study file: it still has a search in it",
            hint="Launch it with `tuner launch FILE`; `tuner train` takes what `tuner export` wrote.",
            where=where,
        )
    train = train_section(content.get("train"), problems)
    config = TrialConfig(
        **sections(content, train, problems),
        train=train,
        params=params_section(content.get("params"), train, problems),
        objectives=objectives_section(content.get("objectives"), problems, own=train.is_own),
        provenance=dict(content.get("provenance") or {}),
    )
    problems += patch_problems(config) + loss_problems(config)
    problems.refuse(where=where)
    return config


NO_DATA = {"name": "none"}
"""The section `dataset` of a study that has none: its training is the user's own and reads what it likes."""


def has_data(dataset: Mapping[str, Any]) -> bool:
    """Tell whether a section `dataset` names a data set."""
    return dataset.get("name") != NO_DATA["name"]


def sections(content: Mapping[str, Any], train: TrainConfig, problems: Problems) -> dict[str, dict[str, Any]]:
    """Complete `dataset`, `model` and `loss`.

    A program, or a training without a data set, is about what the study names: no model and no loss of ours otherwise.
    """
    given = content.get("dataset")
    name = given.get("name") if isinstance(given, Mapping) else given
    is_none = name == NO_DATA["name"] or (given is None and train.is_own)
    if not is_none:
        dataset = dataset_section(given, problems)
    elif not train.is_own:
        dataset = {}
        problems.add("dataset", "`none` is for trainings of your own (`train.command`, `train.entry`)", "none")
    else:
        dataset = dict(NO_DATA)
        if isinstance(given, Mapping):
            problems.extend(unknown_keys(given, NO_DATA, "dataset"))
    found = {"dataset": dataset}
    for key, complete_section in (("model", model_section), ("loss", loss_section)):
        left_out = not content.get(key) and (train.command is not None or (is_none and train.is_own))
        found[key] = {} if left_out else complete_section(content.get(key), problems)
    return found


def params_section(given: object, train: TrainConfig, problems: Problems) -> dict[str, Scalar]:
    """Check `params`, what a training of the user's own is given beside the sections."""
    if given is None or given == {}:
        return {}
    if not isinstance(given, Mapping) or not train.is_own:
        problems.add("params", f"{given!r}; only trainings of your own have parameters of other names", given)
        return {}
    wrong = [key for key, value in given.items() if not isinstance(value, (bool, int, float, str, type(None)))]
    problems.extend(Problem(f"params.{key}", "is neither a number, text, true, false nor null") for key in wrong)
    return {str(key): value for key, value in given.items() if key not in wrong}


def loss_problems(config: TrialConfig, searched: Mapping[str, Any] | None = None) -> list[Problem]:
    """Say which terms of the loss the regions of the data, or deep supervision, given or searched, do not allow."""
    regions, supervised = has_regions(config.dataset), is_supervised_deeply(config.model, searched or {})
    lines = unfit_terms(terms_of(config.loss), regions=regions, supervised=supervised)
    return [Problem("loss.name", line, config.loss.get("name")) for line in lines]


def patch_problems(config: TrialConfig) -> list[Problem]:
    """Say where `train.patch` does not fit the samples of the data set."""
    patch, volumes = config.train.patch, config.dataset.get("dimensions") == 3
    axes = ["D", "H", "W"] if volumes else ["H", "W"]
    if isinstance(patch, list) and len(patch) != len(axes):
        wrong = f"{patch} has {len(patch)} sizes; samples of this data set have [{', '.join(axes)}]"
        return [Problem("train.patch", wrong, patch)]
    if patch is None and config.dataset.get("resize") is False and not config.train.is_own:
        example = [64, 96, 96] if volumes else [256, 256]
        missing = (
            f"missing; with `dataset.resize: false` samples have different sizes and are trained on in patches, as in "
            f"`train: {{patch: {example}}}`"
        )
        return [Problem("train.patch", missing)]
    return []


def dataset_section(given: object, problems: Problems) -> dict[str, Any]:
    """Complete `dataset`: a name or a mapping. Problems are appended, never raised."""
    name, options = _named(given, "dataset", problems)
    if name is None or name not in DATASETS:
        if name is not None:
            problems.append(unknown_name("dataset", name, DATASETS, "dataset.name"))
        return {}
    options = dict(options)
    section: dict[str, Any] = {"name": name, "validation": options.pop("validation", 0.2)}
    problem = validation_problem(section["validation"])
    if problem:
        problems.add("dataset.validation", problem, section["validation"])
    else:
        section["validation"] = complete_validation(section["validation"])
    noise = options.pop(KEY, None)
    if noise is not None:
        section[KEY] = _label_noise(noise, problems)
    complete_regions(section, options, problems)
    if LABELS in options and any(option.name == LABELS for option in DATASETS[name].options):
        labels = options[LABELS] = labels_text(options[LABELS])
        wrong = labels_problem(labels)
        if wrong:
            problems.add(f"dataset.{LABELS}", wrong, labels)
            del options[LABELS]
    return section | complete_options(DATASETS[name].options, options, "dataset", problems)


def _label_noise(given: object, problems: Problems) -> dict[str, Any]:
    if not isinstance(given, Mapping):
        problems.add(f"dataset.{KEY}", f"{given!r} is not a mapping, as in {{kind: drop, rate: 0.2, seed: 0}}", given)
        return {}
    return complete_options(NOISE_OPTIONS, given, f"dataset.{KEY}", problems)


def model_section(given: object, problems: Problems) -> dict[str, Any]:
    """Complete `model`: a name or a mapping; options may also stand under `model.<name>`; or `{entry: ...}`."""
    if isinstance(given, Mapping) and is_own(given):
        return own_model_section(given, problems)
    name, options = _named("unet" if given is None else given, "model", problems)
    if name is None or name not in MODELS:
        if name == ENTRY:
            problems.add("model", "`entry` needs a function, as in `model: {entry: package.module:function}`")
        elif name is not None:
            problems.append(unknown_name("model", name, MODELS, "model.name"))
        return {}
    nested = options.pop(name, {})
    if isinstance(nested, Mapping):
        options |= nested
    before = len(problems)
    values = complete_options(MODELS[name].all_options, options, "model", problems)
    if values[WEIGHTS.name] is None:
        del values[WEIGHTS.name]
    if len(problems) == before:
        problems.extend(rule_problems(MODELS[name], values, "model"))
    return {"name": name} | values


def loss_section(given: object, problems: Problems) -> dict[str, Any]:
    """Complete `loss`: `dice`, `{name: focal, gamma: 2}`, `{edgy: [dice, boundary]}`, or the nested form."""
    if given is None:
        given = "dice_cross_entropy"
    if isinstance(given, Mapping) and isinstance(given.get("entry"), str):
        return own_loss_section(given, problems)
    if isinstance(given, Mapping) and "name" not in given and len(given) == 1:
        ((label, terms),) = given.items()
        return sum_section(str(label), terms, {}, problems)
    name, options = _named(given, "loss", problems)
    if name is None:
        return {}
    if "terms" in options:
        return sum_section(name, options["terms"], options.get(name, {}), problems)
    if name not in LOSSES:
        problems.append(unknown_name("loss", name, LOSSES, "loss.name"))
        return {}
    nested = options.pop(name, {})
    if isinstance(nested, Mapping):
        options |= nested
    options = _expand(LOSSES[name], options, f"loss.{name}", problems)
    return {"name": name, name: complete_options(LOSSES[name].options, options, f"loss.{name}", problems)}


def own_loss_section(given: Mapping[str, Any], problems: Problems) -> dict[str, Any]:
    """Complete `loss: {entry: package.module:function, gamma: 2}`: its options by the function's own declarations.

    The section is `{name, entry, declared, <name>: options}`, the name being the function's.
    """
    own = own_loss(given, problems)
    if own is None:
        return {}
    name, path, options = own
    values = {str(key): value for key, value in given.items() if key not in ("entry", "name", "declared", name)}
    nested = given.get(name, {})
    if isinstance(nested, Mapping):
        values |= nested
    if given.get("name", name) != name:
        problems.add("loss.name", f"{given['name']!r}; the loss of {path} is called {name!r}", given["name"])
    section = complete_options(options, values, f"loss.{name}", problems)
    return {"name": name, "entry": path, "declared": options_as_data(options), name: section}


def own_loss(given: Mapping[str, Any], problems: Problems) -> tuple[str, str, tuple[Option, ...]] | None:
    """Return name, path and options of a loss of the user's own; what is wrong is appended, and the result is None."""
    path = given.get("entry")
    if not isinstance(path, str) or not SPELLING.fullmatch(path):
        problems.add("loss.entry", f"{path!r} is not spelt `package.module:function`", path)
        return None
    name = path.partition(":")[2]
    if name in LOSSES or name in (*FAMILIES, "all", "weight"):
        problems.add(
            "loss.entry", f"{name!r} is the name of a loss or family of ours; call the function otherwise", name
        )
        return None
    try:
        stored = given.get("declared")
        options = declared_options(path) if stored is None else options_from_data(stored)
    except SpecError as error:
        problems.extend(error.problems)
        return None
    if options is None:
        problems.add(
            "loss.entry",
            f"the source of {path!r} is not on this machine's import path, so that its options are unknown",
            path,
        )
        return None
    return name, path, options


def _expand(entry: LossSpec, options: Mapping[str, Any], where: str, problems: Problems) -> dict[str, Any]:
    """Replace a preset by the options that it stands for."""
    try:
        return with_preset(entry, options, where=where)
    except UnknownNameError as error:
        problems.append(unknown_name(error.kind, error.name, entry.presets, f"{where}.{PRESET}"))
        return {key: value for key, value in options.items() if key != PRESET}


def sum_section(label: str, terms: object, options: object, problems: Problems) -> dict[str, Any]:
    """Complete a weighted sum: first term weight 1, further ones `weight.<term>`, options by term."""
    found = sum_problems(label, terms, where=f"loss.{label}")
    if found or not isinstance(terms, (list, tuple)):
        problems.extend(found)
        return {}
    given = dict(options) if isinstance(options, Mapping) else {}
    weights = given.pop("weight", {})
    weight_rows = tuple(term_weight(term) for term in terms[1:])
    section = {"weight": complete_options(weight_rows, dict(weights), f"loss.{label}.weight", problems)}
    for term in terms:
        where = f"loss.{label}.{term}"
        own = _expand(LOSSES[term], dict(given.pop(term, {})), where, problems)
        section[term] = complete_options(term_options(LOSSES[term]), own, where, problems)
    for key, value in given.items():
        problems.add(f"loss.{label}.{key}", f"neither `weight` nor a term of this sum ({', '.join(terms)})", value)
    return {"name": label, "terms": list(terms), label: section}


def sum_problems(label: str, terms: object, *, where: str) -> Problems:
    """Say what is wrong with a sum of the user's own that stands at the key `where`."""
    found = Problems()
    if not isinstance(terms, (list, tuple)) or len(terms) < 2:
        found.add(where, f"{terms!r} is not a list of two or more losses, as in `{{edgy: [dice, boundary]}}`", terms)
        return found
    found += [unknown_name("loss", str(term), LOSSES, where) for term in terms if term not in LOSSES]
    if len(set(map(str, terms))) < len(terms):
        found.add(where, f"a loss stands twice in {', '.join(map(str, terms))}", terms)
    if label in LOSSES or not label.isidentifier():
        found.add(where, "a sum needs a name of its own (letters, digits, _) that is not the name of a loss", label)
    return found


def term_options(entry: LossSpec) -> tuple[Option, ...]:
    """Options of a loss inside a sum: it is bare there, without base, schedule or companion."""
    return entry.own_options


def train_section(given: object, problems: Problems) -> TrainConfig:
    """Complete `train`."""
    if given is not None and not isinstance(given, Mapping):
        problems.add("train", f"{given!r} is not a mapping", given)
        given = None
    found: TrainConfig = build_section(TrainConfig, given or {}, "train", problems) or TrainConfig()
    if found.command is None:
        for key in ("devices", "memory_gib"):
            if getattr(found, key) != TrainConfig.model_fields[key].default:
                problems.add(f"train.{key}", "only for a `train.command`", getattr(found, key))
    elif found.entry is not None:
        problems.add("train.command", "given together with `train.entry`; keep one of the two")
    return found


_METRIC = re.compile(r"[A-Za-z_][\w./@-]{0,79}")


def _metric_problem(entry: Mapping[str, Any], where: str, *, own: bool) -> Problem | None:
    """Say what is wrong with the metric of an objective and its direction."""
    name, direction = entry.get("metric", "dice"), entry.get("direction")
    if name in METRICS:
        known = METRICS[name].direction
        if direction in (None, known):
            return None
        return Problem(f"{where}.direction", f"{direction!r}; {name} is one to {known}", direction)
    if not own:
        return unknown_name("metric", str(name), METRICS, f"{where}.metric")
    if not isinstance(name, str) or not _METRIC.fullmatch(name) or name in REPORT_FACTS:
        said = f"{name!r} cannot be the name of a metric: letters, digits and _ . / @ -, and none of "
        return Problem(f"{where}.metric", said + ", ".join(REPORT_FACTS), name)
    if direction not in ("maximize", "minimize"):
        near = closest(name, METRICS)
        guess = f"Did you mean {near!r}? " if near else ""
        missing = f"{name!r} is a metric of your own, and needs `direction: maximize` or `direction: minimize`"
        return Problem(f"{where}.direction", missing, direction, guess or None)
    return None


REPORT_FACTS = ("epoch", "train_loss", "lr", "seconds", "per_class", "cases")
"""Keys of a report of the user's own that are no metrics."""


def objectives_section(given: object, problems: Problems, *, own: bool = False) -> tuple[Objective, ...]:
    """Complete `objectives`: a list of `{metric: NAME}`, with `direction` where an `own` training measures it."""
    items = [{"metric": "dice"}] if given is None else given
    if not isinstance(items, list) or not items:
        problems.add("objectives", f"{given!r} is not a list as in `[{{metric: dice}}]`", given)
        return ()
    found = []
    for index, item in enumerate(items):
        where = f"objectives[{index}]"
        entry = {"metric": item} if isinstance(item, str) else item
        wrong = _metric_problem(entry, where, own=own) if isinstance(entry, Mapping) else None
        if wrong is not None:
            problems.append(wrong)
            continue
        objective = build_section(Objective, entry, where, problems)
        if objective is None:
            continue
        if objective in found:
            problems.add(where, f"the metric {objective.metric!r} stands twice", objective.metric)
        else:
            found.append(objective)
    return tuple(found)


def flatten(nested: Mapping[str, Any], path: str) -> dict[str, Scalar]:
    """Turn nested options into dotted names."""
    flat: dict[str, Scalar] = {}
    for key, value in nested.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{path}.{key}")
        else:
            flat[f"{path}.{key}"] = value
    return flat


def _named(given: object, path: str, problems: Problems) -> tuple[str | None, dict[str, Any]]:
    if isinstance(given, str):
        return given, {}
    if isinstance(given, Mapping):
        options = {str(k): v for k, v in given.items()}
        name = options.pop("name", None)
        if isinstance(name, str):
            return name, options
        problems.add(f"{path}.name", f"{name!r}; a name is needed, as in `{path}: {{name: ...}}`", name)
        return None, {}
    problems.add(path, f"{given!r} is neither a name nor a mapping with one", given)
    return None, {}

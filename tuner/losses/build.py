"""Build a loss from its configuration: single losses, losses mixed with a base on a schedule, weighted sums."""

from collections.abc import Iterable, Mapping, Sequence
from inspect import signature
from typing import Any, cast

import torch
from torch import Tensor, nn

from tuner.errors import LossInputError, Problem, Problems, SpecError, UnknownNameError
from tuner.losses.batch import EpochProgress, LossFunction, LossInputs, check_labels, full_precision, read_inputs
from tuner.losses.catalog.registry import LOSSES
from tuner.losses.evaluate import Formula, evaluate
from tuner.losses.softmax_stats import on_host
from tuner.losses.spec import LossSpec, term_weight, with_preset
from tuner.losses.targets import read_batch, region_table, region_targets
from tuner.registry import Option, Scalar, complete_options, load, option_named, require_options

COMPANION = "cross_entropy_weight"
MIN_SHARE = 0.01


class WeightedSum:
    """A weighted mean of terms: sum of weight * value over the sum of the weights.

    `hidden` names terms behind the first that have no options of their own in the configuration.
    """

    def __init__(self, weights: Sequence[float], options: Mapping[str, Scalar], hidden: Sequence[str] = ()) -> None:
        self.hidden = tuple(hidden)
        self._weights = tuple(weights)
        self._options = dict(options)

    def weights(self, moment: EpochProgress) -> tuple[float, ...]:
        """Return the weight of every term; a term of weight 0 need not be computed."""
        total = sum(self._weights)
        return tuple(weight / total for weight in self._weights)

    def mix(self, values: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
        """Return the mixture of the values that have a weight."""
        parts = [value if weight == 1 else weight * value for value, weight in zip(values, weights, strict=True)]
        return sum(parts[1:], parts[0])

    def options(self) -> dict[str, Scalar]:
        """Return the options that it really uses."""
        return dict(self._options)


class ScheduledSum(WeightedSum):
    """A loss added to a base, the loss first: `base + weight * loss`, on a schedule.

    All schedules go by the share of the training that is done, `progress`, so that they do not depend on its length.
    constant: base + w loss, from `start` on. increase: w grows by `step` over the training. rebalance: a base +
    (1 - a) loss, a = max(0.01, 1 - step * progress). ramp: a = max(0.01, 1 - w * progress). gradual:
    a = max(0.01, 1 - progress). equal: as constant. alone: the loss only. equalise: w is lowered so that w loss is
    never more than the base, the paper's "equal means", taken in every step (and no gradient flows through it).
    """

    def __init__(
        self,
        *,
        base: str,
        schedule: str | None = None,
        weight: float = 1.0,
        step: float | None = None,
        start: float | None = None,
    ) -> None:
        super().__init__((1.0, 1.0), {}, hidden=[base])
        self.schedule, self.weight, self.step, self.start = schedule, weight, step, start

    def options(self) -> dict[str, Scalar]:
        """Return the options that it really uses."""
        own: dict[str, Scalar] = {"base": self.hidden[0], "schedule": self.schedule, "weight": self.weight}
        own |= {"step": self.step, "start": self.start}
        return {name: value for name, value in own.items() if value is not None}

    def weights(self, moment: EpochProgress) -> tuple[float, ...]:
        """Return the weights of loss and base."""
        progress, step = moment.progress, self.step or 0.0
        if self.schedule == "alone":
            return 1.0, 0.0
        if self.schedule == "increase":
            return self.weight + step * progress, 1.0
        if self.schedule == "rebalance":
            return _shares(max(MIN_SHARE, 1 - step * progress))
        if self.schedule == "ramp":
            return _shares(max(MIN_SHARE, 1 - self.weight * progress))
        if self.schedule == "gradual":
            return _shares(max(MIN_SHARE, 1 - progress))
        return (self.weight if progress >= (self.start or 0.0) else 0.0), 1.0

    def mix(self, values: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
        """Return the mixture."""
        if self.schedule == "equalise" and len(values) == 2:
            loss, base = values
            with torch.no_grad():
                size = loss.abs()
                even = torch.where(size > 0, base.abs() / torch.where(size > 0, size, 1), weights[0])
                weight = even.clamp_max(weights[0])
            return base + weight * loss
        return super().mix(values, weights)


def combination_of(entry: LossSpec, options: Mapping[str, Scalar]) -> WeightedSum:
    """Return how a loss that stands alone is mixed with its base."""
    if COMPANION in options:
        share = float(cast(float, options[COMPANION]))
        return WeightedSum([1 - share, share], {COMPANION: share}, hidden=["cross_entropy"])
    if "base" in entry.mixing_options:
        # a TypeError for an option that no schedule takes
        return ScheduledSum(**cast(dict[str, Any], dict(options)))
    return WeightedSum([1.0], {})


def _shares(base: float) -> tuple[float, float]:
    return 1 - base, base


GIVEN_AT_BUILD = frozenset({"class_frequencies"})


class Term(nn.Module):
    """One loss with the options that it will really be called with, and what it learns."""

    def __init__(
        self,
        entry: LossSpec,
        options: Mapping[str, Scalar],
        class_frequencies: Sequence[float] | None,
        *,
        classes: int | None = None,
    ) -> None:
        super().__init__()
        self.entry = entry
        self.options = dict(options)
        self.function: LossFunction = load(entry.fn)
        self._signature = signature(self.function.formula)
        self._taken = frozenset(self._signature.parameters)
        self.state: nn.Module | None = None
        self._learned: dict[str, Scalar] = {}
        if entry.state:
            made, chosen = load(entry.state), {name: options[name] for name in entry.state_options}
            count = classes if class_frequencies is None else len(class_frequencies)
            bound = signature(made).bind(classes=count, **chosen)
            self.state = made(*bound.args, **bound.kwargs)
            self._learned = {name: bound.arguments[name] for name in entry.state_options}
        frequencies = None
        if class_frequencies is not None:
            frequencies = torch.tensor(tuple(class_frequencies), dtype=torch.float32)
        self.register_buffer("class_frequencies", frequencies, persistent=False)

    @property
    def keywords(self) -> dict[str, Scalar]:
        """The options that the function takes."""
        return {name: value for name, value in self.options.items() if name in self._taken}

    def effective_options(self) -> dict[str, Scalar]:
        """Return the options that reach the formula or what the loss learns; one that neither takes is absent."""
        bound = self._signature.bind_partial(**self.keywords).arguments
        return {name: value for name, value in bound.items() if name in self.options} | self._learned

    def forward(self, view: LossInputs, inputs: Mapping[str, Tensor], moment: EpochProgress) -> Tensor:
        """Return the bare loss."""
        return self.function.from_inputs(view, **self.arguments(inputs, moment))

    def arguments(self, inputs: Mapping[str, Tensor], moment: EpochProgress) -> dict[str, Any]:
        """Return all that the formula is called with beside its view."""
        given: dict[str, Any] = {name: inputs.get(name) for name in self.entry.needs if name not in GIVEN_AT_BUILD}
        if "class_frequencies" in self.entry.needs:
            given["class_frequencies"] = self.class_frequencies
        if "moment" in self._taken:
            given["moment"] = moment
        if self.state is not None:
            given["state"] = self.state
        return {**self.keywords, **given}


class SegmentationLoss(nn.Module):
    """A loss as the trainer uses it: `loss(logits, target, inputs)`, logits [B, C, *S], target [B, *S].

    Autocast is off inside, half types are raised to float32. `needs` names the inputs that make it faster or that it
    cannot do without. `on_epoch` must be called at the start of every epoch. torch.compile takes a loss whose maps are
    given as one graph, but for hausdorff's host transform on the CPU, which breaks it. No device is waited for, but for
    the skeletons of skeleton_recall where they are not given: the host makes them. Gradients have no second derivative.
    """

    def __init__(
        self,
        name: str,
        terms: Mapping[str, Term],
        blend: WeightedSum,
        *,
        classes: int,
        ignore_index: int,
    ) -> None:
        super().__init__()
        self.name = name
        self.terms = nn.ModuleDict(dict(terms))
        self.mixing_options = blend
        self.classes = classes
        self.ignore_index = ignore_index
        self.moment = EpochProgress()
        self.needs = frozenset(n for term in terms.values() for n in term.entry.needs) - GIVEN_AT_BUILD
        reads = [term.function.reads(**term.keywords) for term in terms.values()]
        self._reads = any(sums for sums, _ in reads), any(squares for _, squares in reads)

    @property
    def _parts(self) -> dict[str, Term]:
        return cast(dict[str, Term], dict(self.terms.items()))

    def forward(self, logits: Tensor, target: Tensor, inputs: Mapping[str, Tensor] | None = None) -> Tensor:
        """Return the loss, a scalar. Raises LossInputError on input that does not fit."""
        self._check(logits)
        sums, squares = self._reads
        with full_precision(logits):
            weights = self.mixing_options.weights(self.moment)
            weighed = [(term, w) for term, w in zip(self._parts.values(), weights, strict=True) if w != 0]
            logs = any(term.function.logs for term, _ in weighed)
            view = read_inputs(logits, target, ignore_index=self.ignore_index, sums=sums, squares=squares, logs=logs)
            values = [term(view, inputs or {}, self.moment) for term, _ in weighed]
            return self.mixing_options.mix(values, [weight for _, weight in weighed])

    def effective_options(self) -> dict[str, Scalar]:
        """Return the loss and every option that it really uses, by dotted path."""
        options: dict[str, Scalar] = {"loss": self.name}
        options.update({f"loss.{self.name}.{key}": value for key, value in self.mixing_options.options().items()})
        for key, term in self._parts.items():
            prefix = f"loss.{self.name}." if key == self.name else f"loss.{self.name}.{key}."
            if key in self.mixing_options.hidden:
                continue
            options.update({prefix + option: value for option, value in term.effective_options().items()})
        return options

    def on_epoch(self, epoch: int, epochs: int) -> None:
        """Tell schedules which epoch begins, counted from 1, of how many."""
        self.moment = EpochProgress(epoch, epochs)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return what the loss learns, as groups for an optimizer, without weight decay.

        A group has an "lr" of its own where the paper gives one; else it takes the optimizer's.
        """
        groups: list[dict[str, Any]] = []
        for term in self._parts.values():
            learned = [] if term.state is None else [p for p in term.state.parameters() if p.requires_grad]
            if learned:
                own_rate = getattr(term.state, "learning_rate", None)
                rate = {} if own_rate is None else {"lr": own_rate}
                groups.append({"params": learned, "weight_decay": 0.0, **rate})
        return groups

    def states(self) -> list[nn.Module]:
        """Return the modules that the terms keep beside the network."""
        return [term.state for term in self._parts.values() if term.state is not None]

    def check(self, logits: Tensor, target: Tensor) -> None:
        """Check a batch thoroughly, its labels too; on a GPU this waits for the device, so ask once."""
        read_inputs(logits, target, ignore_index=self.ignore_index)
        check_labels(target, classes=self.classes, ignore_index=self.ignore_index)

    def _check(self, logits: Tensor) -> None:
        channels = logits.shape[1] if logits.ndim > 1 else 0
        if channels != self.classes and not (channels == 1 and self.classes == 2):
            raise LossInputError(
                f"logits {list(logits.shape)} have {channels} channels, but the loss was built for "
                f"{self.classes} classes: logits must be [B, {self.classes}, *S]."
            )


class RegionLoss(SegmentationLoss):
    """A loss of R regions of a label map, as the trainer uses it: `loss(logits, labels)`, [B, R, *S] and [B, *S].

    Regions overlap: each is a sigmoid of its own. Their targets are made of the labels, on the labels' device, and the
    maps that a loss needs are made of these targets. Raises SpecError for a term that has no meaning for classes that
    overlap. `regions` are the classes of each; `labels` is how many classes the label map has.
    """

    table: Tensor

    def __init__(
        self,
        name: str,
        terms: Mapping[str, Term],
        blend: WeightedSum,
        *,
        regions: Sequence[Sequence[int]],
        labels: int,
        ignore_index: int,
    ) -> None:
        super().__init__(name, terms, blend, classes=len(regions), ignore_index=ignore_index)
        refused = [term.entry.name for term in terms.values() if not term.entry.multilabel]
        if refused:
            raise SpecError([Problem("loss.name", no_sigmoid_form(refused), name)])
        self.labels = labels
        self.needs = frozenset()
        self.register_buffer("table", region_table(regions), persistent=False)

    def forward(self, logits: Tensor, target: Tensor, inputs: Mapping[str, Tensor] | None = None) -> Tensor:
        """Return the loss, a scalar; `inputs` are none. Raises LossInputError on input that does not fit."""
        self._check(logits)
        weights = self.mixing_options.weights(self.moment)
        weighed = [(term, w) for term, w in zip(self._parts.values(), weights, strict=True) if w != 0]
        shares = [weight for _, weight in weighed]
        void = target == self.ignore_index
        return evaluate(
            [Formula(term.entry, term.function, term.arguments({}, self.moment)) for term, _ in weighed],
            lambda values: self.mixing_options.mix(values, shares),
            logits,
            region_targets(target, self.table),
            activation="sigmoid",
            ignore_index=None,
            mask=None if on_host(void) and not bool(void.any()) else ~void,
            reduction="mean",
            validate=False,
        )

    def check(self, logits: Tensor, target: Tensor) -> None:
        """Check a batch thoroughly, its labels too; on a GPU this waits for the device, so ask once."""
        self._check(logits)
        read_batch(logits, region_targets(target, self.table), activation="sigmoid")
        check_labels(target, classes=self.labels, ignore_index=self.ignore_index)


def no_sigmoid_form(names: Iterable[str]) -> str:
    """Say that losses have no meaning for classes that overlap."""
    known = ", ".join(name for name, entry in LOSSES.items() if entry.multilabel)
    return (
        f"{', '.join(names)}: defined for classes that exclude each other, and those of `dataset.regions` overlap; "
        f"losses with a sigmoid form: {known}"
    )


def build_loss(
    config: Mapping[str, Any],
    *,
    classes: int,
    ignore_index: int,
    class_frequencies: Sequence[float],
    regions: Sequence[Sequence[int]] | None = None,
) -> SegmentationLoss:
    """Build the loss of a configuration's `loss` section.

    One loss: `{"name": "focal", "focal": {"gamma": 2.0}}`. A sum: `{"name": "edgy", "terms": ["dice", "focal"],
    "edgy": {"weight": {"focal": 0.5}, "dice": {...}, "focal": {...}}}`; the first term has weight 1, and the total is
    divided by the sum of the weights. Options that are left out have their published default.
    regions: the classes of each region of a label map of so many classes, then `class_frequencies` are the share of
    the pixels in each region; see `RegionLoss`.
    Raises UnknownNameError or SpecError, with the dotted path, on names and values that do not exist, and
    LossInputError where class_frequencies does not have one entry per class.
    """
    outputs = classes if regions is None else len(regions)
    if classes < 2 or len(class_frequencies) != outputs:
        raise LossInputError(
            f"{len(class_frequencies)} class frequencies for {outputs} classes: "
            "there must be at least 2 classes and one frequency for each."
        )
    name = str(config.get("name"))
    terms, blend = terms_of(config, class_frequencies)
    if regions is not None:
        return RegionLoss(name, terms, blend, regions=regions, labels=classes, ignore_index=ignore_index)
    return SegmentationLoss(name, terms, blend, classes=classes, ignore_index=ignore_index)


def terms_of(
    config: Mapping[str, Any], frequencies: Sequence[float] | None, *, classes: int | None = None
) -> tuple[dict[str, Term], WeightedSum]:
    """Return the terms of a configuration's `loss` section and how they are mixed; raises what `build_loss` does."""
    name = str(config.get("name"))
    chosen = config.get(name) or {}
    if config.get("terms"):
        return _sum_of(name, [str(term) for term in config["terms"]], chosen, frequencies, classes=classes)
    return build_terms(name, chosen, frequencies, classes=classes)


def build_terms(
    name: str, chosen: Mapping[str, Any], frequencies: Sequence[float] | None, *, classes: int | None = None
) -> tuple[dict[str, Term], WeightedSum]:
    """Return the terms of a loss that stands alone, itself first, and how they are mixed."""
    entry = LOSSES.find(name, where="loss.name")
    options = read_options(entry, entry.options, chosen, where=f"loss.{name}")
    own = {option.name: options[option.name] for option in entry.own_options}
    terms = {name: Term(entry, own, frequencies, classes=classes)}
    mixed = {key: options[key] for key in entry.mixing_options}
    blend = combination_of(entry, mixed)
    for base in blend.hidden:
        row = LOSSES.find(base, where=f"loss.{name}.base")
        values = read_options(row, row.own_options, {}, where=f"loss.{name}")
        terms[base] = Term(row, values, frequencies, classes=classes)
    return terms, blend


def _sum_of(
    name: str,
    parts: Sequence[str],
    chosen: Mapping[str, Any],
    frequencies: Sequence[float] | None,
    *,
    classes: int | None = None,
) -> tuple[dict[str, Term], WeightedSum]:
    where = f"loss.{name}"
    if len(parts) < 2 or len(set(parts)) != len(parts):
        raise SpecError(
            [Problem(where, f"a sum has at least two different terms, found {', '.join(parts) or 'none'}", parts)]
        )
    for key in chosen:
        if key != "weight" and key not in parts:
            raise UnknownNameError(kind=f"part of the sum {name!r}", name=key, known=["weight", *parts], where=where)
    terms = {}
    for part in parts:
        entry = LOSSES.find(part, where=where)
        options = read_options(entry, entry.own_options, chosen.get(part) or {}, where=f"{where}.{part}")
        terms[part] = Term(entry, options, frequencies, classes=classes)
    weights = _weights(parts[1:], chosen.get("weight") or {}, where=f"{where}.weight")
    return terms, WeightedSum([1.0, *weights.values()], {f"weight.{key}": value for key, value in weights.items()})


def _weights(parts: Sequence[str], chosen: Mapping[str, Any], *, where: str) -> dict[str, float]:
    rows = [term_weight(part) for part in parts]
    require_options(rows, chosen, kind="weight of a sum", where=where)
    problems = Problems()
    weights = complete_options(rows, chosen, where, problems)
    problems.refuse()
    return {part: float(cast(float, value)) for part, value in weights.items()}


def read_options(
    entry: LossSpec, options: Sequence[Option], chosen: Mapping[str, Any], *, where: str
) -> dict[str, Scalar]:
    """Return the value of every option, chosen or default; raise with the dotted path on what is not legal."""
    chosen = with_preset(entry, chosen, where=where)
    names = [option.name for option in options]
    for key in chosen:
        if key not in names:
            option_named(entry, key, kind="loss", where=where)
            wrong = f"in a sum, {key!r} of {entry.name!r} has no meaning: a term is bare"
            raise SpecError([Problem(f"{where}.{key}", wrong, chosen[key])])
    problems = Problems()
    values = complete_options(options, chosen, where, problems)
    problems.refuse()
    return values

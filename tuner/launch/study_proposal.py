"""A study proposed for a data set: size, batch, losses, epochs and trials from what was measured of data and machine.

`propose_study` measures; `Proposal.content` is the study file as plain data, `tuner.launch.study_file` writes it.
"""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from math import prod
from statistics import fmean
from typing import Any

from tuner.config.study import StudySpec, load_spec
from tuner.config.trial import TrialConfig, dataset_section
from tuner.config.yaml_reader import YamlDocument
from tuner.data.preparation import ProgressCallback
from tuner.errors import Problems, RunError
from tuner.launch.data_profile import (
    SAMPLES,
    DataProfile,
    SampleCounts,
    count_samples,
    ct_window,
    profile_data,
    some_samples,
)
from tuner.launch.device_probe import ProbeRequest, ProbeResult, probe_devices
from tuner.launch.launcher import MessageCallback, read_devices
from tuner.launch.loss_choice import TASKS, LossChoice, choose_losses, suggested_task
from tuner.launch.loss_profile import CUDA_CONTEXT, SPARE, published_configs
from tuner.launch.step_probe import Measurement, probe_steps
from tuner.losses.catalog.registry import LOSSES, competing_name
from tuner.settings import Settings

BASELINE = "dice_cross_entropy"
UNPRUNED = 0.6
"""Share of the epochs that is left when the median pruner ends half of the trials."""
SPENT = 0.85
"""Share of the time that is planned with: machines are not alone, and validations grow."""
MIN_VISIBLE = 3.0
"""Pixels that the narrowest class has to keep when images are made smaller."""
TRIALS_EACH = 3
"""Trials for each competing loss, at least."""
_FIRST_BATCH, _MAX_BATCH = 4, 16


@dataclass(frozen=True, slots=True)
class Wish:
    """What was asked."""

    name: str
    dataset: Mapping[str, Any]
    """The `dataset` section as far as it is known: name, path, and options of the user's"""
    task: str | None
    """A key of `TASKS`; None: as the shapes suggest"""
    seconds: float
    """For search and confirmation together"""
    devices: str = "auto"
    probe_seconds: float = 60.0
    seed: int = 0
    notes: tuple[str, ...] = ()
    """What was made of the data on the way"""


@dataclass(frozen=True, slots=True)
class Setup:
    """One size of data and network."""

    dataset: Mapping[str, Any]
    patch: tuple[int, ...] | None
    width: int
    """Channels of the network at full resolution"""
    why: str


@dataclass(frozen=True, slots=True)
class Budget:
    """How much is trained."""

    trials: int
    epochs: int
    top: int
    seeds: int

    def trainings(self) -> float:
        """Return how many whole trainings search and confirmation are worth."""
        return UNPRUNED * self.trials + (self.top + 1) * self.seeds

    def seconds(self, epoch_s: float) -> float:
        """Return the device time."""
        return self.trainings() * self.epochs * epoch_s


BUDGETS = (
    *(Budget(trials, 100, 3, 5) for trials in (300, 200, 150, 100)),
    Budget(100, 60, 3, 5),
    Budget(80, 60, 3, 5),
    Budget(60, 40, 3, 5),
    Budget(48, 30, 3, 5),
    Budget(36, 25, 2, 5),
    Budget(30, 20, 2, 3),
    Budget(24, 15, 2, 3),
    Budget(18, 10, 2, 3),
    Budget(12, 8, 2, 3),
    Budget(9, 5, 1, 3),
    Budget(6, 3, 1, 3),
)
"""From what a lab would run to what can hardly be called a search."""
_ENOUGH = 8
"""Index in `BUDGETS` of the smallest budget for which a smaller network or image is not tried first."""

_SIDES = {"cuda": ((512, 32), (256, 32), (256, 16), (128, 16)), "cpu": ((256, 16), (128, 16), (96, 8), (64, 8))}
"""By kind of device, the largest side and the width of the network, from the largest down; MPS as the CPU."""
_PATCHES_3D = {"cuda": (((64, 128, 128), 16), ((32, 96, 96), 16)), "cpu": (((16, 64, 64), 8), ((8, 48, 48), 8))}


@dataclass(frozen=True, slots=True)
class Proposal:
    """A study, and the reasons for it."""

    wish: Wish
    task: str
    profile: DataProfile
    machine: ProbeResult
    workers: int
    setup: Setup
    batch: int
    steps: int
    """Optimiser steps of an epoch"""
    measured: Mapping[str, Measurement]
    """By loss; empty where nothing was reached in time"""
    epoch_s: float
    """Seconds of an epoch with its validation"""
    budget: Budget
    losses: tuple[LossChoice, ...]
    notes: tuple[str, ...] = ()

    @property
    def kept(self) -> list[str]:
        """Names of the losses that compete."""
        return [choice.loss for choice in self.losses if choice.is_in]

    @property
    def seconds(self) -> float:
        """How long search and confirmation are expected to take."""
        return self.budget.seconds(self.epoch_s) / self.workers

    @property
    def search_seconds(self) -> float:
        """How long the search may take, in proportion of the time that was given."""
        share = UNPRUNED * self.budget.trials / self.budget.trainings()
        return max(60.0, share * max(self.wish.seconds, self.seconds))

    @property
    def content(self) -> dict[str, Any]:
        """The study file."""
        return _content(self.wish, self.task, self.setup, self.batch, self.kept, self.budget, self.steps) | {
            "confirm": {"top": self.budget.top, "seeds": self.budget.seeds}
        }


@dataclass(frozen=True, slots=True)
class Survey:
    """A data set before anything is asked of the machine."""

    dataset: Mapping[str, Any]
    """The `dataset` section, with the validation share and a window of CT"""
    profile: DataProfile
    notes: tuple[str, ...]


def survey_data(
    dataset: Mapping[str, Any], settings: Settings, *, seed: int = 0, on_progress: ProgressCallback | None = None
) -> Survey:
    """Measure the data, and choose what validates. Raises DataError where it cannot be trained on."""
    dataset, notes = _with_validation(dataset, settings, seed), []
    window = None if {"low", "high"} & dataset.keys() else ct_window(_complete(dataset), settings)
    if window is not None:
        dataset = {**dataset, "low": window[0], "high": window[1]}
        notes.append(f"CT is clipped to {window[0]:g}..{window[1]:g} HU: 99 % of the labelled voxels lie there")
    profile = profile_data(_complete(dataset), settings, seed=seed, on_progress=on_progress)
    return Survey(dataset, profile, tuple(notes))


def propose_study(
    wish: Wish,
    profile: DataProfile,
    settings: Settings,
    *,
    on_message: MessageCallback,
    ask: Callable[[ProbeRequest], ProbeResult] = probe_devices,
) -> Proposal:
    """Measure training steps on the machine, and propose a study.

    Args:
        wish: What was asked.
        profile: Of the data, as `survey_data` found it.
        settings: Where the data lies, and the cache.
        on_message: Told of what is being done.
        ask: Who knows the devices.

    Raises:
        RequestError: A device is not there.
        RunError: No training could be measured.
    """
    task = wish.task or suggested_task(profile)
    machine = ask(ProbeRequest(devices=read_devices(wish.devices), per_device=None, workers=None))
    setups = possible_setups(wish, profile, machine.slots[0].partition(":")[0])
    on_message(f"measuring training steps on {machine.slots[0]}: at most {wish.probe_seconds:.0f} s")
    each = _sample_seconds(wish, settings, machine, task, setups)
    setup = _first_that_fits(setups, each, wish, profile, len(machine.slots))
    counts = count_samples(_complete({**wish.dataset, **setup.dataset}), settings, seed=wish.seed)
    names = [choice.loss for choice in choose_losses(profile, task, most=len(LOSSES)) if choice.is_in]
    batch = _wanted_batch(_samples(counts, setup), setup)
    spec = _spec(wish, task, setup, batch, names)
    found = _probe(list(published_configs(spec).items()), [spec.base.dataset], wish, settings, machine, share=0.7)
    times = {name: m.step_s for name, m in found.items() if m.step_s is not None}
    step_s = fmean(times.values()) if times else batch * each[setups.index(setup)]
    validation_s = counts.samples[1] * _validation_s(found, step_s, batch)
    batch = _fitting_batch(batch, found, machine)
    workers = _workers(found, machine)
    steps = -(-_samples(counts, setup) // batch)
    epoch_s = steps * step_s + validation_s
    budget = fitting_budget(epoch_s, wish.seconds * workers)
    losses = choose_losses(profile, task, most=max(2, budget.trials // TRIALS_EACH), steps=times)
    return Proposal(
        wish=wish,
        task=task,
        profile=replace(profile, cases=counts.cases, samples=counts.samples),
        machine=machine,
        workers=workers,
        setup=setup,
        batch=batch,
        steps=steps,
        measured=found,
        epoch_s=epoch_s,
        budget=budget,
        losses=tuple(losses),
        notes=wish.notes,
    )


def fitting_budget(epoch_s: float, seconds: float) -> Budget:
    """Return the largest budget for so much device time; the smallest one where none fits.

    Between two of `BUDGETS` first the trials, then the epochs grow towards those of the larger one.
    """
    number = _rung(epoch_s, seconds)
    budget = BUDGETS[number]
    room = SPENT * seconds / epoch_s
    if number == 0 or budget.seconds(1.0) > room:
        return budget
    larger = BUDGETS[number - 1]
    trials = int((room / budget.epochs - (budget.top + 1) * budget.seeds) / UNPRUNED)
    budget = replace(budget, trials=max(budget.trials, min(trials, larger.trials)))
    return replace(budget, epochs=max(budget.epochs, min(int(room / budget.trainings()), larger.epochs)))


def _rung(epoch_s: float, seconds: float) -> int:
    """Return the index of the largest of `BUDGETS` that fits, else of the smallest."""
    fits = (number for number, budget in enumerate(BUDGETS) if budget.seconds(epoch_s) <= SPENT * seconds)
    return next(fits, len(BUDGETS) - 1)


def possible_setups(wish: Wish, profile: DataProfile, kind: str) -> list[Setup]:
    """Return sizes of data and network from the largest down, as the user's options and the data allow."""
    given = wish.dataset
    kind = kind if kind == "cuda" else "cpu"
    if given.get("dimensions") == 3:
        return [
            Setup({"resize": False}, patch, width, "whole volumes, trained on in patches")
            for patch, width in _PATCHES_3D[kind]
        ]
    setups: list[Setup] = []
    for side, width in _SIDES[kind]:
        setup = _setup_of(given, profile, side, width)
        if not setups or (setup.dataset, setup.patch, setup.width) != (
            setups[-1].dataset,
            setups[-1].patch,
            setups[-1].width,
        ):
            setups.append(setup)
    return setups


def _setup_of(given: Mapping[str, Any], profile: DataProfile, side: int, width: int) -> Setup:
    longest = max(profile.recorded)
    recorded = " x ".join(map(str, profile.recorded)) + (" (median)" if profile.uneven else "")
    if given.get("resize") is False:
        return Setup({}, (_patch_side(profile, side),) * 2, width, "as asked: images keep their sizes")
    if "size" in given:
        return Setup({}, None, width, "the size that was asked for")
    scale = min(1.0, side / longest)
    can_keep = "resize" in _complete(given)
    narrow = min((c for c in profile.scored if c.width > 0), key=lambda c: c.width, default=None)
    left = narrow.width * longest / max(profile.size) * scale if narrow is not None else MIN_VISIBLE
    thin = f"{narrow.name} would be {left:.2g} px wide" if narrow is not None and left < MIN_VISIBLE else ""
    if can_keep and scale < 0.75 and thin:
        why = f"files have {recorded}; resized to {side}, {thin}: images keep their sizes, and patches are trained on"
        return Setup({"resize": False}, (_patch_side(profile, side),) * 2, width, why)
    height, wide = (_rounded(extent * scale) for extent in profile.recorded)
    why = f"files have {recorded}"
    if scale < 1.0:
        why += f", made smaller for {'time' if side < 512 else 'memory'}"
        why += f"; {thin.replace('would be', 'is then')}: more time would allow a larger size" if thin else ""
    if "width" in _complete(given) and height != wide:
        return Setup({"size": height, "width": wide}, None, width, why)
    return Setup({"size": max(height, wide)}, None, width, why)


def _patch_side(profile: DataProfile, side: int) -> int:
    return max(32, min(side, min(profile.recorded) // 16 * 16))


def _rounded(extent: float) -> int:
    return max(16, round(extent / 16) * 16)


def _complete(section: Mapping[str, Any]) -> dict[str, Any]:
    problems = Problems()
    found = dataset_section(dict(section), problems)
    problems.refuse(where="dataset")
    return found


def _with_validation(dataset: Mapping[str, Any], settings: Settings, seed: int) -> Mapping[str, Any]:
    """Choose a share of the cases that validates: two of them at least, where there are four."""
    if "validation" in dataset:
        return dataset
    counts = count_samples(_complete(dataset), settings, seed=seed)
    cases = counts.cases[0] + counts.cases[1]
    return {**dataset, "validation": 0.2 if cases >= 8 or cases < 4 else 0.5 if cases == 4 else 0.4}


def _samples(counts: SampleCounts, setup: Setup) -> int:
    return counts.samples[0] * (4 if setup.patch else 1)


def _wanted_batch(samples: int, setup: Setup) -> int:
    most = 2 if setup.patch and len(setup.patch) == 3 else _MAX_BATCH
    batch = 2
    while batch * 2 <= min(most, samples // 8):
        batch *= 2
    return batch


def _content(
    wish: Wish, task: str, setup: Setup, batch: int, losses: list[str], budget: Budget, steps: int
) -> dict[str, Any]:
    few = budget.epochs * steps < 2000  # short trainings need larger steps
    lr, low, high = (3e-3, 3e-4, 2e-2) if few else (3e-4, 3e-5, 3e-3)
    patch = {} if setup.patch is None else {"patch": list(setup.patch)}
    dataset = {**wish.dataset, **setup.dataset}
    dataset["validation"] = dataset.pop("validation")
    return {
        "name": wish.name,
        "dataset": dataset,
        "model": {"name": "unet", "width": setup.width},
        "train": {"epochs": budget.epochs, "batch_size": batch, "lr": lr, "weight_decay": 1e-4, **patch},
        "search": {
            "loss": [competing_name(name) for name in losses],
            "train.lr": {"low": low, "high": high, "log": True},
            "train.weight_decay": {"low": 1e-6, "high": 1e-2, "log": True},
        },
        "objectives": [{"metric": TASKS[task][0]}],
        "sampler": {"name": "auto"},
        "pruner": {"name": "auto"},
        "budget": {"trials": budget.trials, "retries": 3},
        "seed": wish.seed,
    }


def _sample_seconds(
    wish: Wish, settings: Settings, machine: ProbeResult, task: str, setups: list[Setup]
) -> dict[int, float]:
    """Return the seconds that a training sample takes in each setup, by its number.

    The smallest is measured first, which any machine can, then the largest, in what is left of the time; the others are
    reckoned from the largest that was measured, by pixels and by the network's width.
    """
    configs, sections = [], []
    for number in dict.fromkeys((len(setups) - 1, 0)):
        spec = _spec(wish, task, setups[number], _FIRST_BATCH, [BASELINE])
        configs.append((str(number), published_configs(spec)[BASELINE]))
        sections.append(spec.base.dataset)
    found = _probe(configs, sections, wish, settings, machine, share=0.3)
    known = [int(name) for name, measured in found.items() if measured.step_s is not None]
    if not known:
        problem = next((measured.problem for measured in found.values() if measured.problem), "none was done in time")
        raise RunError(
            f"no training step could be measured on {machine.slots[0]}: {problem}.",
            hint="Smaller images would do: --set size=64.",
        )
    number = min(known)
    step_s = found[str(number)].step_s or 0.0
    each = step_s / _FIRST_BATCH / _size_of(wish, setups[number]) / setups[number].width
    return {
        smaller: each * _size_of(wish, setups[smaller]) * setups[smaller].width
        for smaller in range(number, len(setups))
    }


def _size_of(wish: Wish, setup: Setup) -> int:
    """Return the pixels of what is trained on."""
    if setup.patch is not None:
        return prod(setup.patch)
    section = _complete({**wish.dataset, **setup.dataset})
    return int(section["size"]) * int(section.get("width") or section["size"])


def _spec(wish: Wish, task: str, setup: Setup, batch: int, losses: list[str]) -> StudySpec:
    """Return a study of a setup, to take the configurations from that are measured."""
    content = _content(wish, task, setup, batch, losses, BUDGETS[_ENOUGH], steps=100)
    return load_spec(YamlDocument(content, {}, "the proposed study"))


def _probe(
    configs: list[tuple[str, TrialConfig]],
    sections: list[dict[str, Any]],
    wish: Wish,
    settings: Settings,
    machine: ProbeResult,
    *,
    share: float,
) -> dict[str, Measurement]:
    """Measure configurations in a share of the time for measuring; `sections` are their `dataset` sections."""
    with ExitStack() as stack:
        for section in sections:
            counts = count_samples(section, settings, seed=wish.seed)
            stack.enter_context(some_samples(section, settings, seed=wish.seed, counts=counts))
        return probe_steps(
            configs,
            settings,
            device=machine.slots[0],
            threads=machine.threads,
            seed=wish.seed,
            samples=SAMPLES,
            seconds=share * wish.probe_seconds,
        )


def _first_that_fits(
    setups: list[Setup], each: Mapping[int, float], wish: Wish, profile: DataProfile, slots: int
) -> Setup:
    """Return the largest setup whose study is worth its name in the time, else the one with the largest budget."""
    budgets = {}
    for number, sample_s in sorted(each.items()):
        samples = profile.samples[0] * (4 if setups[number].patch else 1)
        budgets[number] = _rung((samples + 0.5 * profile.samples[1]) * sample_s, wish.seconds * slots)
        if budgets[number] <= _ENOUGH:
            break
    return setups[min(budgets, key=budgets.__getitem__)] if min(budgets.values()) > _ENOUGH else setups[max(budgets)]


def _fitting_batch(batch: int, found: Mapping[str, Measurement], machine: ProbeResult) -> int:
    """Halve the batch until what a worker holds, taken for activations alone, fits beside the others on its device."""
    peak = max((m.memory for m in found.values() if m.memory is not None), default=None)
    free = next((m.free for m in found.values() if m.free is not None), None)
    if peak is None or free is None:
        return batch
    each = machine.slots.count(machine.slots[0])
    while batch > 1 and peak > SPARE * free / each:
        batch, peak = batch // 2, peak // 2
    return batch


def _workers(found: Mapping[str, Measurement], machine: ProbeResult) -> int:
    """Return how many workers are started: as the machine's cores and memory are, and as the measured peak allows."""
    peak = max((m.memory for m in found.values() if m.memory is not None), default=None)
    free = next((m.free for m in found.values() if m.free is not None), None)
    devices = list(dict.fromkeys(machine.slots))
    each = machine.slots.count(devices[0])
    if peak is not None and free is not None:
        context = CUDA_CONTEXT if devices[0].startswith("cuda") else 0
        each = max(1, min(each, int(SPARE * free // (peak + context))))
    return each * len(devices)


def _validation_s(found: Mapping[str, Measurement], step_s: float, batch: int) -> float:
    """Return the seconds of a validation for each sample: as measured, else half of a training step's share."""
    known = next((m.validation_s for m in found.values() if m.validation_s is not None), None)
    return known if known is not None else 0.5 * step_s / batch

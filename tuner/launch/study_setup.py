"""Study setup: preflight checks of data, models and devices; only then is a study created, or continued."""

import math
import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tuner.artifacts.remote import artifacts_of, check_address
from tuner.config.command import check_allowed, dangling_flags
from tuner.config.loss_rules import has_regions
from tuner.config.study import StudySpec, load_spec
from tuner.config.trial import flatten
from tuner.config.yaml_reader import YamlDocument
from tuner.data.catalog import DATASETS
from tuner.data.preparation import ProgressCallback, check_same_data
from tuner.errors import ConfigError, ConflictError, DataError, EntryError, NotFoundError, SpecError
from tuner.launch.device_probe import ProbeRequest, ProbeResult, cpu_workers, probe_devices
from tuner.launch.launcher import MessageCallback, read_devices, threads_each
from tuner.launch.loss_profile import measured_per_device
from tuner.launch.new_study import AUTO, create_study
from tuner.launch.warm_start import read_warm_start
from tuner.models.catalog import ENTRY, MODELS, WEIGHTS
from tuner.models.rules import dims_problems
from tuner.models.weights_path import find_weights
from tuner.settings import Settings
from tuner.storage.activity import local_actor
from tuner.storage.records import PriorResult, StudyRecord
from tuner.storage.storage import Storage
from tuner.storage.studies import refuse_archived

FREE_KEYS = ("train.threads", "train.precision")
"""Resolved when a study is created; null and `auto` then mean what is stored."""
SIZES = ("trials", "trials_per_loss", "hours_per_loss")
"""Keys of `budget` that say how much is trained."""
CHANGEABLE = ("budget.timeout", *(f"budget.{key}" for key in SIZES))
"""May change; how much is trained may only rise, which is looked at by itself."""
BY_FILES = ("dataset.regions.", "dataset.regions_class_order")
"""Read from the files of the data set when a study is created; nothing then means what is stored."""
ALONGSIDE = ("confirm.", "trackers")
"""What follows the search may change until it has begun, and who is told of it at any time."""


def check_same(record: StudyRecord, spec: StudySpec, *, trials_given: bool = False) -> None:
    """Refuse a specification that differs from the stored one, key by key. Raises ConflictError.

    A number of trials that stands in the file only, as it stood when the study was created, does not count as a wish to
    lower a budget that was raised since.
    """
    # read again, so that what an older version did not know has its default
    stored = load_spec(YamlDocument(record.spec, {}, f"study {record.name}")).as_dict()
    found = differences(stored, spec.as_dict())
    stored_trials = record.spec["budget"]
    asked = spec.budget.model_dump(mode="json")
    same_budget = all(asked[key] == stored_trials.get(key) for key in SIZES)
    hours, stored_hours = asked["hours_per_loss"], stored_trials.get("hours_per_loss")
    if (hours is None) != (stored_hours is None):
        found.append(f"budget.hours_per_loss: {stored_hours} stored, {hours} asked for (a budget keeps its kind)")
    elif hours is not None and hours < stored_hours:
        found.append(
            f"budget.hours_per_loss: {stored_hours:g} stored, {hours:g} asked for (a budget may rise, not fall)"
        )
    elif (trials_given or not same_budget) and spec.total < record.total:
        found.append(f"budget.trials: {record.total} stored, {spec.total} asked for (a budget may rise, not fall)")
    if found:
        raise ConflictError(
            f"there is a study {record.name!r} already, with another specification:\n  " + "\n  ".join(found),
            hint=f"Go on with the stored one by `tuner resume {record.name}`, or start the changed one from its "
            f"results: `tuner launch NEW.yaml --name OTHER --warm-start {record.name}`.",
        )


def new_total(record: StudyRecord, spec: StudySpec) -> int | None:
    """Return the number of trials that the budget rises to; None when it stays, or when it is a training time."""
    if spec.budget.hours_per_loss is not None:
        return None
    return spec.total if spec.total > record.total else None


def changed_loss_time(record: StudyRecord, spec: StudySpec) -> dict[str, Any]:
    """Return the keys of `budget` in which a training time for each loss is another one than is stored."""
    asked = spec.budget.model_dump(mode="json")
    if asked["hours_per_loss"] is None:
        return {}
    return {key: asked[key] for key in SIZES if asked[key] != record.spec["budget"].get(key)}


def differences(stored: Mapping[str, Any], asked: Mapping[str, Any]) -> list[str]:
    """Write a line for each key in which two specifications differ and may not."""
    before, after = _flat(stored), _flat(asked)
    lines = []
    for key in sorted(before.keys() | after.keys()):
        old, new = before.get(key), after.get(key)
        is_free = key in CHANGEABLE or key.startswith(ALONGSIDE) or (key in FREE_KEYS and new in (None, "auto"))
        is_free = is_free or (key.startswith(BY_FILES) and key not in after)
        if is_free or _same(old, new):
            continue
        lines.append(f"{key}: {_shown(before, key)} stored, {_shown(after, key)} asked for")
    return lines


def _flat(spec: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for section, content in spec.items():
        if isinstance(content, Mapping):
            flat |= flatten(content, section)
        else:
            flat[section] = content
    return flat


def _same(old: Any, new: Any) -> bool:
    if isinstance(old, bool) or isinstance(new, bool):
        return old is new
    if isinstance(old, (list, tuple)) and isinstance(new, (list, tuple)):
        return len(old) == len(new) and all(_same(a, b) for a, b in zip(old, new, strict=True))
    return bool(old == new)


def _shown(flat: Mapping[str, Any], key: str) -> str:
    return repr(flat[key]) if key in flat else "nothing"


@dataclass(frozen=True, slots=True)
class DataFacts:
    """What is known of the data before a trial has run."""

    fingerprint: str | None
    """None where a training of the user's own reads what it likes."""
    protocol: str | None
    train: int
    """Training samples."""
    validation: int
    shape: tuple[int, ...]
    classes: int
    """Or regions: channels of the output"""


def prepare_data(spec: StudySpec, settings: Settings, on_progress: ProgressCallback | None) -> DataFacts:
    """Prepare the data into the cache, where the workers find it, and say what it holds."""
    from tuner.data.preparation import prepare

    if not spec.base.has_data:
        return DataFacts(None, None, train=0, validation=0, shape=(), classes=0)
    data = prepare(
        spec.base.dataset, data_root=settings.data_root, cache=settings.cache, seed=spec.seed, on_progress=on_progress
    )
    train = spec.base.train
    patch = train.patch_shape(data.spatial_dims)
    return DataFacts(
        fingerprint=data.fingerprint,
        protocol=data.validation_protocol,
        train=len(data.train.labels) * (train.patches if patch else 1),
        validation=len(data.validation.labels),
        shape=(data.channels, *patch) if patch else data.sample_shape,
        classes=data.outputs,
    )


def first_estimate(spec: StudySpec, machine: ProbeResult, data: DataFacts) -> float | None:
    """Guess the seconds that a whole budget takes, from one measured sample; None when it could not be measured.

    Validation costs a third of a training step for each sample. Pruning makes it shorter, other work longer.
    """
    slots = len(machine.slots)
    if spec.budget.hours_per_loss is not None:
        return 3600 * spec.budget.hours_per_loss * len(spec.candidates) / slots
    if machine.sample_s is None:
        return None
    samples = data.train + data.validation / (3 * spec.base.train.validate_every)
    return spec.total * spec.base.train.epochs * samples * machine.sample_s / slots


def steps_per_epoch(spec: StudySpec, data: DataFacts) -> int:
    """Return the optimiser steps of an epoch."""
    return math.ceil(data.train / spec.base.train.batch_size)


EXTRAS = {"smp": ("torchvision", "timm", "segmentation_models_pytorch")}
"""Packages that an extra brings."""


def check_models(spec: StudySpec, settings: Settings, *, spatial_dims: int, trains_here: bool) -> None:
    """Check every network that the study may train.

    Args:
        spec: The study.
        settings: Where weights lie.
        spatial_dims: Of the samples.
        trains_here: Whether workers of this machine train; elsewhere other packages and files may be there.

    Raises:
        SpecError: A network is not made for such samples.
        ConfigError: A network needs a package that is not installed.
        EntryError: A network is code of the user's own, of a package that may not be imported here.
        DataError: A file of pretrained weights is not there.
    """
    if spec.base.train.is_own:
        return  # a training of the user's own builds what it likes
    rows = [MODELS[name] for name in model_names(spec) if name in MODELS]
    problems = [problem for row in rows for problem in dims_problems(row, spatial_dims)]
    if problems:
        raise SpecError(problems)
    if not trains_here:
        return
    for row in rows:
        missing = [name for name in EXTRAS.get(row.extra, ()) if find_spec(name) is None]
        if missing:
            raise ConfigError(
                f"the model {row.name!r} needs {', '.join(missing)}, not installed here.",
                hint=f"Install them: pip install 'segmentation-tuner[{row.extra}]' (torchvision of torch's own build).",
                where="model.name",
            )
    if spec.base.model.get("name") == ENTRY:
        _check_allowed(str(spec.base.model["entry"]), settings.allow_entry, where="model.entry")
    for path in own_losses(spec):
        _check_allowed(path, settings.allow_entry, where="loss.entry")
    for name in weights_names(spec):
        find_weights(name, settings.data_root)


def own_losses(spec: StudySpec) -> list[str]:
    """Return the functions of the user's own that compete as losses, or the one that is fixed."""
    if spec.search.own:
        return [str(own["entry"]) for own in spec.search.own.values()]
    return [str(spec.base.loss["entry"])] if "entry" in spec.base.loss else []


def _check_allowed(path: str, allowed: Collection[str], *, where: str) -> None:
    package = path.partition(":")[0].partition(".")[0]
    if package not in allowed:
        raise EntryError(
            f"code of the package {package!r} may not be imported on this machine.",
            hint=f"Its owner can allow it: TUNER_ALLOW_ENTRY={package}.",
            where=where,
        )


def model_names(spec: StudySpec) -> list[str]:
    """Return the names of the networks that compete, or of the one that is fixed."""
    searched = spec.search.raw.get("model.name")
    if searched is not None:
        return [searched] if isinstance(searched, str) else [str(name) for name in searched]
    return [str(spec.base.model["name"])] if "name" in spec.base.model else []


def weights_names(spec: StudySpec) -> Iterator[str]:
    """Yield the files of pretrained weights that the study names, fixed or searched."""
    given = [spec.base.model.get(WEIGHTS.name)]
    for key, value in spec.search.raw.items():
        if key.startswith("model.") and key.endswith(f".{WEIGHTS.name}"):
            given.extend(value if isinstance(value, (list, tuple)) else [value])
    yield from (name for name in given if isinstance(name, str))


DEFECTS_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Resources:
    """Who works on a study: what may be changed at every launch. None: as stored, else the default."""

    workers: int | None = None
    devices: str | None = None
    per_device: str | None = None
    launcher: str | None = None
    ray_address: str | None = None
    ray_insecure: bool = False
    """Never stored: whoever wants a cluster without a token insists each time."""

    def over(self, stored: Mapping[str, Any]) -> "Resources":
        """Fill in what was not given from what is stored, else from the defaults."""
        devices = self.devices or stored.get("devices") or AUTO
        again = self.devices is None and self.per_device is None
        return Resources(
            workers=self.workers if self.workers is not None or not again else stored.get("workers"),
            devices=devices,
            per_device=self.per_device or stored.get("workers_per_device") or "1",
            launcher=self.launcher or stored.get("launcher") or "local",
            ray_address=self.ray_address or os.environ.get("RAY_ADDRESS") or stored.get("ray_address"),
            ray_insecure=self.ray_insecure,
        )

    def as_dict(self) -> dict[str, Any]:
        """Return what is stored with the study."""
        return {
            "workers": self.workers,
            "devices": self.devices,
            "workers_per_device": self.per_device,
            "launcher": self.launcher,
            "ray_address": self.ray_address if self.launcher == "ray" else None,
        }


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked for at a launch."""

    spec: StudySpec
    settings: Settings
    resources: Resources = field(default_factory=Resources)
    trials_given: bool = False
    """Whether the number of trials was typed: then a smaller one than stored is refused."""
    timeout_given: bool = False
    warm_start: tuple[str, ...] = ()
    """Studies and files whose results a new study starts from."""
    ask: Callable[[ProbeRequest], ProbeResult] = probe_devices
    """Who knows the devices on which the workers will be."""
    actor: str = ""
    """Who asks, for the log of activity; a program of this user's where it is empty."""


@dataclass(frozen=True, slots=True)
class StudyHandle:
    """A stored study, and what its workers need."""

    record: StudyRecord
    spec: StudySpec
    resources: Resources
    machine: ProbeResult
    data: DataFacts
    is_new: bool


def find_study(url: str, name: str) -> StudyRecord | None:
    """Return a stored study, or None; creates nothing. Raises StorageError when the storage cannot be used."""
    from tuner.storage.engine import Database
    from tuner.storage.migrate import versions
    from tuner.storage.url import check_file, read_url

    parsed = read_url(url)
    if parsed.get_backend_name() == "sqlite" and not check_file(parsed, create=True).exists():
        return None
    database = Database.open(url, create=True)
    try:
        if versions(database)[0] is None:
            return None
    finally:
        database.close()
    with Storage.open(url, read_only=True) as store:
        try:
            return store.studies.get(name)
        except NotFoundError:
            return None


def stored_spec(record: StudyRecord, *, overrides: Mapping[str, Any] | None = None) -> StudySpec:
    """Return the specification of a stored study."""
    return load_spec(YamlDocument(record.spec, {}, f"study {record.name}"), values=overrides)


def create_or_resume_study(
    request: Request, *, on_message: MessageCallback, on_progress: ProgressCallback | None = None
) -> StudyHandle:
    """Check everything, then create the study or continue it.

    Raises:
        RequestError: Something asked for cannot be; nothing was created or changed.
        StorageError: The storage cannot be used.
    """
    request = replace(request, spec=with_declared_regions(request.spec, request.settings))
    spec, settings = request.spec, request.settings
    for line in unfit_losses(spec):
        on_message(line)
    record = find_study(settings.storage, spec.name)
    if record is not None:
        settings = settings.with_stored(record.resources)
        _check_continuation(request, record)
    resources = request.resources.over(record.resources if record else {})
    question = probe_request(resources, gpus_each=spec.base.train.devices)
    if set(question.devices) - {AUTO, "cpu"}:
        # A device that is not here is refused before anything is prepared.
        request.ask(replace(question, precision=False))
    check_writable(settings.artifacts)
    check_address(settings)
    if spec.base.train.command is not None:
        check_command(spec, settings, on_message, trains_here=resources.launcher in ("local", "inline"))
    if spec.base.has_data:
        check_data(spec, settings, on_message)
    data = prepare_data(spec, settings, on_progress)
    results: list[PriorResult] = []
    told: list[str] = []
    if request.warm_start:
        results, told = read_warm_start(request.warm_start, spec, settings=settings, fingerprint=data.fingerprint)
    dims, trains_here = len(data.shape) - 1, resources.launcher != "none"
    check_models(spec, settings, spatial_dims=dims, trains_here=trains_here)
    if record is None:
        question = _with_sample(question, request, data)
    elif data.fingerprint is not None:
        where = str(settings.data_root or settings.cache)
        stored = record.resources.get("fingerprint")
        check_same_data(spec.base.dataset["name"], spec.name, found=data.fingerprint, stored=stored, where=where)
    machine = request.ask(_fit_size(question, replace(request, settings=settings, resources=resources), on_message))
    for note in machine.notes:
        on_message(f"note: {note}")
    with Storage.open(settings.storage, create=True) as store:
        if record is None:
            record, is_new = _create(store, spec, machine if trains_here else None, resources, data, settings)
            if not is_new:
                check_same(record, request.spec, trials_given=request.trials_given)
        else:
            is_new = False
        earlier = artifacts_of(settings, owner=store.studies.folder_mark).take(record.name, logs=is_new)
        if earlier is not None:
            on_message(f"note: files of an earlier study {record.name} were put into {earlier}")
        if request.warm_start:
            is_stored = store.foreign.put_prior(record.study_id, results)
            for line in told if is_stored else [f"note: {record.name} has its warm start already; it stays"]:
                on_message(line)
        if not is_new:
            record = _continue(store, record, replace(request, settings=settings), resources, data)
        actor, action = request.actor or local_actor("python"), "create" if is_new else "resume"
        store.activity.record(record.name, action, actor=actor, detail=f"{record.total} trials")
    return StudyHandle(record, stored_spec(record), resources, machine, data, is_new)


def check_command(spec: StudySpec, settings: Settings, on_message: MessageCallback, *, trains_here: bool) -> None:
    """Say what a program will be given wrongly. Raises EntryError where workers of this machine may not run it."""
    command = spec.base.train.command or ""
    if trains_here:
        check_allowed(command, settings.allow_command)
    for flag in dangling_flags(command):
        on_message(
            f"note: train.command: {flag} stays where its value is left out; write it as one argument, {flag}={{…?}}"
        )


def with_declared_regions(spec: StudySpec, settings: Settings) -> StudySpec:
    """Return the study with the regions that the files of its data set declare, which decide what competes.

    Raises SpecError where the loss that is asked for has no meaning for classes that overlap.
    """
    from tuner.data.preparation import open_source
    from tuner.data.source import DeclaresRegions

    dataset = spec.base.dataset
    if not spec.base.has_data or has_regions(dataset) or not DATASETS[dataset["name"]].declares_regions:
        return spec
    try:
        _, _, source = open_source(dataset, settings.data_root)
    except DataError:
        return spec  # said when the files are checked
    declared = source.declared_regions if isinstance(source, DeclaresRegions) else None
    if declared is None:
        return spec
    content = spec.as_dict()
    return load_spec(YamlDocument(content | {"dataset": {**content["dataset"], **declared}}, {}, None))


def unfit_losses(spec: StudySpec) -> list[str]:
    """Say which losses of `all` or of a family do not compete, a line for each reason."""
    reasons: dict[str, list[str]] = {}
    for name, why in spec.search.unfit.items():
        reasons.setdefault(why, []).append(name)
    return [f"note: left out of the search: {', '.join(names)} (each {why})" for why, names in reasons.items()]


def check_writable(folder: Path) -> None:
    """Raise SpecError unless files can be made below a folder that may not exist yet."""
    place = folder
    while not place.exists() and place != place.parent:
        place = place.parent
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        raise SpecError(
            [f"{place} may not be written" if place.is_dir() else f"{place} is not a folder"],
            where=str(folder),
            hint="Name a folder for the files of the trials by --artifacts or TUNER_ARTIFACTS.",
        )


def check_data(spec: StudySpec, settings: Settings, on_message: MessageCallback) -> None:
    """Open every file of the data set. Raises DataError that lists what is broken or missing.

    Mere flaws, notes and what is read as classes are told.
    """
    from tuner.data.checks import DataWarning, check

    section = spec.base.dataset
    found = check(section, data_root=settings.data_root, cache=settings.cache)
    for row in found.classes:
        on_message(row.text())
    told = [*(line for line in found if isinstance(line, DataWarning)), *found.notes]
    for line in told[:DEFECTS_SHOWN]:
        on_message(f"note: {line}")
    if len(told) > DEFECTS_SHOWN:
        on_message(f"note: and {len(told) - DEFECTS_SHOWN} more; tuner data check {section['name']} lists all of them")
    refuse_defects(section["name"], found)


def refuse_defects(name: str, found: Sequence[str]) -> None:
    """Raise DataError that lists what a check has found, where that is more than warnings."""
    from tuner.data.checks import DataWarning

    defects = [line for line in found if not isinstance(line, DataWarning)]
    if defects:
        shown = defects[:DEFECTS_SHOWN]
        more = f"\n  … and {len(defects) - len(shown)} more" if len(defects) > len(shown) else ""
        raise DataError(
            f"the data set {name!r} has {len(defects)} defect{'s' * (len(defects) > 1)}:\n  "
            + "\n  ".join(shown)
            + more,
            hint=f"tuner data check {name} lists all of them; `--dataset phantom` needs no data.",
        )


def probe_request(resources: Resources, *, gpus_each: int = 1) -> ProbeRequest:
    """Return what the machine is asked about its devices. Raises SpecError for numbers that cannot be."""
    per_device = str(resources.per_device)
    if per_device != AUTO and (not per_device.isdecimal() or not 1 <= int(per_device) <= 256):
        raise SpecError([f"{per_device!r} is not a number from 1 to 256, nor auto"], where="--workers-per-device")
    if resources.workers is not None and not 1 <= resources.workers <= 1024:
        raise SpecError([f"{resources.workers!r} is not a number from 1 to 1024"], where="--workers")
    return ProbeRequest(
        devices=read_devices(str(resources.devices)),
        per_device=None if per_device == AUTO else int(per_device),
        workers=resources.workers,
        precision=False,
        gpus_each=gpus_each,
    )


def _with_sample(question: ProbeRequest, request: Request, data: DataFacts) -> ProbeRequest:
    """Ask for what a new study needs: the precision, and the time of a training step if anybody waits for it."""
    spec = request.spec
    if request.resources.launcher == "none":  # the first worker says, where it trains
        return replace(question, shape=data.shape)
    wants_precision = spec.base.train.precision == AUTO and spec.base.train.command is None
    question = replace(question, precision=wants_precision, shape=data.shape)
    if _is_own_code(spec):
        return question
    return replace(question, config=spec.config(spec.queue(3)[0]), classes=data.classes)


def _fit_size(question: ProbeRequest, request: Request, on_message: MessageCallback) -> ProbeRequest:
    """Replace `auto` workers on a device of this machine by what fits there, as measured."""
    if question.per_device is not None or request.resources.launcher != "local" or _is_own_code(request.spec):
        return question
    on_message("measuring how many workers fit on a device")
    device = request.ask(replace(question, per_device=1, workers=None, config=None, precision=False)).slots[0]
    threads = request.spec.base.train.threads or threads_each(cpu_workers())
    fitting = measured_per_device(request.spec, request.settings, device=device, threads=threads)
    return replace(question, per_device=fitting)


def _is_own_code(spec: StudySpec) -> bool:
    return spec.base.train.is_own or spec.base.model.get("name") == ENTRY or bool(own_losses(spec))


def _check_continuation(request: Request, record: StudyRecord) -> None:
    refuse_archived(record)
    check_same(record, request.spec, trials_given=request.trials_given)
    used_up = record.timeout_s is not None and record.spent_s >= record.timeout_s
    if used_up and not request.timeout_given and new_timeout(record, request) is None:
        raise ConflictError(
            f"the time of study {record.name!r} is used up ({record.spent_s:.0f} s of {record.timeout_s:.0f} s).",
            hint=f"Give it more by `tuner resume {record.name} --timeout 2h`.",
        )


def new_timeout(record: StudyRecord, request: Request) -> float | None:
    """Return the new limit of the working time when it differs from the stored one, else None."""
    asked = request.spec.budget.timeout
    return asked if request.timeout_given or asked != record.spec["budget"].get("timeout") else None


def _create(
    store: Storage,
    spec: StudySpec,
    machine: ProbeResult | None,
    resources: Resources,
    data: DataFacts,
    settings: Settings,
) -> tuple[StudyRecord, bool]:
    try:
        record = create_study(store, spec, machine=machine, resources=_stored(resources, data, settings))
    except ConflictError:
        return store.studies.get(spec.name), False  # another launcher was a moment faster: help it
    return record, True


def _continue(
    store: Storage, record: StudyRecord, request: Request, resources: Resources, data: DataFacts
) -> StudyRecord:
    total = new_total(record, request.spec)
    if total is not None:
        planned = request.spec.budget.trials_per_loss or request.spec.sampler["name"] == "grid"
        tail = request.spec.queue(total)[record.total :] if planned else []
        store.studies.raise_budget(record.name, total, tail)
    limits = changed_loss_time(record, request.spec)
    if limits:
        store.studies.change_loss_time(record.name, limits)
    store.foreign.adopt(record.study_id)
    timeout = new_timeout(record, request)
    changes: dict[str, Any] = {} if timeout is None else {"timeout_s": timeout}
    store.studies.resume(record.name, resources=_stored(resources, data, request.settings), **changes)
    return store.studies.get(record.name)


def _stored(resources: Resources, data: DataFacts, settings: Settings) -> dict[str, Any]:
    root = str(settings.data_root) if settings.data_root else None
    facts = {"fingerprint": data.fingerprint, "protocol": data.protocol, "data_root": root}
    return resources.as_dict() | facts

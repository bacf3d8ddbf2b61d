"""The one place where a checked specification becomes a stored study: for a launch, the service and tests."""

from collections.abc import Mapping
from typing import Any

from tuner import __version__
from tuner.config.study import StudySpec
from tuner.launch.device_probe import ProbeResult
from tuner.search.space import SearchSpace
from tuner.storage.records import NewStudy, StudyRecord
from tuner.storage.storage import Storage

AUTO = "auto"


def create_study(
    store: Storage, spec: StudySpec, *, machine: ProbeResult | None = None, resources: Mapping[str, Any] | None = None
) -> StudyRecord:
    """Store a study with its whole budget.

    Args:
        store: Where it is stored.
        spec: What is searched.
        machine: What the devices that will train answered; it settles the threads and the precision. None, where
            nobody knows the devices yet: the first worker settles both, once for all trials
            (`Studies.resolve_train`).
        resources: Workers, devices and data (`StudyRecord.resources`).

    Raises:
        ConflictError: The name is taken.
    """
    if machine is not None:
        spec = resolve_precision(spec, machine)
    return store.studies.create(new_study(spec, resources=resources or {}))


def new_study(spec: StudySpec, *, resources: Mapping[str, Any], version: str = __version__) -> NewStudy:
    """Return the records of a study that is to be created."""
    return NewStudy(
        name=spec.name,
        spec=spec.as_dict(),
        space=spec.space,
        objectives=[{"metric": o.metric, "direction": o.direction} for o in spec.objectives],
        queue=spec.queue(),
        seed=spec.seed,
        retries=spec.budget.retries,
        timeout_s=spec.budget.timeout,
        resources=resources,
        version=version,
    )


def new_confirmation(record: StudyRecord, plan: Mapping[str, Any], space: SearchSpace) -> NewStudy:
    """Return the records of the confirmation of a study: the same study, its plan beside, its queue filled by steps."""
    return NewStudy(
        name=record.name,
        spec={**record.spec, **plan},
        space=space,
        objectives=record.objectives,
        queue=(),
        seed=record.seed,
        retries=record.retries,
        resources=record.resources,
        version=__version__,
    )


def resolve_precision(spec: StudySpec, machine: ProbeResult) -> StudySpec:
    """Return the study with the threads and the precision that this machine gives it."""
    values: dict[str, Any] = {}
    if spec.base.train.threads is None:
        values["threads"] = machine.threads
    if spec.base.train.precision == AUTO and spec.base.train.command is None:
        values["precision"] = machine.precision or AUTO
    return spec.with_train(**values)

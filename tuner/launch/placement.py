"""Where the workers of a launch will be: who knows the devices there, and who starts them."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from tuner.errors import SpecError
from tuner.launch.device_probe import ProbeRequest, ProbeResult, probe_devices
from tuner.launch.launcher import LAUNCHERS, Launcher, MessageCallback
from tuner.launch.ray_cluster.cluster import RayCluster
from tuner.launch.ray_cluster.launcher import RayLauncher, RayPlace
from tuner.launch.study_setup import Resources
from tuner.registry import load
from tuner.settings import Settings
from tuner.storage.records import StudyRecord


class Placement(Protocol):
    """A place for workers, found fit for them."""

    def ask(self, question: ProbeRequest) -> ProbeResult:
        """Return what the devices there can do. Raises SpecError for one that is not there."""

    def launcher(self, record: StudyRecord, *, threads: int, on_message: MessageCallback) -> Launcher | None:
        """Return who starts the workers of a study, told by `note` what the user should know; None: nobody does."""


@dataclass(frozen=True, slots=True)
class LocalPlacement:
    """This machine."""

    fn: str | None

    def ask(self, question: ProbeRequest) -> ProbeResult:
        """Ask torch."""
        return probe_devices(question)

    def launcher(self, record: StudyRecord, *, threads: int, on_message: MessageCallback) -> Launcher | None:
        """Return the launcher that a row of the registry names."""
        launcher: Launcher | None = load(self.fn)() if self.fn else None
        return launcher


@dataclass(slots=True)
class RayPlacement:
    """A Ray cluster."""

    cluster: RayCluster
    settings: Settings
    started: RayLauncher | None = None

    def ask(self, question: ProbeRequest) -> ProbeResult:
        """Ask the cluster, and one of its nodes."""
        return self.cluster.ask(question)

    def launcher(self, record: StudyRecord, *, threads: int, on_message: MessageCallback) -> Launcher:
        """Return the launcher of Ray's actors."""
        on_message(self.cluster.words(threads))
        if not self.cluster.room_for(threads):
            on_message(
                f"no node of the Ray cluster has {self.cluster.needs(threads)} now: the workers wait for one that has"
            )
        host = socket.gethostname() if self.settings.storage.startswith("sqlite") else None
        place = RayPlace(self.cluster.address, record.identity, self.cluster.plan.gpus, host, on_message)
        self.started = RayLauncher(place)
        return self.started


@contextmanager
def placement_for(resources: Resources, settings: Settings, on_message: MessageCallback) -> Iterator[Placement]:
    """Find the place for the workers, and look whether they can work there; leave it afterwards.

    Raises:
        RequestError: It is not fit; nothing was created, changed or started.
    """
    entry = LAUNCHERS[str(resources.launcher)]
    if entry.name != "ray":
        yield LocalPlacement(entry.fn)
        return
    cluster = RayCluster(_address(resources), insecure=resources.ray_insecure, on_message=on_message)
    ground = RayPlacement(cluster, settings)
    try:
        cluster.check(settings)
        yield ground
    finally:
        cluster.close()
        if ground.started is not None:
            ground.started.close()


def _address(resources: Resources) -> str:
    address = resources.ray_address or "auto"
    host, _, port = address.rpartition(":")
    if address != "auto" and not (host and "/" not in host and port.isdecimal()):
        raise SpecError(
            [f"{address!r} is not the address of a Ray cluster; write HOST:PORT of its head, or auto"],
            where="--ray-address",
            hint="The launcher runs on a node of the cluster; Ray Client (ray://) does not reach its workers.",
        )
    return address

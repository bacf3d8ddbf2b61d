"""Running a confirmation from the command line: queue what the next look needs, keep workers, watch, and look."""

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import Any

from tuner.analysis.confirmation import verdict_document, verdict_of
from tuner.analysis.finalists import Estimate
from tuner.artifacts.local import Artifacts
from tuner.artifacts.remote import artifacts_of, check_address
from tuner.cli import output
from tuner.cli.compare import put_verdict
from tuner.cli.failures import INTERRUPTED
from tuner.cli.options import storage_flag
from tuner.cli.progress import Observer, make_view, watch
from tuner.cli.stored import record_activity
from tuner.config.confirm_section import ConfirmSection
from tuner.errors import RunError
from tuner.launch.confirmation import (
    Wish,
    enqueue,
    forecast,
    look_stops,
    next_step,
    others_today,
    read_wish,
    retry_failed,
)
from tuner.launch.confirmation_checks import check_confirmation_data
from tuner.launch.device_probe import ProbeResult
from tuner.launch.launcher import LAUNCHERS, WorkerSpec, log_path
from tuner.launch.placement import Placement, placement_for
from tuner.launch.study_setup import Resources, check_writable, probe_request
from tuner.launch.supervisor import Supervisor
from tuner.settings import Settings
from tuner.storage.storage import Storage
from tuner.trackers.tracking import log_verdict


@dataclass(frozen=True, slots=True)
class ConfirmRequest:
    """A confirmation that somebody asks for. `section` has only the fields that were named."""

    name: str
    section: ConfirmSection
    settings: Settings
    resources: Resources
    retry: bool = False
    """Whether runs that failed are tried again."""
    renew: bool = False
    """Whether a new confirmation takes the place of the earlier one."""


class Show(Enum):
    """What is printed at the end."""

    TEXT = "text"
    JSON = "json"
    NOTHING = "nothing"


def confirm_study(request: ConfirmRequest, *, show: Show) -> int:
    """Bring a confirmation to its end, print the verdict, and return the exit code.

    Raises:
        RequestError, ConflictError, DataError: It is refused; nothing was changed.
        RunError: It has stopped itself, or workers keep dying.
    """
    name = request.name
    with Storage.open(request.settings.storage) as store, ExitStack() as stack:
        record = store.studies.get(name)
        settings = request.settings.with_stored(record.resources)
        files = artifacts_of(settings, owner=store.studies.folder_mark)
        wish = read_wish(store, name, request.section, renew=request.renew)
        if request.renew and wish.replaces is None and wish.found is not None:
            output.tell(f"The finalists of {name} are still the same: its confirmation goes on.")
        step = next_step(wish, files)
        resources = request.resources.over(record.resources)
        if step is not None or (request.retry and wish.found is not None):
            check_writable(settings.artifacts)
            check_address(settings)
            ground = stack.enter_context(placement_for(resources, settings, output.tell))
            machine = ground.ask(probe_request(resources))
            check_confirmation_data(wish, settings)
            code = _bring_to_end(request, store, settings, files, resources, ground, machine)
            if code is not None:
                return code
            if wish.spec.trackers:
                log_verdict(wish.spec.trackers, name, verdict_document(store, files, name))
        if show is Show.NOTHING:
            return 0
        return put_outcome(store, files, name, settings, as_json=show is Show.JSON)


def _bring_to_end(
    request: ConfirmRequest,
    store: Storage,
    settings: Settings,
    files: Artifacts,
    resources: Resources,
    ground: Placement,
    machine: ProbeResult,
) -> int | None:
    """Queue and run step by step; None when nothing is left, else the exit code."""
    name = request.name
    if request.retry and not request.renew:
        again = retry_failed(store, name)
        if again:
            output.tell(f"{again} failed runs of the confirmation are tried again.")
    is_first = True
    while True:
        wish = read_wish(store, name, request.section, renew=request.renew and is_first)
        step = next_step(wish, files)
        if step is None:
            return None
        if is_first:
            for line in introduction(wish, forecast(wish, files)):
                output.tell(line)
        enqueue(store, wish, step)
        if is_first:
            record_activity(store, name, "confirm", "renewed" if request.renew else "")
        is_first = False
        confirmation = store.confirmations.find(name)
        assert confirmation is not None
        if LAUNCHERS[str(resources.launcher)].fn is None:
            waiting = store.queries.status(confirmation.name)["trials"]["waiting"]
            output.tell(
                f"{waiting} runs are queued. Start workers with: tuner worker --study {name}{storage_flag(settings)}\n"
                f"When they are done: tuner confirm {name}{storage_flag(settings)}"
            )
            return 0
        threads = wish.spec.base.train.threads or machine.threads
        begun = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
        orders = [
            WorkerSpec(name, settings, slot, device, threads, log_path(settings.artifacts, name, f"{begun}-{slot}"))
            for slot, device in enumerate(machine.slots)
        ]
        view = make_view(wish.plan.metric, wish.spec.base.train.epochs, noun="run")
        try:
            launcher = ground.launcher(wish.record, threads=threads, on_message=view.note)
            assert launcher is not None
            crew = Supervisor(launcher, orders, on_message=view.note)
            snapshot, interrupted = watch(Observer(store, confirmation.name), crew, view, len(orders))
        finally:
            view.close()
        again_with = f"tuner confirm {name}{storage_flag(settings)}"
        if interrupted:
            output.tell(f"\nInterrupted; nothing is lost. It goes on with: {again_with}")
            return INTERRUPTED
        if snapshot.phase == "stopped":
            if snapshot.document["phase_reason"] == "failures":
                raise RunError(
                    f"the confirmation of {name!r} has stopped itself: {snapshot.document['message']}",
                    hint=f"Mend what fails, then: {again_with}",
                )
            output.tell(f"The confirmation was stopped. It goes on with: {again_with}")
            return 0


def put_outcome(store: Storage, files: Artifacts, name: str, settings: Settings, *, as_json: bool) -> int:
    """Print the verdict, or what may be said without one; return the exit code."""
    if as_json:
        output.put_json(verdict_document(store, files, name))
        return 0
    verdict = verdict_of(store, files, name)
    if verdict is not None:
        put_verdict(verdict)
        _tell_others(store, name, settings)
        return 0
    document = verdict_document(store, files, name)
    output.put(document["text"])
    under_way = document["confirmation"]
    if under_way is not None:
        output.put(_progress(under_way))
        output.tell(f"  It goes on with: tuner confirm {name}{storage_flag(settings)}")
    return 0


def _tell_others(store: Storage, name: str, settings: Settings) -> None:
    others = others_today(store, name)
    if others:
        output.tell(
            f"\nSince then the search has found others: today {', '.join(others)} would be judged. "
            f"tuner confirm {name} --renew{storage_flag(settings)} trains them, with further seeds."
        )


def _progress(confirmation: Mapping[str, Any]) -> str:
    runs = confirmation["runs"]
    over = runs["complete"] + runs["pruned"] + runs["failed"]
    return f"A confirmation is {confirmation['phase']}: {over} of {runs['total']} runs are over."


def introduction(wish: Wish, forecast: Estimate) -> list[str]:
    """Say who is trained again, on what is judged, and what it will take and see."""
    plan, section = wish.plan, wish.section
    stops = look_stops(section)
    where = "the test cases" if section.on == "test" else "the cases that validated the search"
    if section.folds is not None:
        where = f"{section.folds} folds, divided anew from each seed, without the cases that validated the search"
    seeds = (
        f"{stops[-1]} seeds" if len(stops) == 1 else f"{', '.join(map(str, stops))} seeds until every pair is decided"
    )
    lines = [
        f"Confirmation of {wish.name}: {', '.join(plan.names)}",
        f"  {seeds} from {plan.first_seed} on, the same for all; judged on {where}, {plan.metric}",
    ]
    if wish.expected and section.trials is None:
        lines.append(f"  chosen by the mean over seeds that the search expects: {_expected(wish)}")
    if plan.spent:
        lines.append(
            f"  looks at earlier confirmations have spent {sum(plan.spent):.2g} of the error rate of {plan.alpha:g}; "
            "these count on"
        )
    if forecast.trainings:
        hours = "" if forecast.hours is None else f", about {output.duration(forecast.hours * 3600)} of training"
        most = "at most " if len(stops) > 1 else ""
        lines.append(f"  {most}{forecast.trainings} trainings to be done{hours}")
    if forecast.detectable:
        seen = ", ".join(f"{runs} runs above {value:.2g}" for runs, value in forecast.detectable.items())
        lines.append(f"  will see differences: {seen} (estimated from {forecast.source}, probability 80 %)")
    else:
        lines.append(f"  which differences it can see is not known yet: {forecast.source}")
    return [*lines, ""]


def _expected(wish: Wish) -> str:
    """Write for each finalist of the search the mean that is expected, and the one value that was seen."""
    return ", ".join(
        f"{f.name} {output.format_value(wish.expected[f.trial])} (seen {output.format_value(f.seen_in_search)})"
        for f in wish.plan.finalists
        if f.trial is not None and f.trial in wish.expected
    )


def dry_run_document(wish: Wish, forecast: Estimate) -> dict[str, Any]:
    """Return what `confirm --dry-run --json` prints."""
    return {
        "name": wish.name,
        "finalists": [
            {key: value for key, value in finalist.as_dict().items() if key != "config"}
            | {"expected": None if finalist.trial is None else wish.expected.get(finalist.trial)}
            for finalist in wish.plan.finalists
        ],
        "on": wish.section.on,
        "folds": wish.section.folds,
        "looks": list(look_stops(wish.section)),
        "first_seed": wish.plan.first_seed,
        "trainings": forecast.trainings,
        "hours": forecast.hours,
        "detectable": {str(runs): value for runs, value in forecast.detectable.items()},
        "source": forecast.source,
    }

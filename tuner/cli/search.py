"""One search from the command line: create or continue the study, estimate, run its workers, show what was found."""

import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

from tuner.analysis.leaderboard import best_default, leaderboard
from tuner.cli import output
from tuner.cli.failures import INTERRUPTED
from tuner.cli.options import (
    storage_flag,
)
from tuner.cli.progress import Observer, make_view, watch
from tuner.cli.serve import check_service_package
from tuner.cli.show import best_lines
from tuner.cli.stored import best_document, confirmation_lines, published_defaults, stored_spec
from tuner.config.command import command_text
from tuner.config.confirm_section import ConfirmSection
from tuner.config.study import StudySpec
from tuner.errors import NoSuccessError, RunError, TunerError
from tuner.launch.launcher import LAUNCHERS, WorkerSpec, worker_specs
from tuner.launch.placement import Placement, placement_for
from tuner.launch.repeats_note import repeats_note
from tuner.launch.study_setup import (
    Request,
    Resources,
    StudyHandle,
    changed_loss_time,
    check_same,
    create_or_resume_study,
    find_study,
    first_estimate,
    new_total,
    steps_per_epoch,
)
from tuner.launch.supervisor import Supervisor
from tuner.notifications import notify_while
from tuner.settings import Settings
from tuner.storage.storage import Storage

DASHBOARD_PORT = 8000


def search(request: Request, *, as_json: bool, serve: bool = False) -> int:
    """Run a study to the end of its budget, the dashboard beside it if asked for; return the exit code."""
    name = request.spec.name
    if serve:
        check_service_package()
    if _is_used_up(request):
        output.tell(_why_over(request.settings, name))
        return _conclude(request, as_json=as_json)
    with ExitStack() as beside:
        code = _search(request, beside, as_json=as_json, serve=serve)
        return _conclude(request, as_json=as_json) if code is None else code


def _search(request: Request, beside: ExitStack, *, as_json: bool, serve: bool) -> int | None:
    """Use up what is left of the budget; return the exit code where that ends the command.

    What is to live until its end is entered into `beside`.
    """
    settings, name = request.settings, request.spec.name
    with ExitStack() as stack:
        ground = stack.enter_context(placement_for(_requested_resources(request), settings, output.tell))
        opened = create_or_resume_study(
            replace(request, ask=ground.ask), on_message=output.tell, on_progress=show_progress
        )
        for line in _introduction(opened):
            output.tell(line)
        if LAUNCHERS[str(opened.resources.launcher)].fn is None:
            return _leave_queued(opened, settings, as_json=as_json, serve=serve)
        if serve:
            output.tell(f"  dashboard: {beside.enter_context(_dashboard(settings))}studies/{name}\n")
        store = stack.enter_context(Storage.open(settings.storage))
        stack.enter_context(notify_while(store, settings, name))
        interrupted = _run(opened, ground, store, settings)
    if interrupted:
        output.tell(f"\nInterrupted; nothing is lost. It goes on with: tuner resume {name}{storage_flag(settings)}")
        return INTERRUPTED
    return None


def _conclude(request: Request, *, as_json: bool) -> int:
    """Show how a study ended, and go on to the confirmation that its file asks for; return the exit code."""
    from tuner.cli.confirmation_run import ConfirmRequest, Show, confirm_study

    settings, name, section = request.settings, request.spec.name, request.spec.confirm
    with Storage.open(settings.storage, read_only=True) as store:
        document = store.queries.status(name)
    if section is None or document["phase"] != "done" or document["best"] is None:
        return _finish(settings, name, as_json=as_json)
    if document["confirmation"] is not None:  # it is gone on with as it is
        section = ConfirmSection()
    confirmation = ConfirmRequest(name, section, settings, request.resources)
    if as_json:
        return confirm_study(confirmation, show=Show.NOTHING) or _finish(settings, name, as_json=True)
    code = _finish(settings, name, as_json=False, confirms=True)
    output.put()
    return code or confirm_study(confirmation, show=Show.TEXT)


def _run(opened: StudyHandle, ground: Placement, store: Storage, settings: Settings) -> bool:
    """Keep the workers and watch until the study is over; tell whether the user has interrupted it."""
    name, orders = opened.record.name, _orders(opened, settings)
    view = make_view(opened.spec.objectives[0].metric, opened.spec.base.train.epochs)
    try:
        launcher = ground.launcher(opened.record, threads=orders[0].threads, on_message=view.note)
        assert launcher is not None
        crew = Supervisor(launcher, orders, on_message=view.note)
        _, interrupted = watch(Observer(store, name), crew, view, len(orders))
    finally:
        view.close()
    return interrupted


def _leave_queued(opened: StudyHandle, settings: Settings, *, as_json: bool, serve: bool) -> int:
    name = opened.record.name
    with Storage.open(settings.storage, read_only=True) as store:
        waiting = store.queries.status(name)["trials"]["waiting"]
    are = "trial is" if waiting == 1 else "trials are"
    output.tell(f"{waiting} {are} queued. Start workers with: tuner worker --study {name}")
    if as_json:
        _put_status(settings, name)
    if serve:
        _serve_until_interrupted(settings)
    return 0


def _requested_resources(request: Request) -> Resources:
    record = find_study(request.settings.storage, request.spec.name)
    return request.resources.over(record.resources if record else {})


@contextmanager
def _dashboard(settings: Settings) -> Iterator[str]:
    """Serve the dashboard beside the search, on the usual port or, where that is taken, on any; yields the address."""
    from api.config import ServiceSettings
    from api.server import served_beside

    config = ServiceSettings.resolve(os.environ, settings)
    with ExitStack() as stack:
        try:
            address = stack.enter_context(served_beside(config, port=DASHBOARD_PORT))
        except TunerError:
            address = stack.enter_context(served_beside(config, port=0))
        yield address


def _serve_until_interrupted(settings: Settings) -> None:
    from api.config import ServiceSettings
    from api.server import serve

    serve(ServiceSettings.resolve(os.environ, settings), port=DASHBOARD_PORT, devices=[], on_message=output.tell)


def _is_used_up(request: Request) -> bool:
    record = find_study(request.settings.storage, request.spec.name)
    if record is None:
        return False
    check_same(record, request.spec, trials_given=request.trials_given)
    if new_total(record, request.spec) is not None or changed_loss_time(record, request.spec):
        return False
    with Storage.open(request.settings.storage, read_only=True) as store:
        return store.queries.phase(record.name)[0] == "done" and not store.foreign.waiting(record.name)


def _why_over(settings: Settings, name: str) -> str:
    with Storage.open(settings.storage, read_only=True) as store:
        document = store.queries.status(name)
    if document["phase_reason"] == "budget" and document["loss_time"] is not None:
        hours = document["loss_time"]["hours_per_loss"]
        return (
            f"Every loss of {name} has had its training time ({hours:g} h), or all its points are tried; "
            "--set budget.hours_per_loss=HOURS raises it."
        )
    if document["phase_reason"] == "budget":
        return f"The budget of {name} is used up; --trials N raises it."
    return f"{name} has ended: {document['message']}. --trials N, with a larger number, goes on."


def _orders(opened: StudyHandle, settings: Settings) -> list[WorkerSpec]:
    threads = opened.spec.base.train.threads or opened.machine.threads
    return worker_specs(settings, opened.record.name, devices=opened.machine.slots, threads=threads)


def _introduction(opened: StudyHandle) -> list[str]:
    """Say what the study is, what it will take, and which losses get no published default."""
    spec, record, slots = opened.spec, opened.record, opened.machine.slots
    losses = [candidate.name for candidate in spec.candidates]
    competing = f"{len(losses)} losses are candidates" if len(losses) > 1 else losses[0] if losses else "no loss named"
    goals = ", ".join(f"{o.metric} ({o.direction})" for o in spec.objectives)
    train = spec.base.train
    is_settled = train.threads is not None and (train.precision != "auto" or train.command is not None)
    lines = [
        f"Study {record.name} ({'new' if opened.is_new else 'continued'}): {spec.base.dataset['name']}, "
        f"{competing}, {goals}, sampler {spec.sampler['name']}, pruner {spec.pruner['name']}",
        f"  {_size(spec, record.total)} {train.epochs} {_epochs_of(opened)}",
        f"  {len(slots)} worker{'s' * (len(slots) > 1)} on {', '.join(dict.fromkeys(slots))}, "
        f"{train.threads} CPU thread{'s' * (train.threads != 1)} each"
        + (f", {train.precision}" if train.command is None else "")
        if is_settled
        else "  the first worker settles with how many threads and in which precision all trials are trained",
    ]
    seconds = first_estimate(spec, opened.machine, opened.data)
    if seconds is not None and spec.budget.hours_per_loss is not None:
        lines.append(f"  about {output.duration(seconds)} in all; trials under way when the time is up are finished")
    elif seconds is not None:
        lines.append(
            f"  at most about {output.duration(seconds)}, an estimate from one measured step; "
            "pruning makes it shorter, and the first trials will tell"
        )
    if opened.is_new and len(spec.candidates) > 1:
        left, needed = spec.left_out()
        if left:
            lines.append(
                f"  {len(left)} losses get no trial with their published defaults in this budget: {', '.join(left)}. "
                f"--trials {needed} would hold all; the sampler may still try them."
            )
    repeats = repeats_note(spec, record.total)
    if repeats is not None:
        lines.append(f"  {repeats}")
    if opened.data.protocol == "test":
        lines.append(
            "  validated on the test cases (dataset.validation: test): no result of this study is a test result"
        )
    return [*lines, ""]


def _epochs_of(opened: StudyHandle) -> str:
    """Say what the epochs of a trial are: so many steps, or what a program or function of the user's reports."""
    train = opened.spec.base.train
    if train.command is not None:
        return f"reports of: {command_text(train.command)}"
    if train.entry is not None:
        return f"epochs of {train.entry}"
    return (
        f"epochs × {steps_per_epoch(opened.spec, opened.data)} steps of {train.batch_size}; "
        f"{opened.data.train} training and {opened.data.validation} validation samples"
    )


def _size(spec: StudySpec, trials: int) -> str:
    """Return how much is trained, as the beginning of a line that goes on with the epochs of a trial."""
    hours = spec.budget.hours_per_loss
    if hours is None:
        return f"{trials} trials × at most"
    losses = len(spec.candidates)
    each = f"each of {losses} losses" if losses > 1 else "the loss"
    return f"{hours:g} h of training for {each}; a trial is at most"


def _finish(settings: Settings, name: str, *, as_json: bool, confirms: bool = False) -> int:
    """Show how a study ended; return the exit code. Raises NoSuccessError, RunError.

    What may be said of its values is left out where it `confirms`: the verdict follows.
    """
    with Storage.open(settings.storage, read_only=True) as store:
        document = store.queries.status(name)
        best = best_document(store, name)
        rows = store.queries.trials(name)
        record = store.studies.get(name)
        known = [] if best is None or as_json or confirms else confirmation_lines(store, settings, name)
    reason, message = document["phase_reason"], document.get("message")
    if document["phase"] == "stopped" and reason == "failures":
        output.tell(f"The study has stopped itself: {message}")
    if document["phase"] == "done" and message:
        output.tell(f"The study has ended before its budget: {message}.")
    if best is None:
        raise NoSuccessError(
            _no_success(name, document), hint=f"tuner trials {name}{storage_flag(settings)} shows why each ended."
        )
    if as_json:
        output.put_json(
            {**document, "best": {**document["best"], "config": best["config"], "metrics": best["metrics"]}}
        )
    else:
        if document["phase"] == "stopped":
            output.tell(_stopped(name, reason, settings))
        for line in best_lines(best, record.objectives):
            output.put(line)
        _put_best_default(rows, record.objectives[0], published_defaults(stored_spec(record)))
        for text in known:
            output.put(f"  {text}")
        _put_next(name, settings, has_losses=bool(stored_spec(record).candidates))
    if document["phase"] == "stopped" and reason == "failures":
        raise RunError(f"study {name!r} stopped itself.", hint=f"Mend what fails, then: tuner resume {name}")
    return 0


def _no_success(name: str, document: Mapping[str, Any]) -> str:
    counts = document["trials"]
    parts = [f"{counts[key]} {key}" for key in ("pruned", "failed", "waiting", "running") if counts[key]]
    message = f" {document['message']}" if document.get("message") else ""
    return f"study {name!r} ended without one successful trial ({', '.join(parts)}).{message}"


def _stopped(name: str, reason: str | None, settings: Settings) -> str:
    again = f"tuner resume {name}{storage_flag(settings)}"
    if reason == "timeout":
        return f"The time is used up before the budget is. It goes on with: {again} --timeout 2h\n"
    return f"Stopped before the budget is used up. It goes on with: {again}\n"


def _put_best_default(rows: list[dict[str, Any]], objective: Mapping[str, str], defaults: int) -> None:
    standings = leaderboard(rows, objective["direction"], defaults=defaults)
    default = best_default(standings, objective["direction"])
    if default is not None and default.default is not None:
        output.put(f"  best value of published defaults: {default.loss} {output.number(default.default)}")


def _put_next(name: str, settings: Settings, *, has_losses: bool) -> None:
    where = storage_flag(settings)
    output.put()
    output.put("Next")
    for words, what in (
        (f"status {name}{where}", "the best value of each loss" if has_losses else "how it stands"),
        (f"trials {name}{where}", "every trial"),
        (f"best {name}{where}", "the best again, in full"),
        (f"confirm {name}{where}", "train the best again with other seeds: is it really better?"),
        (f"export {name}{where} -o best.yaml", "the best configuration as a file"),
        ("train best.yaml -o final", "train it again, with the test cases scored"),
        (f"report {name}{where} -o report.html", "all of it in one file that opens offline"),
    ):
        output.put(f"  {_program()} {words}   # {what}")
    output.put(f"\nFiles of the trials: {settings.artifacts_place}/{name}")


def _program() -> str:
    """Return what to type for `tuner` here: the word, or the path to it where it is not on the path."""
    if shutil.which("tuner") is None and sys.argv[0].endswith(f"{os.sep}tuner"):
        return os.path.relpath(sys.argv[0])
    return "tuner"


def _put_status(settings: Settings, name: str) -> None:
    with Storage.open(settings.storage, read_only=True) as store:
        output.put_json(store.queries.status(name))


def show_progress(what: str, done: int, total: int) -> None:
    """Say how far something is: in place on a terminal, at its end elsewhere."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\x1b[K{what}: {done} of {total}" + ("\r\x1b[K" if done == total else ""))
        sys.stderr.flush()
    elif done == total and total > 1:
        output.tell(f"{what}: {total}")

"""Launch, resume.

`launch` and `resume`: create or continue a study, start its workers, watch it, show what was found.

One search from the command line: open the study, say what it will take, run it, show the result.
"""

import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tuner.analysis.leaderboard import best_default, leaderboard
from tuner.cli import output
from tuner.cli.failures import INTERRUPTED
from tuner.cli.help import PanelCommand
from tuner.cli.options import (
    ArtifactsOption,
    CacheOption,
    DataRootOption,
    JsonOption,
    LogFormatOption,
    NameArgument,
    StorageOption,
    WebhookOption,
    settings_of,
    wants_json_logs,
)
from tuner.cli.progress import Observer, make_view, watch
from tuner.cli.serve import check_service_package
from tuner.cli.show import best_lines
from tuner.cli.stored import best_document, published_defaults, stored_spec
from tuner.errors import NoSuccessError, RunError, TunerError
from tuner.launch.launcher import LAUNCHERS, WorkerSpec, worker_specs
from tuner.launch.placement import Placement, placement_for
from tuner.launch.study_setup import (
    Request,
    Resources,
    StudyHandle,
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

if TYPE_CHECKING:
    from tuner.config.yaml_reader import YamlDocument
    from tuner.launch.study_setup import Resources


_PANEL = "Search"
_SPEC, _WORK = "The study", "Resources (may change at every launch)"

TrialsOption = Annotated[
    int | None, typer.Option("--trials", metavar="N", help="Budget; may rise later.", rich_help_panel=_SPEC)
]
EpochsOption = Annotated[
    int | None, typer.Option("--epochs", metavar="N", help="Epochs of a trial.", rich_help_panel=_SPEC)
]
SeedOption = Annotated[
    int | None, typer.Option("--seed", metavar="N", help="Seed of search and training.", rich_help_panel=_SPEC)
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Any dotted key of the study file: train.lr=0.001, search.loss=[dice, focal].",
        rich_help_panel=_SPEC,
    ),
]
TimeoutOption = Annotated[
    str | None,
    typer.Option("--timeout", metavar="TIME", help="Time with a live worker: 90s, 30m, 2h.", rich_help_panel=_WORK),
]
WorkersOption = Annotated[
    int | None,
    typer.Option(
        "--workers", metavar="N", help="Workers in all. Default: devices × per device.", rich_help_panel=_WORK
    ),
]
DevicesOption = Annotated[
    str | None,
    typer.Option(
        "--devices", metavar="LIST", help="auto, cpu, mps, or cuda:0,cuda:1. Default: auto.", rich_help_panel=_WORK
    ),
]
PerDeviceOption = Annotated[
    str | None,
    typer.Option("--workers-per-device", metavar="N|auto", help="Default: 1.", rich_help_panel=_WORK),
]
LauncherOption = Annotated[
    str | None,
    typer.Option("--launcher", metavar="NAME", help="local, ray, inline or none.", rich_help_panel=_WORK),
]
RayAddressOption = Annotated[
    str | None,
    typer.Option(
        "--ray-address",
        "--address",
        metavar="HOST:PORT",
        help="Head of the Ray cluster. Default: RAY_ADDRESS, or the cluster of this machine.",
        rich_help_panel=_WORK,
    ),
]
RayInsecureOption = Annotated[
    bool,
    typer.Option("--ray-insecure", help="Take a Ray cluster that lets anybody in (no token).", rich_help_panel=_WORK),
]
ServeOption = Annotated[
    bool,
    typer.Option("--serve", help="Serve the dashboard as well, on port 8000 or any free one.", rich_help_panel=_WORK),
]


def register(app: typer.Typer) -> None:
    """Enter the commands of this module."""
    app.command("launch", rich_help_panel=_PANEL, cls=PanelCommand)(launch)
    app.command("resume", rich_help_panel=_PANEL, cls=PanelCommand)(resume)


def launch(
    study: Annotated[
        Path | None, typer.Argument(metavar="[STUDY.yaml]", help="A study file of yours.", show_default=False)
    ] = None,
    dataset: Annotated[
        str | None,
        typer.Option("--dataset", metavar="NAME", help="Take studies/NAME.yaml instead.", rich_help_panel=_SPEC),
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", metavar="NAME", help="Name of the study.", rich_help_panel=_SPEC)
    ] = None,
    trials: TrialsOption = None,
    epochs: EpochsOption = None,
    seed: SeedOption = None,
    overrides: SetOption = None,
    timeout: TimeoutOption = None,
    workers: WorkersOption = None,
    devices: DevicesOption = None,
    per_device: PerDeviceOption = None,
    launcher: LauncherOption = None,
    ray_address: RayAddressOption = None,
    ray_insecure: RayInsecureOption = False,
    serve: ServeOption = False,
    webhook: WebhookOption = None,
    log_format: LogFormatOption = None,
    storage: StorageOption = None,
    artifacts: ArtifactsOption = None,
    data_root: DataRootOption = None,
    cache: CacheOption = None,
    as_json: JsonOption = False,
) -> None:
    """Create a study, or continue it where it stopped, and search until its budget is used up."""
    resources = _resources(workers, devices, per_device, launcher, ray_address, ray_insecure=ray_insecure)
    settings = settings_of(storage, artifacts, data_root, cache, webhook)
    _log_as(log_format)
    document = study_document(study, dataset)
    values = values_of(name=name, trials=trials, epochs=epochs, seed=seed, timeout=timeout)
    _start(document, values, overrides or [], settings, resources, as_json=as_json, serve=serve)


def resume(
    name: NameArgument,
    trials: TrialsOption = None,
    epochs: EpochsOption = None,
    seed: SeedOption = None,
    overrides: SetOption = None,
    timeout: TimeoutOption = None,
    workers: WorkersOption = None,
    devices: DevicesOption = None,
    per_device: PerDeviceOption = None,
    launcher: LauncherOption = None,
    ray_address: RayAddressOption = None,
    ray_insecure: RayInsecureOption = False,
    serve: ServeOption = False,
    webhook: WebhookOption = None,
    log_format: LogFormatOption = None,
    storage: StorageOption = None,
    artifacts: ArtifactsOption = None,
    data_root: DataRootOption = None,
    cache: CacheOption = None,
    as_json: JsonOption = False,
) -> None:
    """Continue a study from what is stored: no file is needed. --trials raises its budget."""
    from tuner.config.yaml_reader import YamlDocument
    from tuner.storage.storage import Storage

    resources = _resources(workers, devices, per_device, launcher, ray_address, ray_insecure=ray_insecure)
    settings = settings_of(storage, artifacts, data_root, cache, webhook)
    _log_as(log_format)
    with Storage.open(settings.storage, read_only=True) as store:
        record = store.studies.get(name)
    values = values_of(name=None, trials=trials, epochs=epochs, seed=seed, timeout=timeout)
    document = YamlDocument(record.spec, {}, f"study {name}")
    _start(document, values, overrides or [], settings, resources, as_json=as_json, serve=serve)


def _start(
    document: "YamlDocument",
    values: dict[str, Any],
    overrides: list[str],
    settings: Any,
    resources: "Resources",
    *,
    as_json: bool,
    serve: bool,
) -> None:
    from tuner.config.study import load_spec
    from tuner.launch.study_setup import Request

    spec = load_spec(document, overrides, values)
    request = Request(
        spec=spec,
        settings=settings,
        resources=resources,
        trials_given="budget.trials" in values,
        timeout_given="budget.timeout" in values,
    )
    code = search(request, as_json=as_json, serve=serve)
    if code:
        raise typer.Exit(code)


def study_document(study: Path | None, dataset: str | None) -> "YamlDocument":
    """Return the study file that was named, in one of the two ways. Raises RequestError."""
    from tuner.config.study import find_study_file, shipped_studies
    from tuner.config.yaml_reader import read_yaml
    from tuner.errors import RequestError

    if (study is None) == (dataset is None):
        found = "neither was given" if study is None else "both were given"
        raise RequestError(
            f"name a study file, or --dataset and a name; {found}.",
            hint=f"tuner launch STUDY.yaml, or tuner launch --dataset NAME: {', '.join(shipped_studies())}.",
        )
    if dataset is not None:
        return find_study_file(dataset)
    assert study is not None
    if not study.exists() and str(study) in shipped_studies():
        raise RequestError(f"there is no file {str(study)!r}.", hint=f"Did you mean --dataset {study}?")
    return read_yaml(study)


def _log_as(log_format: str | None) -> None:
    """Have the workers that are started here write their logs as this launch was told to."""
    import os

    os.environ["TUNER_LOG_FORMAT"] = "json" if wants_json_logs(log_format) else "text"


def values_of(
    *, name: str | None, trials: int | None, epochs: int | None, seed: int | None, timeout: str | None
) -> dict[str, Any]:
    """Return what the flags say under the dotted keys of the study file."""
    values: dict[str, Any] = {}
    if name is not None:
        values["name"] = name
    if trials is not None:
        values |= {"budget.trials_per_loss": None, "budget.trials": trials}
    if epochs is not None:
        values["train.epochs"] = epochs
    if seed is not None:
        values["seed"] = seed
    if timeout is not None:
        values["budget.timeout"] = float(timeout) if timeout.replace(".", "", 1).isdecimal() else timeout
    return values


def _resources(
    workers: int | None,
    devices: str | None,
    per_device: str | None,
    launcher: str | None,
    ray_address: str | None,
    *,
    ray_insecure: bool,
) -> "Resources":
    from tuner.errors import RequestError
    from tuner.launch.launcher import LAUNCHERS
    from tuner.launch.study_setup import Resources

    if launcher is not None:
        LAUNCHERS.find(launcher, where="--launcher")
    if ray_address is not None and launcher not in (None, "ray"):
        raise RequestError(
            f"the launcher {launcher!r} has no use for the address of a Ray cluster.",
            hint="Write --launcher ray, or leave the address out.",
            where="--ray-address",
        )
    return Resources(
        workers=workers,
        devices=devices,
        per_device=per_device,
        launcher="ray" if ray_address is not None else launcher,
        ray_address=ray_address,
        ray_insecure=ray_insecure,
    )


DASHBOARD_PORT = 8000


def search(request: Request, *, as_json: bool, serve: bool = False) -> int:
    """Run a study to the end of its budget, the dashboard beside it if asked for; return the exit code."""
    settings, name = request.settings, request.spec.name
    if serve:
        check_service_package()
    if _is_used_up(request):
        output.tell(f"The budget of {name} is used up; --trials N raises it.")
        return _finish(settings, name, as_json=as_json)
    with ExitStack() as stack:
        ground = stack.enter_context(placement_for(_requested_resources(request), settings, output.tell))
        opened = create_or_resume_study(replace(request, ask=ground.ask), say=output.tell, progress=show_progress)
        for line in _introduction(opened):
            output.tell(line)
        if LAUNCHERS[str(opened.resources.launcher)].fn is None:
            return _leave_queued(opened, settings, as_json=as_json, serve=serve)
        if serve:
            output.tell(f"  dashboard: {stack.enter_context(_dashboard(settings))}studies/{name}\n")
        store = stack.enter_context(Storage.open(settings.storage))
        stack.enter_context(notify_while(store, settings, name))
        interrupted = _run(opened, ground, store, settings)
    if interrupted:
        output.tell(f"\nInterrupted; nothing is lost. It goes on with: tuner resume {name}{_where(settings)}")
        return INTERRUPTED
    return _finish(settings, name, as_json=as_json)


def _run(opened: StudyHandle, ground: Placement, store: Storage, settings: Settings) -> bool:
    """Keep the workers and watch until the study is over; tell whether the user has interrupted it."""
    name, orders = opened.record.name, _orders(opened, settings)
    view = make_view(opened.spec.objectives[0].metric, opened.spec.base.train.epochs)
    try:
        launcher = ground.launcher(opened.record, threads=orders[0].threads, note=view.note)
        assert launcher is not None
        crew = Supervisor(launcher, orders, note=view.note)
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

    serve(ServiceSettings.resolve(os.environ, settings), port=DASHBOARD_PORT, devices=[], say=output.tell)


def _is_used_up(request: Request) -> bool:
    record = find_study(request.settings.storage, request.spec.name)
    if record is None:
        return False
    check_same(record, request.spec, trials_given=request.trials_given)
    if new_total(record, request.spec) is not None:
        return False
    with Storage.open(request.settings.storage, read_only=True) as store:
        return store.queries.phase(record.name)[0] == "done"


def _orders(opened: StudyHandle, settings: Settings) -> list[WorkerSpec]:
    threads = opened.spec.base.train.threads or opened.machine.threads
    return worker_specs(settings, opened.record.name, devices=opened.machine.slots, threads=threads)


def _introduction(opened: StudyHandle) -> list[str]:
    """Say what the study is, what it will take, and which losses get no published default."""
    spec, record, slots = opened.spec, opened.record, opened.machine.slots
    competing = f"{len(spec.candidates)} losses are candidates" if len(spec.candidates) > 1 else spec.candidates[0].name
    goals = ", ".join(f"{o.metric} ({o.direction})" for o in spec.objectives)
    steps = steps_per_epoch(spec, opened.data)
    train = spec.base.train
    lines = [
        f"Study {record.name} ({'new' if opened.is_new else 'continued'}): {spec.base.dataset['name']}, "
        f"{competing}, {goals}, sampler {spec.sampler['name']}, pruner {spec.pruner['name']}",
        f"  {record.total} trials × at most {train.epochs} epochs × {steps} steps of {train.batch_size}; "
        f"{opened.data.train} training and {opened.data.validation} validation samples",
        f"  {len(slots)} worker{'s' * (len(slots) > 1)} on {', '.join(dict.fromkeys(slots))}, "
        f"{train.threads} CPU thread{'s' * (train.threads != 1)} each, {train.precision}"
        if train.threads is not None and train.precision != "auto"
        else "  the first worker settles with how many threads and in which precision all trials are trained",
    ]
    seconds = first_estimate(spec, opened.machine, opened.data)
    if seconds is not None:
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
    if opened.data.protocol == "test":
        lines.append(
            "  validated on the test cases (dataset.validation: test): no result of this study is a test result"
        )
    return [*lines, ""]


def _finish(settings: Settings, name: str, *, as_json: bool) -> int:
    """Show how a study ended; return the exit code. Raises NoSuccessError, RunError."""
    with Storage.open(settings.storage, read_only=True) as store:
        document = store.queries.status(name)
        best = best_document(store, name)
        rows = store.queries.trials(name)
        record = store.studies.get(name)
    reason, message = document["phase_reason"], document.get("message")
    if document["phase"] == "stopped" and reason == "failures":
        output.tell(f"The study has stopped itself: {message}")
    if best is None:
        raise NoSuccessError(
            _no_success(name, document), hint=f"tuner trials {name}{_where(settings)} shows why each ended."
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
        _put_against_default(rows, record.objectives[0], best, published_defaults(stored_spec(record)))
        _put_next(name, settings)
    if document["phase"] == "stopped" and reason == "failures":
        raise RunError(f"study {name!r} stopped itself.", hint=f"Mend what fails, then: tuner resume {name}")
    return 0


def _no_success(name: str, document: Mapping[str, Any]) -> str:
    counts = document["trials"]
    parts = [f"{counts[key]} {key}" for key in ("pruned", "failed", "waiting", "running") if counts[key]]
    message = f" {document['message']}" if document.get("message") else ""
    return f"study {name!r} ended without one successful trial ({', '.join(parts)}).{message}"


def _stopped(name: str, reason: str | None, settings: Settings) -> str:
    again = f"tuner resume {name}{_where(settings)}"
    if reason == "timeout":
        return f"The time is used up before the budget is. It goes on with: {again} --timeout 2h\n"
    return f"Stopped before the budget is used up. It goes on with: {again}\n"


def _put_against_default(
    rows: list[dict[str, Any]], objective: Mapping[str, str], best: Mapping[str, Any], defaults: int
) -> None:
    standings = leaderboard(rows, objective["direction"], defaults=defaults)
    default = best_default(standings, objective["direction"])
    if default is None or default.default is None:
        return
    gain = best["value"] - default.default
    output.put(
        f"  the best published default is {default.loss} with {output.number(default.default)}: "
        + ("the search found nothing better" if gain == 0 else f"{gain:+.4f} by searching")
    )


def _put_next(name: str, settings: Settings) -> None:
    where = _where(settings)
    output.put()
    output.put("Next")
    for words, what in (
        (f"status {name}{where}", "how the losses compare"),
        (f"trials {name}{where}", "every trial"),
        (f"best {name}{where}", "the best again, in full"),
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


def _where(settings: Settings) -> str:
    """Return the storage as a flag, when it is not the one that a command without flags would use."""
    from tuner.cli.options import settings_of
    from tuner.storage.url import read_url, redact_url

    return "" if settings.storage == settings_of().storage else f" --storage {redact_url(read_url(settings.storage))}"


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

"""`init`: look at data and machine, ask five questions, and write a study file."""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tuner.cli import output
from tuner.cli.help import PanelCommand
from tuner.cli.init_nnunet import NNUNET, NnunetOptions, init_nnunet
from tuner.cli.options import CacheOption, DataRootOption, JsonOption, settings_of, takes_options

if TYPE_CHECKING:
    from tuner.data.checks import Findings
    from tuner.data.layouts import LayoutFinding
    from tuner.launch.study_proposal import Proposal, Survey
    from tuner.settings import Settings

_PANEL = "Search"
_QUESTIONS = "The five questions (asked on a terminal when they are not given)"
_LONGEST = 78
_DEFAULT_TIME = "8h"


@dataclass(frozen=True, slots=True, kw_only=True)
class InitOptions(NnunetOptions):
    """What `init` takes beside the folder."""

    layout: Annotated[
        str | None,
        typer.Option("--layout", metavar="NAME", help="Default: found by looking.", rich_help_panel=_QUESTIONS),
    ] = None
    task: Annotated[
        str | None,
        typer.Option(
            "--task",
            metavar="NAME",
            help="regions, structures, borders or scene: what the masks are for.",
            rich_help_panel=_QUESTIONS,
        ),
    ] = None
    time: Annotated[
        str | None,
        typer.Option(
            "--time",
            metavar="TIME",
            help="For search and confirmation together: 90m, 8h, 2d.",
            rich_help_panel=_QUESTIONS,
        ),
    ] = None
    devices: Annotated[
        str | None,
        typer.Option(
            "--devices",
            metavar="LIST",
            help="The machine: auto, cpu, mps, or cuda:0,cuda:1.",
            rich_help_panel=_QUESTIONS,
        ),
    ] = None
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Ask nothing: take what is suggested.")] = False
    name: Annotated[
        str | None, typer.Option("--name", metavar="NAME", help="Name of the study. Default: that of the folder.")
    ] = None
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE", help="Default: NAME.yaml here.", show_default=False)
    ] = None
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file.")] = False
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="An option of the data set: size=128, mask_suffix=_mask."),
    ] = None
    probe_seconds: Annotated[
        float, typer.Option("--probe-seconds", metavar="N", help="Time for measuring steps.", min=10.0)
    ] = 60.0
    data_root: DataRootOption = None
    cache: CacheOption = None
    as_json: JsonOption = False


def register(app: typer.Typer) -> None:
    """Enter the commands of this module."""
    app.command("init", rich_help_panel=_PANEL, cls=PanelCommand)(init)


@takes_options(InitOptions)
def init(
    path: Annotated[
        Path | None,
        typer.Argument(
            metavar="[PATH]",
            help="Folder of the data set, in any layout that is read; or nnunet, for nnU-Net's own training.",
            show_default=False,
        ),
    ] = None,
    *,
    options: InitOptions,
) -> None:
    """Look at your data and this machine, and write a study file to launch.

    What was measured, and why each loss competes or does not, stands in the file as comments.
    """
    from tuner.launch.study_file import launch_words, study_text
    from tuner.launch.study_proposal import Wish, propose_study

    _check_known(options)
    if options.dataset_id is not None or (str(path) == NNUNET and not Path(NNUNET).exists()):
        _init_nnunet(path, options)
        return
    _refuse_nnunet_options(options)
    questions = Questions(options, path)
    questions.refuse_without_terminal()
    _check_file(options.out, force=options.force)
    folder, settings = _folder(questions.path(), options)
    finding = _layout(folder, questions)
    name = options.name or _name_of(folder)
    file = options.out or Path(f"{name}.yaml")
    _check_file(file, force=options.force)
    settings, dataset = _dataset(folder, finding.layout, options, settings)
    dataset, findings, hints = _check(dataset, settings)
    survey = _surveyed(dataset, settings)
    _tell_data(survey, findings)
    wish = Wish(
        name=name,
        dataset=survey.dataset,
        task=questions.task(survey),
        seconds=questions.seconds(),
        devices=questions.devices(),
        probe_seconds=options.probe_seconds,
        notes=survey.notes,
    )
    proposal = propose_study(wish, survey.profile, settings, on_message=output.tell)
    root = settings.data_root if dataset["name"] != "phantom" else None
    words = launch_words(file, proposal, root)
    _write(file, study_text(proposal, findings, words, hints), force=options.force)
    _tell_proposal(proposal, file, words, as_json=options.as_json, findings=findings)


def _init_nnunet(path: Path | None, options: InitOptions) -> None:
    from tuner.errors import RequestError

    if (path is not None and str(path) != NNUNET) or options.dataset_id is None:
        found = "no --dataset-id" if options.dataset_id is None else f"the folder {str(path)!r}"
        raise RequestError(
            f"nnU-Net's own training is asked for by `tuner init {NNUNET} --dataset-id 123`; found {found}.",
            hint="A folder is looked at without --dataset-id.",
            where="tuner init",
        )
    if options.layout is not None or options.overrides:
        raise RequestError(
            "--layout and --set are for folders; nnU-Net's own training has its plans.",
            hint="What the study file says is yours to change.",
            where=f"tuner init {NNUNET}",
        )
    name = options.name or f"nnunet{options.dataset_id}"
    file = options.out or Path(f"{name}.yaml")
    _check_file(file, force=options.force)
    init_nnunet(
        options,
        name=name,
        file=file,
        devices=options.devices or "auto",
        task=options.task,
        seconds=None if options.time is None else _seconds(options.time),
        cache=options.cache,
        force=options.force,
        as_json=options.as_json,
    )


def _refuse_nnunet_options(options: InitOptions) -> None:
    from tuner.errors import RequestError

    given = [f"--{name}" for name in options.given()]
    if given:
        raise RequestError(
            f"{', '.join(given)}: only with `tuner init {NNUNET} --dataset-id 123`.",
            hint="Epochs and trials follow from --time; what the study file says is yours to change.",
            where="tuner init",
        )


class Questions:
    """Answers from flags, from a person at a terminal, or (with --yes) the suggestions."""

    def __init__(self, options: InitOptions, path: Path | None) -> None:
        self._options, self._path = options, path
        self._asks = not options.yes and sys.stdin.isatty()

    def refuse_without_terminal(self) -> None:
        """Raise RequestError when something would have to be asked and nobody is there."""
        from tuner.errors import RequestError

        given = self._options
        if given.yes or self._asks:
            return
        answers = {"PATH": self._path, "--task": given.task, "--time": given.time, "--devices": given.devices}
        missing = [flag for flag, answer in answers.items() if answer is None]
        if missing:
            raise RequestError(
                f"nobody is there to be asked: {', '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing.",
                hint="As in: tuner init data/cells --task regions --time 8h --devices auto\n"
                "--yes takes what is suggested for what is not given.",
                where="tuner init",
            )

    def path(self) -> Path:
        """The folder of the data set."""
        if self._path is not None:
            return self._path
        return Path(
            self._ask(1, "Folder of the data set", ".", lambda text: _problem_of_folder(Path(text).expanduser()))
        )

    def layout(self, fitting: str) -> str:
        """The layout: the one that fits, unless another one is named."""
        if self._options.layout is not None:
            return self._options.layout
        from tuner.data.catalog import DATASETS

        return self._ask(2, "Layout", fitting, lambda text: _unknown(text, [n for n in DATASETS if n != "phantom"]))

    def task(self, survey: "Survey") -> str:
        """What the masks are for."""
        from tuner.launch.loss_choice import TASKS, suggested_task

        if self._options.task is not None:
            return self._options.task
        if self._asks:
            for name, (metric, meaning) in TASKS.items():
                output.tell(f"  {name:10} {meaning} ({metric})")
        return self._ask(3, "Task", suggested_task(survey.profile), lambda text: _unknown(text, TASKS))

    def seconds(self) -> float:
        """The time for everything."""
        return _seconds(self._options.time or self._ask(4, "Time, as 90m, 8h, 2d", _DEFAULT_TIME, _problem_of_time))

    def devices(self) -> str:
        """The machine."""
        return self._options.devices or self._ask(
            5, "Machine: auto, cpu, mps, or cuda:0,cuda:1", "auto", _problem_of_devices
        )

    def _ask(self, number: int, question: str, default: str, problem_of: Callable[[str], str | None]) -> str:
        if not self._asks:
            return default
        while True:
            sys.stderr.write(f"{number}/5  {question} [{default}]: ")
            sys.stderr.flush()
            line = sys.stdin.readline()
            if not line:
                raise typer.Abort
            answer = line.strip() or default
            problem = problem_of(answer)
            if problem is None:
                return answer
            output.tell(f"     {problem}")


def _unknown(text: str, known: Any) -> str | None:
    return None if text in known else f"{text!r} is none of {', '.join(known)}."


def _problem_of_folder(path: Path) -> str | None:
    return None if path.is_dir() else f"{path} is {'no folder' if path.exists() else 'not there'}."


def _problem_of_time(text: str) -> str | None:
    from tuner.errors import SpecError

    try:
        _seconds(text)
    except SpecError as error:
        return str(error.problems[0].message)
    return None


def _problem_of_devices(text: str) -> str | None:
    from tuner.errors import SpecError
    from tuner.launch.launcher import read_devices

    try:
        read_devices(text)
    except SpecError as error:
        return str(error.problems[0].message)
    return None


def _seconds(text: str) -> float:
    from tuner.config.study import parse_duration
    from tuner.errors import Problems

    problems = Problems()
    found = parse_duration(float(text) if text.replace(".", "", 1).isdecimal() else text, "--time", problems)
    problems.refuse()
    assert found is not None
    return found


def _check_known(options: InitOptions) -> None:
    """Refuse unknown names and values before anything is looked at."""
    from tuner.config.study import NAME
    from tuner.data.catalog import DATASETS
    from tuner.errors import SpecError, UnknownNameError
    from tuner.launch.launcher import read_devices
    from tuner.launch.loss_choice import TASKS

    layouts = [name for name, entry in DATASETS.items() if entry.check is not None]
    if options.layout is not None and options.layout not in layouts:
        raise UnknownNameError(kind="layout", name=options.layout, known=layouts, where="--layout")
    if options.task is not None and options.task not in TASKS:
        raise UnknownNameError(kind="task", name=options.task, known=TASKS, where="--task")
    if options.time is not None:
        _seconds(options.time)
    if options.devices is not None:
        read_devices(options.devices)
    if options.name is not None and not NAME.fullmatch(options.name):
        raise SpecError([f"{options.name!r} is no name: letters, digits, `._-`, at most 80"], where="--name")


def _check_file(file: Path | None, *, force: bool) -> None:
    from tuner.errors import RequestError

    if file is None:
        return
    if file.is_dir() or not file.parent.is_dir():
        what = "is a folder" if file.is_dir() else f"cannot be made: there is no folder {file.parent}"
        raise RequestError(f"{file} {what}.", hint="Name a file, as in -o cells.yaml", where="-o")
    if file.exists() and not force:
        raise RequestError(
            f"{file} is there already; it was not touched.",
            hint="--force overwrites it, -o FILE writes another one.",
            where=str(file),
        )


def _folder(path: Path, options: InitOptions) -> tuple[Path, "Settings"]:
    """Return the folder that was named, links resolved; a name below the data root will do."""
    from tuner.errors import RequestError

    settings = settings_of(data_root=options.data_root, cache=options.cache)
    place = path.expanduser()
    below = settings.data_root / path if settings.data_root is not None else None
    if not place.exists() and below is not None and below.is_dir():
        place = below
    if not place.is_dir():
        what = "is a file, not a folder" if place.exists() else "is not there"
        raise RequestError(
            f"{str(path)!r} {what}.",
            hint="Name the folder of a data set, as in: tuner init data/cells\n"
            "Without any data: tuner launch --dataset phantom",
            where="PATH",
        )
    return place.resolve(), settings


def _layout(folder: Path, questions: Questions) -> "LayoutFinding":
    """Say what was seen of each layout, and return the one that is read. Raises DataError where there is none."""
    from tuner.data.layouts import data_sets_below, find_layouts, is_raw_synapse, no_layout
    from tuner.errors import DataError

    findings = find_layouts(folder)
    fitting = next((finding for finding in findings if finding.fits), None)
    if fitting is None and is_raw_synapse(folder):
        raise DataError(
            "this is the download of the Synapse challenge, which is converted first.",
            hint=f"tuner data prepare synapse --raw {folder} --data-root data\n"
            "tuner init data/synapse      (with --test CASE,… test cases are yours to choose)",
            where=str(folder),
        )
    if fitting is None:
        below = data_sets_below(folder)
        if below:
            listed = "\n".join(f"tuner init {place}    # {layout}" for place, layout in below.items())
            raise DataError(
                f"{len(below)} data set{'s lie' if len(below) > 1 else ' lies'} below this folder; name one.",
                hint=listed,
                where=str(folder),
            )
        raise no_layout(folder, findings)
    output.tell(f"Looked at {folder}:")
    for finding in findings:
        _tell_wrapped(f"  {finding.layout:10} ", finding.text())
    chosen = questions.layout(fitting.layout)
    return next(finding for finding in findings if finding.layout == chosen) if chosen != fitting.layout else fitting


def _name_of(folder: Path) -> str:
    name = "".join(char if char.isascii() and (char.isalnum() or char in "._-") else "-" for char in folder.name)
    return name.lstrip("._-")[:80] or "study"


def _dataset(
    folder: Path, layout: str, options: InitOptions, settings: "Settings"
) -> tuple["Settings", dict[str, Any]]:
    """Return the settings with the data root, and the `dataset` section as far as it is known."""
    from dataclasses import replace

    from tuner.config.study import apply_overrides
    from tuner.data.catalog import DATASETS
    from tuner.errors import DataError

    root = settings.data_root.resolve() if settings.data_root is not None else None
    if root is None or folder == root or not folder.is_relative_to(root):
        root = folder.parent
    path = folder.relative_to(root).as_posix()
    texts = [text if text.startswith("dataset.") else f"dataset.{text}" for text in options.overrides or []]
    given: dict[str, Any] = {"name": layout}
    if any(option.name == "path" for option in DATASETS[layout].options):
        given["path"] = path
    elif path != layout:
        raise DataError(
            f"{layout} is read from a folder of that name below the data root, and this one is called {path!r}.",
            hint=f"Rename it, then: tuner init {folder.parent / layout}",
            where=str(folder),
        )
    section = apply_overrides({"dataset": given}, texts, {})["dataset"]
    return replace(settings, data_root=root), section


def _check(dataset: dict[str, Any], settings: "Settings") -> tuple[dict[str, Any], "Findings", list[str]]:
    """Open every file, refuse defects, and return the section with what its names and masks suggest."""
    from tuner.data.checks import check
    from tuner.data.mask_classes import instances_note
    from tuner.launch.study_setup import refuse_defects

    output.tell("opening every file (remembered: launch opens only what has changed)")
    hints: list[str] = []
    dataset = _with_group(dataset, settings, hints)
    complete = _complete(dataset)
    findings = check(complete, data_root=settings.data_root, cache=settings.cache)
    if "labels" in complete and not complete["labels"] and not complete["classes"] and instances_note(findings.classes):
        dataset = {**dataset, "labels": {"object": ">0"}}
        hints.append("The masks number their objects (instances); `labels` makes one class of them.")
        findings = check(_complete(dataset), data_root=settings.data_root, cache=settings.cache)
    refuse_defects(str(dataset["name"]), findings)
    unnamed = [row for row in findings.classes if row.name == f"value {row.values}"]
    if unnamed and not {"classes", "labels"} & dataset.keys():
        named = ", ".join(f"{'cell' if row in unnamed else row.name}={row.values}" for row in findings.classes[:3])
        hints.append(f"Name the classes, as in classes: '{named}'.")
    return dataset, findings, hints


def _with_group(dataset: dict[str, Any], settings: "Settings", hints: list[str]) -> dict[str, Any]:
    """Set `group` where the names of the cases look like parts of recordings."""
    from tuner.data.layouts import guess_group
    from tuner.data.preparation import open_source
    from tuner.errors import DataError

    complete = _complete(dataset)
    if "group" not in complete or "group" in dataset:
        return dataset
    try:
        names = open_source(complete, settings.data_root)[2].training
        pattern = guess_group(names)
        if pattern is None:
            return dataset
        grouped = {**dataset, "group": pattern}
        open_source(_complete(grouped), settings.data_root)
    except DataError:
        return dataset  # said by the check; or the lists divide a group, which was meant so
    hints.append(
        f"The names look like parts of recordings or patients ({names[0]}): `group` keeps the parts of one together, "
        "so that validation sees none that trained. Leave it out if each is a case of its own."
    )
    return grouped


def _complete(dataset: Mapping[str, Any]) -> dict[str, Any]:
    from tuner.config.trial import dataset_section
    from tuner.errors import Problems

    problems = Problems()
    found = dataset_section(dict(dataset), problems)
    problems.refuse(where="--set")
    return found


def _surveyed(dataset: dict[str, Any], settings: "Settings") -> "Survey":
    from tuner.cli.search import show_progress
    from tuner.launch.study_proposal import survey_data

    output.tell("measuring what the masks hold")
    return survey_data(dataset, settings, on_progress=show_progress)


def _tell_data(survey: "Survey", findings: "Findings") -> None:
    profile = survey.profile
    train, held_out, tests = profile.cases
    size = " x ".join(map(str, profile.recorded))
    _tell_wrapped(
        "  ",
        f"{train} training, {held_out} validation and {tests} test cases; {sum(profile.samples)} samples of {size}"
        f"{' (median)' if profile.uneven else ''}, {profile.channels} channel{'s' * (profile.channels > 1)}",
    )
    for row in profile.scored[:12]:
        if row.share:
            _tell_wrapped(
                "  ",
                f"{row.name}: {100 * row.share:.3g} % of the pixels, {row.objects:.3g} objects a sample, "
                f"{row.width:.3g} px wide",
            )
    if len(profile.scored) > 12:
        output.tell(f"  and {len(profile.scored) - 12} more classes, in the file")
    for line in [*findings.notes, *(line for line in findings), *survey.notes]:
        _tell_wrapped("  note: ", str(line))


def _tell_proposal(proposal: "Proposal", file: Path, words: list[str], *, as_json: bool, findings: "Findings") -> None:
    import shlex

    if as_json:
        output.put_json(_document(proposal, file, words, findings))
        return
    budget = proposal.budget
    _tell_wrapped(
        "  ",
        f"{len(proposal.kept)} losses compete in {budget.trials} trials of {budget.epochs} epochs, then "
        f"{(budget.top + 1) * budget.seeds} trainings confirm: about {output.duration(proposal.seconds)} of "
        f"{output.duration(proposal.wish.seconds)}",
    )
    if proposal.seconds > proposal.wish.seconds:
        _tell_wrapped("  note: ", "that is more than the time given, and the least that can be called a search")
    output.put(f"Written: {file}\nRead it, change what you like, then type:\n")
    output.put(f"  {shlex.join(words)}")


def _document(proposal: "Proposal", file: Path, words: list[str], findings: "Findings") -> dict[str, Any]:
    return {
        "file": str(file),
        "command": words,
        "task": proposal.task,
        "study": proposal.content,
        "data": proposal.profile.as_dict(),
        "notes": [*findings.notes, *proposal.notes],
        "losses": [{"loss": c.loss, "in": c.is_in, "why": c.why} for c in proposal.losses],
        "measured": {
            "device": proposal.machine.slots[0],
            "workers": proposal.workers,
            "epoch_s": proposal.epoch_s,
            "hours": proposal.seconds / 3600,
            "step_s": {name: m.step_s for name, m in proposal.measured.items()},
            "memory_bytes": {name: m.memory for name, m in proposal.measured.items()},
        },
    }


def _write(file: Path, text: str, *, force: bool) -> None:
    """Write a study file that was read again first, so that what is written can be launched."""
    from tuner.atomic_io import explain_os_error, write_atomically
    from tuner.config.study import load_spec
    from tuner.config.yaml_reader import parse_yaml

    load_spec(parse_yaml(text, source=str(file)))
    _check_file(file, force=force)
    with explain_os_error(file.parent, purpose="the study file", hint="name another file with -o FILE."):
        write_atomically(file, text.encode())


def _tell_wrapped(head: str, text: str) -> None:
    import textwrap

    output.tell(
        textwrap.fill(
            text,
            _LONGEST,
            initial_indent=head,
            subsequent_indent=" " * len(head),
            break_long_words=False,
            break_on_hyphens=False,
        )
    )

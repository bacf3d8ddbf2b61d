"""`train.command`: a program of the user's own as the training of a trial.

It is started in the folder in which the worker was, in a process group of its own, with the trial's values in its
arguments, in its environment and in `config.json`; what it prints goes to the trial's log. Called again with the same
folder it continues, if it can.
"""

import os
import signal
import time
from collections.abc import Callable, Collection, Generator, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tuner.atomic_io import write_json
from tuner.config.command import CONFIG, check_allowed, document_of, fill, values_of, variables_of
from tuner.config.trial import TrialConfig
from tuner.errors import EntryError, RunError
from tuner.settings import Settings
from tuner.training.epoch_report import EpochReport
from tuner.training.program import Lines, Program, ProgramEnd, end_stray
from tuner.training.program_reports import ReportReader

POLL_S = 0.2
TOLD_S = 2.0
"""A batch system signals the program and the worker together: so long the worker may hear of it later."""
TAIL = 40
"""Lines of output that are looked through for what has gone wrong."""
GIB = 2**30
_OUT_OF_MEMORY = (
    "out of memory",
    "outofmemoryerror",
    "memoryerror",
    "cannot allocate memory",
    "bad_alloc",
    "cublas_status_alloc_failed",
    "can't allocate memory",
    "unable to allocate",
)
_KILLED, _TERMINATED = (9, 137), (1, 2, 15, 129, 130, 143)
"""Signals, and the exit statuses by which a shell passes them on: SIGKILL; SIGHUP, SIGINT and SIGTERM."""
_DATABASE = ("PGPASSWORD", "PGPASSFILE", "PGSERVICE", "PGSERVICEFILE", "PGUSER", "PGHOST", "PGHOSTADDR", "PGDATABASE")
_STORE = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
"""Keys to where the files of trials are published."""


class CommandError(RunError):
    """The program of a trial has failed."""

    code = "command"


class CommandMemoryError(CommandError):
    """The program of a trial ran out of memory."""

    code = "out_of_memory"

    def __init__(self, message: str, *, at_limit: bool) -> None:
        super().__init__(message, where="train.command")
        self.at_limit = at_limit
        """It held more than `train.memory_gib`: alone on the machine it would, too."""


@dataclass(frozen=True, slots=True)
class ProgramPlace:
    """What a worker says of itself to the program that it starts."""

    allowed: Collection[str] = ()
    """Patterns of programs that may be run on this machine."""
    secrets: Collection[str] = ()
    """Texts that no environment variable of the program may hold: storage, tokens."""
    hides_store: bool = False
    """Whether the keys to where files are published are left out as well."""


def program_place(settings: Settings) -> ProgramPlace:
    """Return what programs may run here, and what their environment must not hold."""
    given = [settings.storage, settings.api_token, settings.webhook, settings.webhook_secret]
    password = urlsplit(settings.storage).password
    return ProgramPlace(
        allowed=settings.allow_command,
        secrets=tuple(text for text in (*given, password) if text),
        hides_store=settings.artifacts_url is not None,
    )


def run_command(
    config: TrialConfig,
    *,
    device: str,
    folder: Path,
    stored: Sequence[EpochReport],
    place: ProgramPlace,
    step: Callable[[], bool],
    is_told: Callable[[], bool],
    on_output: Callable[[str], None],
) -> Generator[EpochReport]:
    """Run the program and yield its reports, those of earlier attempts first.

    It ends when the program does, or is ended: after `train.epochs` reports, when it goes on reporting; when `step` or
    `is_told` says so; when the generator is closed. No process of it is left then.

    Args:
        config: Of the trial.
        device: `cpu`, `mps` or `cuda:N`, the first of `train.devices`.
        folder: Of the trial.
        stored: Reports of earlier attempts.
        place: What this machine allows, and hides.
        step: Told of everything that the program does; True asks for an end.
        is_told: Whether the training is to end, asked while nothing happens.
        on_output: Told of every line that the program prints.

    Raises:
        EntryError: The program may not be run here, or cannot be started.
        CommandError: It has failed, or ended without a report.
        ReportError: It contradicts itself.
        Diverged: The loss, or an objective, is not finite.
    """
    command = config.train.command
    assert command is not None
    check_allowed(command, place.allowed)
    yield from stored
    if step():
        return
    seen = "cuda:0" if device.startswith("cuda") else device
    values = values_of(config.parameters(), folder=str(folder), device=seen)
    end_stray(folder)
    reader = ReportReader(config, folder, stored)
    yield from reader.catch_up()
    write_json(folder / CONFIG, document_of(config.as_dict(), values))
    limit = None if config.train.memory_gib is None else int(config.train.memory_gib * GIB)
    program = Program(
        fill(command, values),
        environment=environment_of(os.environ, config, values, device=device, place=place),
        folder=folder,
        memory_bytes=limit,
        limit_data=device == "cpu",
    )
    with closing(program):
        run = _Run(program, reader, step, is_told, on_output)
        yield from run.reports()
        if run.was_told or reader.goes_beyond:
            return
        program.close()
        assert program.end is not None
        _judge(program.end, reader, run.tail, is_told, limit)


class _Run:
    """The reading of one program."""

    def __init__(
        self,
        program: Program,
        reader: ReportReader,
        step: Callable[[], bool],
        is_told: Callable[[], bool],
        on_output: Callable[[str], None],
    ) -> None:
        self.program = program
        self.reader = reader
        self.was_told = False
        self.tail: list[str] = []
        self._step = step
        self._is_told = is_told
        self._on_output = on_output
        self._lines = {"stdout": Lines(), "stderr": Lines()}

    def reports(self) -> Generator[EpochReport]:
        """Yield reports until the program has ended, or is to."""
        while self.program.end is None:
            seen = self.reader.bytes_read
            chunks = self.program.read(POLL_S)
            self._log(chunks)
            yield from self.reader.new_reports()
            did = bool(chunks) or self.reader.bytes_read != seen
            self.was_told = self._step() if did else self._is_told()
            if self.was_told or self.reader.goes_beyond:
                self.program.close()
                return
        self._log(self.program.rest())
        for lines in self._lines.values():
            if (rest := lines.end()) is not None:
                self._log_line(rest)
        yield from self.reader.new_reports(ended=True)

    def _log(self, chunks: Iterable[tuple[str, bytes]]) -> None:
        for name, chunk in chunks:
            for line in self._lines[name].add(chunk):
                self._log_line(line)

    def _log_line(self, line: str) -> None:
        self._on_output(line)
        self.tail = [*self.tail[1 - TAIL :], line[:2000]]


def _judge(
    end: ProgramEnd, reader: ReportReader, tail: Sequence[str], is_told: Callable[[], bool], limit: int | None
) -> None:
    """Raise the error by which a program has ended; return when it has done well, or was told to end."""
    if end.supervisor_died:
        raise CommandError("the supervisor of the program was killed, and the program with it.", where="train.command")
    if end.over_limit:
        most = "" if not end.memory_bytes else f", {end.memory_bytes / GIB:.2f} GiB at least"
        words = f"it held more memory than train.memory_gib allows ({(limit or 0) / GIB:g} GiB{most})."
        raise CommandMemoryError(words, at_limit=True)
    code = end.signal if end.exit is None else end.exit
    if code in _TERMINATED and (end.exit is None or end.exit > 128) and _is_told_soon(is_told):
        return
    if end.exit == 0:
        if not reader.count:
            half = (
                f" ({reader.lines_passed_over} lines could not be read, see the log)"
                if reader.lines_passed_over
                else ""
            )
            raise CommandError(
                f"the program ended without a single report{half}.",
                hint='It reports by JSON lines on stdout, as in {"epoch": 1, "dice": 0.7}.',
                where="train.command",
            )
        return
    how = f"exit status {end.exit}" if end.exit is not None else f"killed by {_signal_name(end.signal)}"
    last = next((line.strip() for line in reversed(tail) if line.strip()), "")
    said = f"; its last words: {last[:300]}" if last else ""
    if code in _KILLED and end.out_of_memory_kills:
        raise CommandMemoryError(f"the kernel has killed it for lack of memory ({how}){said}.", at_limit=False)
    text = "\n".join(tail).lower()
    if any(sign in text for sign in _OUT_OF_MEMORY):
        at_limit = limit is not None and "cuda" not in text
        raise CommandMemoryError(f"out of memory ({how}){said}.", at_limit=at_limit)
    if code in _KILLED:
        how += ", by somebody else or by the kernel for lack of memory"
    raise CommandError(f"the program has failed: {how}{said}.", where="train.command")


def _is_told_soon(is_told: Callable[[], bool]) -> bool:
    until = time.monotonic() + TOLD_S
    while not is_told():
        if time.monotonic() > until:
            return False
        time.sleep(0.05)
    return True


def _signal_name(number: int | None) -> str:
    try:
        return signal.Signals(number or 0).name
    except ValueError:
        return f"signal {number}"


def environment_of(
    environment: Mapping[str, str], config: TrialConfig, values: Mapping[str, Any], *, device: str, place: ProgramPlace
) -> dict[str, str]:
    """Return the environment of the program: this one's without storage and tokens, with the trial's values."""
    hidden = {*_DATABASE, *(_STORE if place.hides_store else ())}
    found = {
        name: value
        for name, value in environment.items()
        if not name.startswith(("TUNER_", "RAY_")) and name not in hidden
        if not any(secret in value for secret in place.secrets)
    }
    for name in ("TUNER_DATA_ROOT", "TUNER_CACHE"):
        if name in environment:
            found[name] = environment[name]
    found |= variables_of(values)
    found["PYTHONUNBUFFERED"] = "1"
    if config.train.threads is not None:
        found |= dict.fromkeys(
            ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(config.train.threads)
        )
    visible = visible_devices(device, config.train.devices, environment.get("CUDA_VISIBLE_DEVICES"))
    if visible is not None:
        found["CUDA_VISIBLE_DEVICES"] = visible
    return found


def visible_devices(device: str, count: int, listed: str | None, available: int | None = None) -> str | None:
    """Return CUDA_VISIBLE_DEVICES for a program: `count` devices from the worker's own on; none on a CPU.

    Args:
        device: Of the worker.
        count: `train.devices`.
        listed: CUDA_VISIBLE_DEVICES of the worker: its `cuda:1` is the second one there, by index or UUID.
        available: CUDA devices that the worker sees; None asks torch.

    Raises:
        EntryError: There are not so many devices.
    """
    if not device.startswith("cuda"):
        return "" if device == "cpu" else None
    if available is None:
        import torch

        available = torch.cuda.device_count()
    first = int(device.partition(":")[2] or 0)
    if first + count > available:
        raise EntryError(
            f"{count} CUDA devices from {device} on are asked for; this worker sees {available}.", where="train.devices"
        )
    names = [name.strip() for name in listed.split(",")] if listed else [str(index) for index in range(available)]
    return ",".join(names[first : first + count])

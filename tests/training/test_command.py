"""A program of the user's own as a training: what it is given, what it says, how it ends, and what it leaves behind."""

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tuner.config.trial import Objective, TrainConfig, TrialConfig
from tuner.errors import EntryError
from tuner.training.command import CommandError, CommandMemoryError, ProgramPlace, visible_devices
from tuner.training.epoch_report import Diverged, EpochReport
from tuner.training.program import Program, end_stray, marked
from tuner.training.program_reports import ReportError
from tuner.training.trainer import train

PROGRAM = str(Path(__file__).with_name("programs.py"))
HERE = [sys.executable, "-S", PROGRAM]
"""Without site-packages it starts in a twentieth of a second."""


def config(kind: str, *more: str, params: dict[str, Any] | None = None, **options: Any) -> TrialConfig:
    return TrialConfig(
        dataset={"name": "none"},
        model={},
        loss={},
        train=TrainConfig(command=[*HERE, kind, "{folder}", *more], threads=1, **{"epochs": 20, **options}),
        params=params or {},
    )


def run(
    asked: TrialConfig, folder: Path, *, stop: Callable[[], bool] = lambda: False, place: ProgramPlace | None = None
) -> list[EpochReport]:
    place = place or ProgramPlace(allowed=["*"])
    return list(train(asked, data=None, device="cpu", folder=folder, stop=stop, place=place))


def lines(*texts: str) -> str:
    """Return the argument of a program that writes these texts; braces are doubled in a command."""
    return json.dumps(texts).replace("{", "{{").replace("}", "}}")


def is_alive(folder: Path, name: str) -> bool:
    """Tell whether a process whose id a program has noted still runs."""
    try:
        state = Path(f"/proc/{(folder / f'{name}.pid').read_text()}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


def test_reports_come_from_stdout_and_everything_goes_to_the_log(tmp_path: Path) -> None:
    """JSON lines among whatever else a program prints."""
    found = run(
        config("lines", lines("loading\n", '{"epoch": 1, "dice": 0.5}\n', '{"other": 1}\n', "100 %\n")), tmp_path
    )

    assert [(report.epoch, report.metrics) for report in found] == [(1, {"dice": 0.5})]
    log = (tmp_path / "log.txt").read_text()
    assert "loading" in log
    assert "100 %" in log
    assert json.loads((tmp_path / "metrics.jsonl").read_text())["metrics"] == {"dice": 0.5}


def test_a_report_may_lie_in_the_file_and_tell_of_classes_and_cases(tmp_path: Path) -> None:
    """Programs whose stdout belongs to somebody else write `reports.jsonl`."""
    text = (
        '{"epoch": 4, "dice": 0.5, "lr": 0.1, "per_class": {"dice": {"liver": 0.5}}, "cases": {"a": {"dice": 0.25}}}\n'
    )

    (report,) = run(config("file", json.dumps(text).replace("{", "{{").replace("}", "}}")), tmp_path)

    assert report.epoch == 4
    assert report.per_class == {"dice": {"liver": 0.5}}
    assert [case.as_dict() for case in report.cases] == [{"case": "a", "metrics": {"dice": {"all": 0.25}}}]


@pytest.mark.parametrize(
    ("texts", "error", "message"),
    [
        pytest.param(["nothing\n"], CommandError, "without a single report", id="no report"),
        pytest.param(['{"epoch": 1, "di'], CommandError, "without a single report", id="half a line"),
        pytest.param(['{"epoch": 1, "dice": NaN}\n'], Diverged, "dice is nan", id="not finite"),
        pytest.param(
            ['{"epoch": 2, "dice": 1}\n', '{"epoch": 1, "dice": 1}\n'], ReportError, "forward", id="backwards"
        ),
        pytest.param(
            ['{"epoch": 1, "dice": 1}\n', '{"epoch": 1, "dice": 0}\n'], ReportError, "once", id="contradiction"
        ),
        pytest.param(['{"epoch": 0, "dice": 1}\n'], ReportError, "a whole number from 1", id="epoch 0"),
        pytest.param(['{"epoch": 1, "dice": "good"}\n'], ReportError, "'good', which is not a number", id="a word"),
        pytest.param(['{"epoch": 1, "dice": 1, "cases": [1]}\n'], ReportError, "cases maps", id="cases as a list"),
    ],
)
def test_what_is_no_report_has_its_answer(
    texts: list[str], error: type[Exception], message: str, tmp_path: Path
) -> None:
    """Each mistake has its own sentence, and ends the training."""
    with pytest.raises(error, match=message):
        run(config("lines", lines(*texts)), tmp_path)


def test_what_can_be_passed_over_is(tmp_path: Path) -> None:
    """Equal repeats, halves of lines, other texts, undefined metrics beside the objective, words."""
    first = '{"epoch": 1, "dice": 0.5, "hd95": NaN, "note": "x"}\n'
    texts = [first, first, '{"epoch": 2, "di\n', '{"epoch": 2, "dice": 0.6}']

    found = run(config("lines", lines(*texts)), tmp_path)

    assert [(report.epoch, dict(report.metrics)) for report in found] == [
        (1, {"dice": 0.5, "hd95": None}),
        (2, {"dice": 0.6}),
    ]
    assert "a line of stdout is no JSON" in (tmp_path / "log.txt").read_text()


def test_values_come_as_arguments_variables_and_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three ways, so that a program need not be changed; and nothing of the storage."""
    monkeypatch.setenv("TUNER_API_TOKEN", "abc")
    monkeypatch.setenv("TUNER_STORAGE", "postgresql://me:secret@db/tuner")
    monkeypatch.setenv("SOMEWHERE", "x postgresql://me:secret@db/tuner")
    monkeypatch.setenv("PGPASSWORD", "secret")
    monkeypatch.setenv("KEPT", "yes")
    asked = config("environment", "--depth={my.depth}", "{my.absent?}", "{train.lr}{{}}", params={"my.depth": 3})

    run(asked, tmp_path, place=ProgramPlace(allowed=["*"], secrets=["postgresql://me:secret@db/tuner"]))

    seen = json.loads((tmp_path / "environment.json.txt").read_text())
    assert json.loads((tmp_path / "arguments.txt").read_text()) == ["--depth=3", "0.0003{}"]
    assert (seen["TUNER_PARAM_MY_DEPTH"], seen["TUNER_PARAM_TRAIN_LR"], seen["KEPT"]) == ("3", "0.0003", "yes")
    assert (seen["CUDA_VISIBLE_DEVICES"], seen["OMP_NUM_THREADS"]) == ("", "1")
    assert not {"TUNER_API_TOKEN", "TUNER_STORAGE", "PGPASSWORD", "SOMEWHERE"} & set(seen)
    document = json.loads(Path(seen["TUNER_CONFIG"]).read_text())
    assert document["parameters"]["my.depth"] == 3
    assert document["folder"] == seen["TUNER_FOLDER"] == str(tmp_path)


@pytest.mark.parametrize(
    ("kind", "argument", "error", "message"),
    [
        pytest.param("exit", "3", CommandError, "exit status 3; its last words: something is wrong", id="status"),
        pytest.param("exit", "137", CommandError, "exit status 137, by somebody else", id="a shell's SIGKILL"),
        pytest.param("killed", "9", CommandError, "killed by SIGKILL", id="SIGKILL"),
        pytest.param("killed", "11", CommandError, "killed by SIGSEGV", id="SIGSEGV"),
        pytest.param("killed", "15", CommandError, "killed by SIGTERM", id="SIGTERM by somebody else"),
        pytest.param("cuda_memory", "", CommandMemoryError, "CUDA out of memory", id="out of GPU memory"),
    ],
)
def test_exit_codes_are_told_apart(
    kind: str, argument: str, error: type[Exception], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A report before does not make a failure good."""
    monkeypatch.setattr("tuner.training.command.TOLD_S", 0.1)
    with pytest.raises(error, match=message):
        run(config(kind, argument), tmp_path)


@pytest.mark.parametrize("pause", [pytest.param("0", id="at once"), pytest.param("0.05", id="slowly")])
def test_memory_has_a_limit(pause: str, tmp_path: Path) -> None:
    """The system refuses what a process asks for beyond it, or the supervisor sees what all together hold."""
    with pytest.raises(CommandMemoryError, match=r"memory"):
        run(config("memory", pause, memory_gib=0.1), tmp_path)


def test_it_may_end_before_all_epochs_and_is_ended_behind_them(tmp_path: Path) -> None:
    """`train.epochs` is the most reports that are read."""
    assert [report.epoch for report in run(config("steady"), tmp_path / "a")] == [1, 2, 3]
    (tmp_path / "b").mkdir()

    assert [report.epoch for report in run(config("slow", epochs=4), tmp_path / "b")] == [1, 2, 3, 4]
    assert not is_alive(tmp_path / "b", "main")


def test_it_continues_in_the_same_folder(tmp_path: Path) -> None:
    """Earlier reports are said again, the program goes on behind them; what it trains again is passed over."""
    first = run(config("slow"), tmp_path, stop=_reported(tmp_path, 3))
    (tmp_path / "reports.jsonl").write_text('{"epoch": 9, "di')
    again = run(config("steady"), tmp_path)
    (tmp_path / "state.json").unlink()
    other = run(config("lines", lines('{"epoch": 1, "dice": 0.9}\n', '{"epoch": 99, "dice": 0.5}\n')), tmp_path)

    done = [report.epoch for report in first]
    assert [report.epoch for report in again if report.replayed] == done
    assert other[0].metrics["dice"] == 0.1
    assert [report.epoch for report in other if not report.replayed] == [99]
    assert (tmp_path / "reports.jsonl").read_text() == ""


def test_a_program_that_is_deaf_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGTERM, a grace period, SIGKILL."""
    monkeypatch.setattr("tuner.training.program.GRACE_S", 0.5)
    (report,) = run(config("deaf"), tmp_path, stop=_reported(tmp_path, 1))

    assert report.epoch == 1
    assert not is_alive(tmp_path, "main")


@pytest.mark.parametrize("stays", [pytest.param(False, id="ends"), pytest.param(True, id="is ended")])
def test_no_process_is_left_behind(stays: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Children, daemons in a session of their own, and such as ignore SIGTERM."""
    monkeypatch.setattr("tuner.training.program.GRACE_S", 0.5)
    run(
        config("daemons", *(["stay"] if stays else [])),
        tmp_path,
        stop=_reported(tmp_path, 1) if stays else lambda: False,
    )

    assert not is_alive(tmp_path, "daemon")
    assert not is_alive(tmp_path, "deaf")
    assert marked(json.loads((tmp_path / ".program.json").read_text())["mark"]) == []


def test_a_generator_that_is_closed_ends_the_program(tmp_path: Path) -> None:
    """A pruned trial."""
    reports = train(
        config("slow"), data=None, device="cpu", folder=tmp_path, stop=lambda: False, place=ProgramPlace(allowed=["*"])
    )
    next(reports)
    assert is_alive(tmp_path, "main")

    reports.close()

    assert not is_alive(tmp_path, "main")


def test_a_killed_supervisor_takes_the_program_along(tmp_path: Path) -> None:
    """Nobody else would end what it has started."""
    program = Program([*HERE, "daemons", str(tmp_path), "stay"], environment=dict(os.environ), folder=tmp_path)
    _wait_for(tmp_path / "deaf.pid")
    os.kill(program._supervisor.pid, signal.SIGKILL)
    program.close()

    assert program.end is not None
    assert program.end.supervisor_died
    assert marked(program.mark) == []


def test_what_an_earlier_attempt_has_left_is_ended_first(tmp_path: Path) -> None:
    """Where worker and supervisor were killed at once, and the machine lived on."""
    program = Program([*HERE, "daemons", str(tmp_path), "stay"], environment=dict(os.environ), folder=tmp_path)
    _wait_for(tmp_path / "deaf.pid")
    assert len(marked(program.mark)) >= 4

    end_stray(tmp_path)

    assert marked(program.mark) == []
    program.close()


@pytest.mark.parametrize(
    ("allowed", "is_right"),
    [
        pytest.param([], False, id="nothing"),
        pytest.param(["*"], True, id="all"),
        pytest.param(["python3"], False, id="another spelling"),
        pytest.param([sys.executable], True, id="the path"),
        pytest.param([f"{Path(sys.executable).parent}/*"], True, id="a folder"),
        pytest.param(["/somewhere/*"], False, id="another folder"),
    ],
)
def test_only_allowed_programs_are_run(allowed: list[str], is_right: bool, tmp_path: Path) -> None:
    """Whatever stands in the storage, the owner of the machine decides."""
    if is_right:
        assert run(config("steady"), tmp_path, place=ProgramPlace(allowed=allowed))
        return
    with pytest.raises(EntryError, match="may not be run on this machine"):
        run(config("steady"), tmp_path, place=ProgramPlace(allowed=allowed))
    assert not (tmp_path / "begun.txt").exists()


def test_a_program_that_is_not_there(tmp_path: Path) -> None:
    """The message says where it was looked for."""
    asked = config("steady").model_copy(update={"train": TrainConfig(command="no-such-program {folder}")})

    with pytest.raises(EntryError, match="'no-such-program' cannot be started: No such file"):
        run(asked, tmp_path)


@pytest.mark.parametrize(
    ("device", "count", "listed", "available", "expected"),
    [
        pytest.param("cpu", 2, None, 0, "", id="cpu"),
        pytest.param("cuda:0", 1, None, 4, "0", id="one"),
        pytest.param("cuda:2", 2, None, 4, "2,3", id="two"),
        pytest.param("cuda:1", 2, "GPU-a,GPU-b,GPU-c", 3, "GPU-b,GPU-c", id="of those the worker sees"),
    ],
)
def test_gpus_are_given_by_a_variable(
    device: str, count: int, listed: str | None, available: int, expected: str
) -> None:
    """Programs number what they see from 0."""
    assert visible_devices(device, count, listed, available) == expected


def test_too_few_gpus_are_refused() -> None:
    """Not half of what was asked for."""
    with pytest.raises(EntryError, match="2 CUDA devices from cuda:3 on are asked for; this worker sees 4"):
        visible_devices("cuda:3", 2, None, 4)


def test_an_objective_of_the_users_own_must_be_finite(tmp_path: Path) -> None:
    """Other metrics may be undefined."""
    own = Objective(metric="score", direction="minimize")
    asked = config("lines", lines('{"epoch": 1, "score": Infinity}\n')).model_copy(update={"objectives": (own,)})

    with pytest.raises(Diverged, match="score is inf"):
        run(asked, tmp_path)


def _reported(folder: Path, epoch: int) -> Callable[[], bool]:
    """Return a stop that says so once an epoch is written down."""
    path = folder / "metrics.jsonl"
    return lambda: path.exists() and len(path.read_text().splitlines()) >= epoch


def _wait_for(path: Path, seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < until, f"{path} was not written"
        time.sleep(0.02)

"""Every command, asked for what is not there: exit code 2, the name in the answer, nothing made."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from tests.cli.shell import Shell
from tuner.cli.main import app

PHANTOM = "launch --dataset phantom --devices cpu"
UNKNOWN = [
    "init nope --yes",
    "launch nope.yaml",
    "launch --dataset nope",
    *(f"{command} --dataset phantom --set {wrong}" for command in ("launch", "plan") for wrong in (
        "objectives=[nope]", "search.loss=[nope]", "loss=nope", "model.name=nope", "sampler=nope", "pruner=nope",
        "dataset.name=nope", "search.loss.nope.gamma=1",
    )),
    f"{PHANTOM} --launcher nope",
    f"{PHANTOM} --devices nope",
    "plan nope.yaml",
    "plan --dataset nope",
    "recommend nope",
    "resume nope",
    "worker --study nope --device cpu",
    "worker --probe nope",
    "pause nope",
    "stop nope",
    "prune nope 0",
    "prune tiny 99",
    "retry nope --failed",
    "retry tiny 99",
    "compare nope.csv",
    "confirm nope",
    "verdict nope",
    "league nope",
    "enqueue nope --params {}",
    "bench record nope -o x.csv",
    "bench replay nope.csv",
    "delete nope --yes",
    "rename nope other",
    "archive nope",
    "activity nope",
    "status nope",
    "trials nope",
    "trials tiny --by nope",
    "trials tiny --loss nope",
    "trials tiny --state nope",
    "best nope",
    "logs nope",
    "logs nope 0",
    "logs tiny 99",
    "export nope -o x.yaml",
    "export tiny -o x.yaml --trial 99",
    "export tiny -o x.yaml --format nope",
    "train nope.yaml",
    "predict nope image.png -o out",
    "ensemble nope",
    "ensemble tiny --trials 99",
    "ensemble tiny --metric nope",
    "report nope -o x.html",
    "losses nope",
    "losses nope --json",
    "datasets nope",
    "models nope",
    "data prepare nope --raw .",
    "data check nope",
    "data describe nope",
    "db backup nope/copy.db",
    "db restore nope",
    "gc nope",
    "retry nope 0",
    "retry tiny 99",
    "compare nope.csv",
    "confirm nope",
    "verdict nope",
    "league nope",
    "enqueue nope --params {}",
    "bench record nope -o x.csv",
    "bench replay nope.csv",
    "serve --devices nope",
    "token add me --role nope --tokens tokens.json",
    "token add nope/ --role run --tokens tokens.json",
    "token list --tokens nope.json",
    "token revoke nope --tokens tokens.json",
]  # fmt: skip
NAMELESS = {"studies", "doctor", "db upgrade", "db check", "db serve"}
"""Commands that are given no name of anything but a storage."""


def _commands(group: object = None, before: str = "") -> Iterator[str]:
    found = group or typer.main.get_command(app)
    for name, command in getattr(found, "commands", {}).items():
        if hasattr(command, "commands"):
            yield from _commands(command, f"{before}{name} ")
        else:
            yield f"{before}{name}"


def test_every_command_is_walked() -> None:
    """A new command is entered here, or the other tests do not hold for it."""
    walked = {name for name in _commands() if any(line.startswith(f"{name} ") for line in UNKNOWN)}

    assert set(_commands()) - walked == NAMELESS


@pytest.mark.parametrize("line", UNKNOWN)
def test_an_unknown_name_is_a_wrong_request(searched: Shell, here: Path, line: str) -> None:
    """A script tells "no such study" from "the database is down" by the code."""
    before = sorted(here.rglob("*"))
    result = searched(*line.split())

    assert result.code == 2, result.err
    assert result.out == ""
    assert next(word for word in ("nope", "99") if word in line) in result.err.lower()
    assert sorted(here.rglob("*")) == before


@pytest.mark.parametrize(
    "storage",
    [
        "missing",
        "no database",
        *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("empty", "folder", "folder that is missing")),
    ],
)
def test_a_study_is_unknown_wherever_there_are_none(tuner: Shell, here: Path, storage: str) -> None:
    """Typed in the wrong folder: there is no database, hence no such study."""
    path = here / "tuner.db"
    if storage == "empty":
        path.touch()
    elif storage == "no database":
        path.write_text("something else, long enough to be looked at", encoding="utf-8")
    elif storage == "folder":
        path.mkdir()
    elif storage == "folder that is missing":
        path = here / "nowhere" / "tuner.db"
    named = [line for line in UNKNOWN if " nope" in f" {line}" and line.split()[0] in (
        "resume", "worker", "pause", "stop", "prune", "delete", "status", "trials", "best", "logs", "export", "report",
        "gc", "retry",
    ) and "tiny" not in line and "--probe" not in line]  # fmt: skip
    for line in named:
        result = tuner(*line.split(), "--storage", f"sqlite:///{path}")

        assert result.code == 2, f"{line}: {result.err}"
        assert result.out == ""
        assert "tuner.db" in result.err

"""A PostgreSQL of one's own: made, found again, kept by one, and stopped in order."""

import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.cli.shell import Shell, run_apart, start
from tests.postgres import find_binaries

needs_postgres = pytest.mark.skipif(find_binaries() is None, reason="no PostgreSQL: install its server")


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that every user may enter: called by root, the server runs as somebody else."""
    folder = Path(tempfile.mkdtemp(prefix="tuner-serve-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def served(place: Path, *words: str) -> Iterator[tuple["subprocess.Popen[str]", dict[str, Any]]]:
    """Serve the database of `place / "db"` and yield the process and what it printed."""
    process = start(place, "db", "serve", "--dir", "db", "--host", "127.0.0.1", "--json", *words)
    try:
        assert process.stdout is not None
        printed = []
        for line in process.stdout:
            printed.append(line)
            if line == "}\n":
                break
        if not printed:
            _, err = process.communicate(timeout=60)
            raise AssertionError(err)
        yield process, json.loads("".join(printed))
    finally:
        if process.poll() is None:
            process.terminate()
        process.communicate(timeout=60)


def wait_until_gone(pid: int) -> None:
    """Wait until a process has ended, or is a zombie that nobody has buried."""
    until = time.monotonic() + 90
    while time.monotonic() < until:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return
        except OSError:
            return
        time.sleep(0.05)
    raise AssertionError(f"process {pid} is still there")


@needs_postgres
@pytest.mark.postgres
def test_a_server_is_made_found_again_and_survives_kills(place: Path) -> None:
    """The whole life: a lab's studies hang on the same URL after every stop, clean or not."""
    folder = place / "db"
    with served(place) as (process, first):
        assert {oct((folder / name).stat().st_mode & 0o777) for name in ("tuner-server.json", "url")} == {"0o600"}
        assert (folder / "url").read_text().strip() == first["url"]
        with psycopg.connect(first["url"], autocommit=True) as connection:
            connection.execute("CREATE TABLE kept (x int)")
            assert connection.execute("SHOW max_connections").fetchone() == ("500",)
            assert connection.execute("SELECT rolsuper FROM pg_roles WHERE rolname = 'tuner'").fetchone() == (False,)
        with pytest.raises(psycopg.OperationalError, match="password"):
            psycopg.connect(first["url"].replace(first["url"].split(":")[2].split("@")[0], "wrong"))
        with pytest.raises(psycopg.OperationalError, match="pg_hba"):
            psycopg.connect(host="127.0.0.1", port=first["port"], user="owner", dbname="postgres")
        second = run_apart(place, "db", "serve", "--dir", "db")
        assert (second.code, "runs on it already" in second.err) == (2, True)
        process.terminate()
        _, err = process.communicate(timeout=60)
        assert process.returncode == 0, err

    with served(place) as (process, again):
        assert again["url"] == first["url"]
        process.kill()
        process.wait()
        wait_until_gone(again["pid"])  # nobody keeps it: it has ended with its keeper, in order

    with served(place) as (process, again):
        assert again["url"] == first["url"]
        os.kill(again["pid"], signal.SIGKILL)
        _, err = process.communicate(timeout=60)
        assert (process.returncode, "was killed by signal 9" in err) == (1, True)

    with served(place) as (process, again):
        with psycopg.connect(again["url"]) as connection:
            assert connection.execute("SELECT count(*) FROM kept").fetchone() == (0,)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
        assert process.returncode == 130, err


@needs_postgres
def test_what_cannot_be_served_is_refused_and_left_alone(tuner: Shell, here: Path) -> None:
    """Nothing is made where something else is, or where nobody could connect."""
    (here / "full").mkdir()
    (here / "full" / "thesis.tex").write_text("all of it")
    (here / "file").write_text("")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        for words, code, said in [
            (["--dir", "full"], 2, "holds something else (thesis.tex)"),
            (["--dir", "file"], 2, "is a file, not a folder"),
            (["--dir", "new", "--host", "127.0.0.1", "--port", port], 1, f"port {port}: Address already in use"),
            (["--dir", "new", "--port", "65536"], 2, "65536 is not a port"),
            (["--dir", "new", "--host", "192.0.2.1"], 1, "cannot listen on 192.0.2.1"),
        ]:
            result = tuner("db", "serve", *words)
            assert result.code == code, result.err
            assert said in result.err
    assert sorted(path.name for path in here.iterdir()) == ["file", "full"]
    assert [path.name for path in (here / "full").iterdir()] == ["thesis.tex"]


@needs_postgres
def test_data_of_another_version_is_refused(tuner: Shell, here: Path) -> None:
    """PostgreSQL reads the files of one major version only; both are named."""
    data = here / "db" / "data"
    data.mkdir(parents=True)
    (data / "PG_VERSION").write_text("9\n")
    (here / "db" / "tuner-server.json").write_text('{"host": "127.0.0.1", "port": 1, "password": "x"}')

    result = tuner("db", "serve", "--dir", "db")

    assert result.code == 2
    assert "server programs of PostgreSQL 9 " in result.err
    assert "There is " in result.err


@pytest.mark.skipif(os.getuid() != 0, reason="only root hands the server to another user")
@needs_postgres
def test_a_place_that_the_server_could_not_enter_is_refused(tuner: Shell, here: Path) -> None:
    """Root's own folders are closed to the user as whom the server has to run; a first start leaves nothing."""
    here.chmod(0o700)

    result = tuner("db", "serve", "--dir", "db", "--host", "127.0.0.1", "--port", "0")

    assert result.code == 2, result.err
    assert "cannot be entered by the user" in result.err
    assert list(here.iterdir()) == []


@needs_postgres
@pytest.mark.postgres
@pytest.mark.slow
def test_workers_of_other_folders_search_over_it(place: Path) -> None:
    """What it prints is all that another machine needs."""
    from tests.cli.shell import STUDY

    (place / "tiny.yaml").write_text(STUDY, encoding="utf-8")
    with served(place) as (_, facts):
        storage = ["--storage", facts["url"]]
        made = run_apart(place, "launch", "tiny.yaml", "--launcher", "none", "--devices", "cpu", *storage)
        assert made.code == 0, made.err
        worked = run_apart(place, "worker", "--study", "tiny", "--device", "cpu", *storage)
        assert worked.code == 0, worked.err
        counts = run_apart(place, "status", "tiny", "--json", *storage).json()["trials"]
        assert counts["complete"] + counts["pruned"] == counts["total"] == 6


def test_the_programs_are_found_where_systems_hide_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Debian keeps them off the path; the newest version wins, a wanted one is kept to, none is said in words."""
    from tuner.errors import NotFoundError
    from tuner.postgres import find_programs

    for major in (14, 17):
        folder = tmp_path / "lib" / str(major) / "bin"
        folder.mkdir(parents=True)
        for name in ("initdb", "pg_ctl", "postgres"):
            (folder / name).write_text(f"#!/bin/sh\necho 'postgres (PostgreSQL) {major}.2'\n")
            (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    places = [f"{tmp_path}/lib/*/bin"]

    assert find_programs(places=places).major == 17
    assert find_programs(14, places=places).folder == tmp_path / "lib" / "14" / "bin"
    with pytest.raises(NotFoundError, match=r"There is 17 in .*14 in .*segmentation-tuner\[postgres\]"):
        find_programs(16, places=places)

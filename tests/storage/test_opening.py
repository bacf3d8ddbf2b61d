"""Opening a storage: what is made, what is refused, and in which words."""

import os
import re
import socket
import sqlite3
import time
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import text

from tests.storage.examples import new_study, ranked_by, run_all
from tuner.errors import RequestError, StorageError, TunerError
from tuner.storage import migrate
from tuner.storage import schema as tables
from tuner.storage.storage import Storage, check, upgrade
from tuner.storage.url import file_system, is_network

RELEASED = Path(__file__).parent / "released"


@pytest.mark.parametrize(
    ("url", "words"),
    [
        pytest.param("no url", "is not the URL", id="not-a-url"),
        pytest.param("mysql://root@localhost/db", "'mysql' is not supported", id="dialect"),
        pytest.param("oracle+nothing://x", "not supported", id="unknown-dialect"),
        pytest.param("sqlite://", "in memory", id="memory"),
        pytest.param("sqlite:///:memory:", "in memory", id="memory-by-name"),
    ],
)
def test_urls_that_name_no_storage(url: str, words: str) -> None:
    """The request was wrong: exit code 2, and the known forms."""
    with pytest.raises(RequestError, match=words) as caught:
        Storage.open(url, create=True)

    assert "sqlite:///" in str(caught.value)


def test_a_missing_file_is_not_made_by_reading(tmp_path: Path) -> None:
    """`tuner status` in the wrong folder must not leave an empty database there."""
    with pytest.raises(StorageError, match="no such database"):
        Storage.open(f"sqlite:///{tmp_path / 'tuner.db'}")

    assert list(tmp_path.iterdir()) == []


def test_places_that_cannot_hold_a_database(tmp_path: Path) -> None:
    """Each says what is wrong, and nothing half-made stays."""
    (tmp_path / "text.db").write_text("not a database, but long enough to be looked at " * 50)
    for place, words in [
        (tmp_path, "is a folder"),
        (tmp_path / "missing" / "tuner.db", "does not exist"),
        (tmp_path / "text.db", "not a database"),
    ]:
        with pytest.raises(StorageError, match=words) as caught:
            Storage.open(f"sqlite:///{place}", create=True)
        assert str(place) in str(caught.value)

    assert [path.name for path in tmp_path.iterdir()] == ["text.db"]


@pytest.mark.parametrize("folder", ["a b", "50%", "{x}", "ü"], ids=["space", "percent", "braces", "umlaut"])
def test_any_folder_name_will_do(tmp_path: Path, folder: str) -> None:
    """Optuna takes URLs for templates, and Alembic takes them for configuration."""
    (tmp_path / folder).mkdir()

    with Storage.open(f"sqlite:///{tmp_path / folder / 'tuner.db'}", create=True) as store:
        assert store.queries.studies() == []

    assert (tmp_path / folder / "tuner.db").is_file()


def test_a_folder_that_may_not_be_written(tmp_path: Path) -> None:
    """Named before anything else is tried."""
    folder = Path("/proc/self") if os.getuid() == 0 else tmp_path
    if os.getuid() != 0:
        folder.chmod(0o555)

    with pytest.raises(StorageError, match=r"may not be written|cannot be opened"):
        Storage.open(f"sqlite:///{folder / 'tuner.db'}", create=True)


def test_a_server_that_is_not_there() -> None:
    """Refused within 15 s, without the password."""
    start = time.monotonic()
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        port = silent.getsockname()[1]

        with pytest.raises(StorageError, match="does not answer") as caught:
            Storage.open(f"postgresql://tuner:secret@127.0.0.1:{port}/db", create=True)

    assert time.monotonic() - start < 15
    assert "secret" not in str(caught.value)


def test_a_server_that_says_nothing() -> None:
    """A firewall swallows packets: the time limit is ours."""
    start = time.monotonic()
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        pytest.raises(StorageError, match=r"does not answer|did not answer"),
    ):
        Storage.open(f"postgresql://tuner@127.0.0.1:{silent.getsockname()[1]}/db")

    assert time.monotonic() - start < 15


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        pytest.param("/home/u/tuner.db", "nfs4", id="nfs"),
        pytest.param("/home/u/local disk/tuner.db", "ext4", id="deeper-mount"),
        pytest.param("/scratch/tuner.db", "lustre", id="lustre"),
        pytest.param("/mnt/ssh/tuner.db", "fuse.sshfs", id="fuse"),
        pytest.param("/srv/tuner.db", "fuse.fuse-overlayfs", id="container-root"),
    ],
)
def test_file_systems_are_read_from_the_mounts(path: str, kind: str) -> None:
    """The longest mount point that holds the file decides."""
    mounts = (
        "root / fuse.fuse-overlayfs rw 0 0\nserver:/home /home nfs4 rw 0 0\n"
        "/dev/sdb /home/u/local\\040disk ext4 rw 0 0\nmds:/x /scratch lustre rw 0 0\nu@h: /mnt/ssh fuse.sshfs rw 0 0\n"
    )

    assert file_system(Path(path), mounts) == kind


def test_network_file_systems_are_known() -> None:
    """SQLite's locks do not hold there: two workers would train the same trial."""
    assert [k for k in ("nfs", "cifs", "lustre", "fuse.sshfs", "ext4", "xfs", "9p", "overlay") if is_network(k)] == [
        "nfs",
        "cifs",
        "lustre",
        "fuse.sshfs",
    ]
    assert not is_network(None)
    assert not is_network("fuse.fuse-overlayfs")


def test_the_migrations_make_what_the_tables_say(empty_url: str) -> None:
    """A table that is changed without a migration works on new databases only."""
    with Storage.open(empty_url, create=True) as store, store.context.database.writer.connect() as connection:
        context = MigrationContext.configure(
            connection,
            opts={
                "include_name": lambda name, kind, _: kind != "table" or str(name).startswith("tuner_"),
                "version_table": migrate.VERSION_TABLE,
            },
        )
        assert compare_metadata(context, tables.metadata) == []
        names = connection.scalar(text(f"SELECT version_num FROM {migrate.VERSION_TABLE}"))
    assert names == migrate.HEAD


def test_the_versions_are_those_of_the_migrations() -> None:
    """`REVISIONS` tells an older schema from a newer one without importing Alembic."""
    config = Config()
    config.set_main_option("script_location", str(Path(migrate.__file__).parent / "migrations"))
    script = ScriptDirectory.from_config(config)

    assert [r.revision for r in script.walk_revisions()][::-1] == list(migrate.REVISIONS)


@pytest.mark.parametrize("version", migrate.REVISIONS)
def test_every_released_schema_is_upgraded(tmp_path: Path, version: str) -> None:
    """A study that was begun with an old version is gone on with."""
    path = tmp_path / "tuner.db"
    with sqlite3.connect(path) as old:
        old.executescript((RELEASED / f"{version}.sql").read_text())
    old.close()

    assert upgrade(f"sqlite:///{path}")["to"] == migrate.HEAD

    with Storage.open(f"sqlite:///{path}") as store:
        document = store.queries.status("organs")
        assert document["trials"] == {
            "total": 4,
            "waiting": 2,
            "running": 0,
            "complete": 2,
            "pruned": 0,
            "failed": 0,
        }
        assert (document["best"]["value"], len(store.queries.epochs("organs", 0))) == (0.5, 2)
        assert ranked_by(store, "hd95") == [("focal", 0, 3.0), ("focal", 1, 5.0)]
        assert ranked_by(store, "dice", "liver") == [("focal", 1, 0.5), ("focal", 0, 0.3)]
        assert ranked_by(store, "dice", "aorta") == []
        run_all(store, store.studies.get("organs").study_id, [0.6, 0.7])
        assert store.queries.status("organs")["phase"] == "done"
        assert [number for _, number, _ in ranked_by(store, "dice", "liver")] == [3, 2, 1, 0]


def test_an_empty_database_has_to_be_made_first(empty_url: str) -> None:
    """Workers never create tables: sixteen of twenty-four failed when they all did."""
    url = empty_url
    if url.startswith("sqlite"):
        Path(url.removeprefix("sqlite:///")).touch()

    with pytest.raises(StorageError, match="tuner db upgrade"):
        Storage.open(url)

    assert check(url)["ok"] is False
    assert upgrade(url) == {"storage": check(url)["storage"], "from": None, "to": migrate.HEAD}
    assert check(url)["ok"] is True
    Storage.open(url).close()


@pytest.mark.parametrize(
    ("version", "words"),
    [
        pytest.param("9999", "version 9999, made by a newer tuner", id="newer"),
        pytest.param("0000", "version 0000", id="unknown"),
    ],
)
def test_another_schema_version_is_refused(empty_url: str, version: str, words: str) -> None:
    """Two versions of tuner on one storage would corrupt it in silence; both versions are named."""
    with Storage.open(empty_url, create=True) as store:
        store.context.database.write(
            lambda c: c.execute(text(f"UPDATE {migrate.VERSION_TABLE} SET version_num = '{version}'"))
        )

    for create in (False, True):
        with pytest.raises(StorageError, match=words) as caught:
            Storage.open(empty_url, create=create)
        assert migrate.HEAD in str(caught.value)
        assert "tuner db upgrade" in str(caught.value)


def test_another_optuna_schema_is_refused(empty_url: str) -> None:
    """We write Optuna's tables ourselves: only the version that we know is safe."""
    with Storage.open(empty_url, create=True) as store:
        store.context.database.write(lambda c: c.execute(text("UPDATE version_info SET schema_version = 13")))

    with pytest.raises(StorageError, match="schema version 13; this program needs 12"):
        Storage.open(empty_url)


def test_a_reading_store_cannot_write(url: str) -> None:
    """A page cannot change anything by accident."""
    with Storage.open(url, create=True) as store:
        store.studies.create(new_study())

    with Storage.open(url, read_only=True) as reader, pytest.raises(TunerError):
        reader.studies.pause("organs")

    with Storage.open(url) as store:
        assert store.queries.phase("organs") == ("queued", None)


def test_opening_prints_nothing(empty_url: str, capfd: pytest.CaptureFixture[str]) -> None:
    """Standard output belongs to data."""
    Storage.open(empty_url, create=True).close()

    captured = capfd.readouterr()
    assert captured.out == ""
    assert not re.search("error|warning", captured.err, re.IGNORECASE)

"""Every released schema, with the study in it, on PostgreSQL: `released/` holds them as SQLite wrote them."""

import sqlite3
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, MetaData, create_engine, text

from tests.storage.examples import ranked_by, run_all
from tuner.storage import migrate
from tuner.storage.optuna_schema import optuna_storage
from tuner.storage.storage import Storage, check, upgrade

RELEASED = Path(__file__).parent / "released"


def make(url: str, version: str, folder: Path) -> None:
    """Make a PostgreSQL database as that version of tuner would have left it."""
    path = folder / "old.db"
    with sqlite3.connect(path) as old:
        old.executescript((RELEASED / f"{version}.sql").read_text())
    old.close()
    theirs = optuna_storage(url)
    theirs.remove_session()
    theirs.engine.dispose()
    engine, source = create_engine(url.replace("://", "+psycopg://")), create_engine(f"sqlite:///{path}")
    config = Config()
    config.set_main_option("script_location", str(Path(migrate.__file__).parent / "migrations"))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, version)
    with engine.begin() as connection, source.connect() as reader:
        copy(reader, connection)
    engine.dispose()
    source.dispose()


def copy(source: Connection, target: Connection) -> None:
    """Copy the rows of all tables, and let numbers go on behind them."""
    old, new = MetaData(), MetaData()
    old.reflect(source)
    new.reflect(target)
    for table in new.sorted_tables:
        if table.name in (migrate.VERSION_TABLE, "alembic_version", "version_info"):
            continue
        rows = [dict(row._mapping) for row in source.execute(old.tables[table.name].select())]
        if not rows:
            continue
        target.execute(table.insert(), rows)
        for column in table.primary_key.columns:
            sequence = target.scalar(
                text("SELECT pg_get_serial_sequence(:table, :column)"), {"table": table.name, "column": column.name}
            )
            if sequence:
                target.execute(text(f"SELECT setval('{sequence}', (SELECT max({column.name}) FROM {table.name}))"))


@pytest.mark.postgres
@pytest.mark.parametrize("version", migrate.REVISIONS)
def test_every_released_schema_is_upgraded_on_postgresql(postgres_url: str, tmp_path: Path, version: str) -> None:
    """A shared study outlives the version that began it: nothing of it changes, and it is gone on with."""
    make(postgres_url, version, tmp_path)
    assert check(postgres_url)["ok"] is (version == migrate.HEAD)

    assert upgrade(postgres_url)["to"] == migrate.HEAD

    with Storage.open(postgres_url) as store:
        document = store.queries.status("organs")
        assert (document["trials"]["complete"], document["trials"]["waiting"]) == (2, 2)
        assert (document["best"]["value"], len(store.queries.epochs("organs", 0))) == (0.5, 2)
        assert ranked_by(store, "hd95") == [("focal", 0, 3.0), ("focal", 1, 5.0)]
        assert ranked_by(store, "dice", "liver") == [("focal", 1, 0.5), ("focal", 0, 0.3)]
        assert ranked_by(store, "dice", "aorta") == []
        run_all(store, store.studies.get("organs").study_id, [0.6, 0.7])
        assert store.queries.status("organs")["phase"] == "done"
        assert [number for _, number, _ in ranked_by(store, "dice", "liver")] == [3, 2, 1, 0]

"""Runs migrations on the connection that `tuner.store.schema` hands over, in its transaction."""

from alembic import context

from tuner.store.schema import VERSION_TABLE
from tuner.store.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=VERSION_TABLE,
    include_name=lambda name, kind, parents: kind != "table" or str(name).startswith("tuner_"),
    transactional_ddl=True,
)
context.run_migrations()

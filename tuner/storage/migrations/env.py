"""Runs migrations on the connection that `tuner.storage.migrate` hands over, in its transaction."""

from alembic import context

from tuner.storage.migrate import VERSION_TABLE
from tuner.storage.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=VERSION_TABLE,
    include_name=lambda name, kind, parents: kind != "table" or str(name).startswith("tuner_"),
    transactional_ddl=True,
)
context.run_migrations()

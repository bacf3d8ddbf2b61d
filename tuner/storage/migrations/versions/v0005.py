"""A worker on a GPU is known by the UUID of it."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.add_column("tuner_workers", sa.Column("gpu", sa.String(length=64), nullable=True))

"""Devices put aside have columns of their own, running trials can be ended at once, folders say whose they are."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

_workers = sa.table(
    "tuner_workers",
    sa.column("worker_id", sa.String),
    sa.column("progress", sa.JSON(none_as_null=True)),
    sa.column("aside_study_id", sa.Integer),
    sa.column("aside_study", sa.String),
    sa.column("aside_why", sa.Text),
)


def upgrade() -> None:
    op.add_column("tuner_attempts", sa.Column("end_now", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("tuner_studies", sa.Column("marks_folder", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("tuner_workers", sa.Column("aside_study_id", sa.Integer(), nullable=True))
    op.add_column("tuner_workers", sa.Column("aside_study", sa.String(length=80), nullable=True))
    op.add_column("tuner_workers", sa.Column("aside_why", sa.Text(), nullable=True))
    op.create_index(
        "tuner_workers_aside",
        "tuner_workers",
        ["left_at"],
        unique=False,
        sqlite_where=sa.text("aside_why IS NOT NULL"),
        postgresql_where=sa.text("aside_why IS NOT NULL"),
    )
    connection = op.get_bind()
    for worker_id, progress in connection.execute(sa.select(_workers.c.worker_id, _workers.c.progress)).all():
        said = (progress or {}).get("put_aside")
        if said is not None:
            connection.execute(
                sa.update(_workers)
                .where(_workers.c.worker_id == worker_id)
                .values(
                    progress=None,
                    aside_study_id=said["study_id"],
                    aside_study=said["study"],
                    aside_why=said["why"],
                )
            )

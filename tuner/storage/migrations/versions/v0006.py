"""Notes, tags and stars of studies and trials, studies that are archived, and a log of who changed what."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def _study_id(*, nullable: bool = False) -> sa.Column[int]:
    return sa.Column("study_id", sa.Integer(), autoincrement=False, nullable=nullable)


def _of_study() -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(["study_id"], ["studies.study_id"], ondelete="CASCADE")


def upgrade() -> None:
    op.add_column("tuner_studies", sa.Column("archived", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.create_table(
        "tuner_annotations",
        _study_id(),
        sa.Column("slot", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("notes", sa.Text(), nullable=False),
        sa.Column("notes_revision", sa.Integer(), nullable=False),
        sa.Column("starred", sa.Boolean(), nullable=False),
        _of_study(),
        sa.PrimaryKeyConstraint("study_id", "slot"),
    )
    op.create_table(
        "tuner_tags",
        _study_id(),
        sa.Column("slot", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("tag", sa.String(length=50), nullable=False),
        _of_study(),
        sa.PrimaryKeyConstraint("study_id", "slot", "tag"),
    )
    op.create_table(
        "tuner_activity",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("at", sa.Float(precision=53), nullable=False),
        sa.Column("actor", sa.String(length=100), nullable=False),
        _study_id(nullable=True),
        sa.Column("study", sa.String(length=100), nullable=False),
        sa.Column("action", sa.String(length=32), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        _of_study(),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("tuner_activity_newest", "tuner_activity", ["study_id", "id"], unique=False)

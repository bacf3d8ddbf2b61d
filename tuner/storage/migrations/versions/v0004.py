"""A confirmation is a study that belongs to another one, and every look at its runs is stored."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.add_column("tuner_studies", sa.Column("parent", sa.String(length=32), nullable=True))
    op.create_index("tuner_studies_parent", "tuner_studies", ["parent"], unique=False)
    if op.get_bind().dialect.name != "sqlite":  # which keeps texts of any length, and cannot change a column
        op.alter_column("tuner_studies", "name", type_=sa.String(length=100), existing_nullable=False)
        op.alter_column("tuner_workers", "aside_study", type_=sa.String(length=100), existing_nullable=True)
    op.create_table(
        "tuner_looks",
        sa.Column("study_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("look", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("runs", sa.Integer(), nullable=False),
        sa.Column("level", sa.Float(precision=53), nullable=False),
        sa.Column("configurations", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("pairs", sa.Integer(), nullable=False),
        sa.Column("planned_at", sa.Float(precision=53), nullable=False),
        sa.ForeignKeyConstraint(["study_id"], ["studies.study_id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("study_id", "look"),
    )

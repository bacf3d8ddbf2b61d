"""What complete trials scored by every stored metric has narrow rows of its own; ranking reads one index alone."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"

_SQLITE = """
    INSERT INTO tuner_scores (study_id, metric, label, number, branch, value)
    SELECT a.study_id, m.key, '', a.number, coalesce(a.branch, ''), m.value
    FROM tuner_attempts AS a
    JOIN tuner_epochs AS e ON e.trial_id = a.trial_id AND e.epoch = a.best_epoch
    JOIN json_each(e.metrics) AS m
    WHERE a.value IS NOT NULL AND m.type IN ('real', 'integer')
    UNION ALL
    SELECT a.study_id, m.key, c.key, a.number, coalesce(a.branch, ''), c.value
    FROM tuner_attempts AS a
    JOIN tuner_epochs AS e ON e.trial_id = a.trial_id AND e.epoch = a.best_epoch
    JOIN json_each(e.per_class) AS m
    JOIN json_each(CASE WHEN m.type = 'object' THEN m.value ELSE '{}' END) AS c
    WHERE a.value IS NOT NULL AND c.type IN ('real', 'integer')
"""
_POSTGRESQL = """
    INSERT INTO tuner_scores (study_id, metric, label, number, branch, value)
    SELECT a.study_id, m.key, '', a.number, coalesce(a.branch, ''), CAST(m.value #>> '{}' AS double precision)
    FROM tuner_attempts AS a
    JOIN tuner_epochs AS e ON e.trial_id = a.trial_id AND e.epoch = a.best_epoch
    CROSS JOIN LATERAL json_each(CASE WHEN json_typeof(e.metrics) = 'object' THEN e.metrics ELSE '{}' END) AS m
    WHERE a.value IS NOT NULL AND json_typeof(m.value) = 'number'
    UNION ALL
    SELECT a.study_id, m.key, c.key, a.number, coalesce(a.branch, ''), CAST(c.value #>> '{}' AS double precision)
    FROM tuner_attempts AS a
    JOIN tuner_epochs AS e ON e.trial_id = a.trial_id AND e.epoch = a.best_epoch
    CROSS JOIN LATERAL json_each(CASE WHEN json_typeof(e.per_class) = 'object' THEN e.per_class ELSE '{}' END) AS m
    CROSS JOIN LATERAL json_each(CASE WHEN json_typeof(m.value) = 'object' THEN m.value ELSE '{}' END) AS c
    WHERE a.value IS NOT NULL AND json_typeof(c.value) = 'number'
"""


def upgrade() -> None:
    op.create_table(
        "tuner_scores",
        sa.Column("study_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("metric", sa.Text(), nullable=False),
        sa.Column("label", sa.Text(), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("branch", sa.Text(), nullable=False),
        sa.Column("value", sa.Float(precision=53), nullable=False),
        sa.ForeignKeyConstraint(["study_id"], ["studies.study_id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("study_id", "metric", "label", "number", "branch", "value"),
        sqlite_with_rowid=False,
    )
    op.drop_index("tuner_attempts_ranked", table_name="tuner_attempts")
    op.drop_index("tuner_attempts_value", table_name="tuner_attempts")
    op.create_index(
        "tuner_attempts_value",
        "tuner_attempts",
        ["study_id", "value", "number", "branch"],
        unique=False,
        sqlite_where=sa.text("value IS NOT NULL"),
        postgresql_where=sa.text("value IS NOT NULL"),
    )
    op.execute(_SQLITE if op.get_bind().dialect.name == "sqlite" else _POSTGRESQL)

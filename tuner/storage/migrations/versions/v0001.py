"""The first schema."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "tuner_attempts",
        sa.Column("trial_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("study_id", sa.Integer(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("slot", sa.Integer(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("retry_of", sa.Integer(), nullable=True),
        sa.Column("successor", sa.Integer(), nullable=True),
        sa.Column("lost", sa.Integer(), nullable=False),
        sa.Column("urgency", sa.Integer(), nullable=False),
        sa.Column("alone", sa.Boolean(), nullable=False),
        sa.Column("branch", sa.String(length=128), nullable=True),
        sa.Column("params", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("empty", sa.Boolean(), nullable=False),
        sa.Column("filled", sa.Boolean(), nullable=False),
        sa.Column("enqueue_token", sa.String(length=32), nullable=True),
        sa.Column("claim_token", sa.String(length=32), nullable=True),
        sa.Column("worker_id", sa.String(length=32), nullable=True),
        sa.Column("claimed_at", sa.Float(precision=53), nullable=True),
        sa.Column("finished_at", sa.Float(precision=53), nullable=True),
        sa.Column("finished_revision", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.Column("reason", sa.String(length=32), nullable=True),
        sa.Column("message", sa.Text(), nullable=True),
        sa.Column("value", sa.Float(precision=53), nullable=True),
        sa.Column("objective_values", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("feasible", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("last_epoch", sa.Integer(), nullable=True),
        sa.Column("last_value", sa.Float(precision=53), nullable=True),
        sa.Column("best_epoch", sa.Integer(), nullable=True),
        sa.Column("prune_requested", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["study_id"], ["studies.study_id"], ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["trial_id"], ["trials.trial_id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("trial_id"),
        sa.UniqueConstraint("study_id", "number", name="tuner_attempts_number"),
        sa.UniqueConstraint("study_id", "slot", "attempt", name="tuner_attempts_slot"),
    )
    op.create_index(
        "tuner_attempts_counted",
        "tuner_attempts",
        ["study_id", "successor", "branch", "reason", "claimed_at", "finished_at", "number", "trial_id"],
        unique=False,
    )
    op.create_index("tuner_attempts_finished", "tuner_attempts", ["study_id", "finished_revision"], unique=False)
    op.create_index(
        "tuner_attempts_held",
        "tuner_attempts",
        ["study_id", "worker_id"],
        unique=False,
        sqlite_where=sa.text("claimed_at IS NOT NULL AND finished_at IS NULL"),
        postgresql_where=sa.text("claimed_at IS NOT NULL AND finished_at IS NULL"),
    )
    op.create_index(
        "tuner_attempts_newest",
        "tuner_attempts",
        ["study_id", "number"],
        unique=False,
        sqlite_where=sa.text("successor IS NULL"),
        postgresql_where=sa.text("successor IS NULL"),
    )
    op.create_index(
        "tuner_attempts_ranked",
        "tuner_attempts",
        ["study_id", "branch", "value", "number"],
        unique=False,
        sqlite_where=sa.text("value IS NOT NULL"),
        postgresql_where=sa.text("value IS NOT NULL"),
    )
    op.create_index(
        "tuner_attempts_value",
        "tuner_attempts",
        ["study_id", "value"],
        unique=False,
        sqlite_where=sa.text("value IS NOT NULL"),
        postgresql_where=sa.text("value IS NOT NULL"),
    )
    op.create_index(
        "tuner_attempts_waiting",
        "tuner_attempts",
        ["study_id", "urgency", "slot"],
        unique=False,
        sqlite_where=sa.text("claimed_at IS NULL"),
        postgresql_where=sa.text("claimed_at IS NULL"),
    )
    op.create_table(
        "tuner_epochs",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("trial_id", sa.Integer(), nullable=False),
        sa.Column("study_id", sa.Integer(), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("branch", sa.String(length=128), nullable=True),
        sa.Column("bracket", sa.Integer(), nullable=True),
        sa.Column("value", sa.Float(precision=53), nullable=True),
        sa.Column("best", sa.Float(precision=53), nullable=True),
        sa.Column("metrics", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("per_class", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("train_loss", sa.Float(precision=53), nullable=True),
        sa.Column("lr", sa.Float(precision=53), nullable=True),
        sa.Column("seconds", sa.Float(precision=53), nullable=True),
        sa.Column("at", sa.Float(precision=53), nullable=False),
        sa.ForeignKeyConstraint(["study_id"], ["studies.study_id"], ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["trial_id"], ["trials.trial_id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("trial_id", "epoch", name="tuner_epochs_epoch"),
    )
    op.create_index("tuner_epochs_newest", "tuner_epochs", ["study_id", "id"], unique=False)
    op.create_index(
        "tuner_epochs_peers",
        "tuner_epochs",
        ["study_id", "epoch", "bracket", "branch", "best", "trial_id"],
        unique=False,
    )
    op.create_table(
        "tuner_studies",
        sa.Column("study_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("name", sa.String(length=80), nullable=False),
        sa.Column("identity", sa.String(length=32), nullable=False),
        sa.Column("spec", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("space", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("objectives", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("resources", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("seed", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("loss", sa.String(length=128), nullable=True),
        sa.Column("total", sa.Integer(), nullable=False),
        sa.Column("retries", sa.Integer(), nullable=False),
        sa.Column("timeout_s", sa.Float(precision=53), nullable=True),
        sa.Column("spent_s", sa.Float(precision=53), nullable=False),
        sa.Column("spent_at", sa.Float(precision=53), nullable=False),
        sa.Column("alive_since", sa.Float(precision=53), nullable=False),
        sa.Column("wanted", sa.String(length=8), nullable=False),
        sa.Column("wanted_reason", sa.String(length=16), nullable=True),
        sa.Column("message", sa.Text(), nullable=True),
        sa.Column("finished", sa.Integer(), nullable=False),
        sa.Column("revision", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("version", sa.String(length=32), nullable=False),
        sa.Column("created_at", sa.Float(precision=53), nullable=False),
        sa.ForeignKeyConstraint(["study_id"], ["studies.study_id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("study_id"),
    )
    op.create_table(
        "tuner_workers",
        sa.Column("worker_id", sa.String(length=32), nullable=False),
        sa.Column("study_id", sa.Integer(), nullable=True),
        sa.Column("host", sa.String(length=255), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("process", sa.String(length=128), nullable=False),
        sa.Column("device", sa.String(length=64), nullable=False),
        sa.Column("version", sa.String(length=32), nullable=False),
        sa.Column("progress", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("started_at", sa.Float(precision=53), nullable=False),
        sa.Column("seen_at", sa.Float(precision=53), nullable=False),
        sa.Column("left_at", sa.Float(precision=53), nullable=True),
        sa.PrimaryKeyConstraint("worker_id"),
    )
    # ### end Alembic commands ###

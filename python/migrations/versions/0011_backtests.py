"""backtests asked for over REST, with their candles and results"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

NOW = sa.text("now()")


def upgrade() -> None:
    op.create_table(
        "backtests",
        sa.Column("number", sa.BigInteger(), autoincrement=True, nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("flow_id", sa.String(), nullable=True),
        sa.Column("version", sa.BigInteger(), nullable=True),
        sa.Column("request", postgresql.JSONB(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("attempt", sa.BigInteger(), nullable=False),
        sa.Column("leased_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("cycles_done", sa.BigInteger(), nullable=False),
        sa.Column("cycles_total", sa.BigInteger(), nullable=False),
        sa.Column("figures", postgresql.JSONB(), nullable=True),
        sa.Column("failure_code", sa.String(), nullable=True),
        sa.Column("failure_detail", sa.String(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=NOW, nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "status IN ('queued', 'running', 'completed', 'failed', 'cancelled')", name=op.f("ck_backtests_status")
        ),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_backtests_user_id_users", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("number", name="pk_backtests"),
        sa.UniqueConstraint("id", name="uq_backtests_id"),
    )
    op.create_index("ix_backtests_user_id_number", "backtests", ["user_id", "number"])
    op.create_index("ix_backtests_open", "backtests", ["number"], postgresql_where="status IN ('queued', 'running')")
    op.create_table(
        "backtest_files",
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["number"], ["backtests.number"], name="fk_backtest_files_number_backtests", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("number", "name", name="pk_backtest_files"),
    )


def downgrade() -> None:
    op.drop_table("backtest_files")
    op.drop_table("backtests")

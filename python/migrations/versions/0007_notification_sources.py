"""where notices come from: cursors, and indexes on what ended"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "notification_cursors",
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("seen_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("next_block", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("source", name=op.f("pk_notification_cursors")),
    )
    op.create_index("ix_cycles_failed", "cycles", ["finished_at"], unique=False, postgresql_where="status = 'failed'")
    op.add_column("notification_channels", sa.Column("paused_reason", sa.String(), nullable=True))
    op.create_index(
        "ix_vault_deployments_ended",
        "vault_deployments",
        ["updated_at"],
        unique=False,
        postgresql_where="status IN ('verified', 'failed')",
    )


def downgrade() -> None:
    op.drop_index(
        "ix_vault_deployments_ended",
        table_name="vault_deployments",
        postgresql_where="status IN ('verified', 'failed')",
    )
    op.drop_column("notification_channels", "paused_reason")
    op.drop_index("ix_cycles_failed", table_name="cycles", postgresql_where="status = 'failed'")
    op.drop_table("notification_cursors")

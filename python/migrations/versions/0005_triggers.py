"""flows are started by webhooks and contract events; nodes can be paused

A worker of the release before leaves alone what it does not know: flows without `cycle_interval` are never due.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

INTERVAL = sa.text("""'{"type": "interval"}'""")


def upgrade() -> None:
    op.add_column(
        "flows",
        sa.Column("paused_nodes", postgresql.ARRAY(sa.String()), server_default=sa.text("'{}'"), nullable=False),
    )
    op.add_column("schedules", sa.Column("trigger", postgresql.JSONB(), server_default=INTERVAL, nullable=False))
    op.alter_column("schedules", "cycle_interval", existing_type=sa.String(), nullable=True)
    op.create_index(
        "ix_schedules_contract",
        "schedules",
        [sa.text("(trigger ->> 'address')")],
        postgresql_where=sa.text("trigger ? 'address'"),
    )
    op.add_column("cycles", sa.Column("trigger_data", postgresql.JSONB(none_as_null=True), nullable=True))
    _create_hooks()
    _create_events()


def _create_hooks() -> None:
    op.create_table(
        "flow_hooks",
        sa.Column("flow_pk", sa.Uuid(), nullable=False),
        sa.Column("token_hash", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["flow_pk"], ["flows.id"], name="fk_flow_hooks_flow_pk_flows", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("flow_pk", name="pk_flow_hooks"),
        sa.UniqueConstraint("token_hash", name="uq_flow_hooks_token_hash"),
    )


def _create_events() -> None:
    op.create_table(
        "trigger_events",
        sa.Column("id", sa.BigInteger(), autoincrement=True, nullable=False),
        sa.Column("flow_pk", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("dedupe_key", sa.String(), nullable=False),
        sa.Column("payload", postgresql.JSONB(none_as_null=True), nullable=True),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=True),
        sa.Column("cycle", sa.BigInteger(), nullable=True),
        sa.Column("received_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("status IN ('pending', 'started', 'skipped')", name="status"),
        sa.ForeignKeyConstraint(["flow_pk"], ["flows.id"], name="fk_trigger_events_flow_pk_flows", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name="pk_trigger_events"),
        sa.UniqueConstraint("flow_pk", "dedupe_key", name="uq_trigger_events_flow_pk_dedupe_key"),
    )
    op.create_index("ix_trigger_events_flow_pk_id", "trigger_events", ["flow_pk", "id"])
    op.create_index(
        "ix_trigger_events_pending",
        "trigger_events",
        ["flow_pk", "id"],
        postgresql_where=sa.text("status = 'pending'"),
    )


def downgrade() -> None:
    op.drop_table("trigger_events")
    op.drop_table("flow_hooks")
    op.drop_column("cycles", "trigger_data")
    op.drop_index("ix_schedules_contract", "schedules")
    op.execute("UPDATE schedules SET cycle_interval = '0', next_fire_at = NULL WHERE cycle_interval IS NULL")
    op.alter_column("schedules", "cycle_interval", existing_type=sa.String(), nullable=False)
    op.drop_column("schedules", "trigger")
    op.drop_column("flows", "paused_nodes")

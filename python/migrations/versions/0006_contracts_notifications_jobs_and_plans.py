"""users' contracts, notifications, job runs and plans"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from tradingflow.db.types import EvmAddress

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "job_runs",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("duration_ms", sa.BigInteger(), nullable=True),
        sa.Column("error", sa.String(), nullable=True),
        sa.Column("runs", sa.BigInteger(), nullable=False),
        sa.Column("failures", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_job_runs")),
    )
    op.create_table(
        "plans",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("api_keys", sa.Integer(), nullable=False),
        sa.Column("credentials", sa.Integer(), nullable=False),
        sa.Column("wallets", sa.Integer(), nullable=False),
        sa.Column("contracts", sa.Integer(), nullable=False),
        sa.Column("history_blocks", sa.BigInteger(), nullable=False),
        sa.Column("channels", sa.Integer(), nullable=False),
        sa.Column("event_subscriptions", sa.Integer(), nullable=False),
        sa.Column("notices_per_day", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_plans")),
    )
    op.execute(
        "INSERT INTO plans (name, api_keys, credentials, wallets, contracts, history_blocks, channels,"
        " event_subscriptions, notices_per_day) VALUES ('standard', 50, 100, 20, 50, 1000000, 10, 100, 10000)"
    )
    op.create_table(
        "notification_channels",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("target", sa.String(), nullable=False),
        sa.Column("description", sa.String(), nullable=False),
        sa.Column("topics", postgresql.ARRAY(sa.String()), nullable=True),
        sa.Column("key_id", sa.String(), nullable=True),
        sa.Column("sealed", sa.LargeBinary(), nullable=True),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("code_hash", sa.LargeBinary(), nullable=True),
        sa.Column("code_expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("code_tries", sa.Integer(), nullable=False),
        sa.Column("failing_since", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("kind IN ('webhook', 'telegram', 'email')", name=op.f("ck_notification_channels_kind")),
        sa.CheckConstraint(
            "status IN ('unconfirmed', 'active', 'paused')", name=op.f("ck_notification_channels_status")
        ),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_notification_channels_user_id_users"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_notification_channels")),
        sa.UniqueConstraint("user_id", "kind", "target", name=op.f("uq_notification_channels_user_id_kind_target")),
    )
    op.create_table(
        "user_contracts",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("chain_id", sa.BigInteger(), nullable=False),
        sa.Column("address", EvmAddress(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_user_contracts_user_id_users"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_user_contracts")),
        sa.UniqueConstraint("user_id", "chain_id", "address", name=op.f("uq_user_contracts_user_id_chain_id_address")),
    )
    op.create_table(
        "event_subscriptions",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("channel_id", sa.Uuid(), nullable=False),
        sa.Column("chain_id", sa.BigInteger(), nullable=False),
        sa.Column("address", EvmAddress(), nullable=False),
        sa.Column("name", sa.String(), nullable=True),
        sa.Column("certainty", sa.String(), nullable=False),
        sa.Column("next_block", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("certainty IN ('instant', 'final')", name=op.f("ck_event_subscriptions_certainty")),
        sa.ForeignKeyConstraint(
            ["channel_id"],
            ["notification_channels.id"],
            name=op.f("fk_event_subscriptions_channel_id_notification_channels"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_event_subscriptions")),
        sa.UniqueConstraint(
            "channel_id",
            "chain_id",
            "address",
            "name",
            name=op.f("uq_event_subscriptions_channel_id_chain_id_address_name"),
            postgresql_nulls_not_distinct=True,
        ),
    )
    op.create_index(
        "ix_event_subscriptions_chain_id_address", "event_subscriptions", ["chain_id", "address"], unique=False
    )
    op.create_table(
        "notification_deliveries",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("channel_id", sa.Uuid(), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("topic", sa.String(), nullable=False),
        sa.Column("payload", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_tried_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_answer", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True),
        sa.Column("delivered_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("chain_id", sa.BigInteger(), nullable=True),
        sa.Column("block_number", sa.BigInteger(), nullable=True),
        sa.Column("reverted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint(
            "status IN ('pending', 'delivered', 'failed')", name=op.f("ck_notification_deliveries_status")
        ),
        sa.ForeignKeyConstraint(
            ["channel_id"],
            ["notification_channels.id"],
            name=op.f("fk_notification_deliveries_channel_id_notification_channels"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_notification_deliveries")),
    )
    op.create_index(
        "ix_notification_deliveries_channel_id_created_at",
        "notification_deliveries",
        ["channel_id", "created_at"],
        unique=False,
    )
    op.create_index(
        "ix_notification_deliveries_due",
        "notification_deliveries",
        ["due_at"],
        unique=False,
        postgresql_where="due_at IS NOT NULL",
    )
    op.create_index(
        "ix_notification_deliveries_open_blocks",
        "notification_deliveries",
        ["channel_id", "block_number"],
        unique=False,
        postgresql_where="block_number IS NOT NULL",
    )
    op.create_index(
        "uq_notification_deliveries_key",
        "notification_deliveries",
        ["channel_id", "key"],
        unique=True,
        postgresql_where="reverted_at IS NULL",
    )
    op.create_index(
        "ix_trades_settled_at", "trades", ["settled_at"], unique=False, postgresql_where="settled_at IS NOT NULL"
    )
    op.add_column("users", sa.Column("plan", sa.String(), server_default="standard", nullable=False))
    op.create_foreign_key(op.f("fk_users_plan_plans"), "users", "plans", ["plan"], ["name"])


def downgrade() -> None:
    op.drop_constraint(op.f("fk_users_plan_plans"), "users", type_="foreignkey")
    op.drop_column("users", "plan")
    op.drop_index("ix_trades_settled_at", table_name="trades", postgresql_where="settled_at IS NOT NULL")
    op.drop_index(
        "uq_notification_deliveries_key", table_name="notification_deliveries", postgresql_where="reverted_at IS NULL"
    )
    op.drop_index(
        "ix_notification_deliveries_open_blocks",
        table_name="notification_deliveries",
        postgresql_where="block_number IS NOT NULL",
    )
    op.drop_index(
        "ix_notification_deliveries_due", table_name="notification_deliveries", postgresql_where="due_at IS NOT NULL"
    )
    op.drop_index("ix_notification_deliveries_channel_id_created_at", table_name="notification_deliveries")
    op.drop_table("notification_deliveries")
    op.drop_index("ix_event_subscriptions_chain_id_address", table_name="event_subscriptions")
    op.drop_table("event_subscriptions")
    op.drop_table("user_contracts")
    op.drop_table("notification_channels")
    op.drop_table("plans")
    op.drop_table("job_runs")

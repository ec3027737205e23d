"""paper vaults and trades, the journal of cycles, shadow divergences, a cycle's own mode"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

import tradingflow.db.types

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

EVM_ADDRESS = tradingflow.db.types.EvmAddress(length=20)
HASH32 = tradingflow.db.types.Hash32(length=32)
BASE_UNITS = tradingflow.db.types.BaseUnits(precision=78, scale=0)
MODES = "mode IN ('backtest', 'paper', 'live')"


def upgrade() -> None:
    op.add_column("flows", sa.Column("shadow_bound_bps", sa.Integer(), nullable=True))
    op.add_column("cycles", sa.Column("mode", sa.String(), server_default="live", nullable=False))
    op.add_column("cycles", sa.Column("shadowed_at", sa.DateTime(timezone=True), nullable=True))
    op.create_check_constraint(op.f("ck_cycles_mode"), "cycles", MODES)
    _create_paper_tables()
    _create_journal()
    _create_divergences()


def _create_paper_tables() -> None:
    op.create_table(
        "paper_vaults",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("chain_id", sa.BigInteger(), nullable=False),
        sa.Column("address", EVM_ADDRESS, nullable=False),
        sa.Column("policy", postgresql.JSONB(), nullable=False),
        sa.Column("ledger", postgresql.JSONB(), nullable=False),
        sa.Column("balances", postgresql.JSONB(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("user_id", "chain_id", "address"),
    )
    op.create_table(
        "paper_trades",
        sa.Column("number", sa.BigInteger(), autoincrement=True, nullable=False),
        sa.Column("trade_id", HASH32, nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("flow_pk", sa.Uuid(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("cycle", sa.BigInteger(), nullable=False),
        sa.Column("node_id", sa.String(), nullable=False),
        sa.Column("is_shadow", sa.Boolean(), nullable=False),
        sa.Column("chain_id", sa.BigInteger(), nullable=False),
        sa.Column("vault_address", EVM_ADDRESS, nullable=False),
        sa.Column("path", sa.LargeBinary(), nullable=False),
        sa.Column("token_in", EVM_ADDRESS, nullable=False),
        sa.Column("token_out", EVM_ADDRESS, nullable=False),
        sa.Column("amount_in", BASE_UNITS, nullable=False),
        sa.Column("slippage_bps", sa.Integer(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("min_amount_out", BASE_UNITS, nullable=True),
        sa.Column("spent", BASE_UNITS, nullable=True),
        sa.Column("amount_out", BASE_UNITS, nullable=True),
        sa.Column("block_number", sa.BigInteger(), nullable=False),
        sa.Column("failure_code", sa.String(), nullable=True),
        sa.Column("failure_detail", sa.String(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("status IN ('completed', 'failed')", name=op.f("ck_paper_trades_status")),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["flow_pk"], ["flows.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("number"),
        sa.UniqueConstraint("trade_id"),
    )
    op.create_index("ix_paper_trades_flow_pk", "paper_trades", ["flow_pk"])
    op.create_index("ix_paper_trades_user_id_number", "paper_trades", ["user_id", "number"])


def _create_journal() -> None:
    op.create_table(
        "cycle_journal",
        sa.Column("flow_pk", sa.Uuid(), nullable=False),
        sa.Column("cycle", sa.BigInteger(), nullable=False),
        sa.Column("node_id", sa.String(), nullable=False),
        sa.Column("entries", postgresql.JSONB(), nullable=False),
        sa.Column("is_cut", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(
            ["flow_pk", "cycle", "node_id"],
            ["node_tasks.flow_pk", "node_tasks.cycle", "node_tasks.node_id"],
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("flow_pk", "cycle", "node_id"),
    )


def _create_divergences() -> None:
    op.create_table(
        "shadow_divergences",
        sa.Column("id", sa.BigInteger(), autoincrement=True, nullable=False),
        sa.Column("flow_pk", sa.Uuid(), nullable=False),
        sa.Column("cycle", sa.BigInteger(), nullable=False),
        sa.Column("node_id", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("live", postgresql.JSONB(), nullable=False),
        sa.Column("paper", postgresql.JSONB(), nullable=False),
        sa.Column("deviation_bps", sa.BigInteger(), nullable=True),
        sa.Column("bound_bps", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("kind IN ('decision', 'refusal', 'fill')", name=op.f("ck_shadow_divergences_kind")),
        sa.ForeignKeyConstraint(["flow_pk"], ["flows.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("flow_pk", "cycle", "node_id", "kind"),
    )
    op.create_index("ix_shadow_divergences_flow_pk_id", "shadow_divergences", ["flow_pk", "id"])


def downgrade() -> None:
    op.drop_table("shadow_divergences")
    op.drop_table("cycle_journal")
    op.drop_table("paper_trades")
    op.drop_table("paper_vaults")
    op.drop_constraint(op.f("ck_cycles_mode"), "cycles", type_="check")
    op.drop_column("cycles", "shadowed_at")
    op.drop_column("cycles", "mode")
    op.drop_column("flows", "shadow_bound_bps")

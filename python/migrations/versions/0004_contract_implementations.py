"""implementations of proxies, who was looked at, and an index of the events not decoded"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "contract_implementations",
        sa.Column("chain_id", sa.BigInteger(), nullable=False),
        sa.Column("address", sa.LargeBinary(length=20), nullable=False),
        sa.Column("block_number", sa.BigInteger(), nullable=False),
        sa.Column("log_index", sa.Integer(), nullable=False),
        sa.Column("implementation", sa.LargeBinary(length=20), nullable=False),
        sa.PrimaryKeyConstraint(
            "chain_id", "address", "block_number", "log_index", name=op.f("pk_contract_implementations")
        ),
    )
    op.create_index(
        "ix_contract_events_undecoded",
        "contract_events",
        ["chain_id", "block_number", "log_index"],
        postgresql_where=sa.text("name IS NULL"),
    )
    op.add_column("monitored_contracts", sa.Column("is_proxy", sa.Boolean(), nullable=True))


def downgrade() -> None:
    op.drop_index("ix_contract_events_undecoded", table_name="contract_events")
    op.drop_column("monitored_contracts", "is_proxy")
    op.drop_table("contract_implementations")

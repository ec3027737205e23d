"""prices at blocks, for profit and return"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from tradingflow.db.types import EvmAddress, Hash32

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "block_prices",
        sa.Column("chain_id", sa.BigInteger(), nullable=False),
        sa.Column("block_hash", Hash32(), nullable=False),
        sa.Column("token", EvmAddress(), nullable=False),
        sa.Column("price", sa.Numeric(), nullable=True),
        sa.Column("reason", sa.String(), nullable=True),
        sa.PrimaryKeyConstraint("chain_id", "block_hash", "token", name=op.f("pk_block_prices")),
    )


def downgrade() -> None:
    op.drop_table("block_prices")

"""candles of exchanges, and the spans they were asked for"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

SERIES = ("exchange", "base_url", "symbol", "timeframe")
PRICES = ("open", "high", "low", "close", "volume")


def upgrade() -> None:
    op.create_table(
        "exchange_candles",
        *(sa.Column(name, sa.String(), nullable=False) for name in SERIES),
        sa.Column("open_time", sa.BigInteger(), nullable=False),
        *(sa.Column(name, sa.Double(), nullable=False) for name in PRICES),
        sa.PrimaryKeyConstraint(*SERIES, "open_time", name="pk_exchange_candles"),
    )
    op.create_table(
        "exchange_candle_spans",
        *(sa.Column(name, sa.String(), nullable=False) for name in SERIES),
        sa.Column("start_time", sa.BigInteger(), nullable=False),
        sa.Column("end_time", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint(*SERIES, "start_time", "end_time", name="pk_exchange_candle_spans"),
    )


def downgrade() -> None:
    op.drop_table("exchange_candle_spans")
    op.drop_table("exchange_candles")

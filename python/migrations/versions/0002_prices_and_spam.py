"""price points may be unknown, tokens may be spam"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.alter_column("price_points", "price", existing_type=sa.Numeric(), nullable=True)
    op.add_column("price_points", sa.Column("reason", sa.String(), nullable=True))
    op.add_column("tokens", sa.Column("spam_reason", sa.String(), nullable=True))
    op.add_column(
        "tokens", sa.Column("read_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False)
    )


def downgrade() -> None:
    op.drop_column("tokens", "read_at")
    op.drop_column("tokens", "spam_reason")
    op.drop_column("price_points", "reason")
    op.execute("DELETE FROM price_points WHERE price IS NULL")
    op.alter_column("price_points", "price", existing_type=sa.Numeric(), nullable=False)

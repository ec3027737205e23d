"""which vaults somebody waits for block prices of"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("vaults", sa.Column("prices_wanted_at", sa.DateTime(timezone=True), nullable=True))
    op.create_index(
        "ix_vaults_prices_wanted",
        "vaults",
        ["prices_wanted_at"],
        postgresql_where=sa.text("prices_wanted_at IS NOT NULL"),
    )


def downgrade() -> None:
    op.drop_index("ix_vaults_prices_wanted", "vaults")
    op.drop_column("vaults", "prices_wanted_at")

"""from which block on contract events start cycles of a flow"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("schedules", sa.Column("listens_from_block", sa.BigInteger(), nullable=True))


def downgrade() -> None:
    op.drop_column("schedules", "listens_from_block")

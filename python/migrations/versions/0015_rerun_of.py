"""which cycle a cycle runs again"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("cycles", sa.Column("rerun_of", sa.BigInteger(), nullable=True))


def downgrade() -> None:
    op.drop_column("cycles", "rerun_of")

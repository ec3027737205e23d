"""factory rules of an operator"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "factory_rules",
        sa.Column("factory_kind", sa.String(), nullable=False),
        sa.Column("event", sa.String(), nullable=False),
        sa.Column("argument", sa.String(), nullable=False),
        sa.Column("child_kind", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("factory_kind", "event", name=op.f("pk_factory_rules")),
    )


def downgrade() -> None:
    op.drop_table("factory_rules")

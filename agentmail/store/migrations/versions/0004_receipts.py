"""Which agent name has been handed which message."""

import sqlalchemy as sa
from alembic import op

revision = "0004_receipts"
down_revision = "0003_mailboxes"
branch_labels = None
depends_on = None

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "receipt",
        sa.Column("agent", sa.Text(), primary_key=True),
        sa.Column(
            "message", BIG, sa.ForeignKey("message.id", ondelete="CASCADE"), primary_key=True, autoincrement=False
        ),
    )
    op.create_index("receipt_message", "receipt", ["message"])
    op.create_table(
        "receipt_mark",
        sa.Column("agent", sa.Text(), primary_key=True),
        sa.Column("account", sa.Text(), primary_key=True),
        sa.Column("low", BIG, nullable=False),
    )

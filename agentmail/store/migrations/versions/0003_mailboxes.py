"""How far each mailbox has been read."""

import sqlalchemy as sa
from alembic import op

revision = "0003_mailboxes"
down_revision = "0002_outbox"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "position",
        sa.Column("account", sa.Text(), primary_key=True),
        sa.Column("mailbox", sa.Text(), primary_key=True),
        sa.Column("uidvalidity", sa.BigInteger(), nullable=False),
        sa.Column("uid", sa.BigInteger(), nullable=False),
        sa.Column("begun_at", sa.Double(), nullable=False),
    )

"""How many connections and bytes an account uses; Gmail's ids and labels."""

import sqlalchemy as sa
from alembic import op

revision = "0009_connections"
down_revision = "0008_promises"
branch_labels = None
depends_on = None

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "slot",
        sa.Column("account", sa.Text(), primary_key=True),
        sa.Column("number", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("holder", sa.Text(), nullable=False),
        sa.Column("until", sa.Double(), nullable=False),
    )
    op.create_table(
        "traffic",
        sa.Column("account", sa.Text(), primary_key=True),
        sa.Column("day", sa.Text(), primary_key=True),
        sa.Column("fetched", sa.BigInteger(), nullable=False),
    )
    op.create_table(
        "gmail",
        sa.Column("account", sa.Text(), primary_key=True),
        sa.Column("msgid", sa.Text(), primary_key=True),
        sa.Column("thrid", sa.Text(), nullable=False),
        sa.Column("labels", sa.JSON(), nullable=False),
        sa.Column("message", BIG, sa.ForeignKey("message.id"), nullable=False),
    )
    op.create_index("gmail_message", "gmail", ["message"])

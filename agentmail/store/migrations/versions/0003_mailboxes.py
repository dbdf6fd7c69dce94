"""Mailboxes: how far they are read, who watches them, and what could not be fetched."""

import sqlalchemy as sa
from alembic import op

revision = "0003_mailboxes"
down_revision = "0002_outbox"
branch_labels = None
depends_on = None


def _place() -> tuple[sa.Column[object], ...]:
    return (
        sa.Column("account", sa.Text(), primary_key=True),
        sa.Column("mailbox", sa.Text(), primary_key=True),
        sa.Column("uidvalidity", sa.BigInteger(), primary_key=True, autoincrement=False),
        sa.Column("uid", sa.BigInteger(), primary_key=True, autoincrement=False),
    )


def upgrade() -> None:
    op.create_table(
        "mailbox",
        sa.Column("account", sa.Text(), primary_key=True),
        sa.Column("name", sa.Text(), primary_key=True),
        *(sa.Column(n, sa.BigInteger(), nullable=False) for n in ("uidvalidity", "floor", "history", "low", "uidnext")),
        sa.Column("modseq", sa.BigInteger(), nullable=True),
        sa.Column("messages", sa.Integer(), nullable=False),
        *(sa.Column(n, sa.Double(), nullable=False) for n in ("first_at", "synced_at", "reconciled_at")),
        sa.Column("resets", sa.JSON(), nullable=False),
        sa.Column("parked_until", sa.Double(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("error", sa.Text(), nullable=False),
        sa.Column("holder", sa.Text(), nullable=False),
        sa.Column("lease_until", sa.Double(), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
    )
    op.create_table(
        "skipped",
        *_place(),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("settled", sa.Boolean(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
    )
    op.create_table("departed", *_place(), sa.Column("at", sa.Double(), nullable=False))
    op.create_table(
        "connectivity",
        sa.Column("account", sa.Text(), primary_key=True),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("until", sa.Double(), nullable=False),
        sa.Column("secret", sa.Text(), nullable=False),
        sa.Column("error", sa.Text(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
    )

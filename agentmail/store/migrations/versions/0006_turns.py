"""Which thread needs attention, who holds it, and what comes back later."""

import sqlalchemy as sa
from alembic import op

revision = "0006_turns"
down_revision = "0005_search"
branch_labels = None
depends_on = None

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "work",
        sa.Column("thread", BIG, sa.ForeignKey("thread.id", ondelete="CASCADE"), primary_key=True, autoincrement=False),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("agent", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("next_at", sa.Double(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("epoch", BIG, nullable=False),
        sa.Column("newest", BIG, nullable=False),
        sa.Column("done", BIG, nullable=False),
        sa.Column("error", sa.Text(), nullable=False),
    )
    op.create_index("work_next", "work", ["account", "agent", "state", "next_at"])
    op.create_table(
        "timer",
        sa.Column("id", BIG, primary_key=True, autoincrement=True),
        sa.Column("thread", BIG, sa.ForeignKey("thread.id", ondelete="CASCADE"), nullable=False),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("agent", sa.Text(), nullable=False),
        sa.Column("due_at", sa.Double(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("timer_due", "timer", ["due_at"])
    op.create_index("timer_thread", "timer", ["thread"])
    op.add_column("event", sa.Column("seq", BIG, nullable=True))
    op.create_index("event_seq", "event", ["seq"], unique=True)
    op.create_index(
        "event_unpublished", "event", ["id"],
        sqlite_where=sa.text("seq IS NULL"), postgresql_where=sa.text("seq IS NULL"),
    )  # fmt: skip
    op.create_table(
        "cursor",
        sa.Column("name", sa.Text(), primary_key=True),
        sa.Column("seq", BIG, nullable=False),
    )

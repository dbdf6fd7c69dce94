"""Follow-ups are timers with a text; a timer has a key; how webhooks stand."""

import sqlalchemy as sa
from alembic import op

revision = "0008_promises"
down_revision = "0007_rounds"
branch_labels = None
depends_on = None

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    for name, default in (("kind", "reminder"), ("text", ""), ("origin", "program"), ("key", "")):
        op.add_column("timer", sa.Column(name, sa.Text(), nullable=False, server_default=default))
    op.execute("UPDATE timer SET key = 'before 0008 ' || id")
    op.create_index("timer_key", "timer", ["account", "key"], unique=True)
    op.create_table(
        "webhook",
        sa.Column("name", sa.Text(), primary_key=True),
        sa.Column("holder", sa.Text(), nullable=False),
        sa.Column("epoch", BIG, nullable=False),
        sa.Column("lease_until", sa.Double(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("next_at", sa.Double(), nullable=False),
        sa.Column("gone", sa.Integer(), nullable=False),
        sa.Column("error", sa.Text(), nullable=False),
    )

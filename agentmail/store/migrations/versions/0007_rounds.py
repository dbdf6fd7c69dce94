"""What is due in an index of its own; turns are numbered; what wakes a claimed thread is kept."""

import sqlalchemy as sa
from alembic import op

revision = "0007_rounds"
down_revision = "0006_turns"
branch_labels = None
depends_on = None

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    for name, kind in (("seen", BIG), ("round", BIG), ("woken", sa.Integer())):
        op.add_column("work", sa.Column(name, kind, nullable=False, server_default="0"))
    op.execute("UPDATE work SET seen = newest WHERE state = 'claimed'")
    op.execute("UPDATE work SET next_at = 1e12 WHERE state = 'stuck'")
    op.drop_index("work_next", "work")
    active = sa.text("state <> 'idle'")
    op.create_index("work_due", "work", ["account", "agent", "next_at"], sqlite_where=active, postgresql_where=active)
    op.drop_index("timer_due", "timer")
    op.create_index("timer_due", "timer", ["account", "due_at"])

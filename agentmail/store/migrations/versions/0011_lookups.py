"""What reads were missing an index for, labels to find threads by, and the many holders of one id."""

import json
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0011_lookups"
down_revision = "0010_import"
branch_labels = None
depends_on = None

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def _where(condition: str) -> dict[str, Any]:
    return {"sqlite_where": sa.text(condition), "postgresql_where": sa.text(condition)}


def upgrade() -> None:
    shown = _where("merged_into IS NULL AND attached_to IS NULL")
    op.create_index("thread_page_of_status", "thread", ["status", "last_at", "id"], **shown)
    op.create_index("work_agent", "work", ["agent"], **_where("state <> 'idle'"))
    op.create_index("work_stuck", "work", ["thread"], **_where("state = 'stuck'"))
    op.create_table(
        "holder",
        sa.Column("id", BIG, autoincrement=True, nullable=False),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("thread", BIG, autoincrement=False, nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("voucher", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["thread"], ["thread.id"]),
        sa.PrimaryKeyConstraint("id"),
        sqlite_autoincrement=True,
    )
    op.create_index("holder_key", "holder", ["account", "key", "thread"])
    op.create_index("holder_thread", "holder", ["thread"])
    op.create_table(
        "label",
        sa.Column("folded", sa.Text(), nullable=False),
        sa.Column("thread", BIG, autoincrement=False, nullable=False),
        sa.ForeignKeyConstraint(["thread"], ["thread.id"]),
        sa.PrimaryKeyConstraint("folded", "thread"),
    )
    op.create_index("label_thread", "label", ["thread"])
    connection = op.get_bind()
    labelled = connection.execute(sa.text("SELECT id, labels FROM thread WHERE CAST(labels AS text) <> '[]'")).all()
    rows = [
        {"folded": folded, "thread": thread}
        for thread, labels in labelled
        for folded in sorted({v.casefold() for v in (json.loads(labels) if isinstance(labels, str) else labels)})
    ]
    if rows:
        connection.execute(sa.text("INSERT INTO label (folded, thread) VALUES (:folded, :thread)"), rows)

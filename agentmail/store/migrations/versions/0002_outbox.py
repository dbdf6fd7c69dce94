"""Submissions: what goes out, to whom, and what stops it."""

import sqlalchemy as sa
from alembic import op

revision = "0002_outbox"
down_revision = "0001_threads"
branch_labels = None
depends_on = None

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
OPEN = sa.text("state IN ('queued', 'sending', 'unknown')")


def upgrade() -> None:
    op.create_table(
        "submission",
        sa.Column("id", BIG, primary_key=True, autoincrement=True),
        *(sa.Column(name, sa.Text(), nullable=False) for name in ("account", "state", "kind", "origin", "agent")),
        sa.Column("key", sa.Text(), nullable=True),
        sa.Column("message_id", sa.Text(), nullable=False),
        sa.Column("message", BIG, sa.ForeignKey("message.id", ondelete="SET NULL"), nullable=True),
        sa.Column("answers", BIG, nullable=True),
        sa.Column("generation", sa.Integer(), nullable=True),
        sa.Column("mail_from", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("at_most_once", sa.Boolean(), nullable=False),
        sa.Column("reasons", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("next_at", sa.Double(), nullable=True),
        sa.Column("expires_at", sa.Double(), nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("epoch", BIG, nullable=False),
        sa.Column("marker_at", sa.Double(), nullable=True),
        sa.Column("looks", sa.Integer(), nullable=False),
        sa.Column("code", sa.Integer(), nullable=True),
        sa.Column("error", sa.Text(), nullable=False),
        sa.Column("reply", sa.Text(), nullable=False),
        sa.Column("sent_at", sa.Double(), nullable=True),
        sa.Column("copied", sa.Boolean(), nullable=False),
        sa.Column("decision", sa.Text(), nullable=False),
        sa.Column("decided_by", sa.Text(), nullable=False),
        sa.Column("decided_at", sa.Double(), nullable=True),
        sqlite_autoincrement=True,
    )
    op.create_index("submission_key", "submission", ["account", "key"], unique=True)
    op.create_index("submission_message_id", "submission", ["account", "message_id"], unique=True)
    op.create_index("submission_answer", "submission", ["account", "answers", "generation"], unique=True)
    op.create_index("submission_due", "submission", ["account", "next_at"], sqlite_where=OPEN, postgresql_where=OPEN)
    op.create_index("submission_state", "submission", ["account", "state", "id"])
    op.create_index("submission_created", "submission", ["account", "created_at"])
    op.create_index("submission_message", "submission", ["message"])
    op.create_table(
        "recipient",
        sa.Column("submission", BIG, sa.ForeignKey("submission.id", ondelete="CASCADE"), primary_key=True,
                  autoincrement=False),
        sa.Column("position", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("code", sa.Integer(), nullable=True),
        sa.Column("text", sa.Text(), nullable=False),
    )  # fmt: skip
    op.create_index("recipient_address", "recipient", ["address", "submission"])
    op.create_table(
        "submission_body",
        sa.Column("submission", BIG, sa.ForeignKey("submission.id", ondelete="CASCADE"), primary_key=True,
                  autoincrement=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
    )  # fmt: skip
    op.create_table(
        "pause",
        sa.Column("account", sa.Text(), primary_key=True),
        sa.Column("cause", sa.Text(), primary_key=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("by", sa.Text(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("until", sa.Double(), nullable=True),
    )
    op.create_table(
        "granted",
        sa.Column("account", sa.Text(), primary_key=True),
        sa.Column("address", sa.Text(), primary_key=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
    )

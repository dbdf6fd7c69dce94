"""Threads, messages, ids and the event log."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001_threads"
down_revision = None
branch_labels = None
depends_on = None

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "account",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("own", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("key"),
    )
    op.create_table(
        "event",
        sa.Column("id", BIG, autoincrement=True, nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("thread", BIG, nullable=True),
        sa.Column("message", BIG, nullable=True),
        sa.Column("account", sa.Text(), nullable=True),
        sa.Column("data", sa.JSON(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sqlite_autoincrement=True,
    )
    op.create_index("event_message", "event", ["message"], unique=False)
    op.create_index("event_thread", "event", ["thread"], unique=False)
    op.create_table(
        "ident",
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("holders", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("account", "key"),
    )
    op.create_table(
        "info",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "quarantine",
        sa.Column("id", BIG, autoincrement=True, nullable=False),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("arrival", sa.JSON(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "thread",
        sa.Column("id", BIG, autoincrement=True, nullable=False),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("labels", sa.JSON(), nullable=False),
        sa.Column("notes", sa.JSON(), nullable=False),
        sa.Column("data", sa.JSON(), nullable=False),
        sa.Column("messages", sa.Integer(), nullable=False),
        sa.Column("first_at", sa.Double(), nullable=False),
        sa.Column("last_at", sa.Double(), nullable=False),
        sa.Column("merged_into", BIG, autoincrement=False, nullable=True),
        sa.Column("attached_to", BIG, autoincrement=False, nullable=True),
        sa.ForeignKeyConstraint(
            ["attached_to"],
            ["thread.id"],
        ),
        sa.ForeignKeyConstraint(
            ["merged_into"],
            ["thread.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "thread_attached",
        "thread",
        ["attached_to"],
        unique=False,
        sqlite_where=sa.text("attached_to IS NOT NULL"),
        postgresql_where=sa.text("attached_to IS NOT NULL"),
    )
    op.create_index(
        "thread_merged",
        "thread",
        ["merged_into"],
        unique=False,
        sqlite_where=sa.text("merged_into IS NOT NULL"),
        postgresql_where=sa.text("merged_into IS NOT NULL"),
    )
    op.create_index(
        "thread_page",
        "thread",
        ["last_at", "id"],
        unique=False,
        sqlite_where=sa.text("merged_into IS NULL AND attached_to IS NULL"),
        postgresql_where=sa.text("merged_into IS NULL AND attached_to IS NULL"),
    )
    op.create_index(
        "thread_page_account",
        "thread",
        ["account", "last_at", "id"],
        unique=False,
        sqlite_where=sa.text("merged_into IS NULL AND attached_to IS NULL"),
        postgresql_where=sa.text("merged_into IS NULL AND attached_to IS NULL"),
    )
    op.create_index(
        "thread_page_status",
        "thread",
        ["account", "status", "last_at", "id"],
        unique=False,
        sqlite_where=sa.text("merged_into IS NULL AND attached_to IS NULL"),
        postgresql_where=sa.text("merged_into IS NULL AND attached_to IS NULL"),
    )
    op.create_table(
        "apart",
        sa.Column("id", BIG, autoincrement=True, nullable=False),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("target", BIG, autoincrement=False, nullable=False),
        sa.Column("atom", sa.Text(), nullable=False),
        sa.Column("claimant", BIG, autoincrement=False, nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["claimant"],
            ["thread.id"],
        ),
        sa.ForeignKeyConstraint(
            ["target"],
            ["thread.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sqlite_autoincrement=True,
    )
    op.create_index("apart_claimant", "apart", ["claimant"], unique=False)
    op.create_index("apart_key", "apart", ["account", "key"], unique=False)
    op.create_index("apart_target", "apart", ["target", "atom"], unique=False)
    op.create_table(
        "message",
        sa.Column("id", BIG, autoincrement=True, nullable=False),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("thread", BIG, autoincrement=False, nullable=False),
        sa.Column("cluster", BIG, autoincrement=False, nullable=False),
        sa.Column("message_id", sa.Text(), nullable=False),
        sa.Column("message_id_key", sa.Text(), nullable=False),
        sa.Column("content_key", sa.Text(), nullable=False),
        sa.Column("own_key", sa.Text(), nullable=True),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("sender", sa.Text(), nullable=False),
        sa.Column("subject_key", sa.Text(), nullable=False),
        sa.Column("answers", BIG, nullable=True),
        sa.Column("headless", sa.Boolean(), nullable=False),
        sa.Column("outgoing", sa.Boolean(), nullable=False),
        sa.Column("fresh", sa.Boolean(), nullable=False),
        sa.Column("variant", sa.Boolean(), nullable=False),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("parsed", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["cluster"],
            ["thread.id"],
        ),
        sa.ForeignKeyConstraint(
            ["thread"],
            ["thread.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sqlite_autoincrement=True,
    )
    op.create_index("message_by_message_id", "message", ["message_id_key", "account"], unique=False)
    op.create_index("message_cluster", "message", ["cluster", "at"], unique=False)
    op.create_index("message_content", "message", ["account", "content_key"], unique=True)
    op.create_index(
        "message_headless",
        "message",
        ["account", "subject_key", "at"],
        unique=False,
        sqlite_where=sa.text("headless"),
        postgresql_where=sa.text("headless"),
    )
    op.create_index(
        "message_headless_cluster",
        "message",
        ["cluster"],
        unique=False,
        sqlite_where=sa.text("headless"),
        postgresql_where=sa.text("headless"),
    )
    op.create_index(
        "message_own",
        "message",
        ["account", "own_key"],
        unique=True,
        sqlite_where=sa.text("own_key IS NOT NULL"),
        postgresql_where=sa.text("own_key IS NOT NULL"),
    )
    op.create_index(
        "message_subject",
        "message",
        ["account", "subject_key", "at"],
        unique=False,
        sqlite_where=sa.text("subject_key <> ''"),
        postgresql_where=sa.text("subject_key <> ''"),
    )
    op.create_index("message_thread", "message", ["thread", "at", "id"], unique=False)
    op.create_table(
        "person",
        sa.Column("thread", BIG, autoincrement=False, nullable=False),
        sa.Column("atom", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["thread"],
            ["thread.id"],
        ),
        sa.PrimaryKeyConstraint("thread", "atom"),
    )
    op.create_table(
        "alias",
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("message", BIG, autoincrement=False, nullable=False),
        sa.Column("message_id", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["message"],
            ["message.id"],
        ),
        sa.PrimaryKeyConstraint("account", "key", "message"),
    )
    op.create_index("alias_message", "alias", ["message"], unique=False)
    op.create_table(
        "attachment",
        sa.Column("id", BIG, autoincrement=True, nullable=False),
        sa.Column("message", BIG, autoincrement=False, nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("content_type", sa.Text(), nullable=False),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["message"],
            ["message.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sqlite_autoincrement=True,
    )
    op.create_index("attachment_message", "attachment", ["message", "position"], unique=True)
    op.create_table(
        "location",
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("mailbox", sa.Text(), nullable=False),
        sa.Column("uidvalidity", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("uid", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("message", BIG, autoincrement=False, nullable=False),
        sa.Column("flags", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(
            ["message"],
            ["message.id"],
        ),
        sa.PrimaryKeyConstraint("account", "mailbox", "uidvalidity", "uid"),
    )
    op.create_index("location_message", "location", ["message"], unique=False)
    op.create_table(
        "raw",
        sa.Column("message", BIG, autoincrement=False, nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["message"],
            ["message.id"],
        ),
        sa.PrimaryKeyConstraint("message"),
    )

    if op.get_bind().dialect.name == "postgresql":
        # The default (pglz) is what limits ingest: lz4 files 3.5 times as many raw messages a second. A server that was
        # built without lz4 keeps its default.
        for table, column in (("raw", "data"), ("message", "parsed")):
            op.execute(
                f"DO $$ BEGIN ALTER TABLE {table} ALTER COLUMN {column} SET COMPRESSION lz4; "
                "EXCEPTION WHEN feature_not_supported THEN NULL; END $$"
            )

"""PostgreSQL: a row that a crash takes away, room for markers, and bytes that are packed faster.

An unlogged table is empty after a crash, and on a replica that took over: so the outbox sees that commits may be lost
that did not wait for the disk (`submissions.notice_crash`). SQLite's power cut is seen by the machine's boot id.

What was being sent by an older version has its markers on the disk: the row is there from the beginning.
"""

from alembic import op

revision = "0014_uncrashed"
down_revision = "0013_ascii_domains"
branch_labels = None
depends_on = None


def upgrade() -> None:
    if op.get_bind().dialect.name != "postgresql":
        return
    op.execute("CREATE UNLOGGED TABLE uncrashed (id integer PRIMARY KEY)")
    op.execute("INSERT INTO uncrashed (id) VALUES (1)")
    # A marker changes no index: where the page has room for it, PostgreSQL writes the row alone (HOT).
    op.execute("ALTER TABLE submission SET (fillfactor = 60)")
    for table, column in (("submission_body", "data"), ("search", "words")):  # as 0001 did for the bytes of mail
        op.execute(
            f"DO $$ BEGIN ALTER TABLE {table} ALTER COLUMN {column} SET COMPRESSION lz4; "
            "EXCEPTION WHEN feature_not_supported THEN NULL; END $$"
        )

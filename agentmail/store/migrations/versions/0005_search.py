"""Full-text search.

On SQLite a contentless FTS5 table: it keeps no second copy of the text, and its row number is a place in time
(`queries.place`), so that the newest hits come first without sorting. `ascii` takes what stands between ASCII
separators for a word, which is what `words.normalised` writes.
"""

import sqlalchemy as sa
from alembic import op

revision = "0005_search"
down_revision = "0004_receipts"
branch_labels = None
depends_on = None


def upgrade() -> None:
    if op.get_bind().dialect.name == "sqlite":
        op.execute(
            "CREATE VIRTUAL TABLE search USING fts5(subject, sender, recipients, body, marks, "
            "content='', tokenize='ascii')"
        )
        # Every transaction adds a segment; merging sixteen at a time instead of four writes each word less often.
        op.execute("INSERT INTO search(search, rank) VALUES ('automerge', 16)")
        return
    op.create_table(
        "search",
        sa.Column("place", sa.BigInteger(), primary_key=True, autoincrement=False),
        sa.Column("message", sa.BigInteger(), sa.ForeignKey("message.id", ondelete="CASCADE"), nullable=False),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("words", sa.dialects.postgresql.TSVECTOR(), nullable=False),
    )
    op.create_index("search_message", "search", ["message"], unique=True)
    op.create_index("search_account", "search", ["account", "place"])
    op.create_index("search_words", "search", ["words"], postgresql_using="gin")

"""Mail that is put aside is known by its bytes; FTS5 keeps a whole transaction in memory before it writes."""

import hashlib

import sqlalchemy as sa
from alembic import op

revision = "0010_import"
down_revision = "0009_connections"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("quarantine", sa.Column("digest", sa.Text(), nullable=False, server_default=""))
    connection = op.get_bind()
    rows = connection.execute(sa.text("SELECT id FROM quarantine")).scalars().all()
    for id_ in rows:  # one at a time: each may be a mail of many megabytes
        data = connection.execute(sa.text("SELECT data FROM quarantine WHERE id = :id"), {"id": id_}).scalar_one()
        if data:
            digest = hashlib.sha256(bytes(data)).hexdigest()
            connection.execute(
                sa.text("UPDATE quarantine SET digest = :digest WHERE id = :id"), {"digest": digest, "id": id_}
            )
    op.create_index("quarantine_digest", "quarantine", ["account", "digest"])
    if connection.dialect.name == "sqlite":
        # At the default of 1 MB a batch of mail is several segments, and each is merged with others later.
        op.execute("INSERT INTO search(search, rank) VALUES ('hashsize', 33554432)")

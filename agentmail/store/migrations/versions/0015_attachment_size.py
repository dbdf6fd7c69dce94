"""Attachments by their size, the newest first: where one came from is asked before a mail with it is queued."""

from alembic import op

revision = "0015_attachment_size"
down_revision = "0014_uncrashed"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("attachment_size", "attachment", ["size", "id"])

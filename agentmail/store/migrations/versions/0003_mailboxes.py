"""Mailboxes and how far they are read."""

revision = "0003_mailboxes"
down_revision = "0002_outbox"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Nothing yet."""

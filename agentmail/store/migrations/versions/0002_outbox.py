"""Submissions."""

revision = "0002_outbox"
down_revision = "0001_threads"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Nothing yet."""

"""Full-text search."""

revision = "0005_search"
down_revision = "0004_receipts"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Nothing yet."""

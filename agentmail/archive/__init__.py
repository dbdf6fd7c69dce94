"""Archives of mail into the store: `.eml`, mbox, Maildir, and folders of them."""

from .importing import Progress, Totals, import_archive
from .reading import Found, Unreadable, measure, read

__all__ = ["Found", "Progress", "Totals", "Unreadable", "import_archive", "measure", "read"]

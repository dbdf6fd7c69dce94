"""Archives of mail into the store: `.eml`, mbox, Maildir, and folders of them.

The names are imported when they are asked for, since the processes that parse ahead need none of the database.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .importing import Progress, Totals, import_archive, reading_ahead
    from .reading import Found, Unreadable, measure, read
else:
    from ..lazily import lazily

    __getattr__, __dir__ = lazily(__name__, {
        "Found": ".reading",
        "Progress": ".importing",
        "Totals": ".importing",
        "Unreadable": ".reading",
        "import_archive": ".importing",
        "measure": ".reading",
        "read": ".reading",
        "reading_ahead": ".importing",
    })


__all__ = ["Found", "Progress", "Totals", "Unreadable", "import_archive", "measure", "read", "reading_ahead"]

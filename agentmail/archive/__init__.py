"""Archives of mail into the store: `.eml`, mbox, Maildir, and folders of them.

The names are imported when they are asked for, since the processes that parse ahead need none of the database.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .importing import Progress, Totals, import_archive
    from .reading import Found, Unreadable, measure, read
else:
    _MODULES = {
        "Found": ".reading",
        "Progress": ".importing",
        "Totals": ".importing",
        "Unreadable": ".reading",
        "import_archive": ".importing",
        "measure": ".reading",
        "read": ".reading",
    }

    def __getattr__(name: str) -> Any:
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(_MODULES[name], __name__), name)
        return value

    def __dir__() -> list[str]:
        return sorted(__all__)


__all__ = ["Found", "Progress", "Totals", "Unreadable", "import_archive", "measure", "read"]

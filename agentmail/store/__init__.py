"""The shared thread store: every message, its thread, and what agents keep with it, in one SQL database.

Any number of processes may use one store at the same time. SQLite and PostgreSQL, from one code path.

A name is imported when it is first asked for (PEP 562): a process that only prepares mail for the store does without
the database library, which takes longer to import than most archives to parse.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..threads.models import Filed, Thread, Why
    from .arrivals import Arrival, Location
    from .database import Tx
    from .search import Hit
    from .threadstore import ThreadStore
else:
    from ..lazily import lazily

    __getattr__, __dir__ = lazily(__name__, {
        "Arrival": ".arrivals",
        "Filed": "..threads.models",
        "Hit": ".search",
        "Location": ".arrivals",
        "Thread": "..threads.models",
        "ThreadStore": ".threadstore",
        "Tx": ".database",
        "Why": "..threads.models",
    })


__all__ = ["Arrival", "Filed", "Hit", "Location", "Thread", "ThreadStore", "Tx", "Why"]

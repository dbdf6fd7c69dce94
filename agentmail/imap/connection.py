"""One IMAP connection as coroutines: what may be said on a `Link`, put together."""

from __future__ import annotations

from .fetching import Fetching
from .mailboxes import Mailboxes
from .searching import Searching
from .waiting import Waiting
from .writing import Writing


class ImapConnection(Mailboxes, Searching, Fetching, Writing, Waiting):
    """A connection to the account's IMAP server. Building it does nothing; `connect` opens it, once.

    Calls are made one after the other, whoever makes them. After `Unreachable` it is closed for good.
    """

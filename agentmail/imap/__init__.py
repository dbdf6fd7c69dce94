"""The IMAP edge: one connection as coroutines, and what a server answers, read without trust.

Nothing outside of this package imports imapclient or imaplib.
"""

from .answers import Fetched, Gmail, uid_sets, within
from .connection import ImapConnection
from .fetching import DATES, FACTS, IDS, WHOLE
from .mailboxes import Listed, Snapshot
from .translate import IdleRefused, Lost, NoSuchMailbox, NotServing

__all__ = [
    "DATES",
    "FACTS",
    "IDS",
    "WHOLE",
    "Fetched",
    "Gmail",
    "IdleRefused",
    "ImapConnection",
    "Listed",
    "Lost",
    "NoSuchMailbox",
    "NotServing",
    "Snapshot",
    "uid_sets",
    "within",
]

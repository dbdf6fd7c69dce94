"""An inbox for AI agents on any IMAP/SMTP account.

The public names, and nothing else. `parse` and `agentmail.message`, `agentmail.threads` need no account and no store.

A name is imported when it is first asked for (PEP 562): whoever wants `parse` alone does not wait for the database
library, and a process that only reads files does not carry it.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from . import errors
    from .hours import BusinessHours
    from .inbox import Inbox
    from .message.models import Address, Attachment, Message
    from .message.parse import parse
    from .policy import Policy
    from .routing import Route
    from .sent import Sent
    from .settings import Account, Settings
    from .store import Thread, ThreadStore
    from .turns import Turn
else:
    from .lazily import lazily

    __getattr__, __dir__ = lazily(__name__, {
        "Account": ".settings",
        "Address": ".message.models",
        "Attachment": ".message.models",
        "BusinessHours": ".hours",
        "Inbox": ".inbox",
        "Message": ".message.models",
        "Policy": ".policy",
        "Route": ".routing",
        "Sent": ".sent",
        "Settings": ".settings",
        "Thread": ".store",
        "ThreadStore": ".store",
        "Turn": ".turns",
        "errors": ".",
        "parse": ".message.parse",
    })


__all__ = [
    "Account",
    "Address",
    "Attachment",
    "BusinessHours",
    "Inbox",
    "Message",
    "Policy",
    "Route",
    "Sent",
    "Settings",
    "Thread",
    "ThreadStore",
    "Turn",
    "errors",
    "parse",
]

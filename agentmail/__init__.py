"""An inbox for AI agents on any IMAP/SMTP account.

The public names, and nothing else. `parse` and `agentmail.message`, `agentmail.threads` need no account and no store.

A name is imported when it is first asked for (PEP 562): whoever wants `parse` alone does not wait for the database
library, and a process that only reads files does not carry it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

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
    _MODULES = {
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
        "parse": ".message.parse",
    }

    def __getattr__(name: str) -> Any:
        if name in _MODULES:
            value = getattr(import_module(_MODULES[name], __name__), name)
        elif name == "errors":
            value = import_module(".errors", __name__)
        else:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        globals()[name] = value
        return value

    def __dir__() -> list[str]:
        return sorted(__all__)


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

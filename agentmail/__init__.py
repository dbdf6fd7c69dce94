"""An inbox for AI agents on any IMAP/SMTP account.

The public names, and nothing else. `parse` and `agentmail.message`, `agentmail.threads` need no account and no store.
"""

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

"""An inbox for AI agents on any IMAP/SMTP account.

The public names, and nothing else. `parse` and `agentmail.message`, `agentmail.threads` need no account and no store.
"""

from . import errors
from .message.parse import parse

__all__ = ["errors", "parse"]

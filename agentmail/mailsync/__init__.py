"""Mail in: from an account's mailboxes into the thread store, each message once, whatever happens on the way."""

from .first import FirstRun
from .sync import Health, MailSync

__all__ = ["FirstRun", "Health", "MailSync"]

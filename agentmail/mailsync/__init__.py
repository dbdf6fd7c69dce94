"""Mail in: from an account's mailboxes into the thread store, each message once, whatever happens on the way."""

from .ahead import Ahead, preparing_ahead
from .first import FirstRun
from .leases import Leases
from .looking import Box, Look
from .sync import Health, MailSync
from .watching import Pace, watch

__all__ = ["Ahead", "Box", "FirstRun", "Health", "Leases", "Look", "MailSync", "Pace", "preparing_ahead", "watch"]

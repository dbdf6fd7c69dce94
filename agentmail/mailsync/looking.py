"""What an account's server has, for who sets an account up: nothing is read into the store."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime

from ..imap import DATES, Fetched
from ..message.parse import parse
from .roles import ROLES
from .server import Server

COMPARED = 20
"""Messages whose dates are compared with the server's clock."""


@dataclass(frozen=True, slots=True)
class Box:
    """A mailbox on the server."""

    name: str
    role: str
    """inbox, sent, drafts, junk, trash, archive, all; empty for the others."""


@dataclass(frozen=True, slots=True)
class Look:
    """What a login found."""

    capabilities: frozenset[str]
    boxes: tuple[Box, ...]
    messages: int
    """In the INBOX."""
    newest: datetime | None
    """When the server took in the newest message of the INBOX, by its own clock."""
    transits: tuple[float, ...]
    """Seconds from the Date of a message to when the server took it in, by its own clock; of the newest ones."""
    seconds: float
    """For connecting and logging in."""


class Looking(Server):
    """The part of `MailSync` that `agentmail check` asks."""

    async def look(self) -> Look:
        """Log in, even where a refused login would be waited out, and see what is there.

        Raises:
            ServerError: what is wrong, and what to do.
        """
        async with self._session():
            begun = time.monotonic()
            connection = self._connection
            if connection is None or not connection.usable:
                connection = await self._opened_anew(force=True)
            seconds = time.monotonic() - begun
            roles = await self._learn_roles()
            role_of = {name: role for role in reversed(ROLES) if (name := roles[role]) is not None}
            role_of[self.account.mailbox] = "inbox"
            boxes = tuple(Box(m.name, role_of.get(m.name, "")) for m in await connection.mailboxes())
            there = await connection.examine(self.account.mailbox)
            newest: datetime | None = None
            transits: list[float] = []
            if there.exists:
                uids = await connection.search_places(max(1, there.exists - COMPARED + 1), there.exists) or []
                heads = await connection.fetch(uids[-COMPARED:], DATES)
                dated = [
                    (f.received_at, parse(f.body or b"").sent_at) for f in heads.values() if f.received_at is not None
                ]
                newest = max((received for received, _ in dated), default=None)
                transits = sorted((received - sent).total_seconds() for received, sent in dated if sent is not None)
            await self._served()
            return Look(connection.capabilities, boxes, there.exists, newest, tuple(transits), seconds)

    async def find_arrived(self, message_id: str) -> Fetched | None:
        """The message with this Message-ID in the INBOX, as the server took it in; None when it is not there yet."""
        async with self._session():
            connection = await self.connection()
            await connection.examine(self.account.mailbox)
            uids = await connection.find(message_id.strip("<>"))
            found = await connection.fetch(uids[-1:])
            return next(iter(found.values()), None)

"""SEARCH: uids by range, by day, by place, by Message-ID; every answer bounded and read without trust."""

from __future__ import annotations

import imaplib
from collections.abc import Sequence
from datetime import date

from ..errors import BadInput
from .answers import said, search_answer, written
from .link import Link
from .opening import checked

MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


class Searching(Link):
    """The part of a connection that searches the open mailbox."""

    async def search_uids(self, low: int, high: int | None = None) -> list[int] | None:
        """Uids from `low` to `high` (or the end), sorted; None when the server answered without a SEARCH line."""
        return await self._search(f"UID {low}:{high if high is not None else '*'}", low, high)

    async def search_set(self, uids: Sequence[int]) -> list[int]:
        """Which of these sorted uids (at most 500, 4 KB) are there."""
        return await self._search(f"UID {written(uids)}", 1, None) or []

    async def search_since(self, day: date, *, unread: bool = False) -> list[int] | None:
        """Uids of messages that the server took in on this day or later, by its own calendar."""
        what = "UNSEEN SINCE" if unread else "SINCE"
        return await self._search(f"{what} {day.day}-{MONTHS[day.month - 1]}-{day.year}", 1, None)

    async def search_sent(self, since: date, before: date) -> list[int]:
        """Uids of messages whose Date header lies on one of these days."""
        days = (f"{day.day}-{MONTHS[day.month - 1]}-{day.year}" for day in (since, before))
        return await self._search("SENTSINCE {} SENTBEFORE {}".format(*days), 1, None) or []

    async def search_places(self, first: int, last: int) -> list[int] | None:
        """The uids of messages number `first` to `last`: how to read a big mailbox in bounded answers."""
        return await self._search(f"{first}:{last}", 1, None)

    async def find(self, message_id: str) -> list[int]:
        """Uids of messages in the open mailbox whose Message-ID holds this text."""
        checked(message_id, "the Message-ID")
        if not message_id.isascii():
            raise BadInput("a Message-ID that is not ASCII cannot be searched for")
        quoted = '"' + message_id.replace("\\", "\\\\").replace('"', '\\"') + '"'
        return await self._search(f"HEADER Message-ID {quoted}", 1, None) or []

    async def _search(self, criteria: str, low: int, high: int | None) -> list[int] | None:
        self._ready()

        def work() -> list[int] | None:
            wire = self._wire
            assert wire is not None
            wire.untagged_responses.pop("SEARCH", None)
            kind, data = wire.uid("SEARCH", criteria)
            if kind != "OK":
                raise imaplib.IMAP4.error(said(data))
            return search_answer(data, at_least=low, at_most=high)

        return await self._call(work, "searching")

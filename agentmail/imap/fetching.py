"""FETCH: facts, bodies, flags and what changed, never more than a command may carry (RFC 9051 6.4.5, RFC 7162)."""

from __future__ import annotations

import imaplib
from collections.abc import Sequence

from .answers import LARGEST_UID, Fetched, vanished_answer
from .link import Link
from .pipeline import Asked, Each, Refused, ask, fetched
from .wire import QUIET, Wire

FACTS = "(UID FLAGS INTERNALDATE RFC822.SIZE)"
WHOLE = "(UID FLAGS INTERNALDATE RFC822.SIZE BODY.PEEK[])"
DATES = "(UID INTERNALDATE RFC822.SIZE BODY.PEEK[HEADER.FIELDS (DATE)])"
SMALL, FEW = 128 * 2**10, 8
"""Bytes and number of messages up to which news are fetched whole at once."""
NEWS = f"(UID FLAGS INTERNALDATE RFC822.SIZE BODY.PEEK[]<0.{SMALL}>)"
IDS = "(UID FLAGS RFC822.SIZE BODY.PEEK[HEADER.FIELDS (MESSAGE-ID)])"


class Fetching(Link):
    """The part of a connection that fetches from the open mailbox."""

    async def fetch(
        self, uids: Sequence[int], items: str = FACTS, *, expected: int = 0, then: Asked | None = None,
        each: Each | None = None,
    ) -> dict[int, Fetched]:  # fmt: skip
        """Fetch for sorted uids (at most 500, 4 KB). `expected` bytes of mail may come, and a share more.

        What came before a NO is returned; the caller asks for the rest again, alone. `then` is asked for in advance:
        its answer is on its way while this one is used. Any other command than the fetch for it throws it away.
        `each` gets every message when it is here, in the thread that reads, and maybe again when more is said of it.
        """
        self._ready()
        if not uids:
            return {}
        asked = Asked(tuple(uids), items)

        # RFC822.SIZE is a claim: honest servers are wrong by a quarter at most.
        budget = QUIET + expected + expected // 4
        return await self._call(
            lambda: self._fetched(asked, then, each), f"fetching {len(uids)} messages", budget=budget,
            deadline=self.timeout + expected / 20_000,
        )  # fmt: skip

    def _fetched(self, asked: Asked, then: Asked | None = None, each: Each | None = None) -> dict[int, Fetched]:
        assert self._wire is not None
        try:
            return fetched(self._wire, asked, then, each)
        except Refused as exc:
            if exc.found and asked.low is None:
                return exc.found
            raise imaplib.IMAP4.error(str(exc)) from exc

    async def fetch_news(self, low: int) -> dict[int, Fetched]:
        """What came while we idled, from uid `low` on: SEARCH and FETCH in one round trip.

        With bodies when few messages came; one that is bigger than `SMALL` has none, and is to be fetched.
        """
        self._ready()

        def say(wire: Wire) -> bytes:
            _all_seen(wire)
            return ask(wire, asked)

        async with self._turn:
            if self._idle is not None:
                await self._end_idle()
            # Known only now, behind the answer to DONE.
            few = self.arrived is not None and self.arrived <= FEW
            doing, budget = "looking for new mail", QUIET + FEW * SMALL
            asked = Asked((), NEWS if few else FACTS, low=low)
            if few and self._ear is not None:
                found = await self._say_here(say, lambda _: self._fetched(asked), doing, budget=budget)
            else:
                found = await self._call_in_turn(lambda: self._from(low, asked.items), doing, self.timeout, budget)
        found = _from_uid(low, found)
        return {u: f if f.body is None or len(f.body) < SMALL else f._replace(body=None) for u, f in found.items()}

    async def fetch_slice(self, uid: int, offset: int, length: int) -> bytes | None:
        """Part of one message's bytes; None when it is not there any more."""
        found = await self.fetch([uid], f"(UID BODY.PEEK[]<{offset}.{length}>)", expected=length)
        return found[uid].body if uid in found else None

    @property
    def is_gmail(self) -> bool:
        """Its messages have labels, and ids of Gmail's own."""
        return "X-GM-EXT-1" in self.capabilities

    @property
    def _flag_items(self) -> str:
        return "(UID FLAGS X-GM-MSGID X-GM-LABELS)" if self.is_gmail else "(UID FLAGS)"

    async def fetch_labels(self, uids: Sequence[int]) -> dict[int, Fetched]:
        """Gmail's ids, labels, and the flags for sorted uids (at most 500, 4 KB)."""
        return await self.fetch(uids, "(UID FLAGS X-GM-MSGID X-GM-THRID X-GM-LABELS)")

    async def flags(self, low: int, high: int | None = None) -> dict[int, Fetched]:
        """Flags of everything from uid `low` to `high` (or the end)."""
        return await self._fetch_on(low, self._flag_items, "following flags", QUIET, high=high)

    async def changes(
        self, low: int, since: int, high: int | None = None
    ) -> tuple[dict[int, Fetched], list[tuple[int, int]]]:
        """What changed after that modseq from uid `low` to `high` (or the end): flags (RFC 7162 3.1.4), and who left,
        as ranges. At most some 100,000 messages.

        Nobody is said to have left where QRESYNC is not on.
        """
        items = f"{self._flag_items} (CHANGEDSINCE {since}{' VANISHED' if self.tells_who_left else ''})"
        if self._wire is not None:
            self._wire.untagged_responses.pop("VANISHED", None)
        found = await self._fetch_on(low, items, "following changes", QUIET + QUIET // 2, high=high)
        gone = self._wire.untagged_responses.pop("VANISHED", []) if self._wire is not None else []
        return found, vanished_answer([line for line in gone if isinstance(line, bytes)])

    async def _fetch_on(
        self, low: int, items: str, doing: str, budget: int, *, high: int | None = None
    ) -> dict[int, Fetched]:
        self._ready()

        return await self._call(lambda: self._from(low, items, high), doing, budget=budget)

    def _from(self, low: int, items: str, high: int | None = None) -> dict[int, Fetched]:
        if self._wire is not None:
            _all_seen(self._wire)
        return _from_uid(low, self._fetched(Asked((), items, low=low, high=high)))


def _all_seen(wire: Wire) -> None:
    """The next command sees what was announced before it."""
    wire.untagged_responses.pop("EXISTS", None)


def _from_uid(low: int, found: dict[int, Fetched]) -> dict[int, Fetched]:
    """`n:*` also finds the last message when its uid is below n (RFC 9051 9, seq-range)."""
    return {u: f for u, f in found.items() if low <= u <= LARGEST_UID}

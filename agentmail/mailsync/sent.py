"""Our own mail, seen from the server: whether it lies in Sent, and a copy for who looks there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

from ..errors import NotFound
from ..imap import DATES, IDS, WHOLE, ImapConnection, Lost, NoSuchMailbox
from ..message.identifiers import find_ids
from ..message.parse import parse
from ..store import Arrival
from .server import Server

DAY = timedelta(days=1)
CANDIDATES = 50
"""Messages of about the same day whose headers are looked at, newest first."""


class SentCopies(Server):
    """The part of `MailSync` that the outbox asks."""

    async def find_sent(self, message_id: str) -> bool:
        """Whether a message with this id lies in Sent, or came back to us as a copy.

        When it does under another Message-ID than ours (some providers write their own), the alias is learned.

        Raises:
            ServerError: it could not be looked for; that is not a no.
        """
        async with self._session():
            return bool(await self._once_more(lambda: self._find_sent(message_id)))

    async def _once_more(self, work: Callable[[], Any]) -> Any:
        try:
            done = await work()
        except Lost:
            done = await work()
        await self._served()
        return done

    async def _find_sent(self, message_id: str) -> bool:
        connection = await self.connection()
        roles = await self._learn_roles()
        for name in dict.fromkeys(n for n in (roles["sent"], roles["all"], self.account.mailbox) if n):
            try:
                await connection.examine(name)
            except NoSuchMailbox:
                continue
            found = await connection.find(message_id.strip("<>"))
            if found and await self._really(connection, found, message_id):
                return True
        return roles["sent"] is not None and await self._find_rewritten(connection, roles["sent"], message_id)

    async def _find_rewritten(self, connection: ImapConnection, sent: str, message_id: str) -> bool:
        """Look in Sent for our mail under an id that the provider gave it: by its Date, then by mark or content."""
        try:
            ours = await self.store.message(message_id, account=self.account.key)
            if ours.sent_at is None:
                return False
            await connection.examine(sent)
        except (NotFound, NoSuchMailbox):
            return False
        # A day on each side: the server goes by the zone of the Date header, or by its own (RFC 9051 6.4.4).
        near = await connection.search_sent(ours.sent_at - DAY, ours.sent_at + 2 * DAY)
        heads = await connection.fetch(near[-CANDIDATES:], DATES)
        for uid, head in sorted(heads.items(), reverse=True):
            if not head.body or parse(head.body).sent_at != ours.sent_at:
                continue
            whole = (await connection.fetch([uid], WHOLE, expected=head.size or 0)).get(uid)
            if whole is None or not whole.body:
                continue
            copy = parse(whole.body, received_at=whole.received_at)
            (prepared,) = self.store.prepare([Arrival(copy, whole.body, outgoing=True)], account=self.account.key)
            known = await self.store.db.run(
                lambda tx, p=prepared: self.store.recognise(tx, p, account=self.account.key)  # type: ignore[misc]
            )
            if known is not None and known.id == ours.id:
                return True
        return False

    async def _really(self, connection: ImapConnection, uids: Sequence[int], message_id: str) -> bool:
        """SEARCH HEADER finds substrings (RFC 9051 6.4.4): read the ids themselves."""
        for uid, one in (await connection.fetch(uids[-50:], IDS)).items():
            ids = find_ids((one.body or b"").partition(b":")[2].decode("utf-8", "replace"), "own").ids
            if message_id in ids and uid:
                return True
        return False

    async def file_sent(self, raw: bytes, message_id: str) -> bool:
        """See to it that one copy lies in Sent; whether we put it there. Nothing to do where the provider does so.

        Raises:
            ServerError: it may or may not be there; calling again finds out.
        """
        if self.account.files_sent:
            return False
        async with self._session():
            return bool(await self._once_more(lambda: self._file_sent(raw, message_id)))

    async def _file_sent(self, raw: bytes, message_id: str) -> bool:
        connection = await self.connection()
        sent = (await self._learn_roles())["sent"]
        if sent is None:
            return False
        await connection.examine(sent)
        if await self._really(connection, await connection.find(message_id.strip("<>")), message_id):
            return False
        if await self._find_rewritten(connection, sent, message_id):
            return False  # this provider files it by itself, under an id of its own
        await connection.append(sent, raw, [r"\Seen"], self.clock())
        return True

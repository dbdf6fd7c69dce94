"""Mail in: IMAP to the store, each message and the read position behind it in one transaction.

A crash before the commit leaves the position where it was, and the messages are fetched again; a crash after it leaves
both. Filing the same message twice changes nothing, so the position may be behind, and never ahead.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Literal

from .errors import MailboxError, ServerError, Throttled, Unreachable
from .imap_interim import ImapConnection, MailboxState, RawMessage
from .message.parse import parse
from .settings import Account
from .store import Arrival, Filed, Location, ThreadStore, positions
from .store.database import Tx
from .store.positions import Position

BATCH = 50
"""Messages in one fetch and one transaction."""
HISTORY = 200
"""Messages of the time before the first sync that are filed, so that threads have their past."""
NEWS = timedelta(hours=1)
"""What arrived so shortly before the first sync is new mail, and not history: somebody who tries an account out sends
a mail first and starts the program then."""
RESCAN = 100
"""Uids below the position that are looked at again: some servers show uids late or out of order (Gmail, 1 in 50)."""

FirstRun = Literal["news", "all"]


class MailSync:
    """Receiving for one account: INBOX, and Sent when there is one. Building it connects to nothing."""

    def __init__(
        self,
        account: Account,
        store: ThreadStore,
        *,
        clock: Callable[[], datetime],
        first_run: FirstRun = "news",
        connect: Callable[[Account], ImapConnection] = ImapConnection,
    ) -> None:
        """
        Args:
            first_run: What of the mail that lies there at the first sync is new: what arrived within the last hour
                (`"news"`), or everything (`"all"`).
        """
        self._account = account
        self._store = store
        self._clock = clock
        self._first_run = first_run
        self._connect = connect
        self._connection: ImapConnection | None = None
        self._busy = asyncio.Lock()
        self._sent: str | None = None
        self._sent_known = False

    async def close(self) -> None:
        """Leave the server, within 3 seconds."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    async def poll(self, limit: int | None = None) -> list[Filed]:
        """Bring everything new into the store, at most `limit` messages; what became of each.

        Raises:
            ServerError: the server could not be reached or refused. What was filed before stays filed.
        """
        await self._store.open()
        await self._store.register(self._account.key, self._account.own_addresses)
        async with self._busy:
            connection = await self._ready()
            filed = await self._mailbox(connection, self._account.mailbox, outgoing=False, limit=limit)
            sent = await self._sent_mailbox(connection)
            if sent is not None and sent != self._account.mailbox:
                filed += await self._mailbox(connection, sent, outgoing=True, limit=limit)
            return filed

    async def check(self) -> tuple[str, ...]:
        """Log in and open the mailbox; what the server can do."""
        async with self._busy:
            connection = await self._ready()
            await connection.examine(self._account.mailbox)
            return await connection.capabilities()

    # -- the sent copy

    async def find_sent(self, message_id: str) -> bool:
        """Whether a message lies in Sent, or came back to us as a copy: the evidence that it was sent."""
        async with self._busy:
            connection = await self._ready()
            for mailbox in dict.fromkeys((await self._sent_mailbox(connection), self._account.mailbox)):
                if mailbox is not None:
                    await connection.examine(mailbox)
                    if await connection.find_message_id(message_id):
                        return True
            return False

    async def file_sent(self, raw: bytes, message_id: str) -> bool:
        """Put a copy into Sent: exactly one. False when it lies there, or the provider does it by itself."""
        if self._account.files_sent:
            return False
        async with self._busy:
            connection = await self._ready()
            sent = await self._sent_mailbox(connection)
            if sent is None:
                return False
            await connection.examine(sent)
            if await connection.find_message_id(message_id):
                return False
            await connection.append(sent, raw, ["\\Seen"])
            return True

    # -- inside

    async def _ready(self) -> ImapConnection:
        """The connection, made anew when it was lost."""
        if self._connection is not None and not self._connection.usable:
            await self._connection.close()
            self._connection = None
        if self._connection is None:
            connection = self._connect(self._account)
            try:
                await connection.open()
            except BaseException:
                await connection.close()
                raise
            self._connection = connection
        return self._connection

    async def _sent_mailbox(self, connection: ImapConnection) -> str | None:
        if not self._sent_known:
            self._sent = await connection.sent_mailbox()
            self._sent_known = True
        return self._sent

    async def _mailbox(
        self, connection: ImapConnection, mailbox: str, *, outgoing: bool, limit: int | None
    ) -> list[Filed]:
        # The snapshot is taken at EXAMINE: what arrives while we work has a higher uid, and waits for the next poll.
        try:
            state = await connection.examine(mailbox)
        except Unreachable:
            # The server may have dropped an idle connection long ago: one fresh try.
            connection = await self._ready()
            state = await connection.examine(mailbox)
        async with self._store.reading() as tx:
            known = await positions.read(tx, self._account.key, mailbox)
        now = self._clock().timestamp()
        begun = known.begun_at if known is not None else now
        new_epoch = known is None or known.uidvalidity != state.uidvalidity
        base = Position(state.uidvalidity, 0 if new_epoch or known is None else known.uid, begun)
        uids = await self._new_uids(connection, state, base, new_epoch=new_epoch)
        if limit is not None:
            uids = uids[:limit]
        done: list[Filed] = []
        for some in _batches(uids):
            raws = await self._fetched(connection, some)
            done += await self._file(mailbox, raws, replace(base, uid=max(base.uid, some[-1])), outgoing=outgoing)
        if not uids and new_epoch:
            last = (state.uidnext or 1) - 1
            await self._store.db.run(lambda tx: positions.save(tx, self._account.key, mailbox, replace(base, uid=last)))
        return done

    async def _new_uids(
        self, connection: ImapConnection, state: MailboxState, base: Position, *, new_epoch: bool
    ) -> list[int]:
        """What to fetch, ascending: behind the position, and what a re-scan finds that was never filed."""
        if state.exists == 0:
            return []
        first = 1 if new_epoch else max(1, base.uid + 1 - RESCAN)
        if state.uidnext is None:
            found = await connection.uids_from(first)
        else:
            # A rewound UIDNEXT (some servers) must not leave us behind it for ever: search what the server has.
            found = await connection.uids(first, state.uidnext - 1)
        if new_epoch and self._first_run == "news":
            found = found[-HISTORY:]
        if not new_epoch:
            below = [u for u in found if u <= base.uid]
            unknown = set(below) - await self._located(state, below)
            found = [u for u in found if u > base.uid or u in unknown]
        return found

    async def _located(self, state: MailboxState, uids: Sequence[int]) -> set[int]:
        async with self._store.reading() as tx:
            return await positions.located(tx, self._account.key, state.name, state.uidvalidity, uids)

    async def _fetched(self, connection: ImapConnection, uids: Sequence[int]) -> list[RawMessage]:
        try:
            return await connection.fetch(uids)
        except Throttled:
            raise
        except (MailboxError, ServerError):
            if len(uids) == 1 or not connection.usable:
                raise
            # One of them may be what the server chokes on: one by one.
            return [m for uid in uids for m in await connection.fetch([uid])]

    async def _file(
        self, mailbox: str, raws: Sequence[RawMessage], position: Position, *, outgoing: bool
    ) -> list[Filed]:
        arrivals = await asyncio.to_thread(self._arrivals, mailbox, raws, position, outgoing)
        prepared = self._store.prepare(arrivals, account=self._account.key)

        async def work(tx: Tx) -> list[Filed]:
            filed = await self._store.file_batch(tx, prepared, account=self._account.key)
            await positions.save(tx, self._account.key, mailbox, position)
            return filed

        return await self._store.db.run(work)

    def _arrivals(self, mailbox: str, raws: Sequence[RawMessage], position: Position, outgoing: bool) -> list[Arrival]:
        """In a worker thread: parsing is the part of receiving that costs time."""
        news = position.begun_at - NEWS.total_seconds()
        return [
            Arrival(
                parse(raw.data, received_at=raw.received_at, trusted_authserv=self._account.trusted_authserv),
                raw.data,
                location=Location(mailbox, position.uidvalidity, raw.uid),
                flags=raw.flags,
                fresh=not outgoing
                and (self._first_run == "all" or raw.received_at is None or raw.received_at.timestamp() >= news),
                outgoing=outgoing,
            )
            for raw in raws
        ]


def _batches(uids: Sequence[int]) -> list[list[int]]:
    return [list(uids[i : i + BATCH]) for i in range(0, len(uids), BATCH)]

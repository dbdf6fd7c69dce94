"""What agents do to mail on the server: only when asked, never by reading."""

from __future__ import annotations

from collections.abc import Collection

from ..errors import MailboxError, NotFound
from ..imap import ImapConnection
from ..store import connections, positions
from .roles import ROLES
from .server import Server


class Acting(Server):
    """The part of `MailSync` that changes something on the server."""

    async def mark(self, message: str, *, add: Collection[str] = (), remove: Collection[str] = ()) -> None:
        """Set or clear flags (`\\Seen`, `\\Flagged`, a keyword) on a stored message, wherever it lies."""
        for mailbox, uids in (await self._where(message)).items():
            async with self._session():
                connection = await self._for_writing(mailbox)
                await connection.change_flags(uids, add=add, remove=remove)

    async def move(self, message: str, mailbox: str) -> None:
        """Move a stored message out of the INBOX to another mailbox: a role (`archive`, `trash`) or a name."""
        places = await self._where(message)
        uids = places.get(self.account.mailbox)
        if uids is None:
            raise NotFound(f"{message} does not lie in {self.account.mailbox!r} on the server")
        async with self._session():
            connection = await self._for_writing(self.account.mailbox)
            role = mailbox.lower()
            target = (await self._learn_roles()).get(role) if role in ROLES else mailbox
            if target is None:
                raise NotFound(f"this account has no mailbox for {role!r}")
            await connection.examine(self.account.mailbox, writable=True)
            await connection.move(uids, target)

    async def archive(self, message: str) -> None:
        """Move a stored message out of the INBOX to the archive; on Gmail that is to stay in All Mail only."""
        async with self._session():
            roles = await self._learn_roles()
        await self.move(message, "archive" if roles["archive"] or not roles["all"] else "all")

    async def label(self, message: str, *, add: Collection[str] = (), remove: Collection[str] = ()) -> None:
        """Put on and take off labels: Gmail's where it has them, keywords (RFC 9051 2.3.2) elsewhere."""
        for mailbox, uids in (await self._where(message)).items():
            async with self._session():
                connection = await self._for_writing(mailbox)
                if connection.is_gmail:
                    await connection.change_labels(uids, add=add, remove=remove)
                    return  # a label is the message's, wherever it shows
                await connection.change_flags(uids, add=add, remove=remove)

    async def labels(self, message: str) -> tuple[str, ...]:
        """The labels that a stored message has on the server, as of the last poll: Gmail's, and keywords elsewhere."""
        stored = await self.store.message(message, account=self.account.key)
        number = int(str(stored.id)[1:])
        async with self.store.reading() as tx:
            on_gmail = await connections.labels_of(tx, self.account.key, number)
            flags = await positions.flags_of(tx, self.account.key, number)
        return on_gmail or tuple(sorted(flag for flag in flags if not flag.startswith("\\")))

    async def _where(self, message: str) -> dict[str, list[int]]:
        stored = await self.store.message(message, account=self.account.key)
        async with self.store.reading() as tx:
            places = await positions.places_of(tx, self.account.key, int(str(stored.id)[1:]))
        found: dict[str, list[int]] = {}
        for mailbox, _, uid in places:
            found.setdefault(mailbox, []).append(uid)
        if not found:
            raise NotFound(f"{message} does not lie on the server (any more)")
        return found

    async def _for_writing(self, mailbox: str) -> ImapConnection:
        connection = await self.connection()
        seen = await connection.examine(mailbox, writable=True)
        async with self.store.reading() as tx:
            position = await positions.position(tx, self.account.key, mailbox)
        if position is None or position.uidvalidity != seen.uidvalidity:
            raise MailboxError(f"mailbox {mailbox!r} was made anew since it was read; poll first")
        return connection

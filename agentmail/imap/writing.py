"""What changes something on the server: APPEND, STORE, MOVE. Only when asked."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from datetime import datetime

from ..errors import BadInput, MailboxError
from .link import Link
from .opening import checked


class Writing(Link):
    """The part of a connection that writes."""

    async def append(self, mailbox: str, raw: bytes, flags: Collection[str] = (), at: datetime | None = None) -> None:
        """Put a message into a mailbox. Lost on the way it may lie there all the same: look before trying again."""
        client = self._ready()
        checked(mailbox, "the mailbox name")
        for flag in flags:
            _keyword(flag)
        await self._call(lambda: client.append(mailbox, raw, list(flags), at), f"filing into {mailbox!r}",
                         deadline=self.timeout + len(raw) / 20_000)  # fmt: skip

    async def change_flags(
        self, uids: Sequence[int], *, add: Collection[str] = (), remove: Collection[str] = ()
    ) -> None:
        """Set and clear flags in the mailbox that is open for writing."""
        client = self._ready()
        for flag in (*add, *remove):
            _keyword(flag)
        for flag in add:
            # Some servers say OK to a keyword and forget it (RFC 9051 7.1, PERMANENTFLAGS).
            kept = self.keeps is None or flag.lower().encode() in self.keeps
            if not kept and (flag.startswith("\\") or b"\\*" not in (self.keeps or ())):
                raise MailboxError(f"IMAP {self.where}: {self.selected!r} does not keep the flag {flag!r}")
        if add and uids:
            await self._call(lambda: client.add_flags(list(uids), list(add), silent=True), "setting flags")
        if remove and uids:
            await self._call(lambda: client.remove_flags(list(uids), list(remove), silent=True), "clearing flags")

    async def change_labels(
        self, uids: Sequence[int], *, add: Collection[str] = (), remove: Collection[str] = ()
    ) -> None:
        """Put on and take off Gmail's labels in the mailbox that is open for writing."""
        client = self._ready()
        for label in (*add, *remove):
            checked(label, "the label")
        if add and uids:
            await self._call(lambda: client.add_gmail_labels(list(uids), list(add), silent=True), "putting on labels")
        if remove and uids:
            await self._call(lambda: client.remove_gmail_labels(list(uids), list(remove), silent=True),
                             "taking off labels")  # fmt: skip

    async def move(self, uids: Sequence[int], mailbox: str) -> None:
        """MOVE, or COPY + \\Deleted + UID EXPUNGE where MOVE is not offered (RFC 6851 3.3)."""
        client = self._ready()
        checked(mailbox, "the mailbox name")
        if not uids:
            return
        if "MOVE" in self.capabilities:
            await self._call(lambda: client.move(list(uids), mailbox), f"moving to {mailbox!r}")
            return
        await self._call(lambda: client.copy(list(uids), mailbox), f"copying to {mailbox!r}")
        await self._call(lambda: client.add_flags(list(uids), [r"\Deleted"], silent=True), "setting flags")
        if "UIDPLUS" in self.capabilities:  # a plain EXPUNGE would take what others marked
            await self._call(lambda: client.uid_expunge(list(uids)), "expunging")

    async def noop(self) -> None:
        """Ask for a sign of life."""
        client = self._ready()
        await self._call(client.noop, "asking for a sign of life")


def _keyword(flag: str) -> str:
    checked(flag, "the flag")
    bare = flag.removeprefix("\\")
    if not bare or not bare.isascii() or any(c in '(){ %*"\\]' for c in bare) or os.sep == bare:
        raise BadInput(f"{flag!r} is not a flag that IMAP can carry (RFC 9051 9, flag-keyword)")
    return flag

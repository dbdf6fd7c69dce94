"""Which mailboxes there are, and what one looks like when it is opened."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import MailboxError
from .answers import mailbox_name
from .link import Link
from .opening import checked


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A mailbox as EXAMINE showed it. What a server leaves out is None; uidvalidity is then 0."""

    mailbox: str
    exists: int
    uidvalidity: int
    uidnext: int | None = None
    modseq: int | None = None


@dataclass(frozen=True, slots=True)
class Listed:
    """A mailbox as LIST showed it."""

    name: str
    attributes: frozenset[str]
    """Lower case, with the backslash: `\\sent`, `\\noselect`."""
    delimiter: str


class Mailboxes(Link):
    """The part of a connection that lists and opens."""

    async def mailboxes(self) -> list[Listed]:
        """All of them, with their attributes. Entries without a name, or with one that nobody can say, are left out."""
        client = self._ready()

        def work() -> Sequence[tuple[Sequence[bytes], bytes | None, bytes | None]]:
            client.folder_encode = False  # one name that is no UTF-7 would end the whole list
            try:
                return client.list_folders()  # type: ignore[no-any-return]
            finally:
                client.folder_encode = True

        listed = []
        for flags, delimiter, name in await self._call(work, "listing mailboxes"):
            text = mailbox_name(name)
            if text is not None:
                attributes = frozenset(f.decode("ascii", "replace").lower() for f in flags)
                listed.append(Listed(text, attributes, (delimiter or b"").decode("ascii", "replace")))
        return listed

    async def prefix(self) -> str:
        """What personal mailboxes are below: `INBOX.` on some servers, else nothing."""
        client = self._ready()
        if "NAMESPACE" not in self.capabilities:
            return ""
        try:
            spaces = await self._call(client.namespace, "asking for namespaces")
        except MailboxError:
            return ""
        return str(spaces.personal[0][0] or "") if spaces.personal else ""

    async def examine(self, mailbox: str, *, writable: bool = False) -> Snapshot:
        """Open a mailbox, read-only unless asked: reading then cannot set `\\Seen`."""
        client = self._ready()
        checked(mailbox, "the mailbox name")
        answer = await self._call(lambda: client.select_folder(mailbox, readonly=not writable), f"opening {mailbox!r}")
        self.selected = mailbox
        if self._wire is not None:
            self._wire.untagged_responses.pop("EXISTS", None)  # the snapshot has it; what comes later is news

        def number(key: bytes) -> int | None:
            value = answer.get(key)
            value = value[0] if isinstance(value, list | tuple) and value else value
            return int(value) if isinstance(value, int | bytes) and str(int(value)).isdigit() else None

        self.exists = number(b"EXISTS")
        self.uidvalidity = number(b"UIDVALIDITY") or 0
        return Snapshot(mailbox, number(b"EXISTS") or 0, self.uidvalidity, number(b"UIDNEXT") or None,
                        number(b"HIGHESTMODSEQ"))  # fmt: skip

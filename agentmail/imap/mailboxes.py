"""Which mailboxes there are, and what one looks like when it is opened."""

from __future__ import annotations

import imaplib
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from imapclient.exceptions import ProtocolError

from ..errors import MailboxError
from .answers import first_number, list_answer, said
from .link import Link
from .opening import checked
from .wire import QUIET


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
        self._ready()

        def work() -> list[Listed]:
            wire = self._wire
            assert wire is not None
            kind, data = wire.list('""', '"*"')
            if kind != "OK":
                raise imaplib.IMAP4.error(said(data))
            return [Listed(*one) for one in list_answer(data)]

        return await self._call(work, "listing mailboxes", budget=QUIET // 4)

    async def prefix(self) -> str:
        """What personal mailboxes are below: `INBOX.` on some servers, else nothing."""
        client = self._ready()
        if "NAMESPACE" not in self.capabilities:
            return ""

        def work() -> str:
            # The whole answer is read before it is understood: one that cannot be is no reason to hang up.
            with suppress(TypeError, ValueError, IndexError, LookupError, ProtocolError):
                return str(client.namespace().personal[0][0] or "")
            return ""

        try:
            return await self._call(work, "asking for namespaces")
        except MailboxError:
            return ""

    async def examine(self, mailbox: str, *, writable: bool = False) -> Snapshot:
        """Open a mailbox, read-only unless asked: reading then cannot set `\\Seen`."""
        client = self._ready()
        checked(mailbox, "the mailbox name")

        def work() -> dict[str, list[Any]]:
            wire = self._wire
            assert wire is not None
            wire.untagged_responses.clear()
            kind, data = wire._simple_command("SELECT" if writable else "EXAMINE", client._normalise_folder(mailbox))  # noqa: SLF001
            if kind != "OK":
                wire.state = "AUTH"
                raise imaplib.IMAP4.error(said(data))
            wire.state = "SELECTED"
            wire.is_readonly = True  # imaplib hangs up when it finds READ-ONLY and believes otherwise
            answer: dict[str, list[Any]] = dict(wire.untagged_responses)
            wire.untagged_responses.pop("EXISTS", None)  # the snapshot has it; what comes later is news
            return answer

        answer = await self._call(work, f"opening {mailbox!r}")
        self.examined += 1
        self.selected = mailbox
        self.exists = first_number(answer.get("EXISTS"), bits=32)
        self.uidvalidity = first_number(answer.get("UIDVALIDITY"), bits=32) or 0
        lasting = answer.get("PERMANENTFLAGS")
        self.keeps = frozenset(lasting[0].strip(b"()").lower().split()) if lasting else None
        if writable and "READ-ONLY" in answer:
            raise MailboxError(f"IMAP {self.where}: {mailbox!r} is read-only for this account")
        return Snapshot(
            mailbox, self.exists or 0, self.uidvalidity, first_number(answer.get("UIDNEXT"), bits=32) or None,
            first_number(answer.get("HIGHESTMODSEQ"), bits=63),
        )  # fmt: skip

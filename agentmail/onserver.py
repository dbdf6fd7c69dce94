"""What an agent may do to the mail on the server, and what a person wants to know of that server first.

Reading changes nothing there. These calls do, each when asked and never by default.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime

from .errors import NotFound, PermanentFailure
from .mailsync import MailSync
from .mailsync.looking import Look
from .message import compose
from .message.models import Address, Draft, Message
from .settings import Account
from .smtp import Submitter
from .store import ThreadStore


@dataclass(frozen=True, slots=True)
class RoundTrip:
    """A mail to oneself that came back."""

    message_id: str
    seconds: float
    """From the submission server's 250 until it lay in the INBOX."""
    skew: float | None
    """Seconds that the server's clock is ahead of ours, to a second; None when the server names no time."""


class OnServer:
    """Mixed into Inbox, which owns everything used here."""

    account: Account
    store: ThreadStore
    _sync: MailSync
    _submitter: Submitter
    _clock: Callable[[], datetime]

    async def mark(
        self, message: Message | str, *, seen: bool | None = None, flagged: bool | None = None,
        add: Collection[str] = (), remove: Collection[str] = (),
    ) -> None:  # fmt: skip
        """Set or clear flags on the server, wherever the message lies: read, flagged, or any keyword.

        Raises:
            NotFound: it does not lie on the server any more.
            ServerError: the server could not be reached, or refused.
        """
        named = ((seen, "\\Seen"), (flagged, "\\Flagged"))
        await self.store.open()
        await self._sync.mark(
            _id(message),
            add=[*add, *(flag for wanted, flag in named if wanted)],
            remove=[*remove, *(flag for wanted, flag in named if wanted is False)],
        )

    async def move(self, message: Message | str, mailbox: str) -> None:
        """Move a message out of the INBOX on the server: to a role (`archive`, `trash`, `junk`) or a mailbox's name.

        Raises what `mark` raises.
        """
        await self.store.open()
        await self._sync.move(_id(message), mailbox)

    async def archive(self, message: Message | str) -> None:
        """Move a message out of the INBOX to the archive; on Gmail it stays in All Mail. Raises what `mark` raises."""
        await self.store.open()
        await self._sync.archive(_id(message))

    async def label(self, message: Message | str, *, add: Collection[str] = (), remove: Collection[str] = ()) -> None:
        """Put on and take off labels on the server: Gmail's, or keywords where there are none.

        A keyword is one ASCII word. Raises what `mark` raises, and BadInput for a word that no keyword can be.
        """
        await self.store.open()
        await self._sync.label(_id(message), add=add, remove=remove)

    async def labels(self, message: Message | str) -> tuple[str, ...]:
        """The labels that a message has on the server, as of the last poll: Gmail's, and keywords where there are none.

        Asks the store, not the server. Gmail's own begin with a backslash: `\\Inbox`, `\\Important`.
        """
        await self.store.open()
        return await self._sync.labels(_id(message))

    async def look(self) -> Look:
        """Log in on the IMAP server and see what it can do and which mailboxes it has. Raises ServerError."""
        await self.store.open()
        return await self._sync.look()

    async def mail_to_self(self, *, wait: float = 60.0) -> RoundTrip:
        """Send one mail from the account to itself and wait until it lies in the INBOX. No agent is asked to read it.

        Raises:
            PermanentFailure: the submission server did not take it.
            NotFound: it did not arrive within `wait` seconds.
            ServerError: a server could not be reached, or refused.
        """
        await self.store.open()
        me = Address(email=self.account.address, name=self.account.name)
        text = "A test by `agentmail check --send`: mail leaves this account, and comes back to it. You may delete it."
        out = compose.new(Draft(to=(me,), subject="agentmail check", text=text), sender=me, now=self._clock(),
                          secret=self.store.secret)  # fmt: skip
        outcome = await self._submitter.submit(out.raw, out.envelope)
        if outcome.state != "sent":
            raise PermanentFailure(
                f"the submission server did not take a mail to {me.email}: {outcome.text or outcome.state}",
                code=outcome.code,
            )
        begun, sent_at = time.monotonic(), self._clock()
        while (found := await self._sync.find_arrived(out.message_id)) is None:
            if time.monotonic() - begun > wait:
                raise NotFound(
                    f"a mail to {me.email} was taken by the submission server and is not in {self.account.mailbox!r} "
                    f"after {wait:g} s: look for it in Junk, and whether the address leads to this mailbox"
                )
            await asyncio.sleep(min(0.2 + (time.monotonic() - begun) / 10, 3.0))
        seconds = time.monotonic() - begun
        skew = None
        if found.received_at is not None:
            # INTERNALDATE has whole seconds, and lies between sending and finding.
            ahead = (found.received_at - sent_at).total_seconds()
            skew = 0.0 if -1.0 <= ahead <= seconds + 1.0 else ahead
        return RoundTrip(out.message_id, seconds, skew)


def _id(message: Message | str) -> str:
    if isinstance(message, str):
        return message
    if message.id is None:
        raise NotFound("this message is not in the store, so it is nowhere on the server that we know of")
    return message.id

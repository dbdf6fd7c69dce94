"""What is to happen later unless somebody answers before: reminders and follow-ups, kept in SQL.

A reminder brings the thread back as a turn. A follow-up is a mail that sends itself. Both are timers of the store:
they survive restarts, any process that works on the account keeps them, and exactly one does. Before a follow-up goes,
the mailbox is looked into, because the answer may lie there.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta

from .errors import BadInput, Conflict, NotFound, Refused, ServerError, StoreError
from .mailsync import MailSync
from .message.models import Address, Attachment, Message, Outgoing, Value
from .outbox import Outbox
from .policy import Kind, Origin
from .sent import Sent
from .settings import Account
from .store import ThreadStore, reading, submissions, timers, wanting
from .store.changes import POLL, announce
from .store.database import Tx, database_now
from .store.timers import Timer
from .unbroken import heed_cancellation

logger = logging.getLogger(__name__)

LOOK_AGAIN = 60.0
"""Seconds until a follow-up is looked at again that could not go: no look into the mailbox, an agent at the thread."""
NOT_OUT_YET = 3600.0
"""The same when the mail that it follows up has not left: it is held, or the server is away."""


class Reminder(Value):
    """What a thread waits for."""

    kind: str
    """`reminder` or `follow-up`."""
    at: datetime
    agent: str
    note: str = ""
    text: str = ""
    """What a follow-up will say."""


def due_at(after: timedelta | None, at: datetime | None) -> Callable[[Tx], Awaitable[float]]:
    """When that is, by the clock that will say when it is due: this machine's may be wrong.

    Raises:
        BadInput: neither or both were given, or `at` has no time zone.
    """
    if (at is None) == (after is None):
        raise BadInput("say when: either after= (a timedelta) or at= (a datetime with a time zone)")
    if at is not None and at.tzinfo is None:
        raise BadInput("at= needs a time zone")

    async def moment(tx: Tx) -> float:
        if at is not None:
            return at.timestamp()
        return await database_now(tx) + (after or timedelta()).total_seconds()

    return moment


async def promise_to_send(
    tx: Tx, thread: int, text: str, *, account: str, agent: str, due: float, key: str, origin: Origin = "program"
) -> bool:
    """Set a follow-up; False when it is not needed, since somebody answered.

    Raises:
        BadInput: we sent nothing there, so that there is nothing to follow up; or the text is empty.
    """
    if not text.strip() or "\x00" in text:
        raise BadInput("a follow-up needs a text, without NUL characters")
    ours, answered = await timers.last_word(tx, thread)
    if ours is None:
        raise BadInput(f"nothing was sent in t{thread} yet, so there is nothing to follow up: reply first")
    if answered:
        return False
    await timers.set_timer(
        tx, thread, account=account, agent=agent, due_at=due, key=key, kind="follow-up", text=text, origin=origin
    )
    await announce(tx)
    return True


class Promises:
    """Mixed into Inbox, which owns everything used here."""

    account: Account
    agent: str
    store: ThreadStore
    _sync: MailSync
    _outbox: Outbox
    _sleep: Callable[[float], Awaitable[None]]

    async def _compose_reply(
        self, parent: Message, text: str | None, *, html: str | None, reply_all: bool, cc: Iterable[Address | str],
        attachments: Sequence[Attachment], quote: bool,
    ) -> Outgoing:  # fmt: skip
        raise NotImplementedError

    async def remind(
        self,
        thread: str,
        *,
        after: timedelta | None = None,
        at: datetime | None = None,
        note: str = "",
        key: str | None = None,
    ) -> None:
        """Bring a thread back at a time, as a turn with the reason `reminder`, unless somebody answers before.

        An out-of-office message is no answer. The turn goes to the agent that the thread belongs to.

        Args:
            after, at: When: from now, or a time with a time zone (see `BusinessHours`).
            key: The same key sets the same reminder again, and not a second one.
        """
        moment = due_at(after, at)
        await self.store.open()
        if "\x00" in note:
            raise BadInput("a note cannot hold a NUL character")

        async def work(tx: Tx) -> None:
            await timers.set_timer(
                tx, await reading.resolve(tx, thread), account=self.account.key, agent=self.agent,
                due_at=await moment(tx), key=_named("reminder", key), note=note,
            )  # fmt: skip
            await announce(tx)

        await self.store.db.run(work)

    async def follow_up(
        self,
        thread: str,
        text: str,
        *,
        after: timedelta | None = None,
        at: datetime | None = None,
        key: str | None = None,
        origin: Origin = "program",
    ) -> bool:
        """Send `text` in the thread at that time, to those our last mail there went to, unless somebody answers before.

        It survives restarts and is sent once, by whichever process works on the account then (`turns`, `run`, `sync`).
        An answer, or what a person sends in the thread by hand, cancels it; an out-of-office message does not. The
        policy decides when it goes, not now: a refusal comes back as a turn with the reason `reminder`.

        Args:
            after, at: When: from now, or a time with a time zone (see `BusinessHours`).
            key: The same key sets the same follow-up again, and not a second one.

        Returns:
            False when our last mail there has an answer already, and nothing will be sent.

        Raises:
            BadInput: nothing was sent in the thread yet.
        """
        moment = due_at(after, at)
        await self.store.open()

        async def work(tx: Tx) -> bool:
            return await promise_to_send(
                tx, await reading.resolve(tx, thread), text, account=self.account.key, agent=self.agent,
                due=await moment(tx), key=_named("follow-up", key), origin=origin,
            )  # fmt: skip

        return await self.store.db.run(work)

    async def reminders(self, thread: str) -> list[Reminder]:
        """What a thread waits for, the next one first."""
        async with self.store.reading() as tx:
            found = await timers.of_thread(tx, await reading.resolve(tx, thread))
        return [
            Reminder(kind=t.kind, at=datetime.fromtimestamp(t.due_at, UTC), agent=t.agent, note=t.note, text=t.text)
            for t in found
        ]

    async def cancel_reminders(self, thread: str) -> int:
        """Forget the thread's reminders and follow-ups; how many there were."""
        await self.store.open()

        async def work(tx: Tx) -> int:
            return await timers.cancel(tx, [await reading.resolve(tx, thread)])

        return await self.store.db.run(work)

    # -- keeping them

    async def _keep_promises(self, *, looked: bool = False) -> None:
        """Send the follow-ups that are due. `looked`: the mailbox was just polled."""
        async with self.store.reading() as tx:
            due = await timers.due_follow_ups(tx, account=self.account.key)
        if not due:
            return
        if not looked:
            try:
                await self._sync.poll()
            except ServerError as exc:
                logger.info("%s: %d follow-ups wait until the mailbox can be read: %s", self.account.key, len(due), exc)
                await self.store.db.run(lambda tx: _postpone_all(tx, due))
                return
        for one in due:
            await self._keep(one)

    async def _keep(self, one: Timer) -> None:
        """Send it, put it off, or give it back to its agent; each of these ends its being due."""
        try:
            async with self.store.reading() as tx:
                now = await timers.one(tx, one.id)
                if now is None:
                    return
                one = now  # its thread may have been merged
                ours, answered = await timers.last_word(tx, one.thread)
                last = None if ours is None or answered else await reading.message_of(tx, f"m{ours}")
            if last is None:
                await self.store.db.run(lambda tx: timers.take(tx, one.id))
                return
            outgoing = await self._compose_reply(
                last, one.text, html=None, reply_all=True, cc=(), attachments=(), quote=False
            )
            sent = await self.store.db.run(lambda tx: self._send(tx, one, last, outgoing))
        except (Refused, BadInput, NotFound, Conflict) as exc:  # it would fail each time: its agent decides
            await self.store.db.run(lambda tx, why=str(exc): _tell(tx, one, f"the follow-up was not sent: {why}"))  # type: ignore[misc]
            return
        if sent is None:
            return
        try:
            sent = await self._outbox.deliver(sent.id)
        except ServerError as exc:
            logger.warning("follow-up %s in t%d: %s", sent.id, one.thread, exc)
            sent = await self._outbox.get(sent.id)
        if sent.state == "failed":
            note = f"the follow-up {sent.id} failed: {sent.error}"
            await self.store.db.run(lambda tx: _wake(tx, one, note))

    async def _send(self, tx: Tx, one: Timer, last: Message, outgoing: Outgoing) -> Sent | None:
        """In one transaction: nobody answered, nobody was first, and it is in the outbox."""
        if await timers.is_held(tx, one.thread):
            await timers.postpone(tx, one.id, LOOK_AGAIN)
            return None
        fate = await timers.fate_of(tx, int(str(last.id)[1:]))
        if fate in {"held", "queued", "sending", "unknown"}:
            await timers.postpone(tx, one.id, NOT_OUT_YET)
            return None
        if fate != "sent":
            await _tell(tx, one, f"the follow-up was not sent: what it follows up did not go either ({fate})")
            return None
        key = f"follow-up {one.key}"
        if not await timers.take(tx, one.id) or await submissions.with_key(tx, one.account, key) is not None:
            return None
        kind: Kind = "reply"
        origin: Origin = "tool" if one.origin == "tool" else "program"
        return await self._outbox.enqueue(
            tx, outgoing, kind=kind, answers=last, key=key, agent=one.agent, origin=origin, again=True
        )

    async def _keeping_promises(self) -> None:
        """For an Inbox that nobody asks for turns."""
        while True:
            try:
                await self._keep_promises()
                async with self.store.reading() as tx:
                    due = await timers.next_follow_up(tx, account=self.account.key)
                    now = await database_now(tx)
                wait = POLL if due is None else max(1.0, min(POLL, due - now))
            except StoreError as exc:
                logger.warning("%s: %s", self.account.key, exc)
                wait = POLL
            heed_cancellation()
            await self._sleep(wait)


async def _postpone_all(tx: Tx, due: Sequence[Timer]) -> None:
    for one in due:
        await timers.postpone(tx, one.id, LOOK_AGAIN)


async def _tell(tx: Tx, one: Timer, note: str) -> None:
    if await timers.take(tx, one.id):
        await _wake(tx, one, note)


async def _wake(tx: Tx, one: Timer, note: str) -> None:
    now = await database_now(tx)
    await wanting.wake(
        tx, one.thread, account=one.account, agent=one.agent, reason="reminder", note=note[:1000], now=now
    )
    await announce(tx)


def _named(kind: str, key: str | None) -> str:
    return f"{kind} {key}" if key else f"{kind} {secrets.token_hex(12)}"

"""Several agents on one store: turns, claims, waiting for answers, the event log: the half of Inbox that takes time.

One task for each open Inbox receives mail and listens for changes while somebody waits, however many wait; it lives in
the Inbox's own task group and ends with it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Generator, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from functools import partial
from types import TracebackType
from typing import Any
from weakref import WeakSet

from .dispatching import Dispatcher
from .errors import BadInput, HeldByOther, NoReply, StoreError
from .home import Home
from .mailsync import MailSync, Pace, watch
from .message.models import Message
from .outbox import Outbox
from .promises import Promises
from .routing import Choice, Route
from .running import STORE_PAUSE, Shift
from .settings import Account
from .store import ThreadStore, answers, claims, log, reading, timers, wanting
from .store.changes import POLL, Changes
from .store.claims import Claim
from .store.database import Tx, database_now
from .store.together import Together
from .turns import Sleep, Turn
from .unbroken import TaskGroup, heed_cancellation, unbroken
from .waits import Waits

logger = logging.getLogger(__name__)

LEASE = timedelta(minutes=5)
GIVE_BACK = 2.0
"""Seconds for what is still in hand when an inbox is left."""
CLAIM_LOOK = 1.0
"""Seconds after which those who wait for a thread look anyway: on PostgreSQL the end of a turn is not announced."""


class Teamwork(Promises):
    """Mixed into Inbox, which owns everything used here."""

    account: Account
    agent: str
    store: ThreadStore
    home: Home
    routes: Sequence[Route | Choice]
    _sync: MailSync
    _outbox: Outbox
    _clock: Callable[[], datetime]
    _sleep: Sleep
    _group: TaskGroup | None
    _background: asyncio.Task[None] | None
    _waits: Waits
    _dispatcher: Dispatcher
    _held: Together[str, float]
    _look_at_timers: float
    _in_hand: WeakSet[Turn]
    """Turns that were given out, as far as somebody still has them."""

    # -- turns

    async def turns(
        self, agent: str | None = None, *, lease: timedelta = LEASE, wait: bool = True
    ) -> AsyncGenerator[Turn, None]:
        """Threads that need attention, one claimed turn at a time, the longest waiting first.

        ```python
        async for turn in inbox.turns(agent="support"):
            async with turn:
                await turn.reply("…")
        ```

        A burst of messages is one turn. Processes with the same agent name share the work. Trap: a turn that is not
        entered keeps its claim until the lease ends.

        Args:
            lease: How long a claim outlives its holder; it renews itself while the turn's block runs.
            wait: False ends the iteration when nothing is due.
        """
        await self.store.open()
        name = agent or self.agent
        if not wait:
            while turns := await self._next_turns(name, lease):
                yield turns[0]
            return
        self._attend()
        async with Changes(self.store.db) as changes:
            while True:
                if turns := await self._next_turns(name, lease):
                    yield turns[0]
                    continue
                await changes.wait(await self._until_due(name))

    async def run(
        self,
        handler: Callable[[Turn], Awaitable[object]],
        *,
        agent: str | None = None,
        concurrency: int = 1,
        lease: timedelta = LEASE,
        wait: bool = True,
    ) -> None:
        """Call `handler(turn)` for every turn, `concurrency` at a time, until SIGTERM, SIGINT or cancellation.

        An exception in the handler gives its thread back, to be tried again later, and is logged. On a signal no new
        turn is taken, and the ones that run are finished.
        """
        await self.store.open()
        name = agent or self.agent
        shift = Shift(
            handler,
            take=lambda hands: self._next_turns(name, lease, limit=hands),
            until_due=lambda: self._until_due(name),
            hands=concurrency,
            sleep=self._sleep,
        )
        if not wait:
            await shift.work_off()
            return
        self._attend()
        await shift.work_on(self.store.db)

    def claim(
        self, thread: str, *, agent: str | None = None, lease: timedelta = LEASE, timeout: float | None = 0.0
    ) -> Claiming:
        """A turn on this thread, whether it is due or not: `async with inbox.claim("t12") as turn:`.

        Args:
            timeout: Seconds to wait for a holder to finish: 0 does not wait, None waits as long as it takes.

        Raises (when entered):
            HeldByOther: somebody holds it.
        """
        return Claiming(lambda: self.home.run(lambda: self._claimed(thread, agent or self.agent, lease, timeout)))

    async def _claimed(self, thread: str, agent: str, lease: timedelta, timeout: float | None) -> Turn:
        await self.store.open()

        async def work(tx: Tx) -> Claim:
            number = await reading.resolve(tx, thread)  # each time: it may have been merged while we waited
            return await claims.claim_thread(
                tx, number, account=self.account.key, agent=agent, lease=lease.total_seconds(),
                newest=await reading.newest_incoming(tx, number),
            )  # fmt: skip

        async def take() -> Turn:
            while not (found := await self._read_turns([await self.store.db.run(work)], lease)):
                pass  # merged or deleted in between, and its claim with it: its name leads to where it is, or nowhere
            return found[0]

        try:
            return await unbroken(take(), Turn.put_back)
        except HeldByOther as exc:
            if timeout is not None and timeout <= 0:
                raise
            return await self._claimed_after(exc, thread, take, timeout)

    async def _claimed_after(
        self, held: HeldByOther, thread: str, take: Callable[[], Awaitable[Turn]], timeout: float | None
    ) -> Turn:
        """When the holder finishes, or its lease ends. All who wait look together, and none who is too early writes."""
        loop = asyncio.get_running_loop()
        end = None if timeout is None else loop.time() + timeout
        async with Changes(self.store.db) as changes:
            while True:
                patience = await self._held(thread)
                if patience <= 0:
                    try:
                        return await unbroken(take(), Turn.put_back)
                    except HeldByOther as exc:  # another one was faster
                        held, patience = exc, CLAIM_LOOK
                left = POLL if end is None else end - loop.time()
                if left <= 0:
                    raise held
                await changes.wait(min(left, patience, CLAIM_LOOK))

    async def _held_for(self, threads: Sequence[str]) -> list[float]:
        """For how many seconds more each of these threads may be held; 0 when it is free."""
        async with self.store.reading() as tx:
            numbers = {t: await reading.resolve(tx, t) for t in set(threads)}
            found = await answers.held(tx, set(numbers.values()))
        return [found.get(numbers[t], 0.0) for t in threads]

    async def _next_turns(self, agent: str, lease: timedelta, *, limit: int = 1) -> list[Turn]:
        """Claim up to so many threads that are due, and read them."""
        if self.routes:
            await self._dispatcher.give_out(self.routes)
        # What is due at a time is looked at when nothing else is due, and once a second at the most.
        moment = asyncio.get_running_loop().time()
        looked = moment >= self._look_at_timers
        if looked:
            await self._wake_due()
        found = await unbroken(self._claim_due(agent, lease, limit), _put_back)
        if not found and not looked:
            await self._wake_due()
            found = await unbroken(self._claim_due(agent, lease, limit), _put_back)
        return found

    async def _claim_due(self, agent: str, lease: timedelta, limit: int) -> list[Turn]:
        found = await self.store.db.run_alone(
            lambda tx: claims.claim_due(
                tx, account=self.account.key, agents=self._mine(agent), agent=agent, lease=lease.total_seconds(),
                limit=limit,
            )
        )  # fmt: skip
        return await self._read_turns(found, lease) if found else []

    async def _wake_due(self) -> None:
        """Reminders become attention; follow-ups go first, since they take their time and a claim would wait."""
        self._look_at_timers = asyncio.get_running_loop().time() + 1.0
        while await self.store.db.run(lambda tx: timers.wake_due(tx, account=self.account.key)):
            await self._keep_promises()

    def _mine(self, agent: str) -> set[str]:
        """Without routes, what is nobody's is anybody's."""
        return {agent} if self.routes else {agent, ""}

    async def _read_turns(self, found: Sequence[Claim], lease: timedelta) -> list[Turn]:
        async with self.store.reading(snapshot=True) as tx:
            threads = await reading.threads_of(tx, [claim.thread for claim in found])
        turns = [
            Turn(self, claim, thread, lease=lease, clock=self._clock, sleep=self._sleep)  # type: ignore[arg-type]
            for claim in found
            if (thread := threads.get(claim.thread)) is not None  # else it was merged or deleted, and its claim with it
        ]
        self._in_hand.update(turns)
        return turns

    async def _put_all_back(self) -> None:
        """The inbox is left, and with it the turns that nobody has ended."""
        with suppress(StoreError, TimeoutError):  # their leases end
            async with asyncio.timeout(GIVE_BACK):
                await _put_back([turn for turn in self._in_hand if not turn.ended])

    async def _until_due(self, agent: str) -> float:
        async with self.store.reading() as tx:
            due = await wanting.next_at(tx, account=self.account.key, agents=self._mine(agent))
            now = await database_now(tx)
        return POLL if due is None else max(0.05, min(POLL, due - now))

    # -- waiting

    async def wait_for_reply(
        self, message_id: str, timeout: timedelta | float | None = None, *, automated: bool = False
    ) -> Message:
        """The first answer to a mail of ours, also one that came before the call or while the process was down.

        Args:
            message_id: Of what was sent: `sent.message_id`.
            timeout: Seconds or a timedelta; None waits for ever, and 0 finds only what came before.
            automated: An out-of-office message counts as an answer too.

        Raises:
            NotFound: this store has no such message.
            NoReply: nobody answered in time.
            Bounced: it came back.
        """
        await self.store.open()
        seconds = timeout.total_seconds() if isinstance(timeout, timedelta) else timeout
        self._attend()
        try:
            return await self._waits.answer_to(message_id, automated=automated, seconds=seconds)
        except TimeoutError:
            raise NoReply(f"nobody answered {message_id} within {seconds:g} s") from None

    # -- the log

    async def events(
        self, after: int | None = None, *, cursor: str | None = None, wait: bool = True
    ) -> AsyncGenerator[log.Event, None]:
        """Everything that happened, in order, without gaps; then what happens next.

        ```python
        async for event in inbox.events(cursor="crm"):   # at least once, across crashes and restarts
            await tell_the_crm(event)
            await event.ack()
        ```

        Args:
            after: Begin behind this `event.seq`; without it and without a cursor, with the first event there is.
            cursor: The name of a reader whose place the store remembers. It begins where its last acknowledged event
                was, and with the first event there is when the name is new. What was not acknowledged comes again.
            wait: False ends the iteration at the newest event.

        Traps: acknowledging an event acknowledges all before it. Two processes that read by one cursor at the same
        time both get everything: a cursor is one reader's bookmark and shares no work out; turns do.
        """
        if cursor is not None and (after is not None or not cursor or not cursor.isprintable() or len(cursor) > 200):
            raise BadInput("events(): cursor is a short printable name, and takes the place of after=")
        await self.store.open()
        place = after or 0
        if cursor is not None:
            async with self.store.reading() as tx:
                place = await log.read_cursor(tx, cursor)
        async with Changes(self.store.db) as changes:
            while True:
                found = await self._published(place)
                for event in found:
                    place = event.seq
                    yield event if cursor is None else event.of_cursor(partial(self.acknowledge, cursor))
                if not found:
                    if not wait:
                        return
                    await changes.wait(5.0)

    async def acknowledge(self, cursor: str, seq: int) -> None:
        """Everything up to `seq` was handled by the reader of this name. A cursor never moves back."""
        await self.store.open()
        await self.store.db.run(lambda tx: log.move_cursor(tx, cursor, seq))

    async def last_event(self) -> int:
        """The place of the newest event: pass it as `after` to see only what comes."""
        await self.store.open()
        if (found := await self._published(0)) and len(found) < 500:
            return found[-1].seq
        async with self.store.reading() as tx:
            return await log.last_seq(tx)

    async def watch(self, after: int = 0) -> AsyncIterator[log.Event]:
        """Receive mail and send what is due, as long as the iteration goes on; what happens, as it happens."""
        self._attend()
        async for event in self.events(after):
            yield event

    async def _published(self, after: int) -> list[log.Event]:
        return await log.published(self.store.db, after)

    # -- the one background task

    def _attend(self) -> None:
        """Receive mail and listen for changes from now on, until the Inbox is left."""
        if self._group is None:
            raise RuntimeError("waiting needs an open inbox: async with Inbox(...) as inbox")
        if self._background is None or self._background.done():
            self._background = self._group.create_task(self._attending())

    async def _attending(self) -> None:
        async with TaskGroup() as group:
            # Receives at once where the server tells (IDLE), in one process for each mailbox; errors of a server are
            # waited out, and are to be seen in health().
            group.create_task(self._receiving())
            group.create_task(self._outbox.run())
            group.create_task(self._telling())
            group.create_task(self._keeping_promises())

    async def _receiving(self) -> None:
        """A store that is away ends a watch, and not the process."""
        while True:
            try:
                await watch(self._sync, pace=Pace(sleep=self._sleep))
            except* StoreError as group:
                logger.warning("%s: no mail while the store is away: %s", self.account.key, group.exceptions[0])
            heed_cancellation()
            await self._sleep(STORE_PAUSE)

    async def _telling(self) -> None:
        """One listener for all who wait for answers."""
        while True:
            try:
                await self._waits.listen()
            except* StoreError as group:
                logger.warning("%s: %s", self.account.key, group.exceptions[0])
            heed_cancellation()
            await self._sleep(STORE_PAUSE)


async def _put_back(turns: Sequence[Turn]) -> None:
    for turn in turns:
        await turn.put_back()


class Claiming:
    """What `inbox.claim()` returns: enter it for the turn; or await it, and enter the turn yourself."""

    def __init__(self, take: Callable[[], Awaitable[Turn]]) -> None:
        self._take = take
        self._turn: Turn | None = None

    def __await__(self) -> Generator[Any, Any, Turn]:
        return self._take().__await__()

    async def __aenter__(self) -> Turn:
        self._turn = await self._take()
        return await self._turn.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._turn is not None
        await self._turn.__aexit__(kind, exc, trace)

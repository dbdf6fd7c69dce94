"""Waiting for answers: any number of waits in one process are one listener, and one look for all that it concerns.

A wait looks once when it begins, together with the others that begin then. From then on it sleeps, and the listener
tells it what came into its thread, read by one query for all of them. A wait is bound to what was sent: when its
thread is merged into another one, it goes along.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import TypeVar

from .errors import Bounced, NotFound, StoreBusy
from .message.automated import FailedRecipient
from .message.models import Message
from .store import ThreadStore, answers, log
from .store.answers import Asked, Heard, Looked
from .store.changes import Changes
from .store.together import Together
from .unbroken import TaskGroup

FEW = 32
"""Waits that are looked for where the loop may have to wait for the look."""
PUBLISH = 64
"""Events without a place in the log from which the listener gives them theirs, as each reader of the log does."""

T = TypeVar("T")


class Wait:
    """One coroutine that waits for an answer to one message."""

    def __init__(self, asked: Asked) -> None:
        self.asked = asked
        self.thread = asked.thread
        self.came: tuple[Message, ...] = ()
        self.bounced: bool | None = None
        self.told = asyncio.Event()
        self.heard = False
        """The listener looked for it: what its own first look finds is older."""


class Waits:
    """All waits of one Inbox."""

    def __init__(self, store: ThreadStore, account: str) -> None:
        self._store, self._account = store, account
        self._by_thread: dict[int, set[Wait]] = {}
        self._find = Together(self._find_all)
        self._look = Together(self._look_for_all)
        self._place: int | None = None
        """How far the log was heard; None: not yet, or not lately."""
        self._told: set[int] = set()
        """Events that were told before the log gave them their place."""
        self._places = asyncio.Event()
        """Events wait for their places."""

    def __len__(self) -> int:
        return sum(len(waits) for waits in self._by_thread.values())

    async def answer_to(self, message_id: str, *, automated: bool, seconds: float | None) -> Message:
        """Sleep until somebody answers. `listen` has to run.

        Args:
            seconds: From now on. However few they are, what came before is looked for.

        Raises:
            NotFound: this store has no such message.
            TimeoutError: nobody answered in time.
            Bounced: it came back.
        """
        end = None if seconds is None else asyncio.get_running_loop().time() + seconds
        asked = await self._find(message_id)
        if asked is None:
            raise NotFound(f"there is no message {message_id[:200]} in this store")
        wait = Wait(asked)
        self._file(wait)  # before the first look, so that nothing falls between
        try:
            looked = await self._look(asked.id)
            if not wait.heard:
                self._tell(wait, looked)
            async with asyncio.timeout(None) as patience:
                while True:
                    wait.told.clear()
                    answer = await self._first_answer(wait, automated=automated)
                    if answer is not None:
                        return answer
                    patience.reschedule(end)
                    await wait.told.wait()
        finally:
            self._forget(wait)

    # -- listening

    async def listen(self) -> None:
        """Tell those who wait what concerns them, for ever. Raises a group with a StoreError when the store is away."""
        self._place = None
        async with Changes(self._store.db) as changes, TaskGroup() as group:
            publishing = group.create_task(self._publish())
            try:
                while True:
                    await self._hear(changes)
                    await changes.wait()
            finally:
                publishing.cancel()

    async def _publish(self) -> None:
        """Give events their places, beside the listening: it writes, and may have to wait for another writer."""
        while True:
            await self._places.wait()
            self._places.clear()
            await self._store.db.run(log.publish)

    async def _hear(self, changes: Changes) -> None:
        if not self._by_thread:
            self._place = None  # whoever comes next looks for himself; what happens until then concerns nobody
            return
        more = True
        while more:
            heard, waits = await self._news(changes)
            if waits:
                looked = await self._looked(changes, waits)
                for wait in waits:
                    wait.heard = True
                    self._tell(wait, looked.get(wait.asked.id))
            more = len(heard) >= answers.HEARD_AT_ONCE
            if more:  # or the next look would find the same ones
                await self._store.db.run(log.publish)
            elif len(self._told) >= PUBLISH:
                self._places.set()

    async def _news(self, changes: Changes) -> tuple[Sequence[Heard], Sequence[Wait]]:
        """What happened since the last time, and those whom it concerns: everybody, when there was no last time."""
        if self._place is None:
            self._place = await self._asked(changes, answers.place)
            return (), self._everybody()
        place = self._place
        heard = await self._asked(changes, lambda ask: answers.heard(ask, place))
        waits = self._concerned([h for h in heard if h.id not in self._told])
        self._told |= {h.id for h in heard}
        self._told -= {h.id for h in heard if h.seq is not None}
        self._place = max((h.seq for h in heard if h.seq is not None), default=place)
        return heard, waits

    async def _looked(self, changes: Changes, waits: Sequence[Wait]) -> Mapping[int, Looked]:
        """What came for these."""
        asked = {w.asked.id for w in waits}
        if len(asked) > FEW:
            async with self._store.reading() as tx:
                return await answers.incoming_after(answers.asking(tx), asked)
        return await self._asked(changes, lambda ask: answers.incoming_after(ask, asked))

    async def _asked(self, changes: Changes, question: Callable[[answers.Asker], Awaitable[T]]) -> T:
        """The answer by the connection that listens, which is the quickest; else in a transaction like any other."""
        if not self._store.db.watched:
            with suppress(StoreBusy):
                return await question(changes.ask)
        async with self._store.reading() as tx:
            return await question(answers.asking(tx))

    def _everybody(self) -> list[Wait]:
        return [w for waits in self._by_thread.values() for w in waits]

    def _concerned(self, news: Sequence[Heard]) -> list[Wait]:
        if any(h.kind in answers.MOVES for h in news):
            return self._everybody()
        threads = {h.thread for h in news if h.thread is not None} & self._by_thread.keys()
        return [w for thread in threads for w in self._by_thread[thread]]

    def _tell(self, wait: Wait, looked: Looked | None) -> None:
        if looked is None:  # it was deleted; whoever waits for it waits for the end of their patience
            return
        thread, wait.bounced, wait.came = looked
        if thread != wait.thread and wait in self._by_thread.get(wait.thread, ()):
            self._forget(wait)
            wait.thread = thread
            self._file(wait)
        if wait.came or wait.bounced:
            wait.told.set()

    def _file(self, wait: Wait) -> None:
        self._by_thread.setdefault(wait.thread, set()).add(wait)

    def _forget(self, wait: Wait) -> None:
        waits = self._by_thread.get(wait.thread, set())
        waits.discard(wait)
        if not waits:
            self._by_thread.pop(wait.thread, None)

    async def _find_all(self, message_ids: Sequence[str]) -> list[Asked | None]:
        async with self._store.reading() as tx:
            found = await answers.asked(tx, self._account, set(message_ids))
        return [found.get(i) for i in message_ids]

    async def _look_for_all(self, messages: Sequence[int]) -> list[Looked | None]:
        async with self._store.reading() as tx:
            found = await answers.incoming_after(answers.asking(tx), set(messages))
        return [found.get(m) for m in messages]

    # -- deciding

    async def _first_answer(self, wait: Wait, *, automated: bool) -> Message | None:
        """The oldest of what came that answers `asked`, or whose place nobody knows."""
        parents: Mapping[str, str | None] | None = None
        for message in wait.came:
            if not refers_to(message, wait.asked.message_id):
                if parents is None:
                    parents = (await self._store.thread(f"t{wait.thread}")).parents
                if not below(str(message.id), f"m{wait.asked.id}", parents):
                    continue
            if message.automated == "bounce":
                reasons = "; ".join(f"{r.email} {r.status} {r.diagnostic}".strip() for r in _failed(message))
                about = message.bounce.message_id if message.bounce is not None else ""
                # Of what went by our outbox only a bounce with a proof counts, which the outbox looks for.
                if about in {None, wait.asked.message_id} and reasons and wait.bounced is not False:
                    raise Bounced(f"{wait.asked.message_id} came back: {reasons}")
                continue
            if message.automated is None or message.automated == "agent" or automated:
                return message
        if wait.bounced:  # its report may lie in a thread of its own
            async with self._store.reading() as tx:
                reasons = "; ".join(await answers.why_bounced(tx, wait.asked.id))
            raise Bounced(f"{wait.asked.message_id} came back: {reasons}")
        return None


def refers_to(message: Message, message_id: str) -> bool:
    """Whether it names the other one among those that it answers."""
    return message_id in message.in_reply_to or message_id in message.references


def below(message: str, asked: str, parents: Mapping[str, str | None]) -> bool:
    """Whether a message answers `asked`, at any depth, or says nothing of what it answers."""
    above = parents.get(message)
    if above is None:
        return True
    for _ in range(1_000):
        if above == asked:
            return True
        if above is None:
            return False
        above = parents.get(above)
    return False


def _failed(message: Message) -> list[FailedRecipient]:
    return [r for r in message.bounce.recipients if r.action == "failed"] if message.bounce is not None else []

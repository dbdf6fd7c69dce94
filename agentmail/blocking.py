"""An Inbox for programs without an event loop: the same methods, and each returns when it is done.

```python
with Inbox.open_sync(account, store="sqlite:///agentmail.db", agent="support") as inbox:
    for turn in inbox.turns(wait=False):
        with turn:
            turn.reply("Thank you.")
```

One thread with an event loop of its own stands behind it; it ends with the block. Any number of threads may call.
Ctrl-C ends the call that waits, there and here, and gives the turns that are held back at once.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from concurrent.futures import CancelledError, Future
from contextlib import AbstractAsyncContextManager, suppress
from datetime import datetime, timedelta
from functools import wraps
from types import TracebackType
from typing import Any, Concatenate, Generic, ParamSpec, Self, TypeVar

from .home import Guests
from .inbox import Inbox
from .message.models import Message
from .store import Thread
from .store.log import Event
from .teamwork import LEASE
from .turns import Turn

P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S")

_PATIENCE = 10.0
"""Seconds for what was interrupted to clean up."""
_LISTEN = 1.0
"""Seconds after which who waits looks up. A Ctrl-C wakes only a main thread that waits already: one that comes in the
moment before is known to the interpreter, and would be heard when the wait is over, which may be never.
"""


class Portal:
    """A thread with an event loop, in which one async context manager is entered for as long as it runs."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._leave: asyncio.Event | None = None
        self._gate = threading.Lock()
        """Between a call that comes and the end: one that came through is seen by the end."""
        self._calls = Guests()

    def start(self, enter: Callable[[], AbstractAsyncContextManager[S]]) -> S:
        """Start the thread, enter there, and return what was entered; or raise what entering raised."""
        _refuse_inside_a_loop()
        entered: list[S] = []
        failed: list[BaseException] = []
        ready = threading.Event()

        async def live() -> None:
            try:
                async with enter() as subject:
                    self._loop, self._leave = asyncio.get_running_loop(), asyncio.Event()
                    entered.append(subject)
                    ready.set()
                    await self._leave.wait()
                    await self._end_calls()
            except BaseException as exc:  # noqa: BLE001 - raised again in the thread that waits for it
                failed.append(exc)
            finally:
                self._loop = None
                ready.set()

        self._failed = failed
        self._thread = threading.Thread(target=lambda: asyncio.run(live()), name="agentmail", daemon=True)
        self._thread.start()
        while not ready.wait(_LISTEN):
            pass
        if not entered:
            self._thread.join()
            raise failed[0]
        return entered[0]

    def stop(self) -> None:
        """Leave what was entered and end the thread; raise what leaving raised."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        loop, leave = self._loop, self._leave
        if loop is not None and leave is not None:
            loop.call_soon_threadsafe(leave.set)
        thread.join(_PATIENCE)
        if self._failed:
            raise self._failed[0]

    def call(self, work: Callable[[], Awaitable[R]]) -> R:
        """Run it in the loop and wait for it.

        Raises:
            RuntimeError: the caller is inside an event loop, which this would block; or the inbox was left.
        """
        _refuse_inside_a_loop()
        over = threading.Event()

        async def there() -> R:
            try:
                return await self._calls.take(work)
            finally:
                over.set()

        with self._gate:
            loop = self._loop
            if loop is None:
                raise RuntimeError("this inbox is not open: with Inbox.open_sync(...) as inbox")
            future = asyncio.run_coroutine_threadsafe(there(), loop)
        try:
            return _result(future)
        except BaseException as exc:
            if isinstance(exc, CancelledError) and not self.is_open:
                raise RuntimeError(
                    "this inbox was left while it was asked; what was asked may have been done"
                ) from None
            if not future.done():  # Ctrl-C in this thread, and not an error of the call
                future.cancel()
                over.wait(_PATIENCE)
            raise

    async def _end_calls(self) -> None:
        """What other threads still ask is cut, or it would run beside the closing."""
        with self._gate:
            self._loop = None
        for _ in range(3):  # until those that came through have begun
            await asyncio.sleep(0)
        await self._calls.cut(_PATIENCE / 2)

    @property
    def is_open(self) -> bool:
        return self._loop is not None


def _result(future: Future[R]) -> R:
    """Wait for it, with an ear for Ctrl-C."""
    while not future.done():
        with suppress(TimeoutError):  # ours; its own is raised below
            return future.result(_LISTEN)
    return future.result()


def _refuse_inside_a_loop() -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise RuntimeError(
        "this thread runs an event loop, which a blocking call would stop: use `async with Inbox(...)` and await, or "
        "call from a thread of its own (asyncio.to_thread)"
    )


class Blocking(Generic[S]):
    """Something that lives in the loop of a portal."""

    def __init__(self, portal: Portal, subject: S) -> None:
        self._portal, self._subject = portal, subject


def blocking(
    method: Callable[Concatenate[S, P], Coroutine[Any, Any, R]],
) -> Callable[Concatenate[Blocking[S], P], R]:
    """The same method, for callers that wait. It says and raises what the method says and raises."""

    @wraps(method)
    def call(self: Blocking[S], /, *args: P.args, **kwargs: P.kwargs) -> R:
        return self._portal.call(lambda: method(self._subject, *args, **kwargs))

    return call


class SyncTurn(Blocking[Turn]):
    """A `Turn` whose methods return when they are done: `with turn: turn.reply("…")`."""

    reply = blocking(Turn.reply)
    write_note = blocking(Turn.write_note)
    label = blocking(Turn.label)
    remind = blocking(Turn.remind)
    follow_up = blocking(Turn.follow_up)
    hand_off = blocking(Turn.hand_off)
    close = blocking(Turn.close)

    def __enter__(self) -> Self:
        self._portal.call(self._subject.__aenter__)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._portal.call(lambda: self._subject.__aexit__(kind, exc, trace))

    @property
    def thread(self) -> Thread:
        return self._subject.thread

    @property
    def new(self) -> tuple[Message, ...]:
        return self._subject.new

    @property
    def data(self) -> dict[str, Any]:
        return self._subject.data

    @property
    def reason(self) -> str:
        return self._subject.reason

    @property
    def note(self) -> str:
        return self._subject.note

    @property
    def attempt(self) -> int:
        return self._subject.attempt

    @property
    def agent(self) -> str:
        return self._subject.agent

    @property
    def now(self) -> datetime:
        return self._subject.now

    def prompt(self) -> str:
        return self._subject.prompt()


class SyncInbox(Blocking[Inbox]):
    """An `Inbox` whose methods return when they are done. `Inbox.open_sync()` makes it.

    What it returns are the same values. Those of their methods that are coroutines are here by id:
    `inbox.wait_for_reply(sent.message_id)`, `inbox.remind(thread.id, …)`, `inbox.acknowledge(cursor, event.seq)`.
    """

    def __init__(self, make: Callable[[], Inbox]) -> None:
        self._make = make
        self._portal = Portal()

    def __enter__(self) -> Self:
        self._subject = self._portal.start(self._make)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._portal.stop()

    receive = blocking(Inbox.receive)
    sync = blocking(Inbox.sync)
    reply = blocking(Inbox.reply)
    send = blocking(Inbox.send)
    forward = blocking(Inbox.forward)
    wait_for_reply = blocking(Inbox.wait_for_reply)
    remind = blocking(Inbox.remind)
    follow_up = blocking(Inbox.follow_up)
    reminders = blocking(Inbox.reminders)
    cancel_reminders = blocking(Inbox.cancel_reminders)
    assign = blocking(Inbox.assign)
    settle = blocking(Inbox.settle)
    acknowledge = blocking(Inbox.acknowledge)
    last_event = blocking(Inbox.last_event)
    thread = blocking(Inbox.thread)
    threads = blocking(Inbox.threads)
    message = blocking(Inbox.message)
    raw = blocking(Inbox.raw)
    attachment = blocking(Inbox.attachment)
    search = blocking(Inbox.search)
    explain = blocking(Inbox.explain)
    health = blocking(Inbox.health)
    check_receiving = blocking(Inbox.check_receiving)
    check_sending = blocking(Inbox.check_sending)
    mark = blocking(Inbox.mark)
    move = blocking(Inbox.move)
    archive = blocking(Inbox.archive)
    label = blocking(Inbox.label)
    labels = blocking(Inbox.labels)
    look = blocking(Inbox.look)
    mail_to_self = blocking(Inbox.mail_to_self)
    outbox = blocking(Inbox.outbox)
    submission = blocking(Inbox.submission)
    submission_raw = blocking(Inbox.submission_raw)
    fingerprint = blocking(Inbox.fingerprint)
    approve = blocking(Inbox.approve)
    deny = blocking(Inbox.deny)
    edit = blocking(Inbox.edit)
    cancel = blocking(Inbox.cancel)
    retry = blocking(Inbox.retry)
    resolve = blocking(Inbox.resolve)
    pause = blocking(Inbox.pause)
    resume = blocking(Inbox.resume)
    paused = blocking(Inbox.paused)
    grant = blocking(Inbox.grant)

    def turns(self, agent: str | None = None, *, lease: timedelta = LEASE, wait: bool = True) -> Iterator[SyncTurn]:
        """Threads that need attention, one claimed turn at a time: `for turn in inbox.turns(): with turn: …`."""
        stream = self._subject.turns(agent, lease=lease, wait=wait)

        async def following() -> Turn | None:
            return await anext(stream, None)

        try:
            while (turn := self._portal.call(following)) is not None:
                yield SyncTurn(self._portal, turn)
        finally:
            if self._portal.is_open:
                self._portal.call(stream.aclose)

    def claim(
        self, thread: str, *, agent: str | None = None, lease: timedelta = LEASE, timeout: float | None = 0.0
    ) -> SyncTurn:
        """A turn on this thread, whether it is due or not: `with inbox.claim("t12") as turn:`."""

        async def claimed() -> Turn:
            return await self._subject.claim(thread, agent=agent, lease=lease, timeout=timeout)

        return SyncTurn(self._portal, self._portal.call(claimed))

    def run(
        self, handler: Callable[[SyncTurn], object], *, agent: str | None = None, concurrency: int = 1,
        lease: timedelta = LEASE, wait: bool = True,
    ) -> None:  # fmt: skip
        """Call `handler(turn)` for every turn, each in a thread of its own, until Ctrl-C.

        Ctrl-C gives back what is held. A handler cannot be stopped from outside: it goes on to its end, and what it
        still writes by its turn is refused (StaleTurn).
        """

        async def handle(turn: Turn) -> None:
            await asyncio.to_thread(handler, SyncTurn(self._portal, turn))

        async def work() -> None:
            await self._subject.run(handle, agent=agent, concurrency=concurrency, lease=lease, wait=wait)

        self._portal.call(work)

    def events(self, after: int | None = None, *, cursor: str | None = None, wait: bool = True) -> Iterator[Event]:
        """Everything that happened, in order; acknowledge by `inbox.acknowledge(cursor, event.seq)`."""
        stream = self._subject.events(after, cursor=cursor, wait=wait)

        async def following() -> Event | None:
            return await anext(stream, None)

        try:
            while (event := self._portal.call(following)) is not None:
                yield event
        finally:
            if self._portal.is_open:
                self._portal.call(stream.aclose)

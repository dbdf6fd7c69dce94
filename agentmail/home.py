"""The event loop that an Inbox lives on, and how calls from anywhere else get there.

Connections, locks and tasks belong to the loop that made them. Frameworks run tools where they like: in a thread, in
a loop of that thread, in a second loop. So every public coroutine of an Inbox and of a Turn looks where it is, and
goes home first when it is elsewhere. On the home loop that costs one comparison.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from functools import wraps
from typing import Any, Protocol, TypeVar

T = TypeVar("T")
C = TypeVar("C")

BLOCKED = 30.0
"""Seconds for which a call waits to be taken up by the home loop. A loop that does not get to it in that time is
blocked, often by the very code that made the call: then both would wait for ever."""


LEAVE = 2.0
"""Seconds for calls from elsewhere to end when they are cut."""


class Guests:
    """Calls from elsewhere that run on a loop, so that they can be cut before it goes."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[object]] = set()

    async def take(self, call: Callable[[], Awaitable[T]]) -> T:
        """Run one, in the task that called."""
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            return await call()
        finally:
            self._tasks.discard(task)

    async def cut(self, patience: float) -> None:
        """Cancel those that run, and wait so many seconds for their end."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=patience)


class Home:
    """The loop of one Inbox: the one it was entered on, or used on first."""

    def __init__(self, *, blocked: float = BLOCKED) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._blocked = blocked
        self._guests = Guests()
        self._left = False

    def settle(self) -> None:
        """The loop that runs here is home from now on."""
        self._loop = asyncio.get_running_loop()
        self._left = False

    async def leave(self) -> None:
        """Calls from elsewhere are cut, and no more are taken: they would run beside the closing, and after it."""
        self._left = True
        await self._guests.cut(LEAVE)

    @property
    def is_here(self) -> bool:
        """Whether the caller runs on the home loop; the first one to ask makes its loop the home."""
        here = asyncio.get_running_loop()
        if self._loop is None or (self._loop is not here and self._loop.is_closed()):
            self._loop = here
        return self._loop is here

    async def run(self, call: Callable[[], Awaitable[T]]) -> T:
        """Run it on the home loop and bring back what it returns or raises. Cancelling cancels it there.

        Raises:
            RuntimeError: the home loop is blocked, or does not run any more, and nothing was done; or it was left
                meanwhile.
        """
        if self.is_here or self._loop is None:
            return await call()
        begun = False

        async def there() -> T:
            nonlocal begun
            begun = True
            if self._left:
                raise RuntimeError("this inbox was left: nothing was done")
            return await self._guests.take(call)

        coroutine = there()
        try:
            going = asyncio.wrap_future(asyncio.run_coroutine_threadsafe(coroutine, self._loop))
        except RuntimeError:
            coroutine.close()
            raise
        try:
            done, _ = await asyncio.wait({going}, timeout=self._blocked)
            if not done and not begun:
                raise RuntimeError(
                    f"the event loop that this inbox lives on did not take up a call within {self._blocked:.0f} s: it "
                    "has ended, or it is blocked, perhaps by the code that made this call. Run blocking code of a sync "
                    "framework by `await asyncio.to_thread(...)`, or open the inbox by Inbox.open_sync()"
                )
            await asyncio.wait({going})
            if going.cancelled():  # not by the caller, who would not have come here, and must not take it for his own
                raise RuntimeError(
                    "this inbox was left meanwhile, or its event loop ended; what was asked may have been done"
                )
            return going.result()
        finally:
            going.cancel()


class AtHome(Protocol):
    """What `at_home` needs of an object."""

    @property
    def home(self) -> Home: ...


def at_home(cls: type[C]) -> type[C]:
    """Class decorator: every public coroutine and async generator, also inherited ones, runs on `self.home`.

    `async with` of the object goes home too, unless the class settles its home there itself.
    """
    for name in dir(cls):
        if name.startswith("_") and name not in {"__aenter__", "__aexit__"}:
            continue
        method = inspect.getattr_static(cls, name)
        if name.startswith("_") and hasattr(cls, "_settles"):
            continue
        if inspect.iscoroutinefunction(method):
            setattr(cls, name, _going(method))
        elif inspect.isasyncgenfunction(method):
            setattr(cls, name, _streaming(method))
    return cls


def _going(method: Callable[..., Coroutine[Any, Any, Any]]) -> Callable[..., Coroutine[Any, Any, Any]]:
    @wraps(method)
    async def wherever(self: AtHome, *args: Any, **kwargs: Any) -> Any:
        if self.home.is_here:
            return await method(self, *args, **kwargs)
        return await self.home.run(lambda: method(self, *args, **kwargs))

    return wherever


def _streaming(method: Callable[..., AsyncGenerator[Any, None]]) -> Callable[..., AsyncGenerator[Any, None]]:
    @wraps(method)
    def wherever(self: AtHome, *args: Any, **kwargs: Any) -> AsyncGenerator[Any, None]:
        stream = method(self, *args, **kwargs)
        try:
            return stream if self.home.is_here else _brought(self.home, stream)
        except RuntimeError:  # made where no loop runs: it will tell when it is iterated
            return _brought(self.home, stream)

    return wherever


async def _brought(home: Home, stream: AsyncGenerator[Any, None]) -> AsyncGenerator[Any, None]:
    """An async generator that runs at home, for somebody elsewhere."""
    end = object()

    async def following() -> Any:
        return await anext(stream, end)

    try:
        while (item := await home.run(following)) is not end:
            yield item
    finally:
        await home.run(stream.aclose)

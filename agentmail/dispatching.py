"""Giving new threads to agents by routes, some of which are other people's code: it may fail, hang, or not know.

What no route decides stays nobody's, where a person sees it, and stands in nobody's way: it is asked again when it
changes, or after a while. No transaction is open while a route thinks.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from .message.models import Message
from .routing import Choice, Route, choose
from .store import Thread, ThreadStore, belonging, reading
from .store.belonging import Unrouted
from .unbroken import cancellations, heed_cancellation

logger = logging.getLogger(__name__)

PATIENCE = 60.0
"""Seconds that the routes may think about one thread."""
AGAIN = 600.0
"""Seconds after which a thread that no route fits is asked about again, though it has not changed."""
FAILED = 60.0
"""The same when a route failed."""
MOST = 10_000
"""Undecided threads that are remembered."""


class Dispatcher:
    """What one Inbox knows of the threads that no route decided."""

    def __init__(self, store: ThreadStore, account: str) -> None:
        self._store, self._account = store, account
        self._undecided: dict[str, float] = {}
        """How a thread stood when it was asked about -> when it is asked about again."""

    async def give_out(self, routes: Sequence[Route | Choice]) -> None:
        """Ask the routes about every thread that is nobody's, and was not asked about as it stands."""
        now = asyncio.get_running_loop().time
        if len(self._undecided) > MOST:
            self._undecided.clear()
        while True:
            self._undecided = {state: until for state, until in self._undecided.items() if until > now()}
            async with self._store.reading(snapshot=True) as tx:
                waiting = await belonging.unrouted(tx, self._account, known=list(self._undecided))
                threads = await reading.threads_of(tx, [w.thread for w in waiting]) if waiting else {}
            if not waiting:
                return
            for one in waiting:
                if (thread := threads.get(one.thread)) is None:  # it was merged or deleted meanwhile
                    self._undecided[one.state] = now() + FAILED
                elif not await self._give(one, thread, routes):
                    self._undecided.setdefault(one.state, now() + AGAIN)

    async def _give(self, one: Unrouted, thread: Thread, routes: Sequence[Route | Choice]) -> bool:
        """Whether it has an agent now."""
        message = _newest(thread, one.newest)
        asked = cancellations()
        try:
            async with asyncio.timeout(PATIENCE):
                name = await choose(routes, message, thread.labels) if message is not None else None
            _check(name)
        except Exception:
            heed_cancellation(asked)
            logger.exception("%s has no agent: a route failed; it is asked again in %.0f s", thread.id, FAILED)
            self._undecided[one.state] = asyncio.get_running_loop().time() + FAILED
            return False
        if not name:
            return False
        await self._store.db.run(lambda tx: belonging.route(tx, one.thread, name))
        return True


def _check(name: object) -> None:
    """A route of one's own may return anything."""
    if name is not None and not (isinstance(name, str) and name.isprintable() and len(name) <= 200):
        raise TypeError(f"a route gives the name of an agent, and not {name!r:.100}")


def _newest(thread: Thread, newest: int) -> Message | None:
    """The message that wants attention; the last one when that is gone."""
    return next((m for m in thread.messages if m.id == f"m{newest}"), next(reversed(thread.messages), None))

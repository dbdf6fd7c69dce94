"""A thousand accounts that are opened at once, and what that leaves behind.

Each connection that is being opened has a thread, buffers, and with TLS some 50 KB for the handshake. What a thousand
of them have at the same time stays with the process, as holes in its memory.
"""

from __future__ import annotations

import asyncio
import ctypes
import sys
from collections.abc import Callable
from functools import lru_cache
from itertools import count
from weakref import WeakKeyDictionary

AT_ONCE = 16
"""Connections that a process opens at a time."""
HURRY = 2.0
"""Seconds after which one that is still being opened keeps nobody waiting any more: its server hangs."""
TRIM_EVERY = 64

_doors: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore] = WeakKeyDictionary()
_laid_aside = count(1)


class Door:
    """One's turn to open a connection."""

    def __init__(self) -> None:
        self._leave: Callable[[], None] | None = None

    async def enter(self) -> None:
        """Wait for it."""
        loop = asyncio.get_running_loop()
        if loop not in _doors:
            _doors[loop] = asyncio.Semaphore(AT_ONCE)
        await _doors[loop].acquire()
        self._leave = _doors[loop].release
        self._timer = loop.call_later(HURRY, self.leave)

    def leave(self) -> None:
        """Let the next one in. Safe to call again."""
        leave, self._leave = self._leave, None
        if leave is not None:
            self._timer.cancel()
            leave()


def tidy() -> None:
    """Called for each connection that begins to idle, in its thread: now and then give the system back what lies empty.

    glibc keeps freed memory of each thread's arena; after a thousand logins over TLS that was 15 of 160 MB.
    """
    if next(_laid_aside) % TRIM_EVERY == 0 and (trim := _malloc_trim()) is not None:
        trim(0)


@lru_cache(maxsize=1)
def _malloc_trim() -> Callable[[int], int] | None:
    """glibc's own; None where there is no glibc."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        return ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError):
        return None

"""Many processes for the price of one start: the first imports everything, the others are forked from it.

A test itself cannot fork, because its event loop and its drivers' threads would come along broken.
"""

from __future__ import annotations

import asyncio
import os
import traceback
from collections.abc import Awaitable, Callable


def run(count: int, work: Callable[[int], Awaitable[object]]) -> None:
    """Run `work(n)` in a process each and at the same time; it prints for itself. Exit code 1 when one failed."""
    children = []
    for n in range(count):
        child = os.fork()
        if child:
            children.append(child)
            continue
        try:
            asyncio.run(_awaited(work, n))
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    ends = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    raise SystemExit(int(any(ends)))


async def _awaited(work: Callable[[int], Awaitable[object]], n: int) -> None:
    os.write(1, f"{await work(n)}\n".encode())  # at once: print() may write the end of a line apart

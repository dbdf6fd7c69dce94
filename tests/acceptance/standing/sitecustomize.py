"""Loaded by every Python that the tests start by `command.start`: on SIGUSR1 it says where it stands, and ends.

faulthandler shows where the threads are. A program that does not end most often waits in an event loop, and then what
tells is where its tasks are.

It also takes Ctrl-C, though the tests may not: what a shell starts with `&` ignores SIGINT (POSIX 2.11), and so does
what that starts.
"""

from __future__ import annotations

import asyncio
import faulthandler
import gc
import os
import signal
import sys


def chain(task: asyncio.Task[object]) -> list[str]:
    """Where a task waits, from its first coroutine to the last."""
    found, waits = [], task.get_coro()
    while waits is not None:
        frame = next((f for n in ("cr_frame", "gi_frame", "ag_frame") if (f := getattr(waits, n, None))), None)
        found.append(f"{frame.f_code.co_filename}:{frame.f_lineno} {frame.f_code.co_name}" if frame else repr(waits))
        waits = next((w for n in ("cr_await", "gi_yieldfrom", "ag_await") if (w := getattr(waits, n, None))), None)
    return found


def stands(*_: object) -> None:
    for task in (o for o in gc.get_objects() if isinstance(o, asyncio.Task)):
        if not task.done():
            print(f"task {task.get_name()}, cancelled {task.cancelling()} times", file=sys.stderr)
            print(*(f"  {where}" for where in chain(task)), sep="\n", file=sys.stderr, flush=True)
    faulthandler.dump_traceback(file=sys.stderr, all_threads=True)
    os._exit(1)


if hasattr(signal, "SIGUSR1"):
    signal.signal(signal.SIGUSR1, stands)
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

"""Being told by the kernel that a file was written: inotify, by ctypes, since Python has no binding for it.

Only Linux has it. Elsewhere, and where the user's inotify instances are used up, `watch` returns None and the caller
polls as it would have to anyway.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import sys
from collections.abc import Callable
from pathlib import Path

IN_MODIFY = 0x2
IN_NONBLOCK, IN_CLOEXEC = os.O_NONBLOCK, getattr(os, "O_CLOEXEC", 0)


class FileWatch:
    """Calls back in the running loop after writes; many writes may be one call. Close it in the same loop."""

    def __init__(self, fd: int, told: Callable[[], None]) -> None:
        self._fd = fd
        self._told = told
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(fd, self._read)

    def _read(self) -> None:
        try:
            os.read(self._fd, 65_536)  # what happened is not asked: something did
        except BlockingIOError:
            return
        self._told()

    def close(self) -> None:
        self._loop.remove_reader(self._fd)
        os.close(self._fd)


def watch(path: Path, told: Callable[[], None]) -> FileWatch | None:
    """Watch a file that exists; None when it cannot be watched."""
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None, use_errno=True)
    fd = libc.inotify_init1(IN_NONBLOCK | IN_CLOEXEC)
    if fd < 0:
        return None
    if libc.inotify_add_watch(fd, os.fsencode(path), IN_MODIFY) < 0:
        os.close(fd)
        return None
    try:
        return FileWatch(fd, told)
    except NotImplementedError:  # a loop without add_reader
        os.close(fd)
        return None

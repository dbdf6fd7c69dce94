"""Copies of this process that do one thing and end with it. For a command that has no threads yet.

Not `multiprocessing`: that would run the main module of whoever calls us once more in each child. A copy has at once
what was imported, and reads what it is to do from a pipe: it ends when that does, so that a parent that is killed
leaves nothing behind.
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import IO

Serve = Callable[[IO[bytes], IO[bytes]], None]
"""What a copy does: reads from its parent, writes to it, returns when there is nothing more to read."""


def may_fork() -> bool:
    """Whether a copy of this process is safe: it has no threads, whose locks a copy would hold for ever, and the
    system's own libraries allow it (macOS's do not).
    """
    return sys.platform == "linux" and threading.active_count() == 1


class Forked:
    """A copy of this process that serves: what is asked of a `subprocess.Popen`."""

    def __init__(self, serve: Serve) -> None:
        (source, into), (out, answers) = os.pipe(), os.pipe()
        self.pid = os.fork()
        if not self.pid:
            # Whatever happens, what the parent would do when it is done (flush, close, clean up) is not ours to do.
            status = 1
            try:
                _keep_open(0, 1, 2, source, answers)
                settle()
                serve(os.fdopen(source, "rb"), os.fdopen(answers, "wb"))
                status = 0
            finally:
                os._exit(status)
        os.close(source)
        os.close(answers)
        self.stdin: IO[bytes] = os.fdopen(into, "wb")
        self.stdout: IO[bytes] = os.fdopen(out, "rb")
        self._status: int | None = None

    def poll(self) -> int | None:
        return self._wait(os.WNOHANG)

    def wait(self) -> int | None:
        return self._wait(0)

    def kill(self) -> None:
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)

    def _wait(self, how: int) -> int | None:
        if self._status is None:
            try:
                pid, status = os.waitpid(self.pid, how)
            except ChildProcessError:  # whoever started us ignores SIGCHLD: the system has buried it, and tells nothing
                pid, status = self.pid, 0
            self._status = os.waitstatus_to_exitcode(status) if pid else None
        return self._status


def _keep_open(*wanted: int) -> None:
    """Nothing else: whoever waits for a lock, for the end of a pipe or for a port does not wait for a child of ours."""
    for entry in list(Path("/proc/self/fd").iterdir()):
        if (fd := int(entry.name)) not in wanted:
            with contextlib.suppress(OSError):  # the one that read the list is closed already
                os.close(fd)


def settle() -> None:
    """How a child works: it leaves Ctrl-C to its parent, looks for garbage seldom, and prints nothing by chance."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles it, and closes our input
    gc.freeze()
    gc.set_threshold(100_000)  # what parsing leaves behind is freed by counting
    gc.enable()
    os.dup2(2, 1)  # a stray print must not end up between two answers, or in what the command prints


def widen(pipe: IO[bytes] | None) -> None:
    """Let a pipe hold a megabyte: at 64 KB the two processes wake each other for every second message."""
    if pipe is not None and sys.platform == "linux":
        import fcntl

        with contextlib.suppress(OSError):  # an administrator may allow less
            fcntl.fcntl(pipe.fileno(), fcntl.F_SETPIPE_SZ, 2**20)

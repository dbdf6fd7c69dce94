"""A socket that the event loop reads: whoever waits for a server that is silent needs no thread for it.

From the first IDLE until the connection is needed for something longer the loop has the socket: it hears news, ends
IDLE, asks for what came and idles again. The thread that speaks otherwise costs two walks between threads a command.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Callable
from typing import Any

from .translate import Lost
from .wire import QUIET, Wire

_LITERAL = re.compile(rb"\{(\d{1,19})\}\Z")
LONGEST = 256 * 1024
"""Bytes of one line, and of a literal where nobody asked for any; nothing that is worth waiting for is longer."""
AT_ONCE, OF_MAIL = 16 * 2**10, 64 * 2**10
"""Bytes of one read: of lines, and where mail is asked for."""

Hear = Callable[[bytes], bool]
"""Gets a line without its end; whether it wants to hear the next one too."""


class Ear:
    """What a server says, line by line. Everything here runs in the event loop and returns at once."""

    def __init__(self, wire: Wire, at_hand: bytes, *, where: str) -> None:
        self.where = where
        self.lost: Lost | None = None
        self._sock: Any = wire.sock
        self._loop = asyncio.get_running_loop()
        self._event = asyncio.Event()
        self._buffer = bytearray(at_hand)
        self._at = 0
        """How much of the buffer was heard."""
        self._sought = 0
        """Up to where it holds no end of a line."""
        self._skip = 0
        """Bytes of a literal that are still to come."""
        self._hear: Hear | None = None
        self._keep = False
        self._budget, self._longest = QUIET, LONGEST
        self._loop.add_reader(self._sock.fileno(), self._readable)
        self._watching = True
        # What TLS decrypted while a thread read is nothing that the kernel tells of.
        self._readable()

    def listen(self, hear: Hear | None, *, budget: int = QUIET, keep: bool = False) -> None:
        """Who hears the lines from now on; `None` leaves them where they are. `keep`: for `taken`, with literals."""
        self._hear, self._keep, self._budget = hear, keep, budget
        self._longest = budget if keep else LONGEST
        self._listen()

    @property
    def complete(self) -> bool:
        """Whether the line came after which nobody wanted to hear more."""
        return self._hear is None

    def taken(self) -> bytes:
        """What was heard since `listen(…, keep=True)`."""
        said = bytes(self._buffer[: self._at])
        self._forget()
        return said

    def say(self, data: bytes) -> None:
        """A few bytes, at once."""
        try:
            if self._sock.send(data) != len(data):
                self.end("it takes no more bytes")
        except OSError as exc:
            self.end(str(exc) or type(exc).__name__)

    async def until(self, met: Callable[[], bool]) -> None:
        """Wait.

        Raises:
            Unreachable: the connection is gone.
        """
        while not met():
            if self.lost is not None:
                raise self.lost
            self._event.clear()
            await self._event.wait()

    def nudge(self) -> None:
        """Something that is waited for may have come about."""
        self._event.set()

    def end(self, reason: str) -> None:
        """The connection is of no use any more."""
        self._stop()
        if self.lost is None:
            self.lost = Lost(f"IMAP {self.where}: connection lost while waiting for new mail: {reason}")
        self._event.set()

    def release(self) -> bytes:
        """Stop watching the socket; what was read and not heard."""
        self._stop()
        rest = bytes(self._buffer[self._at :])
        if self._skip:  # nobody could tell a line from the rest of a literal
            self.end("it speaks out of turn")
        return rest

    def _stop(self) -> None:
        if self._watching:
            self._watching = False
            self._loop.remove_reader(self._sock.fileno())

    def _readable(self) -> None:
        """One read: who never stops talking must not keep the loop from everybody else."""
        try:
            data = self._sock.recv(OF_MAIL if self._keep else AT_ONCE)
        except (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return
        except OSError as exc:
            self.end(str(exc) or type(exc).__name__)
            return
        self._budget -= len(data)
        if not data:
            self.end("the server closed the connection")
        elif self._budget < 0:
            self.end("the server sends more than anybody asked for")
        else:
            self._buffer += data
            self._listen()
            # TLS may hold more, decrypted already: the kernel says nothing of that.
            if isinstance(self._sock, ssl.SSLSocket) and self._sock.pending():
                self._loop.call_soon(self._read_on)

    def _read_on(self) -> None:
        if self._watching:
            self._readable()

    def _listen(self) -> None:
        """Hand over the lines that are whole."""
        buffer = self._buffer
        while self._hear is not None:
            if self._skip:
                step = min(self._skip, len(buffer) - self._at)
                self._skip -= step
                self._at += step
                if self._skip:
                    break
            end = buffer.find(b"\n", max(self._at, self._sought))
            if end < 0:
                self._sought = len(buffer)
                break
            line = bytes(buffer[self._at : end]).rstrip(b"\r")
            self._at = end + 1
            if literal := _LITERAL.search(line):
                self._skip = int(literal[1])
            goes_on = self._hear(line)
            self._event.set()
            if self._skip > self._longest:
                self.end("the server sends more than anybody asked for")
                break
            if not goes_on:
                self._hear = None
        if not self._keep:
            self._forget()
        if len(buffer) - self._at > LONGEST and not self._skip:
            self.end("the server sends a line without an end")

    def _forget(self) -> None:
        del self._buffer[: self._at]
        self._at = self._sought = 0

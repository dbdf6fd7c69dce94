"""IDLE watched by the event loop: an idle mailbox costs a socket, not a thread (RFC 2177).

IMAPClient's own `idle_check` misses what came in one segment with `+ idling`, breaks on lines that are split, and
spins when the server has gone. Here the thread starts IDLE and takes what is buffered; from then on the loop reads
the socket itself, until DONE is answered and the connection goes back to the thread.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from typing import Any

from .doors import tidy
from .translate import IdleRefused, Lost
from .wire import QUIET, Wire

_NEWS = re.compile(rb"\* (?:(\d{1,10}) (EXISTS|EXPUNGE|FETCH)|VANISHED)\b", re.IGNORECASE)
_LITERAL = re.compile(rb"\{(\d{1,19})\}\Z")
LONGEST = 256 * 1024
"""Bytes of one line or literal during IDLE; nothing that is worth waiting for is longer."""


def begin(wire: Wire) -> tuple[bytes, bytes, bool]:
    """In the worker thread: send IDLE, wait for `+`, and take what is buffered: `(tag, bytes, news already)`."""
    # Told at the end of an earlier command, and so not told again.
    news = "EXISTS" in wire.untagged_responses
    wire.untagged_responses.clear()
    tag: bytes = wire._command("IDLE")  # noqa: SLF001
    while wire._get_response() is not None:  # noqa: SLF001
        done = wire.tagged_commands.get(tag)
        if done:
            wire.tagged_commands.pop(tag)
            raise IdleRefused(repr(done))
    news = news or any(name in wire.untagged_responses for name in ("EXISTS", "EXPUNGE", "FETCH", "VANISHED"))
    wire.untagged_responses.clear()
    wire.sock.setblocking(False)
    try:
        at_hand = wire.stream.peek(1)
        at_hand = wire.stream.read(len(at_hand)) if at_hand else b""
    except (BlockingIOError, ssl.SSLWantReadError):
        at_hand = b""
    wire.lay_aside()
    tidy()
    return tag, at_hand or b"", news


class Idle:
    """One IDLE, from `+ idling` to the answer to DONE. Everything here runs in the event loop and returns at once."""

    def __init__(self, wire: Wire, tag: bytes, at_hand: bytes, *, where: str, exists: int | None = None) -> None:
        self.where = where
        self._wire = wire
        self._sock: Any = wire.sock
        self._tag = tag
        self._buffer = b""
        self._skip = 0
        self._budget = QUIET
        self._loop = asyncio.get_running_loop()
        self._event = asyncio.Event()
        self._done = False
        self._ending = False
        self.news = False
        self.exists = exists
        """How many messages there are, as far as that can be known."""
        self.arrived: int | None = 0 if exists is not None else None
        self.lost: Lost | None = None
        self._loop.add_reader(self._sock.fileno(), self._readable)
        self._watching = True
        self._take(at_hand)
        # What TLS decrypted while the thread read is nothing that the kernel tells of.
        self._readable()

    def _readable(self) -> None:
        """One read: who never stops talking must not keep the loop from everybody else."""
        try:
            data = self._sock.recv(16384)
        except (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return
        except OSError as exc:
            self._end(str(exc) or type(exc).__name__)
            return
        self._budget -= len(data)
        if not data:
            self._end("the server closed the connection")
        elif self._budget < 0:
            self._end("the server sends more than anybody asked for")
        else:
            self._take(data)
            # TLS may hold more, decrypted already: the kernel says nothing of that.
            if isinstance(self._sock, ssl.SSLSocket) and self._sock.pending():
                self._loop.call_soon(self._read_on)

    def _read_on(self) -> None:
        if self._watching:
            self._readable()

    def _take(self, data: bytes) -> None:
        if self._skip:
            self._skip, data = max(0, self._skip - len(data)), data[self._skip :]
        buffer, at = self._buffer + data, 0
        while (end := buffer.find(b"\n", at)) >= 0:
            line, at = buffer[at:end].rstrip(b"\r"), end + 1
            self._hear(line)
            if literal := _LITERAL.search(line):
                size = int(literal[1])
                if size > LONGEST:
                    self._end("the server sends more than anybody asked for")
                    break
                self._skip = max(0, size - (len(buffer) - at))
                at += size
        self._buffer = buffer[at:]
        if len(self._buffer) > LONGEST:
            self._end("the server sends a line without an end")

    def _hear(self, line: bytes) -> None:
        if line.startswith(self._tag):
            self._done = True
            self._event.set()
        elif line[:5].upper() == b"* BYE":
            self._end(f"the server said {line[2:200].decode('ascii', 'replace')!r}")
        elif news := _NEWS.match(line):
            self._count(news)
            self.news = True
            self._event.set()

    def _count(self, news: re.Match[bytes]) -> None:
        kind = (news[2] or b"VANISHED").upper()
        if kind == b"EXISTS":
            if self.exists is not None and self.arrived is not None:
                self.arrived += max(0, int(news[1]) - self.exists)
            self.exists = int(news[1])
        elif kind == b"EXPUNGE" and self.exists is not None:
            self.exists -= 1
        elif kind != b"FETCH":  # how many of a VANISHED's uids were there, only the server knows
            self.exists = self.arrived = None

    def _end(self, reason: str) -> None:
        self.release()
        if self.lost is None:
            self.lost = Lost(f"IMAP {self.where}: connection lost while waiting for new mail: {reason}")
        self._event.set()

    async def wait(self, timeout: float) -> bool:
        """Whether there is news; False when `timeout` seconds passed without.

        Raises:
            Unreachable: the connection is gone.
        """
        if not (self.news or self.lost or self._done):
            self._event.clear()
            try:
                async with asyncio.timeout(timeout):
                    await self._event.wait()
            except TimeoutError:
                return False
        if self.lost is not None:
            raise self.lost
        if self._ending:
            return True
        if self._done:
            self._end("the server ended IDLE by itself")
            assert self.lost is not None
            raise self.lost
        news, self.news = self.news, False
        return news

    def wake(self) -> None:
        """End a `wait` as if there were news."""
        self.news = True
        self._event.set()

    async def finish(self, timeout: float) -> bool:
        """Send DONE and wait for its answer. Whether there was news that `wait` has not told."""
        self._raise_if_lost()
        self._ending = True
        try:
            if self._sock.send(b"DONE\r\n") != 6:
                self._end("it takes no more bytes")
        except OSError as exc:
            self._end(str(exc) or type(exc).__name__)
        try:
            async with asyncio.timeout(timeout):
                while not self._done and self.lost is None:
                    self._event.clear()
                    await self._event.wait()
        except TimeoutError:
            self._end("no answer to DONE")
        if self._buffer or self._skip:
            self._end("it speaks out of turn")
        self.release()
        self._raise_if_lost()
        return self.news

    def _raise_if_lost(self) -> None:
        if self.lost is not None:
            raise self.lost

    def release(self) -> None:
        """Stop watching the socket."""
        if self._watching:
            self._watching = False
            self._loop.remove_reader(self._sock.fileno())

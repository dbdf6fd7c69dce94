"""IDLE watched by the event loop: an idle mailbox costs a socket, not a thread (RFC 2177).

IMAPClient's own `idle_check` misses what came in one segment with `+ idling`, breaks on lines that are split, and
spins when the server has gone. Here the thread starts the first IDLE and takes what is buffered; from then on the loop
reads the socket itself, until the connection goes back to the thread.
"""

from __future__ import annotations

import asyncio
import re
import ssl

from .doors import tidy
from .ear import Ear
from .translate import IdleRefused
from .wire import Wire

_NEWS = re.compile(rb"\* (?:(\d{1,10}) (EXISTS|EXPUNGE|FETCH)|VANISHED)\b", re.IGNORECASE)


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


def say(wire: Wire) -> tuple[bytes, bool]:
    """In the event loop, where it has the socket: send IDLE; `(tag, news already)`."""
    news = "EXISTS" in wire.untagged_responses
    wire.untagged_responses.clear()
    return bytes(wire._command("IDLE")), news  # noqa: SLF001


class Idle:
    """One IDLE, to the answer to DONE. Everything here runs in the event loop and returns at once."""

    def __init__(self, ear: Ear, tag: bytes, *, begun: bool, exists: int | None = None) -> None:
        """
        Args:
            begun: `+` was heard; else `begin` waits for it.
        """
        self._ear = ear
        self._tag = tag + b" "
        self._begun = begun
        self._done = b""
        self._ending = False
        self.news = False
        self.exists = exists
        """How many messages there are, as far as that can be known."""
        self.arrived: int | None = 0 if exists is not None else None
        ear.listen(self._hear)

    async def begin(self, timeout: float) -> None:
        """Until the server idles.

        Raises:
            IdleRefused: it will not.
            TimeoutError, Unreachable
        """
        async with asyncio.timeout(timeout):
            await self._ear.until(lambda: self._begun or bool(self._done))
        if not self._begun:
            raise IdleRefused(self._done.decode("ascii", "replace"))

    async def wait(self, timeout: float) -> bool:
        """Whether there is news; False when `timeout` seconds passed without.

        Raises:
            Unreachable: the connection is gone.
        """
        if not self._over:
            try:
                async with asyncio.timeout(timeout):
                    await self._ear.until(lambda: self._over)
            except TimeoutError:
                return False
        if self._ear.lost is not None:
            raise self._ear.lost
        if self._ending:
            return True
        if self._done:
            self._ear.end("the server ended IDLE by itself")
            assert self._ear.lost is not None
            raise self._ear.lost
        news, self.news = self.news, False
        return news

    @property
    def _over(self) -> bool:
        return self.news or bool(self._done) or self._ear.lost is not None

    def wake(self) -> None:
        """End a `wait` as if there were news."""
        self.news = True
        self._ear.nudge()

    async def finish(self, timeout: float) -> bool:
        """Send DONE and wait for its answer. Whether there was news that `wait` has not told.

        Raises:
            Unreachable: the connection is gone.
        """
        ear, self._ending = self._ear, True
        if ear.lost is None:
            ear.say(b"DONE\r\n")
        try:
            async with asyncio.timeout(timeout):
                await ear.until(lambda: bool(self._done))
        except TimeoutError:
            ear.end("no answer to DONE")
        if ear.lost is not None:
            raise ear.lost
        return self.news

    def _hear(self, line: bytes) -> bool:
        if line.startswith(self._tag):
            self._done = line[len(self._tag) :] or b"done"
            return False
        if line.startswith(b"+"):
            self._begun = True
        elif line[:5].upper() == b"* BYE":
            self._ear.end(f"the server said {line[2:200].decode('ascii', 'replace')!r}")
        elif news := _NEWS.match(line):
            self._count(news)
            self.news = True
        return True

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

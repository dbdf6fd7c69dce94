"""One SMTP connection after login: commands and replies as lines, several commands at once where the server allows."""

from __future__ import annotations

import asyncio
import re
import select
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

_BARE_END = re.compile(rb"\r(?!\n)|(?<!\r)\n")
_REPLY = re.compile(rb"[2-5]\d\d[ \r\n-]")
_MAX_REPLY = 32_768
AT_ONCE = 16_384
"""Bytes that go in one piece with the final dot: a socket with nothing in it takes so many without a wait."""
_WRAPPING = 1024
"""Bytes that TLS adds at most to commands that go behind a dot."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds for each step, never less than RFC 5321 4.5.3.2 asks for once the mail transaction has begun."""

    command: float = 300.0
    """MAIL and RCPT."""
    data: float = 120.0
    """The 354 after DATA."""
    block: float = 180.0
    """Each block of the body."""
    dot: float = 600.0
    """The reply to the final dot. Trap: a client that waits less sends mail twice that was accepted once."""


class Lost(Exception):
    """No usable reply: the connection closed, the time ran out, or what came is no SMTP."""


class _Replies(asyncio.Protocol):
    """What the server says, a reply at a time.

    asyncio's streams take a coroutine, a future and two timers for each line; three replies that come together, as they
    do with PIPELINING, are one wake-up here.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        self.transport = transport
        self.ended: Lost | None = None
        """Why nothing more will come."""
        self._loop = asyncio.get_running_loop()
        self._partial = b""
        self._lines: list[bytes] = []
        """Of a reply that goes on."""
        self._ready: deque[tuple[int, str]] = deque()
        self._waiter: asyncio.Future[None] | None = None

    @property
    def silent(self) -> bool:
        """Whether the server is there and has said nothing that nobody asked for."""
        return self.ended is None and not (self._ready or self._lines or self._partial)

    async def next(self, timeout: float) -> tuple[int, str]:
        if not await self.there(timeout):
            raise self.ended or Lost(f"no reply within {timeout:.0f} s")
        return self._ready.popleft()

    def take(self) -> tuple[int, str] | None:
        return self._ready.popleft() if self._ready else None

    async def there(self, timeout: float) -> bool:
        """Whether a reply came in that time."""
        return bool(self._ready) or await self._until(lambda: bool(self._ready), timeout)

    async def written(self, timeout: float) -> None:
        """Until the kernel has taken everything."""
        if self._full() and not await self._until(lambda: not self._full(), timeout):
            raise self.ended or Lost(f"the server took no data for {timeout:.0f} s")
        self.alive()

    def alive(self) -> None:
        """Raise Lost when the connection is over, and nothing that the server said remains to be read."""
        if not self._ready and (self.ended is not None or self.transport.is_closing()):
            raise self.ended or Lost("the connection was lost: closed by us")

    async def _until(self, done: Callable[[], bool], timeout: float) -> bool:
        """Wait; False when the time is up or nothing more will come."""
        end = self._loop.time() + timeout
        while not done() and self.ended is None and self._loop.time() < end:
            self._waiter = self._loop.create_future()
            timer = self._loop.call_at(end, self._wake)
            try:
                await self._waiter
            finally:
                self._waiter = None
                timer.cancel()
        return done()

    def _full(self) -> bool:
        # Asked and not remembered: with a limit of 0, asyncio's TLS says "pause" at every second empty buffer.
        return self.transport.get_write_buffer_size() > 0

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # -- what asyncio calls

    def data_received(self, data: bytes) -> None:
        if self.ended is not None:
            return
        *lines, self._partial = (self._partial + data).split(b"\n")
        for line in lines:
            self._take(line + b"\n")
        if len(self._partial) + sum(map(len, self._lines)) > _MAX_REPLY:
            self._end(Lost(f"the server sent no SMTP reply: {printable(self._partial[:80])[:80]!r}"))
        self._wake()

    def _take(self, line: bytes) -> None:
        if self.ended is not None:
            return
        if not _REPLY.match(line):
            self._end(Lost(f"the server sent no SMTP reply: {printable(line[:200])[:80]!r}"))
            return
        if line[3:4] == b"-":
            self._lines.append(line)
            return
        text = printable(line[4:])
        if self._lines:
            text = " ".join(filter(None, (*(printable(one[4:]) for one in self._lines), text)))
            self._lines = []
        self._ready.append((int(line[:3]), text))

    def eof_received(self) -> bool:
        self._end(Lost("the connection was lost: closed by the server"))
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(Lost(f"the connection was lost: {reason(exc) if exc is not None else 'closed by the server'}"))

    def resume_writing(self) -> None:
        self._wake()

    def _end(self, why: Lost) -> None:
        self.ended = self.ended or why
        self._wake()


class Session:
    """One connection after login: a stream of lines, and what the server can do."""

    def __init__(self, transport: asyncio.Transport, extensions: dict[str, str], timeouts: Timeouts) -> None:
        # aiosmtplib pairs one command with one reply; PIPELINING needs them apart (RFC 2920).
        self._transport, self._replies = transport, _Replies(transport)
        transport.set_protocol(self._replies)
        # written() returns when the kernel has everything: TLS pauses at its limit, a socket above it.
        transport.set_write_buffer_limits(high=0 if transport.get_extra_info("sslcontext") is None else 1, low=0)
        self.extensions = extensions
        self.timeouts = timeouts
        self.at_once = AT_ONCE
        self.used = 0
        self.dirty = False
        """A transaction was refused and not yet reset."""
        self.idle_since = 0.0

    def offers(self, extension: str) -> bool:
        return extension in self.extensions

    @property
    def usable(self) -> bool:
        """Whether the server is still there and has said nothing unasked, such as 421 before it hangs up."""
        return self._replies.silent and not self._transport.is_closing()

    async def ask(self, *commands: str, timeout: float) -> list[tuple[int, str]]:
        """Send commands, all at once where PIPELINING is offered; their replies in order.

        Without PIPELINING a refusal ends the sequence: the caller sees fewer replies than commands.
        """
        if self.offers("pipelining"):
            await self.write(together(commands), timeout)
            return await self.replies(len(commands), timeout)
        replies: list[tuple[int, str]] = []
        for command in commands:
            await self.write(f"{command}\r\n".encode(), timeout)
            replies.append(await self.reply(timeout))
            if replies[-1][0] == 421 or (replies[-1][0] >= 400 and not command.startswith("RCPT")):
                break
        return replies

    async def replies(self, count: int, timeout: float) -> list[tuple[int, str]]:
        """The replies to commands that went together; fewer when the last one is a refusal that ends the session."""
        replies: list[tuple[int, str]] = []
        try:
            while len(replies) < count:
                replies.append(await self.reply(timeout))  # each has its own time
        except Lost:
            if not replies or replies[-1][0] < 400:
                raise
        return replies

    async def reply(self, timeout: float) -> tuple[int, str]:
        """One reply, all its lines. Raises Lost for anything that is not one."""
        return await self._replies.next(timeout)

    def said(self) -> tuple[int, str] | None:
        """A reply that has come already."""
        return self._replies.take()

    def check(self) -> None:
        """Raise Lost when the connection is over already."""
        self._replies.alive()

    async def answered(self, timeout: float) -> bool:
        """Whether a reply, or the end of the connection, came in that time."""
        return await self._replies.there(timeout) or self._replies.ended is not None

    async def write(self, data: bytes, timeout: float) -> None:
        self._transport.write(data)
        await self._replies.written(timeout)

    async def write_body(self, data: bytes) -> None:
        """Everything but the final dot, and not a byte of it left in our own buffers."""
        for start in range(0, len(data), 65_536):
            await self.write(data[start : start + 65_536], self.timeouts.block)
        await self._room(self.timeouts.block)

    async def _room(self, timeout: float) -> None:
        """Until the kernel has everything, and takes more. Nobody tells when that is, so it is asked now and then."""
        loop = asyncio.get_running_loop()
        end = loop.time() + timeout
        while not self._takes_more():
            if loop.time() >= end:
                raise Lost(f"the server took no data for {timeout:.0f} s")
            await asyncio.sleep(0.01)
            self.check()

    def _takes_more(self) -> bool:
        sock = self._transport.get_extra_info("socket")
        if self._left() or self._transport.is_closing() or sock is None or not hasattr(select, "poll"):
            return not self._left()
        poll = select.poll()
        poll.register(sock.fileno(), select.POLLOUT)
        return bool(poll.poll(0))

    def _left(self) -> int:
        """Bytes that the kernel has not taken."""
        beneath = _beneath(self._transport)
        return self._transport.get_write_buffer_size() + (beneath.get_write_buffer_size() if beneath is not None else 0)

    def finish(self, last: bytes, along: bytes) -> bool:
        """Write what ends with the final dot, and commands after it; False when the kernel did not take the dot now.

        Then it never gets it: who waited would let the dot go at a time that nobody checked.

        Raises:
            Lost: it may have taken the dot.
        """
        self._transport.write(last + along)
        # TLS that the server has ended ignores what is written, for a while before it says that it is closing.
        broken = self._replies.ended is not None or self._transport.is_closing()
        left, tls = self._left(), _beneath(self._transport) is not None
        if not broken and left <= (0 if tls else len(along)):
            return True
        self.at_once = 0
        self.close()
        if tls and not broken and left <= len(along) + _WRAPPING:  # perhaps only what is behind the dot
            raise Lost("the connection took no more, and whether it took the dot is not known")
        return False

    def close(self) -> None:
        """At once, without QUIT: the peer sees a transaction without a dot and forgets it."""
        self._transport.abort()

    async def quit(self) -> None:
        try:
            await self.write(b"QUIT\r\n", 1.0)
            await self.reply(1.0)
        except Lost:
            pass  # it is being closed anyway
        finally:
            self.close()


def _beneath(transport: Any) -> Any:
    """What asyncio's TLS writes to, where what the kernel does not take lies; None for a plain connection.

    Nothing public leads there.
    """
    return getattr(getattr(transport, "_ssl_protocol", None), "_transport", None)


def together(commands: Iterable[str]) -> bytes:
    """Commands as they go over the line, one behind the other."""
    return "".join([f"{c}\r\n" for c in commands]).encode()


def stuffed(raw: bytes) -> bytes:
    """CRLF line ends only, and dots doubled: nothing in the body can end it (RFC 5321 4.5.2)."""
    ends = raw.count(b"\r\n")
    if ends != raw.count(b"\n") or ends != raw.count(b"\r"):
        raw = _BARE_END.sub(b"\r\n", raw)
    if not raw.endswith(b"\r\n"):
        raw += b"\r\n"
    return (b"." if raw.startswith(b".") else b"") + raw.replace(b"\r\n.", b"\r\n..")


def printable(text: bytes | str) -> str:
    """What a server said, on one line, without anything that moves a terminal's cursor."""
    if isinstance(text, bytes):
        text = text.decode("utf-8", "replace").rstrip("\r\n")
    if not text.isprintable():
        text = "".join(c if c.isprintable() else " " for c in text)
    return " ".join(text.split())


def reason(exc: BaseException) -> str:
    return printable(getattr(exc, "strerror", None) or str(exc) or type(exc).__name__)[:200]

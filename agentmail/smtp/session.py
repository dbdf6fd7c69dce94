"""One SMTP connection after login: commands and replies as lines, several commands at once where the server allows."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass

_BARE_END = re.compile(rb"\r(?!\n)|(?<!\r)\n")
_LEADING_DOT = re.compile(rb"(?m)^\.")
_MAX_REPLY = 32_768


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


class Session:
    """One connection after login: a stream of lines, and what the server can do."""

    def __init__(self, transport: asyncio.Transport, extensions: dict[str, str], timeouts: Timeouts) -> None:
        loop = asyncio.get_running_loop()
        self.reader = asyncio.StreamReader(limit=_MAX_REPLY, loop=loop)
        protocol = asyncio.StreamReaderProtocol(self.reader, loop=loop)
        # aiosmtplib pairs one command with one reply; PIPELINING needs them apart (RFC 2920).
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        transport.set_write_buffer_limits(high=0)  # drain() returns when the kernel has everything
        self.writer = asyncio.StreamWriter(transport, protocol, self.reader, loop)
        self.extensions = extensions
        self.timeouts = timeouts
        self.used = 0
        self.dirty = False
        """A transaction was refused and not yet reset."""
        self.idle_since = 0.0

    def offers(self, extension: str) -> bool:
        return extension in self.extensions

    @property
    def usable(self) -> bool:
        """Whether the server is still there and has said nothing unasked, such as 421 before it hangs up."""
        return not (self.reader.at_eof() or self.writer.is_closing() or self.reader._buffer)  # type: ignore[attr-defined] # noqa: SLF001

    async def ask(self, *commands: str, timeout: float) -> list[tuple[int, str]]:
        """Send commands, all at once where PIPELINING is offered; their replies in order.

        Without PIPELINING a refusal ends the sequence: the caller sees fewer replies than commands.
        """
        if self.offers("pipelining"):
            await self.write("".join(f"{c}\r\n" for c in commands).encode(), timeout)
            return await self._replies(len(commands), timeout)
        replies: list[tuple[int, str]] = []
        for command in commands:
            await self.write(f"{command}\r\n".encode(), timeout)
            replies.append(await self.reply(timeout))
            if replies[-1][0] == 421 or (replies[-1][0] >= 400 and not command.startswith("RCPT")):
                break
        return replies

    async def _replies(self, count: int, timeout: float) -> list[tuple[int, str]]:
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
        lines: list[str] = []
        size = 0
        try:
            async with asyncio.timeout(timeout):
                while True:
                    line = await self.reader.readuntil(b"\n")
                    size += len(line)
                    if not re.match(rb"[2-5]\d\d[ \r\n-]", line) or size > _MAX_REPLY:
                        raise Lost(f"the server sent no SMTP reply: {printable(line)[:80]!r}")
                    lines.append(printable(line[4:]))
                    if line[3:4] != b"-":
                        return int(line[:3]), " ".join(filter(None, lines))
        except TimeoutError:
            raise Lost(f"no reply within {timeout:.0f} s") from None
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, OSError) as exc:
            raise Lost(f"the connection was lost: {reason(exc)}") from exc

    async def write(self, data: bytes, timeout: float) -> None:
        try:
            self.writer.write(data)
            if not self.writer.transport.get_write_buffer_size() and not self.writer.is_closing():
                return  # the kernel has it all
            async with asyncio.timeout(timeout):
                await self.writer.drain()
        except TimeoutError:
            raise Lost(f"the server took no data for {timeout:.0f} s") from None
        except OSError as exc:
            raise Lost(f"the connection was lost: {reason(exc)}") from exc

    async def write_body(self, data: bytes) -> None:
        """Everything but the final dot, and not a byte of it left in our own buffers."""
        for start in range(0, len(data), 65_536):
            await self.write(data[start : start + 65_536], self.timeouts.block)

    def close(self) -> None:
        """At once, without QUIT: the peer sees a transaction without a dot and forgets it."""
        self.writer.transport.abort()

    async def quit(self) -> None:
        try:
            async with asyncio.timeout(1.0):
                self.writer.write(b"QUIT\r\n")
                await self.reader.readuntil(b"\n")
        except (TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # it is being closed anyway
        finally:
            self.close()


def stuffed(raw: bytes) -> bytes:
    """CRLF line ends only, and dots doubled: nothing in the body can end it (RFC 5321 4.5.2)."""
    if _BARE_END.search(raw):
        raw = _BARE_END.sub(b"\r\n", raw)
    if not raw.endswith(b"\r\n"):
        raw += b"\r\n"
    return _LEADING_DOT.sub(b"..", raw)


def printable(text: bytes | str) -> str:
    """What a server said, on one line, without anything that moves a terminal's cursor."""
    if isinstance(text, bytes):
        text = text.decode("utf-8", "replace")
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def reason(exc: BaseException) -> str:
    if isinstance(exc, asyncio.IncompleteReadError):
        return "closed by the server"
    return printable(getattr(exc, "strerror", None) or str(exc) or type(exc).__name__)[:200]

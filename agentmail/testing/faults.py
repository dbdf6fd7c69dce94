"""A TCP proxy that does to a connection what networks do: delay, cut, reset, swallow, refuse, drip.

```python
async with FaultProxy(account.imap_host, account.imap_port) as proxy:
    broken = proxy.in_front_of(account, "imap")
    proxy.cut_after(1000, "down")        # the next connection ends after 1000 bytes from the server
```

It sees bytes, not lines of a protocol: under TLS, count bytes; `cut_at` needs an account with `plain`.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from dataclasses import dataclass, field
from types import TracebackType
from typing import Literal, Self

from ..settings import Account
from ..unbroken import TaskGroup

Direction = Literal["up", "down"]
"""`up`: what the client says. `down`: what the server says."""


@dataclass(frozen=True, eq=False)
class _Cut:
    """A connection's end, once it is armed; each is used up by the first connection that meets it."""

    direction: Direction
    after: int | None
    at: bytes
    forward: bool
    reset: bool
    stalled: asyncio.Event | None = None
    """Set, and the connection left open in silence, instead of its end."""


@dataclass(eq=False)
class _Link:
    """One client, and our connection to the server on its behalf."""

    client: asyncio.StreamWriter
    server: asyncio.StreamWriter
    cut: bool = False
    passed: dict[Direction, int] = field(default_factory=lambda: {"up": 0, "down": 0})
    tail: dict[Direction, bytes] = field(default_factory=lambda: {"up": b"", "down": b""})


class FaultProxy:
    """A listening port on loopback that leads to `host:port`, with faults that can be changed at any time.

    Faults that last: `latency` (seconds for each chunk), `slice` (bytes a segment), `refuse` (accept, then reset),
    `stall()` (a half-open connection: nothing comes through), `down()` (nobody listens). Faults that happen once:
    `cut()`, `cut_after()`, `cut_at()`.
    """

    host = "127.0.0.1"

    def __init__(self, host: str, port: int) -> None:
        self.target = (host, port)
        self.port = 0
        """Known once it listens; it stays the same after `down()` and `up()`."""
        self.latency = 0.0
        self.slice = 0
        """At most so many bytes in one segment: 1 splits every line. 0 leaves them as they come."""
        self.refuse = False
        self.accepted = 0
        """How many connections there have been."""
        self.carried: dict[Direction, int] = {"up": 0, "down": 0}
        """Bytes of all connections, each way."""
        self._server: asyncio.Server | None = None
        self._links: set[_Link] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._cuts: list[_Cut] = []
        self._flowing: dict[Direction, asyncio.Event] = {"up": asyncio.Event(), "down": asyncio.Event()}
        self.flow()

    async def __aenter__(self) -> Self:
        await self.up()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.down()
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def in_front_of(self, account: Account, side: Literal["imap", "smtp"]) -> Account:
        """The same account, reached through this proxy."""
        return account.model_copy(update={f"{side}_host": self.host, f"{side}_port": self.port})

    # -- faults that last

    async def up(self) -> None:
        """Listen (again, on the same port)."""
        if self._server is None:
            self._server = await asyncio.start_server(self._accept, self.host, self.port)
            self.port = self._server.sockets[0].getsockname()[1]

    async def down(self) -> None:
        """Stop listening: a new connection is refused. Those that exist go on."""
        if self._server is not None:
            self._server.close()
            self._server = None

    def stall(self, direction: Direction | None = None) -> None:
        """Let nothing more through, and say nothing about it, until `flow()`."""
        for each in (direction,) if direction else self._flowing:
            self._flowing[each].clear()

    def flow(self) -> None:
        """The end of `stall()`: what was held back comes through."""
        for event in self._flowing.values():
            event.set()

    # -- faults that happen once

    def cut(self, *, reset: bool = True) -> None:
        """End every connection now: by RST, or politely by FIN."""
        for link in list(self._links):
            self._end(link, reset)

    def cut_after(self, count: int, direction: Direction = "down", *, reset: bool = True) -> None:
        """End a connection once `count` bytes have gone this way; the next one after that lives."""
        self._cuts.append(_Cut(direction, count, b"", True, reset))

    def cut_at(self, pattern: bytes, direction: Direction = "up", *, forward: bool = True, reset: bool = True) -> None:
        """End a connection when these bytes go by. `forward`: they still arrive, and only the answer is lost.

        `cut_at(b"\\r\\n.\\r\\n")` loses the answer to a whole message, which then is sent;
        `cut_at(b"\\r\\n.\\r\\n", forward=False)` loses its end, and it is not. To the client both look the same.
        """
        self._cuts.append(_Cut(direction, None, pattern, forward, reset))

    def stall_after(self, count: int, direction: Direction = "down") -> asyncio.Event:
        """`stall()` once `count` bytes of a connection have gone this way; the event says when that has happened."""
        stalled = asyncio.Event()
        self._cuts.append(_Cut(direction, count, b"", True, reset=False, stalled=stalled))
        return stalled

    # -- inside

    async def _accept(self, reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.accepted += 1
        link: _Link | None = None
        try:
            if self.refuse:
                return
            answers, server = await asyncio.open_connection(*self.target)
            self._links.add(link := _Link(client, server))
            async with TaskGroup() as group:
                group.create_task(self._pump(link, "up", reader, server))
                group.create_task(self._pump(link, "down", answers, client))
        except (OSError, ExceptionGroup):
            pass  # either end went away; the other is told below
        except asyncio.CancelledError:
            pass  # the proxy is closing; nobody waits for this task's result
        finally:
            self._tasks.discard(task)
            if link is None:
                _close(client, reset=True)
            else:
                self._links.discard(link)
                _close(link.client, reset=False)
                _close(link.server, reset=False)

    async def _pump(
        self, link: _Link, direction: Direction, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        while chunk := await reader.read(65536):
            if self.latency:
                await asyncio.sleep(self.latency)
            size = self.slice or len(chunk)
            for start in range(0, len(chunk), size):
                await self._flowing[direction].wait()
                if link.cut:
                    break  # read on, for nobody: closing with unread bytes would reset the server too
                part = chunk[start : start + size]
                cut, arrives = self._meets(link, direction, part)
                writer.write(arrives)
                await writer.drain()
                if cut is not None and cut.stalled is None:
                    self._end(link, cut.reset)
                    break
                if cut is not None and cut.stalled is not None:
                    self.stall(direction)
                    cut.stalled.set()
                    await self._flowing[direction].wait()
                    writer.write(part[len(arrives) :])
                    await writer.drain()
                if self.slice:
                    await asyncio.sleep(0.001)  # or the kernel would glue the segments together again
        if writer.can_write_eof():
            writer.write_eof()

    def _meets(self, link: _Link, direction: Direction, part: bytes) -> tuple[_Cut | None, bytes]:
        """Which fault falls into this part, if any, and how much of the part arrives."""
        before, tail = link.passed[direction], link.tail[direction]
        link.passed[direction] += len(part)
        self.carried[direction] += len(part)
        link.tail[direction] = (tail + part)[-64:]
        for cut in self._cuts:
            if cut.direction != direction:
                continue
            if cut.after is not None:
                allowed = cut.after - before
                if len(part) < allowed:
                    continue
            else:
                found = (tail + part).find(cut.at)
                if found < 0:
                    continue
                allowed = found - len(tail) + (len(cut.at) if cut.forward else 0)
            self._cuts.remove(cut)
            return cut, part[: max(0, allowed)]
        return None, part

    def _end(self, link: _Link, reset: bool) -> None:
        """The client sees a reset; the server sees an orderly end, and so keeps what it has been given."""
        link.cut = True
        self._links.discard(link)
        _close(link.client, reset=reset)
        if link.server.can_write_eof():
            link.server.write_eof()


def _close(writer: asyncio.StreamWriter, *, reset: bool) -> None:
    raw = writer.get_extra_info("socket")
    if reset and raw is not None and raw.fileno() >= 0:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # close() then sends RST
        writer.transport.abort()
    else:
        writer.close()

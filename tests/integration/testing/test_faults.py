"""Each fault is really that fault, seen from both ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from agentmail.settings import Account
from agentmail.testing import FaultProxy


class Echo:
    """Says back every line, and remembers how each connection ended."""

    def __init__(self) -> None:
        self.heard: list[bytes] = []
        self.ends: asyncio.Queue[str] = asyncio.Queue()

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                self.heard.append(line)
                writer.write(line.upper())
                await writer.drain()
            self.ends.put_nowait("end")
        except ConnectionError:
            self.ends.put_nowait("reset")
        finally:
            writer.close()


@pytest.fixture
async def echo() -> AsyncIterator[tuple[Echo, FaultProxy]]:
    handler = Echo()
    server = await asyncio.start_server(handler, "127.0.0.1", 0)
    async with asyncio.timeout(20), FaultProxy("127.0.0.1", server.sockets[0].getsockname()[1]) as proxy:
        yield handler, proxy
    server.close()


class Client:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def to(cls, proxy: FaultProxy) -> Client:
        return cls(*await asyncio.open_connection(proxy.host, proxy.port))

    async def ask(self, said: bytes) -> bytes:
        self.writer.write(said)
        return await self.reader.readline()

    async def rest(self) -> bytes:
        try:
            return await self.reader.read()
        finally:
            self.writer.close()


async def test_without_faults_it_is_not_there(echo: tuple[Echo, FaultProxy]) -> None:
    server, proxy = echo
    client = await Client.to(proxy)
    assert await client.ask(b"hello\n") == b"HELLO\n"
    client.writer.write_eof()
    assert await client.rest() == b""
    assert await server.ends.get() == "end"


@pytest.mark.parametrize("count", [0, 1, 5, 6, 7])
async def test_cut_after_so_many_bytes_once(echo: tuple[Echo, FaultProxy], count: int) -> None:
    _, proxy = echo
    proxy.cut_after(count, "down", reset=False)
    client = await Client.to(proxy)
    client.writer.write(b"hello\nworld\n")
    assert await client.rest() == b"HELLO\nWORLD\n"[:count]
    again = await Client.to(proxy)
    assert await again.ask(b"again\n") == b"AGAIN\n"
    again.writer.close()


async def test_a_reset_is_a_reset(echo: tuple[Echo, FaultProxy]) -> None:
    server, proxy = echo
    proxy.cut_after(8, "up")
    client = await Client.to(proxy)
    assert await client.ask(b"hello\n") == b"HELLO\n"
    client.writer.write(b"world\n")
    with pytest.raises(ConnectionResetError):
        await client.rest()
    assert await server.ends.get() == "end"
    assert server.heard == [b"hello\n", b"wo"]


@pytest.mark.parametrize("forward", [True, False])
@pytest.mark.parametrize("slice_", [0, 1])
async def test_cut_when_a_pattern_goes_by(echo: tuple[Echo, FaultProxy], forward: bool, slice_: int) -> None:
    """Also when it is split over segments; only what the server then has heard differs."""
    server, proxy = echo
    proxy.slice = slice_
    proxy.cut_at(b"\n.\n", forward=forward)
    client = await Client.to(proxy)
    client.writer.write(b"text\n.\nmore\n")
    with pytest.raises(ConnectionResetError):
        while await client.reader.readline():
            pass
    client.writer.close()
    assert await server.ends.get() == "end"
    whole = b"".join(server.heard)
    assert whole == b"text\n.\n" if forward else whole in {b"text", b"text\n."}


async def test_a_stalled_connection_is_silent_and_then_goes_on(echo: tuple[Echo, FaultProxy]) -> None:
    server, proxy = echo
    client = await Client.to(proxy)
    proxy.stall("down")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await client.ask(b"hello\n")
    assert server.heard == [b"hello\n"]
    proxy.flow()
    assert await client.reader.readline() == b"HELLO\n"
    client.writer.close()


async def test_it_can_stall_in_the_middle(echo: tuple[Echo, FaultProxy]) -> None:
    _, proxy = echo
    stalled = proxy.stall_after(8, "down")
    client = await Client.to(proxy)
    client.writer.write(b"hello\nworld\n")
    await stalled.wait()
    assert await client.reader.readexactly(8) == b"HELLO\nWO"
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await client.reader.read(1)
    proxy.flow()
    assert await client.ask(b"again\n") == b"RLD\n"
    assert await client.reader.readline() == b"AGAIN\n"
    client.writer.close()


async def test_refused_and_down_are_two_things(echo: tuple[Echo, FaultProxy]) -> None:
    _, proxy = echo
    proxy.refuse = True
    client = await Client.to(proxy)
    with pytest.raises(ConnectionResetError):
        await client.rest()
    await proxy.down()
    with pytest.raises(ConnectionRefusedError):
        await Client.to(proxy)
    proxy.refuse = False
    port = proxy.port
    await proxy.up()
    assert proxy.port == port
    client = await Client.to(proxy)
    assert await client.ask(b"hello\n") == b"HELLO\n"
    client.writer.close()


async def test_latency_and_slices(echo: tuple[Echo, FaultProxy]) -> None:
    _, proxy = echo
    proxy.latency, proxy.slice = 0.05, 1
    client = await Client.to(proxy)
    started = asyncio.get_running_loop().time()
    client.writer.write(b"hello\n")
    first = await client.reader.read(100)
    assert asyncio.get_running_loop().time() - started >= 0.1
    assert first + await client.reader.readline() == b"HELLO\n"
    assert len(first) < 6
    client.writer.close()


async def test_an_account_can_be_reached_through_it(echo: tuple[Echo, FaultProxy]) -> None:
    _, proxy = echo
    account = Account(address="a@b.c", imap_host="imap.b.c", smtp_host="smtp.b.c")
    through = proxy.in_front_of(account, "smtp")
    assert (through.imap_host, through.smtp_host, through.smtp_port) == ("imap.b.c", proxy.host, proxy.port)


async def test_closing_ends_what_still_runs() -> None:
    server = await asyncio.start_server(Echo(), "127.0.0.1", 0)
    tasks = asyncio.all_tasks()
    async with FaultProxy("127.0.0.1", server.sockets[0].getsockname()[1]) as proxy:
        client = await Client.to(proxy)
        await client.ask(b"hello\n")
        proxy.stall()
        client.writer.write(b"never\n")
    async with asyncio.timeout(5):
        try:
            await client.rest()
        except ConnectionError:
            pass
    server.close()
    for _ in range(3):
        await asyncio.sleep(0)
    assert asyncio.all_tasks() <= tasks

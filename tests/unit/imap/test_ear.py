"""What the event loop hears on a socket, however it is cut, and what it does not believe."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from agentmail.errors import Unreachable
from agentmail.imap.ear import LONGEST, Ear
from agentmail.imap.idle import Idle
from agentmail.imap.translate import IdleRefused

MAIL = b"* 1 FETCH (UID 1 BODY[]<0> {27}\r\nA1 OK done\r\n* 9 EXISTS\r\n)\r\n)\r\n"


class Heard:
    """A socket with an ear on it, and the server's end."""

    def __init__(self, at_hand: bytes = b"") -> None:
        ours, self.server = socket.socketpair()
        ours.setblocking(False)
        self.server.settimeout(5)
        self.sock = ours
        wire: Any = SimpleNamespace(sock=ours)
        self.ear = Ear(wire, at_hand, where="server")
        self.lines: list[bytes] = []

    def until(self, tag: bytes) -> None:
        def hear(line: bytes) -> bool:
            self.lines.append(line)
            return not line.startswith(tag)

        self.ear.listen(hear, keep=True)

    async def complete(self) -> bytes:
        async with asyncio.timeout(5):
            await self.ear.until(lambda: self.ear.complete)
        return self.ear.taken()


@asynccontextmanager
async def hearing(at_hand: bytes = b"") -> AsyncIterator[Heard]:
    heard = Heard(at_hand)
    try:
        yield heard
    finally:
        heard.ear.release()
        heard.sock.close()
        heard.server.close()


async def turns(number: int = 4) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


@pytest.mark.parametrize("step", [1, 2, 7, 33, 1000])
async def test_an_answer_is_whole_however_it_comes(step: int) -> None:
    """What a mail says in its body answers no command."""
    said = b"* 2 EXISTS\r\n" + MAIL + b"A1 OK done\r\n"
    async with hearing() as heard:
        heard.until(b"A1 ")
        for at in range(0, len(said), step):
            assert not heard.ear.complete
            heard.server.send(said[at : at + step])
            await turns()
        assert said == await heard.complete()
        assert [b"* 2 EXISTS", MAIL.split(b"\r\n")[0], b")", b"A1 OK done"] == heard.lines


async def test_what_comes_behind_an_answer_begins_the_next_one() -> None:
    async with hearing(b"* 1 EXISTS\r\nA1 OK\r\n* 2 EXI") as heard:
        heard.until(b"A1 ")
        assert b"* 1 EXISTS\r\nA1 OK\r\n" == await heard.complete()
        heard.until(b"A2 ")
        heard.server.send(b"STS\r\nA2 OK\r\n* 3 EXISTS\r\n")
        assert b"* 2 EXISTS\r\nA2 OK\r\n" == await heard.complete()
        await turns()
        assert b"* 3 EXISTS\r\n" == heard.ear.release()


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (b"* OK {999999999}\r\n", "more than anybody asked for"),
        (b"x" * (LONGEST + 1), "without an end"),
        (b"* OK on and on\r\n" * 70_000, "more than anybody asked for"),
        (b"", "closed"),
    ],
)
@pytest.mark.parametrize("keep", [False, True])
async def test_who_sends_too_much_or_nothing_any_more_is_left(said: bytes, reason: str, *, keep: bool) -> None:
    async with hearing() as heard:
        heard.ear.listen(lambda _: True, budget=2**20, keep=keep)

        def speak() -> None:
            with heard.server:
                try:
                    heard.server.sendall(said)
                except OSError:
                    assert heard.ear.lost

        speaking = asyncio.create_task(asyncio.to_thread(speak))
        with pytest.raises(Unreachable, match=reason):
            async with asyncio.timeout(5):
                await heard.ear.until(lambda: False)
        heard.sock.close()
        await speaking


async def test_in_the_middle_of_a_literal_nobody_takes_over() -> None:
    async with hearing(b"* OK {5}\r\nab") as heard:
        heard.ear.listen(lambda _: True)
        heard.ear.release()
        assert heard.ear.lost


async def test_an_idle_that_the_loop_begins_waits_for_the_server() -> None:
    async with hearing() as heard:
        idle = Idle(heard.ear, b"A1", begun=False, exists=3)
        beginning = asyncio.create_task(idle.begin(5))
        heard.server.send(b"* 4 EXISTS\r\n")
        await turns()
        assert not beginning.done()
        heard.server.send(b"+ idling\r\n")
        await beginning
        assert await idle.wait(5), "what was told before the plus is news too"
        assert 1 == idle.arrived
        ending = asyncio.create_task(idle.finish(5))
        assert b"DONE\r\n" == await asyncio.to_thread(heard.server.recv, 100)
        heard.server.send(b"* 5 EXISTS\r\nA1 OK done\r\n")
        assert await ending
        assert (5, 2) == (idle.exists, idle.arrived)


async def test_an_idle_that_the_loop_begins_may_be_refused() -> None:
    async with hearing() as heard:
        idle = Idle(heard.ear, b"A1", begun=False)
        heard.server.send(b"* 4 EXISTS\r\nA1 NO not now\r\n")
        with pytest.raises(IdleRefused, match="not now"):
            await idle.begin(5)
        assert heard.ear.lost is None

"""So many connections are opened at a time, and none waits for a server that hangs."""

from __future__ import annotations

import asyncio

import pytest

from agentmail.errors import Unreachable
from agentmail.imap import ImapConnection, doors
from agentmail.imap.doors import AT_ONCE, Door
from agentmail.settings import Account


async def entered(number: int) -> list[Door]:
    found = [Door() for _ in range(number)]
    for door in found:
        await door.enter()
    return found


async def turns(number: int = 5) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


async def test_one_more_waits_until_one_leaves() -> None:
    inside, late = await entered(AT_ONCE), Door()
    waiting = asyncio.ensure_future(late.enter())
    await turns()
    assert not waiting.done()
    inside[3].leave()
    inside[3].leave()  # counts once
    await waiting
    another = asyncio.ensure_future(Door().enter())
    await turns()
    assert not another.done()
    another.cancel()
    for door in [*inside, late]:
        door.leave()
    for door in await entered(AT_ONCE):  # who was cancelled took no place with him
        door.leave()


async def test_who_takes_too_long_keeps_nobody_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doors, "HURRY", 0.0)
    async with asyncio.timeout(10):
        inside = await entered(2 * AT_ONCE)
    for door in inside:
        door.leave()


async def test_a_connection_that_is_closed_before_its_turn_says_so_and_takes_no_place() -> None:
    inside = await entered(AT_ONCE)
    account = Account(address="a@b.c", password="p", imap_host="127.0.0.1", imap_port=9, imap_security="plain",
                      smtp_host="127.0.0.1", smtp_port=9, smtp_security="plain")  # fmt: skip
    connection = ImapConnection(account)
    connecting = asyncio.ensure_future(connection.connect())
    await turns()
    connection.kill()
    async with asyncio.timeout(10):
        with pytest.raises(Unreachable, match="closed"):
            await connecting
    await connection.close()
    for door in inside:
        door.leave()
    for door in await entered(AT_ONCE):
        door.leave()


def test_memory_is_given_back_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[int] = []
    monkeypatch.setattr(doors, "_malloc_trim", lambda: given.append)
    for _ in range(2 * doors.TRIM_EVERY):
        doors.tidy()
    assert [0, 0] == given


def test_where_there_is_no_glibc_nothing_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    doors._malloc_trim.cache_clear()
    monkeypatch.setattr("sys.platform", "darwin")
    assert doors._malloc_trim() is None
    doors._malloc_trim.cache_clear()

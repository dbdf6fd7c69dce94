"""What one new message costs: commands and round trips, which can be counted where time cannot be promised."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from sqlalchemy import text

from agentmail.errors import Unreachable
from agentmail.imap import ImapConnection, batches
from agentmail.imap.link import Link
from agentmail.imap.wire import Wire
from agentmail.mailsync import arriving
from agentmail.mailsync.mailbox import MailboxPass
from agentmail.message.models import Message
from agentmail.message.parse import parse
from agentmail.store.positions import Position
from tests.waiting import until

from .conftest import World, ids, mail
from .liar import Liar, Pusher
from .test_watch import Heard, idles, watching


async def test_one_command_brings_one_message(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """DONE, one FETCH that finds it and has its body, IDLE again. No EXAMINE, no SEARCH, no second FETCH."""
    said: list[str] = []
    send = Wire.send

    def heard_by_server(wire: Wire, data: bytes) -> None:
        said.append(data.decode("ascii", "replace").partition(" ")[2].strip())
        send(wire, data)

    sync, heard = world.sync(), Heard()
    async with watching(sync, heard):
        await until(lambda: idles(sync))
        monkeypatch.setattr(Wire, "send", heard_by_server)
        for n in (1, 2):
            said.clear()
            world.deliver(n)
            await heard.until(n)
            await until(lambda: idles(sync))
            fetch, idle = said
            assert fetch.startswith("UID FETCH")
            assert "BODY.PEEK[]<0." in fetch
            assert "IDLE" == idle
    assert ids(1, 2) == await world.stored()


async def test_new_mail_that_is_small_walks_to_no_thread(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """From EXISTS to idling again the event loop speaks itself: each walk costs as much as the command."""
    walks: list[str] = []
    call = Link._call_now

    async def noted(link: Link, work: Any, doing: str, *more: Any, **how: Any) -> Any:
        walks.append(doing)
        return await call(link, work, doing, *more, **how)

    async with Pusher({1: mail(1)}) as server:
        sync, heard = world.sync(server.account(), mailboxes=("inbox",)), Heard()
        async with watching(sync, heard):
            await until(lambda: idles(sync))
            monkeypatch.setattr(Link, "_call_now", noted)
            for n in (2, 3):
                server.push(n, mail(n))
                await heard.until(n)
                await until(lambda: idles(sync))
            assert not walks
            server.push(4, mail(4, body="x" * 200_000))
            await heard.until(4)
            assert walks
    assert ids(1, 2, 3, 4) == await world.stored()


async def test_each_message_is_parsed_once_by_the_thread_that_reads_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two threads in one interpreter hinder each other: the reading one would wait for the other at every read."""
    threads: list[str] = []

    def noted(raw: bytes, **how: Any) -> Message:
        threads.append(threading.current_thread().name.partition("_")[0])
        return parse(raw, **how)

    monkeypatch.setattr(arriving, "parse", noted)
    for n in range(1, 6):
        world.deliver(n, body="x" * 40_000)
    await world.sync().poll()
    assert ids(1, 2, 3, 4, 5) == await world.stored()
    assert ["agentmail-imap"] * 5 == threads


async def test_several_fetches_are_filed_together_and_what_came_before_a_failure_is_kept(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or a connection that is cut again and again would never get further."""
    monkeypatch.setattr(batches, "BATCH", 2)
    bodies, file, calls = MailboxPass._bodies, MailboxPass._file, list[int]()

    async def failing(one: MailboxPass, *batch: Any) -> Any:
        if len(calls) == 2:
            raise Unreachable("gone")
        calls.append(1)
        return await bodies(one, *batch)

    async def counted(one: MailboxPass, ready: Any) -> None:
        calls.append(ready.planned)
        await file(one, ready)

    monkeypatch.setattr(MailboxPass, "_file", counted)
    world.deliver(1, 2, 3, 4, 5, 6)
    sync = world.sync(mailboxes=("inbox",))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MailboxPass, "_bodies", failing)
        with pytest.raises(Unreachable):
            await sync.poll()
    assert [1, 1, 4] == calls
    assert ids(1, 2, 3, 4) == await world.stored()
    await sync.poll()
    assert [1, 1, 4, 2] == calls
    assert ids(1, 2, 3, 4, 5, 6) == await world.stored()
    assert 6 == await world.events()


async def test_flags_that_change_while_a_message_comes_are_filed(world: World) -> None:
    """What was prepared on its arrival does not count when the server has said more since."""

    def seen_meanwhile(server: Liar, tag: str, rest: str) -> bytes | None:
        if "BODY.PEEK[]" not in rest:
            return None
        return server.honest("FETCH", tag, rest).replace(
            f"{tag} OK".encode(), f"* 1 FETCH (UID 1 FLAGS (\\Flagged))\r\n{tag} OK".encode()
        )

    async with Liar({1: mail(1)}) as server:
        server.lies["FETCH"] = seen_meanwhile
        sync = world.sync(server.account())
        await sync.poll()
        await sync.close()
    assert [('["\\\\Flagged"]',)] == await world.rows("SELECT flags FROM location")


async def test_what_cannot_be_prepared_early_is_prepared_later(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(raw: bytes, **how: Any) -> Message:
        if b"<2@" in raw and threading.current_thread().name.startswith("agentmail-imap"):
            raise RuntimeError("not now")
        return parse(raw, **how)

    monkeypatch.setattr(arriving, "parse", refused)
    world.deliver(1, 2, 3)
    await world.sync().poll()
    assert ids(1, 2, 3) == await world.stored()


async def test_logging_in_is_two_commands(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the server can do is said in its greeting, and again when it lets us in."""
    said: list[str] = []
    send = Wire.send

    def heard_by_server(wire: Wire, data: bytes) -> None:
        said.extend(data.decode("ascii", "replace").split()[1:2])
        send(wire, data)

    monkeypatch.setattr(Wire, "send", heard_by_server)
    connection = ImapConnection(world.account)
    await connection.connect()
    assert ["LOGIN", "ENABLE"] == said
    assert "IDLE" in connection.capabilities
    await connection.close()


async def test_a_position_in_memory_is_not_believed_when_its_row_is_another(world: World) -> None:
    """Between two messages nobody asks the store where we are; a stale answer is found out when it is written."""
    sync, heard, reads = world.sync(), Heard(), 0
    position = MailboxPass._position

    async def counted(one: MailboxPass) -> Position:
        nonlocal reads
        reads += 1
        return await position(one)

    with pytest.MonkeyPatch.context() as patch:
        async with watching(sync, heard):
            await until(lambda: idles(sync))
            patch.setattr(MailboxPass, "_position", counted)
            world.deliver(1)
            await heard.until(1)
            await until(lambda: idles(sync))
            assert 0 == reads
            async with world.store.transaction() as tx:  # as another process does that finds the uids given again
                await tx.execute(text("UPDATE mailbox SET history = 1000000 WHERE name = 'INBOX'"))
            world.deliver(2)
            await heard.until(2)
        assert reads
    assert ids(1, 2) == await world.stored()


async def test_a_big_message_among_news_is_fetched_on_its_own(world: World) -> None:
    sync, heard = world.sync(), Heard()
    async with watching(sync, heard):
        await until(lambda: idles(sync))
        world.deliver(1, body="x" * 70 + "\r\n" + ("y" * 70 + "\r\n") * 3000)
        await heard.until(1)
    sizes = await world.rows("SELECT size FROM message")
    assert 200_000 < int(str(sizes[0][0]))

"""Being told at once, by a real Dovecot: IDLE, lost connections, leases."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sqlite3
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from agentmail.errors import StoreBusy, StoreUnreachable, Unreachable
from agentmail.imap import ImapConnection
from agentmail.mailsync import Leases, MailSync, Pace, watch
from agentmail.store import Filed, ThreadStore
from agentmail.store.positions import LostLease
from agentmail.testing import FaultProxy
from tests.waiting import until

from .conftest import World, ids, mail
from .liar import CLOSE, Liar, Pusher

SECONDS = 15.0


class Heard:
    """What a watch told, and a way to wait for it."""

    def __init__(self) -> None:
        self.filed: list[Filed] = []
        self.changed = asyncio.Event()

    def __call__(self, filed: list[Filed]) -> None:
        self.filed += filed
        self.changed.set()

    async def until(self, number: int) -> None:
        async with asyncio.timeout(SECONDS):
            while len(self.filed) < number:
                self.changed.clear()
                await self.changed.wait()


@asynccontextmanager
async def watching(sync: MailSync, heard: Heard, **given: object) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.ensure_future(watch(sync, heard, **given))  # type: ignore[arg-type]
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait([task], timeout=5)
        assert task.cancelled() or task.exception() is None


async def test_a_busy_store_delays_no_end(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agentmail.mailsync.watching.RELEASE", 0.05)
    async with Pusher({1: mail(1)}) as server, ThreadStore(sqlite_url) as store:
        sync = MailSync(server.account(), store, mailboxes=("inbox",))
        task = asyncio.ensure_future(watch(sync))
        await until(lambda: idles(sync))
        with contextlib.closing(sqlite3.connect(sqlite_url.removeprefix("sqlite:///"), isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            task.cancel()
            done, _ = await asyncio.wait([task], timeout=8)  # SQLite waits 10 s, and there are 8 attempts
            other.execute("ROLLBACK")
        assert done
        assert task.cancelled()
        await sync.close()


def idles(sync: MailSync) -> bool:
    return sync._connection is not None and sync._connection._idle is not None and not sync._connection._turn.locked()


async def test_new_mail_is_told_at_once_and_an_idle_mailbox_has_no_thread(world: World) -> None:
    sync, heard = world.sync(), Heard()
    async with watching(sync, heard):
        await until(lambda: idles(sync))
        assert sync._connection is not None
        assert sync._connection._worker is None
        for n in (1, 2, 3):
            world.deliver(n)
            await heard.until(n)
    assert ids(1, 2, 3) == await world.stored()


async def test_another_call_may_use_the_connection_meanwhile(world: World) -> None:
    sync, heard = world.sync(), Heard()
    async with watching(sync, heard):
        await until(lambda: idles(sync))
        assert not await sync.find_sent("<1@example.org>")
        world.deliver(1)
        await heard.until(1)


async def test_who_is_told_may_use_the_connection_before_it_idles_again(world: World) -> None:
    """The loop has the socket then. What comes meanwhile is found, though the server has told of it already."""
    async with Pusher({1: mail(1)}) as server:
        server.lies["SELECT"] = lambda s, tag, rest: s.honest("SELECT", tag, rest).replace(b"READ-ONLY", b"READ-WRITE")
        sync, heard = world.sync(server.account(), mailboxes=("inbox",)), Heard()

        async def told(filed: list[Filed]) -> None:
            if len(heard.filed) == 1:
                server.push(3, mail(3))
                await until(lambda: bool(sync._connection and sync._connection._ear and sync._connection._ear._buffer))
                await sync.mark(filed[0].id, add=["\\Seen"])
            heard(filed)

        async with watching(sync, told):
            await heard.until(1)
            await until(lambda: idles(sync))
            server.push(2, mail(2))
            await heard.until(3)
        assert 1 == server.connections
        assert 1 == len([c for c in server.heard if "STORE" in c])
    assert ids(1, 2, 3) == await world.stored()


@pytest.mark.parametrize("behind", [b"* 3 EXISTS\r\n", b"* 3 EXI", b"* OK {4}\r\nab"])
async def test_what_comes_behind_the_answer_is_heard_while_idling(world: World, behind: bytes) -> None:
    async with Pusher({1: mail(1)}) as server:
        sync, heard = world.sync(server.account(), mailboxes=("inbox",)), Heard()
        rest = {b"* 3 EXI": b"STS\r\n", b"* OK {4}\r\nab": b"cd\r\n* 3 EXISTS\r\n"}.get(behind, b"")

        def more(liar: Liar, tag: str, args: str) -> bytes | None:
            if "BODY.PEEK[]<0." not in args or len(liar.messages) != 2:
                return None
            liar.add(3, mail(3))
            asyncio.get_running_loop().call_soon(server.say, rest)
            return b"".join(liar.fetched(n, args) for n in (2,)) + f"{tag} OK done\r\n".encode() + behind

        async with watching(sync, heard):
            await until(lambda: idles(sync))
            server.lies["FETCH"] = more
            server.push(2, mail(2))
            await heard.until(3)
        assert 1 == server.connections
    assert ids(1, 2, 3) == await world.stored()


@pytest.mark.parametrize("word", ["FETCH", "IDLE", ""])
async def test_a_server_that_falls_silent_over_news_costs_its_time_and_a_connection(world: World, word: str) -> None:
    async with Pusher({1: mail(1)}) as server:
        account = server.account(timeout=0.3)
        sync, heard = world.sync(account, mailboxes=("inbox",)), Heard()

        async def sleep(_: float) -> None:
            server.lies.pop(word, None) if word == "FETCH" else server.lies.update({word: honest[word]})
            await asyncio.sleep(0)

        honest = dict(server.lies)
        async with watching(sync, heard, pace=Pace(sleep=sleep)):
            await until(lambda: idles(sync))
            server.lies[word] = lambda s, tag, rest: b""
            server.push(2, mail(2))
            await heard.until(2)
            await until(lambda: idles(sync) and 2 == server.connections)
    assert ids(1, 2) == await world.stored()


async def test_closing_while_the_loop_waits_for_news_returns_at_once(world: World) -> None:
    async with Pusher({1: mail(1)}) as server:
        sync, heard = world.sync(server.account(timeout=60.0), mailboxes=("inbox",)), Heard()
        async with watching(sync, heard) as task:
            await until(lambda: idles(sync))
            server.lies["FETCH"] = lambda s, tag, rest: b"* 2 FETCH ("
            server.push(2, mail(2))
            await until(lambda: "UID FETCH" in server.heard[-1])
            async with asyncio.timeout(5):
                await sync.close()
            assert sync._connection is None
            task.cancel()


@pytest.mark.parametrize("security", ["tls", "starttls"])
async def test_news_over_tls(world: World, security: str) -> None:
    """What TLS holds decrypted is nothing that the kernel tells of."""
    sync, heard = world.sync(world.dovecot.account(world.user, security)), Heard()
    async with watching(sync, heard):
        await until(lambda: idles(sync))
        world.deliver(1, body="x" * 70 + "\r\n" + ("y" * 70 + "\r\n") * 1500)
        await heard.until(1)
        await until(lambda: idles(sync))
        world.deliver(2)
        await heard.until(2)
    assert ids(1, 2) == await world.stored()


async def test_s20_a_kicked_connection_is_made_again(world: World) -> None:
    sync, heard = world.sync(), Heard()
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        await asyncio.sleep(0)

    async with watching(sync, heard, pace=Pace(sleep=sleep)):
        for n in (1, 2):
            await until(lambda: idles(sync))
            world.dovecot.doveadm("kick", world.user)
            world.deliver(n)
            await heard.until(n)
    assert slept
    assert all(1.0 <= s <= 300 for s in slept)


async def test_s17_a_connection_that_is_silently_dead_costs_one_interval(world: World) -> None:
    async with FaultProxy("127.0.0.1", world.account.imap_port) as proxy:
        account = proxy.in_front_of(world.account, "imap").model_copy(update={"timeout": 1.0})
        sync, heard = world.sync(account), Heard()

        async def sleep(_: float) -> None:
            proxy.flow()
            await asyncio.sleep(0)

        async with watching(sync, heard, pace=Pace(sleep=sleep, reidle=0.5)):
            await until(lambda: idles(sync))
            proxy.stall()
            world.deliver(1)
            await heard.until(1)


async def test_a_busy_store_ends_no_watch(world: World) -> None:
    class Busy(Leases):
        refused = 0

        async def take(self, account: str, mailbox: str) -> int | None:
            if self.refused < 3:
                self.refused += 1
                raise StoreBusy("all connections are in use; try again")
            return await super().take(account, mailbox)

    heard, pauses = Heard(), list[float]()

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        await asyncio.sleep(0)

    async with watching(world.sync(), heard, leases=Busy(world.store), pace=Pace(sleep=sleep)):
        world.deliver(1)
        await heard.until(1)
    assert 3 == len(pauses)


async def test_s44_one_process_watches_and_the_other_takes_over(world: World) -> None:
    """Who waits for the lease asks again and again; who ends gives it back."""
    first, second = Leases(world.store), Leases(world.store)
    often = Pace(sleep=lambda _: asyncio.sleep(0.05))
    heard = [Heard(), Heard()]
    syncs = [world.sync(), world.sync()]
    async with watching(syncs[0], heard[0], leases=first) as task:
        await until(lambda: idles(syncs[0]))
        async with watching(syncs[1], heard[1], leases=second, pace=often):
            world.deliver(1)
            await heard[0].until(1)
            assert not heard[1].filed
            task.cancel()
            await until(lambda: idles(syncs[1]))
            world.deliver(2)
            await heard[1].until(1)
    assert ids(1, 2) == await world.stored()
    assert 2 == await world.events()


async def test_a_stale_epoch_writes_nothing(world: World) -> None:
    sync = world.sync()
    await sync.poll()
    leases = Leases(world.store)
    epoch = await leases.take(sync.account.key, "INBOX")
    assert epoch is not None
    await leases.release(sync.account.key, "INBOX")
    assert epoch + 1 == await Leases(world.store).take(sync.account.key, "INBOX")
    world.deliver(1)
    try:
        await sync.poll(epoch=epoch)
    except Exception as exc:
        assert "another process" in str(exc)
    assert [] == await world.stored()


async def put_into_sent(world: World, number: int) -> None:
    connection = ImapConnection(world.account)
    await connection.connect()
    await connection.append("Sent", mail(number), [r"\Seen"])
    await connection.close()


async def test_the_lease_of_the_inbox_covers_the_other_mailboxes(world: World) -> None:
    """Who was stopped while it read Sent writes nothing there when somebody else has taken over."""
    sync = world.sync()
    leases = Leases(world.store)
    await world.store.open()
    epoch = await leases.take(sync.account.key, "INBOX")
    world.deliver(1)
    await put_into_sent(world, 2)
    examine = ImapConnection.examine

    async def stopped(self: ImapConnection, mailbox: str) -> object:
        if mailbox == "Sent":
            await leases.release(sync.account.key, "INBOX")
            await Leases(world.store).take(sync.account.key, "INBOX")
        return await examine(self, mailbox)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ImapConnection, "examine", stopped)
        with pytest.raises(LostLease):
            await sync.poll(epoch=epoch)
    assert ids(1) == await world.stored()
    assert [] == await world.rows("SELECT name FROM mailbox WHERE name = 'Sent' AND first_at > 0")
    again = await Leases(world.store).take(sync.account.key, "INBOX")
    assert again is None


async def test_only_who_holds_the_lease_reads_any_mailbox(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await put_into_sent(world, 1)
    read: list[tuple[object, str]] = []
    examine = ImapConnection.examine

    async def noted(self: ImapConnection, mailbox: str) -> object:
        read.append((self, mailbox))
        return await examine(self, mailbox)

    monkeypatch.setattr(ImapConnection, "examine", noted)
    first, second = Leases(world.store, lease=30), Leases(world.store, lease=30)
    syncs, waited = [world.sync(), world.sync()], asyncio.Event()

    async def sleep(seconds: float) -> None:
        waited.set()
        await asyncio.sleep(SECONDS)

    async with watching(syncs[0], Heard(), leases=first):
        await until(lambda: idles(syncs[0]))
        async with watching(syncs[1], Heard(), leases=second, pace=Pace(sleep=sleep)):
            async with asyncio.timeout(SECONDS):
                await waited.wait()
    assert {"INBOX", "Sent"} == {mailbox for _, mailbox in read}
    assert 1 == len({id(connection) for connection, _ in read})


async def test_a_store_that_fails_for_a_while_is_waited_for(world: World) -> None:
    """A database that is started again ends no watch, and is not asked without a pause."""
    sync, heard = world.sync(), Heard()
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 3:
            patch.undo()
        await asyncio.sleep(0)

    async def gone(*_: object) -> None:
        raise StoreUnreachable("the database is starting")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Leases, "take", gone)
        async with watching(sync, heard, pace=Pace(sleep=sleep)):
            world.deliver(1)
            await heard.until(1)
    assert [5.0] * 3 == pauses[:3]


async def test_who_was_stopped_and_wakes_up_overwrites_no_flags(world: World) -> None:
    """It asked for flags, slept past its lease, and wakes up with an old answer: the new holder has a newer one."""
    async with Liar({1: mail(1)}, capabilities="IMAP4rev1 ENABLE CONDSTORE") as liar:
        modseq, flags = 10, ""
        liar.lies["EXAMINE"] = lambda s, tag, rest: s.honest("EXAMINE", tag, rest).replace(
            b"* FLAGS", f"* OK [HIGHESTMODSEQ {modseq}]\r\n* FLAGS".encode())  # fmt: skip
        liar.lies["FETCH"] = lambda s, tag, rest: (
            f"* 1 FETCH (UID 1 FLAGS ({flags}))\r\n{tag} OK\r\n".encode() if "CHANGEDSINCE" in rest else None
        )
        old, new = (world.sync(liar.account(), mailboxes=("inbox",)) for _ in range(2))
        await world.store.open()
        leases = Leases(world.store)
        first = await leases.take(old.account.key, "INBOX")
        await old.poll(epoch=first)
        modseq, flags = 11, "\\Flagged"
        changes = ImapConnection.changes

        async def stopped(self: ImapConnection, low: int, since: int, high: int | None) -> object:
            nonlocal modseq, flags
            answer = await changes(self, low, since, high)
            await leases.release(old.account.key, "INBOX")
            second = await Leases(world.store).take(new.account.key, "INBOX")
            modseq, flags = 12, "\\Seen"
            patch.undo()
            await new.poll(epoch=second)
            return answer

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(ImapConnection, "changes", stopped)
            with pytest.raises(LostLease):
                await old.poll(epoch=first)
        assert [('["\\\\Seen"]',)] == await world.rows("SELECT flags FROM location")


async def test_waiting_ends_with_news_or_with_its_time(world: World) -> None:
    sync = world.sync()
    assert "IDLE" in await sync.check()
    await sync.poll()
    assert not await sync.wait(0.05)
    waiting = asyncio.ensure_future(sync.wait(SECONDS))
    await until(lambda: idles(sync))
    world.deliver(1)
    assert await waiting
    assert 1 == len(await sync.poll())
    world.deliver(2)
    assert await sync.wait(SECONDS), "what came before the wait is news too"


async def test_waiting_says_that_the_connection_was_lost(world: World) -> None:
    async with Liar({1: mail(1)}) as liar:
        sync = world.sync(liar.account(), mailboxes=("inbox",))
        await sync.poll()
        liar.lies["IDLE"] = lambda s, tag, rest: b"+ idling\r\n" + CLOSE
        with pytest.raises(Unreachable):
            await sync.wait(SECONDS)


@pytest.mark.parametrize("ends", [b"* BYE idle for too long\r\n" + CLOSE, CLOSE])
async def test_s18_the_end_of_a_connection_in_idle_is_seen_at_once_and_costs_nothing(world: World, ends: bytes) -> None:
    """The server hangs up on every IDLE: each time one pause, one new connection, and no spinning in between."""
    async with Liar({1: mail(1)}) as liar:
        liar.lies["IDLE"] = lambda s, tag, rest: b"+ idling\r\n" + ends
        pauses: list[float] = []
        enough = asyncio.Event()

        async def sleep(seconds: float) -> None:
            pauses.append(seconds)
            if len(pauses) == 5:
                enough.set()
                await asyncio.Event().wait()

        heard = Heard()
        async with watching(world.sync(liar.account(), mailboxes=("inbox",)), heard, pace=Pace(sleep=sleep)):
            async with asyncio.timeout(SECONDS):
                await enough.wait()
        assert 1 == len(heard.filed)
        assert 5 == liar.connections == len([c for c in liar.heard if c == "IDLE"])
        assert all(seconds >= 1.0 for seconds in pauses)


@pytest.mark.parametrize("line", [b"* OK still here\r\n", b"* OK {3}\r\nabc\r\n"])
async def test_a_flood_during_idle_ends_and_leaves_the_loop_to_others(world: World, line: bytes) -> None:
    """The flood comes from a thread: a server in this loop could not send while the loop reads."""
    idling, flood = threading.Event(), line * (9 * 2**20 // len(line))

    def drown(server: socket.socket) -> None:
        idling.wait(SECONDS)
        server.settimeout(SECONDS)
        with server, contextlib.suppress(OSError):
            server.sendall(flood)

    async with Liar({1: mail(1)}) as liar:
        connection = ImapConnection(liar.account(timeout=SECONDS))
        await connection.connect()
        await connection.examine("INBOX")
        liar.lies["IDLE"] = lambda s, tag, rest: b"+ idling\r\n"
        await connection.start_idle()
        (writer,) = liar.writers
        thread = threading.Thread(target=drown, args=(writer.get_extra_info("socket")._sock.dup(),))
        thread.start()
        turns = 0
        idling.set()
        with pytest.raises(Unreachable, match="more than anybody asked for"):
            while turns < 20_000 and not await connection.wait_idle(0.001):
                turns += 1
        await connection.close()
        assert turns
        await asyncio.to_thread(thread.join)


@pytest.mark.parametrize("answer", ["NO not now", "BAD unknown command", "not offered"])
async def test_s19_a_server_that_refuses_idle_is_polled(world: World, answer: str) -> None:
    offered = "IMAP4rev1" if answer == "not offered" else "IMAP4rev1 IDLE"
    async with Liar({1: mail(1)}, capabilities=offered) as liar:
        liar.lies["IDLE"] = lambda s, tag, rest: f"{tag} {answer}\r\n".encode()
        pauses: list[float] = []

        async def sleep(seconds: float) -> None:
            pauses.append(seconds)
            if len(pauses) < 4:
                liar.add(1 + len(pauses), mail(1 + len(pauses)))
            if len(pauses) > 4:
                await asyncio.Event().wait()
            await asyncio.sleep(0)

        heard = Heard()
        async with watching(world.sync(liar.account(), mailboxes=("inbox",)), heard, pace=Pace(sleep=sleep)):
            await heard.until(4)
        assert 1 == liar.connections
        assert {20.0, 10.0} >= set(pauses)
    assert ids(1, 2, 3, 4) == await world.stored()

"""Whatever ends a sync, at whatever byte, at whatever moment: the next one leaves the store as the server is."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest

from agentmail.errors import ServerError
from agentmail.imap import batches
from agentmail.mailsync import FirstRun, MailSync, Pace
from agentmail.settings import Account
from agentmail.store import ThreadStore
from agentmail.testing import FaultProxy
from tests.servers.dovecot import Dovecot
from tests.waiting import until

from .conftest import World, ids, mail
from .liar import Pusher
from .test_watch import Heard, idles, watching

NEW = FirstRun(history=None, everything_is_new=True)
CUTS = int(os.environ.get("AGENTMAIL_TEST_CUTS", "1500"))
"""Points of the long form, both directions together."""
KILLS = int(os.environ.get("AGENTMAIL_TEST_KILLS", "300"))
NUMBERS = range(1, 6)


async def _session(store: ThreadStore, account: Account) -> None:
    sync = MailSync(account, store, first_run=NEW, mailboxes=("inbox",))
    try:
        await sync.poll()
    finally:
        await sync.close()


async def _cut(dovecot: Dovecot, directory: Path, direction: str, points: int) -> None:
    """Each point on a fresh account of one store that reads the same mailbox: a point costs a login, not a database."""
    user = dovecot.new_user("cut")
    dovecot.deliver(user, *(mail(n) for n in NUMBERS))
    real = dovecot.account(user, "plain")
    assert real.imap_host is not None
    store = ThreadStore(f"sqlite:///{directory / 'store.db'}")
    async with FaultProxy(real.imap_host, real.imap_port) as proxy:

        def account(name: str) -> Account:
            given = {"address": f"{name}@test.local", "username": user, "timeout": 10.0}
            return proxy.in_front_of(real, "imap").model_copy(update=given)

        await _session(store, account("whole"))
        whole = proxy.carried[direction]  # type: ignore[index]
        for point in range(points):
            after = 1 + point * whole // points
            proxy.cut_after(after, direction, reset=bool(point % 2))  # type: ignore[arg-type]
            for _ in range(4):
                try:
                    await _session(store, account(f"cut{point}"))
                    break
                except ServerError:
                    pass
            else:
                pytest.fail(f"never came through after a cut at byte {after} {direction}")
    world = World.__new__(World)
    world.store = store
    counts = await world.rows("SELECT account, count(*), count(DISTINCT message_id) FROM message GROUP BY account")
    assert points + 1 == len(counts)
    assert {(len(NUMBERS), len(NUMBERS))} == {row[1:] for row in counts}
    events = await world.rows("SELECT count(*) FROM event WHERE kind = 'message.filed' GROUP BY account")
    assert [(len(NUMBERS),)] * (points + 1) == events
    await store.close()


@pytest.mark.parametrize("direction", ["down", "up"])
async def test_cut_after_every_kth_byte(
    dovecot: Dovecot, tmp_path: Path, direction: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Several batches, so that one is asked for while another is still coming.
    monkeypatch.setattr(batches, "BATCH", 2)
    await _cut(dovecot, tmp_path, direction, 30)


@pytest.mark.soak
@pytest.mark.parametrize("direction", ["down", "up"])
async def test_cut_after_every_byte_or_so(
    dovecot: Dovecot, tmp_path: Path, direction: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "BATCH", 2)
    await _cut(dovecot, tmp_path, direction, CUTS // 2)


async def _cut_news(world: World, direction: str, points: int) -> None:
    """A watch whose connection ends at each byte of what is said about one new message, from EXISTS to idling again."""
    async with Pusher() as server, FaultProxy("127.0.0.1", server.port) as proxy:
        account = proxy.in_front_of(server.account(), "imap")
        sync, heard = world.sync(account, mailboxes=("inbox",)), Heard()

        def passed() -> int:
            (link,) = proxy._links
            return int(link.passed[direction])  # type: ignore[index]

        async def at_once(_: float) -> None:
            await asyncio.sleep(0)

        async with watching(sync, heard, pace=Pace(sleep=at_once)):
            await until(lambda: idles(sync))
            before = passed()
            server.push(1, mail(1))
            await heard.until(1)
            await until(lambda: idles(sync))
            whole = passed() - before
            for point in range(points):
                await until(lambda: idles(sync))
                after = passed() + 1 + point * whole // points
                proxy.cut_after(after, direction, reset=bool(point % 2))  # type: ignore[arg-type]
                server.push(point + 2, mail(point + 2))
                await heard.until(point + 2)
                await until(lambda: not proxy._cuts)
    assert points <= server.connections
    assert ids(*range(1, points + 2)) == await world.stored()
    assert points + 1 == await world.events() == len(heard.filed)


@pytest.mark.parametrize("direction", ["down", "up"])
async def test_cut_while_news_come(world: World, direction: str) -> None:
    await _cut_news(world, direction, 12)


@pytest.mark.soak
@pytest.mark.parametrize("direction", ["down", "up"])
async def test_cut_at_every_byte_or_so_of_news(world: World, direction: str) -> None:
    await _cut_news(world, direction, CUTS // 2)


# One process imports everything and forks a reader for each kill: to start Python takes longer than what is tested.
READERS = """
import asyncio, os, sys
from agentmail.mailsync import FirstRun, MailSync
from agentmail.settings import Account
from agentmail.store import ThreadStore
async def read():
    url, host, port, user = sys.argv[1:]
    account = Account(address=user, password="secret", imap_host=host, imap_port=int(port), imap_security="plain",
                      smtp_host=host, smtp_port=9, smtp_security="plain")
    sync = MailSync(account, ThreadStore(url), first_run=FirstRun(history=None, everything_is_new=True))
    os.write(1, b"%d\\n" % os.getpid())
    while True:
        await sync.poll()
for _ in sys.stdin:
    child = os.fork()
    if not child:
        asyncio.run(read())
    os.waitpid(child, 0)
    os.write(1, b"ended\\n")
"""


@contextmanager
def _readers(*arguments: str) -> Iterator[tuple[IO[str], IO[str]]]:
    process = subprocess.Popen([sys.executable, "-c", READERS, *arguments], stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE, text=True, start_new_session=True)  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield process.stdin, process.stdout
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process.stdin.close()
        process.stdout.close()


async def _kill(dovecot: Dovecot, store_url: str, kills: int) -> None:
    """Mail keeps coming while the reader is killed again and again: in the end each message is there once."""
    store = ThreadStore(store_url)
    world = World(dovecot, store)
    await store.open()
    number = 0
    seed = random.randrange(10**6)
    chance = random.Random(seed)
    with _readers(store_url, dovecot.host, str(dovecot.imap), world.user) as (orders, told):
        for _ in range(kills):
            orders.write("another\n")
            orders.flush()
            child = int(await asyncio.to_thread(told.readline))
            world.deliver(*range(number + 1, number + 4))
            number += 3
            await asyncio.sleep(chance.uniform(0.0, 0.15))  # the moment of the kill is what is tried
            os.kill(child, signal.SIGKILL)
            assert "ended\n" == await asyncio.to_thread(told.readline)
    await world.sync().poll()
    assert sorted(ids(*range(1, number + 1))) == sorted(await world.stored()), f"seed {seed}"
    assert number == await world.events(), f"seed {seed}"
    for sync in world.syncs:
        await sync.close()
    await store.close()


async def test_kill_9_at_any_moment(store_url: str, dovecot: Dovecot) -> None:
    await _kill(dovecot, store_url, 5)


@pytest.mark.soak
async def test_kill_9_for_a_long_time(store_url: str, dovecot: Dovecot) -> None:
    await _kill(dovecot, store_url, KILLS)

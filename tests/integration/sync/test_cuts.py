"""Whatever ends a sync, at whatever byte, at whatever moment: the next one leaves the store as the server is."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from agentmail.errors import ServerError
from agentmail.mailsync import FirstRun, MailSync
from agentmail.store import ThreadStore
from agentmail.testing import FaultProxy
from tests.servers.dovecot import Dovecot

from .conftest import World, ids, mail
from .liar import Liar

NEW = FirstRun(history=None, everything_is_new=True)
CUTS = int(os.environ.get("AGENTMAIL_TEST_CUTS", "150"))
"""Points over the suite, both directions; more of them for a night."""
KILLS = int(os.environ.get("AGENTMAIL_TEST_KILLS", "5"))


async def _session(store: ThreadStore, account: object) -> int:
    """One poll and the number of bytes it took from the server."""
    sync = MailSync(account, store, first_run=NEW, mailboxes=("inbox",))  # type: ignore[arg-type]
    try:
        await sync.poll()
        return sync._connection.received if sync._connection is not None else 0
    finally:
        await sync.close()


@pytest.mark.parametrize("direction", ["down", "up"])
async def test_cut_after_every_kth_byte(tmp_path: Path, direction: str) -> None:
    """Each point on a fresh account of one store, so that a point costs a login and not a database."""
    numbers = range(1, 5)
    async with Liar({n: mail(n) for n in numbers}) as liar, FaultProxy("127.0.0.1", liar.port) as proxy:
        store = ThreadStore(f"sqlite:///{tmp_path / 'store.db'}")
        whole = await _session(store, liar.account(address="whole@test.local"))
        if direction == "up":
            whole = sum(len(c) + 8 for c in liar.heard)
        points = CUTS // 2
        lost = 0
        for point in range(points):
            name = f"cut{point}@test.local"
            account = proxy.in_front_of(liar.account(address=name, timeout=2.0), "imap")
            after = 1 + point * whole // points
            proxy.cut_after(after, direction, reset=bool(point % 2))  # type: ignore[arg-type]
            for _ in range(4):
                try:
                    await _session(store, account)
                    break
                except ServerError:
                    lost += 1
            else:
                pytest.fail(f"never came through after a cut at byte {after} {direction}")
        world = World.__new__(World)
        world.store = store
        counts = await world.rows("SELECT account, count(*) FROM message GROUP BY account")
        assert {points + 1} == {len(counts)}
        assert {len(numbers)} == {count for _, count in counts}
        events = await world.rows("SELECT count(*) FROM event WHERE kind = 'message.filed' GROUP BY account")
        assert {(len(numbers),)} == set(events)
        await store.close()


CHILD = """
import asyncio, sys
from agentmail.mailsync import FirstRun, MailSync
from agentmail.settings import Account
from agentmail.store import ThreadStore
async def main():
    url, host, port, user = sys.argv[1:]
    account = Account(address=user, password="secret", imap_host=host, imap_port=int(port), imap_security="plain",
                      smtp_host=host, smtp_port=9, smtp_security="plain")
    sync = MailSync(account, ThreadStore(url), first_run=FirstRun(history=None, everything_is_new=True))
    print("ready", flush=True)
    while True:
        await sync.poll()
        print("polled", flush=True)
asyncio.run(main())
"""


async def test_kill_9_at_any_moment(store_url: str, dovecot: Dovecot) -> None:
    """Mail keeps coming while the reader is killed again and again: in the end each message is there once."""
    store = ThreadStore(store_url)
    world = World(dovecot, store)
    await store.open()
    number = 0
    seed = random.randrange(10**6)
    chance = random.Random(seed)
    for _ in range(KILLS):
        arguments = [sys.executable, "-c", CHILD, store_url, dovecot.host, str(dovecot.imap), world.user]
        child = subprocess.Popen(arguments, stdout=subprocess.PIPE)
        assert child.stdout is not None
        assert b"ready\n" == await asyncio.to_thread(child.stdout.readline)
        world.deliver(*range(number + 1, number + 6))
        number += 5
        await asyncio.sleep(chance.uniform(0.0, 0.15))
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
    await world.sync().poll()
    assert sorted(ids(*range(1, number + 1))) == sorted(await world.stored()), f"seed {seed}"
    assert number == await world.events(), f"seed {seed}"
    for sync in world.syncs:
        await sync.close()
    await store.close()

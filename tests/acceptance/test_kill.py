"""kill -9 while mail is being received: nothing is lost, nothing is there twice."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import pytest

from agentmail.testing import FaultProxy
from tests.servers.dovecot import Dovecot

from .command import agentmail, environment, finish, start

COUNT = 120
TEXT = b"One more line of a letter that is long enough to be cut anywhere.\r\n" * 20


def letter(number: int) -> bytes:
    head = f"From: ana@example.org\r\nSubject: Letter {number}\r\nMessage-ID: <{number}@example.org>\r\n"
    return head.encode() + b"Date: Mon, 5 Jan 2026 09:00:00 +0000\r\n\r\n" + TEXT


@pytest.mark.parametrize("after", [2_000, 150_000])
async def test_killed_in_the_middle_of_receiving(dovecot: Dovecot, store_url: str, tmp_path: Path, after: int) -> None:
    """The server goes silent after so many bytes, so that the kill surely falls into a fetch."""
    user = dovecot.new_user()
    await asyncio.to_thread(dovecot.deliver, user, *map(letter, range(COUNT)))
    account = dovecot.account(user, security="plain")
    async with FaultProxy("127.0.0.1", dovecot.imap) as proxy:
        stalled = proxy.stall_after(after, "down")
        env = environment(proxy.in_front_of(account, "imap"), store_url)
        process = await start("sync", "--all", env=env, cwd=tmp_path)
        ended, waiting = asyncio.ensure_future(process.wait()), asyncio.ensure_future(stalled.wait())
        await asyncio.wait((ended, waiting), timeout=30, return_when=asyncio.FIRST_COMPLETED)
        assert stalled.is_set(), (await finish(process, 1)).err
        process.send_signal(signal.SIGKILL)
        assert (await finish(process)).code == -signal.SIGKILL

    env = environment(account, store_url)
    done = await agentmail("sync", "--all", "--json", env=env, cwd=tmp_path)
    assert (done.code, done.err) == (0, "")
    threads = (await agentmail("threads", "--all", "--json", env=env, cwd=tmp_path)).rows
    assert sorted(t["message_ids"] for t in threads) == sorted([f"<{n}@example.org>"] for n in range(COUNT))


async def test_killed_again_and_again_at_any_time(dovecot: Dovecot, tmp_path: Path) -> None:
    """Without a fault: wherever it happens to be, also inside a transaction."""
    user, store = dovecot.new_user(), f"sqlite:///{tmp_path / 'store.db'}"
    await asyncio.to_thread(dovecot.deliver, user, *map(letter, range(COUNT)))
    env = environment(dovecot.account(user), store)
    for number in range(4):
        process = await start("sync", "--all", env=env, cwd=tmp_path)
        try:
            async with asyncio.timeout(0.4 + 0.15 * number):
                await process.wait()
        except TimeoutError:
            process.kill()
        await finish(process)
    done = await agentmail("sync", "--all", "--json", env=env, cwd=tmp_path)
    assert (done.code, done.err) == (0, "")
    threads = (await agentmail("threads", "--all", "--json", env=env, cwd=tmp_path)).rows
    assert sorted(t["message_ids"] for t in threads) == sorted([f"<{n}@example.org>"] for n in range(COUNT))

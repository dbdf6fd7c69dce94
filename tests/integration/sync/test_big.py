"""Mail and mailboxes that are too big to be held at once. The long forms are soak tests."""

from __future__ import annotations

import base64
import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers.dovecot import Dovecot

from .conftest import World, mail
from .liar import Liar

READ = """
import asyncio, sys
from agentmail.mailsync import FirstRun, MailSync
from agentmail.settings import Account
from agentmail.store import ThreadStore

def peak():  # of this program: ru_maxrss also counts who started it
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) // 1024

async def main():
    account = Account.model_validate_json(sys.argv[1])
    async with ThreadStore(sys.argv[2]) as store:
        sync = MailSync(account, store, first_run=FirstRun(everything_is_new=True), mailboxes=("inbox",))
        before = peak()
        filed = await sync.poll()
        await sync.close()
        message = await store.message(filed[0].id)
        print(len(filed), message.size, len(message.attachments), before, peak())

asyncio.run(main())
"""


def large(megabytes: int) -> bytes:
    """A mail with one attachment of noise, so big on the wire."""
    noise = random.Random(40).randbytes(megabytes * 2**20 * 3 // 4 - 2**16)
    body = base64.encodebytes(noise).replace(b"\n", b"\r\n")
    head = mail(1).partition(b"\r\n\r\n")[0]
    return (
        head + b'\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary="b"\r\n\r\n--b\r\n\r\nSee it.\r\n'
        b'--b\r\nContent-Type: application/octet-stream; name="a.bin"\r\nContent-Transfer-Encoding: base64\r\n\r\n'
        + body + b"\r\n--b--\r\n"
    )  # fmt: skip


@pytest.mark.soak
def test_a_message_of_40_mb_costs_a_bounded_amount_of_memory(dovecot: Dovecot, tmp_path: Path) -> None:
    """By law 3 parsing may take 64 MB and six times the message; receiving it stays within that."""
    raw = large(40)
    user = dovecot.new_user("big")
    dovecot.deliver(user, raw)
    account = dovecot.account(user, "plain").model_copy(update={"password": None})
    given = account.model_dump(mode="json", exclude={"password"}) | {"password": "secret"}
    given["password"] = dovecot.account(user, "plain").password.get_secret_value()  # type: ignore[union-attr]
    done = subprocess.run(
        [sys.executable, "-c", READ, json.dumps(given), f"sqlite:///{tmp_path / 'store.db'}"],
        capture_output=True, text=True, check=False, timeout=600,
    )  # fmt: skip
    assert 0 == done.returncode, done.stderr
    messages, size, attachments, before, peak = map(int, done.stdout.split())
    print(f"{size / 2**20:.1f} MB: from {before} MB to {peak} MB")
    assert (1, 1) == (messages, attachments)
    assert size > 39 * 2**20
    assert peak - before < 64 + 6 * size / 2**20


@pytest.mark.soak
async def test_a_mailbox_of_200000_messages_is_read_by_bounded_commands(world: World) -> None:
    """500 uids and 4 KB a command, 50,000 uids an answer."""
    number = 200_000
    raws = {uid: mail(uid, body="x") for uid in range(1, number + 1)}
    async with Liar(raws) as liar:
        liar.fetched = lambda uid, rest: (  # type: ignore[method-assign]
            f'* {uid} FETCH (UID {uid} FLAGS () INTERNALDATE "05-Jan-2026 10:00:00 +0000" '
            f"RFC822.SIZE {len(raws[uid])}".encode()
            + (f" BODY[] {{{len(raws[uid])}}}\r\n".encode() + raws[uid] if "BODY" in rest else b"") + b")\r\n"
        )  # fmt: skip
        sync = world.sync(liar.account(timeout=600.0), mailboxes=("inbox",))
        filed = await sync.poll(limit=2_000)
        assert 2_000 == len(filed)
        assert all(len(c) < 4_500 for c in liar.heard)
        fetches = [c for c in liar.heard if "FETCH" in c]
        assert all(sum(_count(part) for part in c.split()[2].split(",")) <= 500 for c in fetches)


def _count(part: str) -> int:
    low, _, high = part.partition(":")
    return int(high or low) - int(low) + 1

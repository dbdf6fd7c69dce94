"""Mail and mailboxes that are too big to be held at once. The long forms are soak tests."""

from __future__ import annotations

import base64
import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

from agentmail.mailsync import FirstRun
from agentmail.mailsync.mailbox import MailboxPass, Ready
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


class Endless(Liar):
    """A mailbox of so many messages, all answered by arithmetic: nothing is stored here.

    The uids of the newest 10,000 are long and have gaps, so that 4 KB are fewer than 500; the others follow each other.
    """

    RAW = b"Message-ID: <%d@x>\r\n\r\n."
    FAR = 4_000_000_000

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number, self.dense = number, number - 10_000
        self.next = self.uid(number) + 1
        self.asked: list[tuple[str, int, int]] = []
        """(command, its bytes, uids in its answer)"""

    def uid(self, number: int) -> int:
        return number if number <= self.dense else self.FAR + 3 * number

    def honest(self, word: str, tag: str, rest: str) -> bytes:
        if word in {"EXAMINE", "SELECT"}:
            return super().honest(word, tag, rest).replace(b"* 0 EXISTS", f"* {self.number} EXISTS".encode())
        if word not in {"SEARCH", "FETCH"}:
            return super().honest(word, tag, rest)
        by_uid = word == "FETCH" or rest.startswith("UID ")
        uids = self.said(rest.removeprefix("UID ").split()[0], by_uid=by_uid)
        self.asked.append((word, len(f"{tag} UID {word} {rest}") + 2, len(uids)))
        done = f"{tag} OK done\r\n".encode()
        if word == "SEARCH":
            return b"* SEARCH %b\r\n" % b" ".join(b"%d" % u for u in uids) + done
        lines = []
        for uid in uids:
            raw = self.RAW % uid
            line = b'* 1 FETCH (UID %d FLAGS () INTERNALDATE "05-Jan-2026 10:00:00 +0000" RFC822.SIZE %d' % (
                uid, len(raw))  # fmt: skip
            lines.append(line + (b" BODY[] {%d}\r\n%b)\r\n" % (len(raw), raw) if "BODY" in rest else b")\r\n"))
        return b"".join(lines) + done

    def said(self, which: str, *, by_uid: bool) -> list[int]:
        """The uids in a sequence set."""
        found: list[int] = []
        for part in which.split(","):
            low, _, high = part.partition(":")
            first, last = (self.next - 1 if x == "*" else int(x) for x in (low, high or low))
            if by_uid:
                found += range(max(first, 1), min(last, self.dense) + 1)
                first, last = max(self.dense + 1, -(-(first - self.FAR) // 3)), (last - self.FAR) // 3
            found += map(self.uid, range(first, min(last, self.number) + 1))
        return found


def nothing_unread(server: Liar, tag: str, rest: str) -> bytes | None:
    return f"* SEARCH\r\n{tag} OK done\r\n".encode() if "UNSEEN" in rest else None


@pytest.mark.parametrize("history", [20_000, pytest.param(200_000, marks=pytest.mark.soak)])
async def test_a_mailbox_of_200000_messages_is_read_by_bounded_commands(
    world: World, monkeypatch: pytest.MonkeyPatch, history: int
) -> None:
    """500 uids and 4 KB a command, 50,000 uids an answer, and each message asked for twice: for its size, and for its
    body. What is done with a message is not what is tried here, so it is only counted."""
    number, filed = 200_000, list[int]()

    async def count(self: MailboxPass, ready: Ready) -> None:
        assert all(b.body for b in ready.bodies)
        filed.extend(b.uid for b in ready.bodies)

    monkeypatch.setattr(MailboxPass, "_file", count)
    async with Endless(number) as liar:
        liar.lies["SEARCH"] = nothing_unread
        sync = world.sync(liar.account(timeout=60.0), mailboxes=("inbox",), first_run=FirstRun(history=history))
        await sync.poll()
        assert [liar.uid(n) for n in range(number - history + 1, number + 1)] == filed
        fetches = [asked for asked in liar.asked if asked[0] == "FETCH"]
        searches = [asked for asked in liar.asked if asked[0] == "SEARCH"]
        assert 500 >= max(uids for _, _, uids in fetches)
        assert 4_096 >= max(size for _, size, _ in liar.asked)
        assert 2 * history == sum(uids for _, _, uids in fetches)
        assert 50_000 >= max(uids for _, _, uids in searches)
        assert 10 >= len(searches), searches
        assert history / 70 >= len(fetches)
        assert 1 == liar.connections


async def test_a_mailbox_of_200000_messages_costs_nothing_between_two_looks(world: World) -> None:
    """The newest few are read; then a look is a window, and the whole list is compared by pieces now and then."""
    async with Endless(200_000) as liar:
        sync = world.sync(liar.account(timeout=60.0), mailboxes=("inbox",), first_run=FirstRun(history=20))
        liar.lies["SEARCH"] = nothing_unread
        assert 20 == len(await sync.poll())
        liar.asked.clear()
        assert [] == await sync.poll()
        assert ["FETCH", "SEARCH"] == [word for word, _, _ in liar.asked]
        assert 500 >= sum(uids for _, _, uids in liar.asked)
        liar.asked.clear()
        liar.number += 1
        liar.next += 3
        assert 1 == len(await sync.poll(thorough=False))
        assert 4 >= len(liar.asked)

"""A child prepares what comes, and nothing else is different: not when it dies, not when its parent does."""

from __future__ import annotations

import asyncio
import json
import marshal
import signal
import sqlite3
import sys
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from agentmail.imap import Fetched
from agentmail.mailsync import preparing_ahead
from agentmail.mailsync.ahead import SLOTS, _packed, _unpacked
from agentmail.mailsync.arriving import Terms, prepared
from agentmail.mailsync.reading import Place
from agentmail.threads.placement import named_in, parent_choices
from tests.waiting import alive, until

from .conftest import mail
from .liar import Liar

forks = pytest.mark.skipif(sys.platform != "linux", reason="needs fork, and Linux's /proc to see a child")

READ = """
import asyncio, json, os, signal, sys
from datetime import UTC, datetime
from agentmail.imap import batches
from agentmail.mailsync import Ahead, FirstRun, MailSync, preparing_ahead
from agentmail.mailsync import ahead as module, arriving, mailbox
from agentmail.settings import Account
from agentmail.store import ThreadStore, arrivals, threadstore

port, url, how = int(sys.argv[1]), sys.argv[2], sys.argv[3]
account = Account(address="agent@test.local", password="secret", timeout=20.0, imap_host="127.0.0.1", imap_port=port,
                  imap_security="plain", smtp_host="127.0.0.1", smtp_port=9, smtp_security="plain")
batches.BATCH = mailbox.BATCH = 10
mailbox.TOGETHER = 30  # so that some are filed while others are prepared
prepare, take, rows = arrivals.prepare, Ahead.take, Ahead.rows
taken, asked = [], []

def refusing(arrival, **how):
    if arrival.message.message_id == "<33@example.org>":
        raise ValueError("no database takes this")
    return prepare(arrival, **how)

def taking(ahead, *what):
    taken.append(1)
    if len(taken) == 3 and how == "killed":
        os.kill(ahead._child.pid, signal.SIGKILL)
    if len(taken) == 3 and how == "stopped":
        module.LATE = 0.05
        os.kill(ahead._child.pid, signal.SIGSTOP)
    return take(ahead, *what)

async def asking(ahead, job):
    asked.append(0)
    if len(asked) == 3 and how == "orphaned":
        print(ahead._child.pid, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    if len(asked) == 3 and how == "cancelled":
        asyncio.current_task().cancel()
    prepared = await rows(ahead, job)
    asked[-1] = sum(one is not None for one in prepared)
    return prepared

arriving.prepare = threadstore.prepare = refusing
Ahead.take, Ahead.rows = taking, asking

async def main(ahead):
    store = ThreadStore(url, clock=lambda: datetime(2026, 2, 1, tzinfo=UTC))
    sync = MailSync(account, store, first_run=FirstRun(history=None, everything_is_new=True), mailboxes=("inbox",),
                    clock=lambda: datetime(2026, 2, 1, tzinfo=UTC))
    sync.ahead = ahead
    try:
        await sync.poll()
    except asyncio.CancelledError:
        asked.append("again")
        await sync.poll()
    fds = os.listdir(f"/proc/{ahead._child.pid}/fd") if ahead and ahead.at_work else []
    children = open(f"/proc/self/task/{os.getpid()}/children").read().split()
    print(json.dumps({"asked": asked, "fds": len(fds), "children": len(children),
                      "at_work": bool(ahead and ahead.at_work), "free": len(ahead._free) if ahead else 0}))
    await sync.close()
    await store.close()

with preparing_ahead(wanted=how != "alone") as ahead:
    asyncio.run(main(ahead))
children = open(f"/proc/self/task/{os.getpid()}/children").read().split()
assert not children, children
"""
COUNT = 140
CUT = """
import asyncio, sys
from agentmail.errors import ServerError
from agentmail.imap import batches
from agentmail.mailsync import FirstRun, MailSync, mailbox, preparing_ahead
from agentmail.settings import Account
from agentmail.store import ThreadStore
from agentmail.testing import FaultProxy

port, url, points = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
batches.BATCH = mailbox.BATCH = 4
mailbox.TOGETHER, mailbox.FEW = 12, 0
first = FirstRun(history=None, everything_is_new=True)

async def session(store, account, ahead):
    sync = MailSync(account, store, first_run=first, mailboxes=("inbox",))
    sync.ahead = ahead
    try:
        await sync.poll()
    finally:
        await sync.close()

async def main(ahead):
    async with ThreadStore(url) as store, FaultProxy("127.0.0.1", port) as proxy:

        def account(name):
            return Account(address=f"{name}@test.local", username="u", password="secret", timeout=10.0,
                           imap_host="127.0.0.1", imap_port=proxy.port, imap_security="plain", smtp_host="127.0.0.1",
                           smtp_port=9, smtp_security="plain")

        await session(store, account("whole"), ahead)
        for direction, whole in dict(proxy.carried).items():
            for point in range(points):
                proxy.cut_after(1 + point * whole // points, direction, reset=bool(point % 2))
                for attempt in range(4):
                    try:
                        await session(store, account(f"{direction}{point}"), ahead)
                        break
                    except ServerError:
                        if attempt == 3:
                            raise
                assert ahead.at_work

with preparing_ahead(wanted=True) as ahead:
    asyncio.run(main(ahead))
"""


def hostile(number: int) -> bytes:
    """Most are ordinary; some are answers, some in other tongues, some are what databases and parsers dislike."""
    head = f"From: p{number % 7}@example.org\r\nTo: agent@test.local\r\nMessage-ID: <{number}@example.org>\r\n"
    match number % 20:
        case 3:
            return head.encode() + b"Subject: nul\r\nContent-Type: text/html\r\n\r\n<p>a\x00b\x00</p>"
        case 5:
            return b"\xff\xfe\x00garbage" * number
        case 7:
            return head.encode() + "Subject: =?utf-8?q?=ed=a0=80_ü?=\r\n\r\n\ud800".encode("utf-8", "surrogatepass")
        case 9:
            return b""
        case 11:
            return (
                b"From: MAILER-DAEMON@test.local\r\nTo: agent@test.local\r\nSubject: Undelivered\r\n"
                b'MIME-Version: 1.0\r\nContent-Type: multipart/report; report-type=delivery-status; boundary="b"\r\n'
                b"\r\n--b\r\n\r\nno\r\n--b\r\nContent-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; x\r\n"
                b"\r\nFinal-Recipient: rfc822; ana@example.org\r\nAction: failed\r\nStatus: 5.1.1\r\n\r\n--b\r\n"
                b"Content-Type: text/rfc822-headers\r\n\r\nMessage-ID: <%d@example.org>\r\n\r\n--b--\r\n" % (number - 1)
            )
        case 13:
            return head.encode() + b"Content-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\n\r\nhello"
        case 15 | 16 | 17:
            answers = f"In-Reply-To: <{number - 1}@example.org>\r\nReferences: <0@x> <{number - 2}@example.org>\r\n"
            return (head + answers + f"Auto-Submitted: auto-replied\r\nSubject: Re: {number}\r\n\r\nyes").encode()
        case 18:
            head += "Content-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\n\r\nsee\r\n--x\r\n"
            return (head + 'Content-Type: text/plain; name="a.txt"\r\n\r\n' + "z" * 40_000).encode()
        case _:
            return mail(number, body="word " * (number % 50))


@asynccontextmanager
async def serving() -> AsyncIterator[Liar]:
    messages = {n: hostile(n) for n in range(1, COUNT + 1)}
    messages[60] = mail(60, body=("x" * 70 + "\r\n") * 40_000)  # comes in pieces
    async with Liar(messages) as liar:
        plain, liar.lies["FETCH"] = liar.fetched, _poison
        flags = (b"", b"\\Seen \\Recent", b"\\Flagged $Label1")
        liar.fetched = lambda uid, rest: plain(uid, rest).replace(b"FLAGS ()", b"FLAGS (%b)" % flags[uid % 3])  # type: ignore[method-assign]
        yield liar


def _poison(server: Liar, tag: str, rest: str) -> bytes | None:
    """Whoever asks for the 77th message is cut off."""
    return b"* 1 FETCH (UID 77 FL\0close" if "BODY.PEEK[]" in rest and 77 in server.matching("UID " + rest) else None


@pytest.fixture
async def server() -> AsyncIterator[Liar]:
    async with serving() as liar:
        yield liar


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Any]]:
    """What a store holds that had no child."""
    database = tmp_path_factory.mktemp("alone") / "s.db"

    async def work() -> None:
        async with serving() as server:
            await read(server, database, "alone")

    asyncio.run(work())
    return contents(database)


async def read(server: Liar, database: Path, how: str) -> dict[str, Any]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", READ, str(server.port), f"sqlite:///{database}", how,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    async with asyncio.timeout(300):  # it takes a second or two
        out, err = await process.communicate()
    if how == "orphaned":
        return {"code": process.returncode, "child": int(out)}
    assert (process.returncode, err.decode()) == (0, "")
    said: dict[str, Any] = json.loads(out)
    return said


def contents(database: Path) -> dict[str, list[Any]]:
    """Everything, with threads called by their messages: which number they get depends on who is filed together."""
    db = sqlite3.connect(database)
    threads: dict[int, list[int]] = {}
    for message, thread in db.execute("SELECT id, thread FROM message ORDER BY id"):
        threads.setdefault(thread, []).append(message)
    found: dict[str, list[Any]] = {"threads": sorted(threads.values())}
    for what, columns in {
        "message": "id, message_id, message_id_key, content_key, own_key, at, sender, subject_key, answers, variant, "
        "headless, outgoing, fresh, size, parsed",
        "raw": "*", "attachment": "*", "location": "*", "quarantine": "account, reason, arrival, attempts, at, data",
        "skipped": "account, mailbox, uid, attempts, settled", "mailbox": "*", "person": "DISTINCT atom",
        "event WHERE kind LIKE 'message.%'": "kind, message, account", "timer": "count(*)",
    }.items():  # fmt: skip
        found[what] = sorted(map(repr, db.execute(f"SELECT {columns} FROM {what}").fetchall()))
    db.close()
    return found


@pytest.mark.parametrize("number", range(1, 41))
@pytest.mark.parametrize("role", ["inbox", "sent"])
def test_what_comes_back_is_what_was_worked_out(number: int, role: str) -> None:
    place = Place("agent@test.local", "INBOX", role, frozenset({"agent@test.local"}), ())
    day = datetime(2026, 1, 5, tzinfo=UTC)
    terms = Terms(place, 7, number % 3, day.timestamp(), 900.0, day, frozenset({"agent@test.local"}), b"secret")
    one = Fetched(number, 1, day, ("\\Recent", "\\Flagged") if number % 2 else None, hostile(number))
    packed, there = _packed(one, (), terms), prepared(one, (), terms)
    if packed is None:  # its parent does it
        assert role == "sent" or there.arrival.message.bounce is not None
        return
    back = _unpacked(marshal.loads(marshal.dumps(packed)), one, terms)
    for what in ("facts", "row", "attachments", "words", "subject"):
        assert getattr(back, what) == getattr(there, what)
    told, known = back.arrival.message, there.arrival.message
    assert replace(back.arrival, message=known) == there.arrival
    assert (named_in(told), parent_choices(told), told.automated) == (
        named_in(known), parent_choices(known), known.automated)  # fmt: skip


def test_nothing_is_forked_beside_threads() -> None:
    with ThreadPoolExecutor(1) as pool:
        pool.submit(int).result()
        with preparing_ahead(wanted=True) as ahead:
            assert ahead is None


@forks
async def test_with_a_child_the_store_holds_what_it_holds_without(
    server: Liar, alone: dict[str, list[Any]], tmp_path: Path
) -> None:
    said = await read(server, tmp_path / "s.db", "well")
    found = contents(tmp_path / "s.db")
    assert {name: rows for name, rows in alone.items() if found[name] != rows} == {}
    assert (len(alone["quarantine"]), len(alone["skipped"])) == (1, 2)
    assert COUNT - 20 < len(alone["message"]) < COUNT
    assert sum(said["asked"]) > COUNT * 3 / 4, "the child did little"
    # Its pipes, and the three that everybody has: no socket, no file.
    assert (said["fds"], said["children"], said["at_work"]) == (5, 1, True)


@forks
@pytest.mark.parametrize("how", ["killed", "stopped"])
async def test_what_a_child_leaves_undone_its_parent_does(
    server: Liar, alone: dict[str, list[Any]], tmp_path: Path, how: str
) -> None:
    said = await read(server, tmp_path / "s.db", how)
    found = contents(tmp_path / "s.db")
    assert {name: rows for name, rows in alone.items() if found[name] != rows} == {}
    assert 0 in said["asked"], "it did all before it ended"
    assert (said["children"], said["at_work"]) == (0, False)


@forks
async def test_a_child_serves_again_after_its_work_was_cancelled(
    server: Liar, alone: dict[str, list[Any]], tmp_path: Path
) -> None:
    said = await read(server, tmp_path / "s.db", "cancelled")
    assert contents(tmp_path / "s.db")["threads"] == alone["threads"]
    assert sum(said["asked"][said["asked"].index("again") + 1 :]), "it was not asked again"
    assert said["free"] == SLOTS, "a batch that nobody wants any more takes up room"


@forks
async def test_a_child_ends_with_its_parent(server: Liar, alone: dict[str, list[Any]], tmp_path: Path) -> None:
    said = await read(server, tmp_path / "s.db", "orphaned")
    assert said["code"] == -signal.SIGKILL
    await until(lambda: not alive(said["child"]))
    await read(server, tmp_path / "s.db", "well")
    assert contents(tmp_path / "s.db")["threads"] == alone["threads"]


@forks
@pytest.mark.parametrize("points", [5, pytest.param(150, marks=pytest.mark.soak)])
async def test_cut_anywhere_with_a_child_nothing_is_lost_and_nothing_twice(tmp_path: Path, points: int) -> None:
    """Each point in an account of its own; between two points batches stay with the child that nobody wants."""
    numbers = range(1, 41)
    async with Liar({n: mail(n, body="x" * (n * 37 % 900)) for n in numbers}) as server:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", CUT, str(server.port), f"sqlite:///{tmp_path}/s.db", str(points),
            stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        async with asyncio.timeout(600):
            _, err = await process.communicate()
    assert (process.returncode, err.decode()) == (0, "")
    db = sqlite3.connect(tmp_path / "s.db")
    accounts = [account for (account,) in db.execute("SELECT key FROM account")]
    assert len(accounts) == 1 + 2 * points
    for account in accounts:
        stored = db.execute("SELECT message_id FROM message WHERE account = ?", (account,)).fetchall()
        assert sorted(stored) == sorted((f"<{n}@example.org>",) for n in numbers)
        for table in ("location", "event WHERE kind = 'message.filed'"):
            sql = f"SELECT count(*) FROM (SELECT * FROM {table}) WHERE account = ?"
            assert db.execute(sql, (account,)).fetchone() == (len(numbers),)
    db.close()

"""What receiving costs: fetch and parse beside imap_tools, ingest beside mbsync, and 1,000 idle mailboxes in a process.

    python -m bench.imap fetch  [--messages 2000] [--rtt 0.02]   # needs Dovecot; imap_tools comes into .cache/
    python -m bench.imap ingest [--messages 5000]                # and mbsync (Debian's isync), when it is there
    python -m bench.imap idle   [--mailboxes 1000] [--seconds 60]

Every figure is one process on one server with the same mail; the order changes each round. CPU is this process's.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from agentmail.imap import FACTS, WHOLE, ImapConnection, uid_sets
from agentmail.mailsync import FirstRun, Leases, MailSync, watch
from agentmail.message.parse import parse
from agentmail.settings import Account
from agentmail.store import ThreadStore

from .corpus import generate

CACHE = Path(".cache/bench-imap")
NAIVE = """
import sys, time, email, email.policy, imaplib, json
import imap_tools
how, host, port, user, count = sys.argv[1:6]
began, cpu, number = time.perf_counter(), time.process_time(), 0
with imap_tools.MailBoxUnencrypted(host, int(port)).login(user, "secret") as box:
    if how == "bulk":
        for m in box.fetch(mark_seen=False, bulk=200):
            m.text, m.subject, m.from_, m.attachments; number += 1
    else:
        for uid in box.uids():
            data = box.client.uid("fetch", uid, "(BODY.PEEK[])")[1]
            m = email.message_from_bytes(data[0][1], policy=email.policy.default)
            m["Subject"], m["From"], m["To"], m["Date"], m["Message-ID"], m["References"]
            body = m.get_body(("plain", "html")); body and body.get_content(); number += 1
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]
print(json.dumps({"messages": number, "seconds": time.perf_counter() - began, "cpu": time.process_time() - cpu,
                  "rss": int(peak) / 1024}))
"""
IDLE_SERVER = """
import asyncio, sys, time
state = {}
async def serve(reader, writer):
    user = ""
    w = lambda s: writer.write(s.encode())
    w("* OK [CAPABILITY IMAP4rev1 IDLE] bench\\r\\n")
    n, since = 0, 0
    def facts(tail=""):
        when = 'INTERNALDATE "05-Jan-2026 10:00:00 +0000"'
        return f'* {n} FETCH (UID {n} FLAGS () {when} RFC822.SIZE {len(RAW(n))}{tail})'
    def RAW(k):
        head = f"From: a@b.c\\r\\nTo: {user}\\r\\nSubject: s{k}\\r\\nMessage-ID: <{user}.{k}@b.c>\\r\\n"
        return (head + "\\r\\nhello\\r\\n").encode()
    try:
        while line := (await reader.readline()).decode().rstrip():
            if line == "DONE":
                w(f"{tag} OK done\\r\\n"); continue
            tag, _, cmd = line.partition(" ")
            up = cmd.upper()
            if up.startswith("LOGIN"):
                user = cmd.split('"')[1]
                w(f"{tag} OK [CAPABILITY IMAP4rev1 IDLE] in\\r\\n")
                continue
            if up.startswith("LIST"): w('* LIST () "/" INBOX\\r\\n')
            if up.startswith("EXAMINE"):
                w(f"* {n} EXISTS\\r\\n* OK [UIDVALIDITY 7] v\\r\\n* OK [UIDNEXT {n + 1}] n\\r\\n")
            if up.startswith("UID SEARCH"): w(f"* SEARCH {n if n else ''}\\r\\n")
            if up.startswith("UID FETCH") and n:
                part = "<0>" if "<0." in up else ""
                if "BODY" in up: w(facts(f" BODY[]{part} {{{len(RAW(n))}}}\\r\\n" + RAW(n).decode()) + "\\r\\n")
                else: w(facts() + "\\r\\n")
            if up == "IDLE":
                def push():
                    nonlocal n
                    n += 1; w(f"* {n} EXISTS\\r\\n"); return time.monotonic()
                state[user] = push
                w("+ idling\\r\\n"); continue
            w(f"{tag} OK done\\r\\n")
    except (OSError, asyncio.CancelledError): pass
    finally: writer.close()
async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while user := (await reader.readline()).decode().strip():
        print(user, state[user](), flush=True)
asyncio.run(main())
"""


def _rss() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def _peak() -> float:
    """Of this program: ru_maxrss would be that of the process which started it, when that was bigger."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def _peer() -> str:
    """A Python with imap_tools, made once."""
    python = CACHE / "venv" / "bin" / "python"
    if not python.exists():
        venv.create(CACHE / "venv", with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "-q", "imap-tools==1.16.0"], check=True)
    return str(python)


@contextlib.contextmanager
def _dovecot(messages: int) -> Iterator[tuple[Any, str]]:
    """The tests' server, with mail in it."""
    from tests.servers.dovecot import Dovecot

    server = Dovecot()
    server.start()
    try:
        user = server.new_user("bench")
        box = server.directory / "home" / user / "Maildir"
        server.deliver(user, b"Subject: first\r\n\r\nmakes the mailbox\r\n")
        owner = box.stat()
        for n, mail in enumerate(generate(messages - 1, seed=3)):
            path = box / "cur" / f"{1_600_000_000 + n}.M{n}P1.bench:2,"
            path.write_bytes(mail.raw.replace(b"\r\n", b"\n"))
            os.chown(path, owner.st_uid, owner.st_gid)
        warm = (
            "import imaplib, sys; c = imaplib.IMAP4(sys.argv[1], int(sys.argv[2])); c.login(sys.argv[3], 'secret');"
            "c.select(readonly=True); c.uid('fetch', '1:*', '(RFC822.SIZE BODY.PEEK[])')"
        )
        subprocess.run([sys.executable, "-c", warm, server.host, str(server.imap), user], check=True)
        yield server, user
    finally:
        server.stop()


async def _fetch_and_parse(account: Account) -> dict[str, float]:
    began, cpu, number, size = time.perf_counter(), time.process_time(), 0, 0
    connection = ImapConnection(account)
    await connection.connect()
    await connection.examine("INBOX")
    uids = await connection.search_uids(1) or []
    for piece in uid_sets(uids):
        facts = await connection.fetch(piece, FACTS)
        batches: list[list[int]] = [[]]
        size = 0
        for uid in piece:
            if size > 2 * 2**20 or len(batches[-1]) >= 200:
                batches.append([])
                size = 0
            batches[-1].append(uid)
            size += facts[uid].size or 0
        ahead = None
        async with asyncio.TaskGroup() as group:
            for i, batch in enumerate(batches):
                found = await (ahead or connection.fetch(batch, WHOLE, expected=2**24))
                ahead = None
                if i + 1 < len(batches):
                    ahead = group.create_task(connection.fetch(batches[i + 1], WHOLE, expected=2**24))
                number += await asyncio.to_thread(_parse_all, found)
    await connection.close()
    return {"messages": number, "seconds": time.perf_counter() - began, "cpu": time.process_time() - cpu,
            "rss": _peak()}  # fmt: skip


def _parse_all(found: dict[int, object]) -> int:
    for one in found.values():
        message = parse(one.body or b"", received_at=one.received_at)  # type: ignore[attr-defined]
        assert message.text is not None
    return len(found)


def fetch(messages: int, rtt: float) -> None:
    python = _peer()
    with _dovecot(messages) as (server, user):
        account = server.account(user, "plain", timeout=60.0)
        port = str(server.imap)
        proxy = None
        if rtt:
            code = ("import asyncio,sys\nfrom agentmail.testing import FaultProxy\nasync def main():\n"
                    " async with FaultProxy('127.0.0.1',int(sys.argv[1])) as p:\n"
                    "  p.latency=float(sys.argv[2])/2;print(p.port,flush=True);await asyncio.Event().wait()\n"
                    "asyncio.run(main())")  # fmt: skip
            proxy = subprocess.Popen([sys.executable, "-c", code, port, str(rtt)], stdout=subprocess.PIPE, text=True)
            assert proxy.stdout is not None
            port = proxy.stdout.readline().strip()
            account = account.model_copy(update={"imap_host": "127.0.0.1", "imap_port": int(port)})
        here = [sys.executable, "-m", "bench.imap", "one", str(account.imap_host), port, user]
        peers = {"agentmail": here, "imap_tools bulk 200": [python, "-c", NAIVE, "bulk", "127.0.0.1", port, user, "0"]}
        if not rtt:
            peers["naive loop"] = [python, "-c", NAIVE, "naive", "127.0.0.1", port, user, "0"]
        results: dict[str, list[dict[str, float]]] = {name: [] for name in peers}
        for turn in range(3):
            for name in list(peers)[:: -1 if turn % 2 else 1]:
                done = subprocess.run(peers[name], capture_output=True, text=True, check=True)
                results[name].append(json.loads(done.stdout))
        if proxy is not None:
            proxy.kill()
            proxy.wait()
    for name, runs in results.items():
        rate = statistics.median(r["messages"] / r["seconds"] for r in runs)
        cpu = statistics.median(r["cpu"] / r["messages"] for r in runs) * 1e6
        print(f"{name:22} {rate:8.0f} messages/s  {cpu:7.0f} us CPU/message  {max(r['rss'] for r in runs):5.0f} MB")


async def _ingest(account: Account, url: str, messages: int) -> float:
    store = ThreadStore(url)
    await store.open()
    sync = MailSync(account, store, first_run=FirstRun(history=None), mailboxes=("inbox",))
    began = time.perf_counter()
    filed = await sync.poll()
    took = time.perf_counter() - began
    assert len(filed) == messages, len(filed)
    await sync.close()
    await store.close()
    return took


def ingest(messages: int) -> None:
    with _dovecot(messages) as (server, user):
        for _ in range(2):
            with tempfile.TemporaryDirectory(dir=".") as here:
                account = server.account(user, "plain", timeout=60.0)
                took = asyncio.run(_ingest(account, f"sqlite:///{here}/s.db", messages))
                print(f"agentmail  {messages / took:7.0f} messages/s  {took:6.1f} s")
                if shutil.which("mbsync"):
                    rc = Path(here, "rc")
                    rc.write_text(f"IMAPStore far\nHost {server.host}\nPort {server.imap}\nUser {user}\nPass secret\n"
                                  f"SSLType None\n\nMaildirStore near\nInbox {here}/m\n\nChannel c\nFar :far:\n"
                                  f"Near :near:\nSync Pull\nCreate Near\nSyncState {here}/\n")  # fmt: skip
                    began = time.perf_counter()
                    subprocess.run(["mbsync", "-c", rc, "-q", "c"], check=True)
                    took = time.perf_counter() - began
                    print(f"mbsync     {messages / took:7.0f} messages/s  {took:6.1f} s")


async def _idle(mailboxes: int, seconds: float) -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(8192, resource.getrlimit(resource.RLIMIT_NOFILE)[1]),) * 2)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    server = subprocess.Popen([sys.executable, "-c", IDLE_SERVER], **pipes, text=True)
    assert server.stdin is not None
    assert server.stdout is not None
    port = int(server.stdout.readline())
    with tempfile.TemporaryDirectory() as directory:
        store = ThreadStore(f"sqlite:///{directory}/s.db")
        await store.open()
        bare = _rss()
        told: dict[str, asyncio.Future[float]] = {}
        leases = Leases(store)
        syncs = [
            MailSync(Account(address=f"u{n}@b.c", password="p", imap_host="127.0.0.1", imap_port=port,
                             imap_security="plain", smtp_host="127.0.0.1", smtp_port=9, smtp_security="plain"), store)
            for n in range(mailboxes)
        ]  # fmt: skip

        def hear(user: str) -> Callable[[object], None]:
            return lambda _: told[user].set_result(time.monotonic()) if user in told and not told[user].done() else None

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(watch(s, hear(s.account.address), leases=leases)) for s in syncs]
            while not all(s._connection is not None and s._connection._idle is not None for s in syncs):
                await asyncio.sleep(0.1)
            await asyncio.sleep(1)
            rss, cpu, began = _rss(), time.process_time(), time.perf_counter()
            await asyncio.sleep(seconds)
            share = (time.process_time() - cpu) / (time.perf_counter() - began)
            late = []
            for n in range(min(300, max(100, mailboxes))):
                user = syncs[n % mailboxes].account.address
                told[user] = asyncio.get_running_loop().create_future()
                server.stdin.write(user + "\n")
                server.stdin.flush()
                sent = float((await asyncio.to_thread(server.stdout.readline)).split()[1])
                late.append((await told[user] - sent) * 1000)
                await asyncio.sleep(0.02)
            for task in tasks:
                task.cancel()
        for s in syncs:
            await s.close()
        late.sort()
        print(f"{mailboxes} idle mailboxes: {rss:.0f} MB RSS ({(rss - bare) * 1024 / mailboxes:.0f} KB each over "
              f"{bare:.0f} MB), {share * 100:.2f} % of a core; EXISTS to stored and told "
              f"p50 {late[len(late) // 2]:.1f} p95 {late[len(late) * 95 // 100]:.1f} "
              f"p99 {late[len(late) * 99 // 100]:.1f} ms")  # fmt: skip
        await store.close()
    server.kill()
    server.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["fetch", "ingest", "idle", "one"])
    parser.add_argument("rest", nargs="*")
    parser.add_argument("--messages", type=int, default=2000)
    parser.add_argument("--rtt", type=float, default=0.0)
    parser.add_argument("--mailboxes", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=60.0)
    given = parser.parse_args()
    if given.what == "one":
        host, port, user = given.rest
        account = Account(address=user, password="secret", imap_host=host, imap_port=int(port), timeout=60.0,
                          imap_security="plain", smtp_host=host, smtp_port=9, smtp_security="plain")  # fmt: skip
        print(json.dumps(asyncio.run(_fetch_and_parse(account))))
    elif given.what == "fetch":
        fetch(given.messages, given.rtt)
    elif given.what == "ingest":
        ingest(given.messages)
    else:
        asyncio.run(_idle(given.mailboxes, given.seconds))


if __name__ == "__main__":
    main()

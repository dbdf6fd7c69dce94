"""Idle mailboxes in one process, and how soon an agent holds new mail.

    python -m bench.waiting [--mailboxes 1 100 1000] [--seconds 60] [--tls] [--tries 200]
    python -m bench.waiting --real [--tries 30]

The first, on a server that pushes at once, measures what follows its EXISTS until the message is stored, and the agent
that was told of it has read it from the store.
The second measures from the end of a delivery to Dovecot, beside Dovecot's own notice, which is half a second late.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from agentmail.imap.idle import Idle
from agentmail.mailsync import Leases, MailSync, watch
from agentmail.settings import Account
from agentmail.store import Filed, ThreadStore

IDLE_SERVER = """
import asyncio, ssl, sys, time
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
    tls = None
    if len(sys.argv) > 1:
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(sys.argv[1] + "/cert.pem", sys.argv[1] + "/key.pem")
    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
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


def _figures(late: list[float]) -> str:
    late = sorted(late)
    return " ".join(f"p{p} {late[len(late) * p // 100]:.1f}" for p in (50, 95, 99)) + f" min {late[0]:.1f} ms"


def _noting_exists() -> list[float]:
    """The CPU time of this process whenever an EXISTS is heard."""
    at: list[float] = []
    hear = Idle._hear

    def noted(idle: Idle, line: bytes) -> bool:
        if b"EXISTS" in line:
            at.append(time.process_time())
        return hear(idle, line)

    Idle._hear = noted  # type: ignore[method-assign]
    return at


async def _until_idle(syncs: list[MailSync]) -> None:
    while not all(s._connection is not None and s._connection._idle is not None for s in syncs):
        await asyncio.sleep(0.1)


async def idle(mailboxes: int, seconds: float, tries: int, directory: Path, *, tls: bool) -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(8192, resource.getrlimit(resource.RLIMIT_NOFILE)[1]),) * 2)
    more: dict[str, Any] = {"imap_security": "plain"}
    if tls:
        # In a process of its own: what makes them is no part of what is measured.
        make = "import pathlib as p, sys; from tests.servers.process import *; make_certificates(p.Path(sys.argv[1]))"
        subprocess.run([sys.executable, "-c", make, str(directory)], check=True)
        more = {"imap_security": "tls", "ca_file": directory / "ca.pem"}
    command = [sys.executable, "-c", IDLE_SERVER, *([str(directory)] if tls else [])]
    server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert server.stdin is not None
    assert server.stdout is not None
    port = int(server.stdout.readline())
    store = ThreadStore(f"sqlite:///{directory}/s.db")
    await store.open()
    bare = _rss()
    told: dict[str, asyncio.Future[float]] = {}
    cpu_at, cpu_until = _noting_exists(), list[float]()
    leases = Leases(store)
    syncs = [
        MailSync(Account(address=f"u{n}@b.c", password="p", imap_host="127.0.0.1", imap_port=port,
                         smtp_host="127.0.0.1", smtp_port=9, smtp_security="plain", **more), store)
        for n in range(mailboxes)
    ]  # fmt: skip

    def hear(user: str) -> Callable[[list[Filed]], Awaitable[None]]:
        async def hold(filed: list[Filed]) -> None:
            assert await store.message(filed[-1].id)
            if user in told and not told[user].done():
                told[user].set_result(time.monotonic())
                cpu_until.append((time.process_time() - cpu_at[-1]) * 1000)

        return hold

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(watch(s, hear(s.account.address), leases=leases)) for s in syncs]
            await _until_idle(syncs)
            await asyncio.sleep(1)
            gc.freeze()  # modules and connections stay; the command freezes what it imported, too
            rss, cpu, began = _rss(), time.process_time(), time.perf_counter()
            await asyncio.sleep(seconds)
            share = (time.process_time() - cpu) / (time.perf_counter() - began)
            late, used = [], time.process_time()
            for n in range(tries):
                user = syncs[n % mailboxes].account.address
                told[user] = asyncio.get_running_loop().create_future()
                server.stdin.write(user + "\n")
                server.stdin.flush()
                at = await told[user]
                sent = float((await asyncio.to_thread(server.stdout.readline)).split()[1])
                late.append((at - sent) * 1000)
                await asyncio.sleep(0.02)
            used = (time.process_time() - used) / tries * 1000
            for task in tasks:
                task.cancel()
        for s in syncs:
            await s.close()
        each = (rss - bare) * 1024 / mailboxes
        print(f"{mailboxes} idle mailboxes{' over TLS' if tls else ''}: {rss:.0f} MB RSS, {each:.0f} KB each "
              f"over {bare:.0f} MB, {share * 100:.2f} % of a core; EXISTS to agent {_figures(late)}, "
              f"{sorted(cpu_until)[len(cpu_until) // 2]:.1f} ms CPU on the way, {used:.1f} ms CPU each",
              flush=True)  # fmt: skip
        await store.close()
    finally:
        server.kill()
        server.wait()


async def real(tries: int, directory: Path) -> None:
    """One delivery at a time to Dovecot: when a bare socket in IDLE hears of it, and when the agent holds it."""
    from tests.servers.dovecot import Dovecot

    dovecot = Dovecot()
    dovecot.start()
    try:
        user = dovecot.new_user("bench")
        account = dovecot.account(user, "plain")
        reader, writer = await asyncio.open_connection(dovecot.host, dovecot.imap)
        for line in (f"a LOGIN {user} secret", "b EXAMINE INBOX", "c IDLE"):
            writer.write(line.encode() + b"\r\n")
        while not (await reader.readline()).startswith(b"+"):
            pass
        heard: list[float] = []
        got = [asyncio.Event(), asyncio.Event()]

        async def bare() -> None:
            while line := await reader.readline():
                if b"EXISTS" in line:
                    heard.append(time.monotonic())
                    got[0].set()

        async with ThreadStore(f"sqlite:///{directory}/s.db") as store, asyncio.TaskGroup() as group:
            sync, agent = MailSync(account, store), list[float]()

            async def told(filed: list[Filed]) -> None:
                assert await store.message(filed[-1].id)
                agent.append(time.monotonic())
                got[1].set()

            tasks = [group.create_task(bare()), group.create_task(watch(sync, told))]
            await _until_idle([sync])
            delivered = []
            for n in range(tries):
                mail = f"Subject: {n}\r\nMessage-ID: <{n}@b.c>\r\n\r\nhi\r\n".encode()
                await asyncio.to_thread(dovecot.deliver, user, mail)
                delivered.append(time.monotonic())
                for event in got:
                    await event.wait()
                    event.clear()
                await asyncio.sleep(1.0)  # or Dovecot would put two notices together
            for task in tasks:
                task.cancel()
        await sync.close()
        writer.close()
    finally:
        dovecot.stop()
    print("delivery -> Dovecot's notice", _figures([(h - d) * 1000 for h, d in zip(heard, delivered, strict=True)]))
    print("delivery -> agent           ", _figures([(a - d) * 1000 for a, d in zip(agent, delivered, strict=True)]))
    print("notice -> agent             ", _figures([(a - h) * 1000 for a, h in zip(agent, heard, strict=True)]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mailboxes", type=int, nargs="+", default=[1, 100, 1000])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--tries", type=int, default=200)
    parser.add_argument("--tls", action="store_true")
    parser.add_argument("--real", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        if given.real:
            asyncio.run(real(given.tries, Path(directory)))
            return
        for n in given.mailboxes:
            here = Path(directory, str(n))
            here.mkdir()
            asyncio.run(idle(n, given.seconds, given.tries, here, tls=given.tls))


if __name__ == "__main__":
    main()

"""How fast the durable outbox sends, beside aiosmtplib alone, in one run against one sink (Postfix's smtp-sink).

    python -m bench.outbox [--messages 300] [--rtt 0 20] [--together 32] [--floor]
                           [--store sqlite postgresql sqlite:///… postgresql://…]

Prints messages per second (wall clock), CPU milliseconds per message of this process, and the ratios.
`rows` is the time to write the rows before (thread, message, submission); what of it needs no database stands apart.
`sent` is the time from there to the row after. All of them get messages that are composed already, and each of them
sends a few before the clock starts. `--store postgresql` starts a private server with fsync on.
`--floor` adds what the same rows cost by the bare driver (`bench/floor.py`).
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import socket
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from email.message import EmailMessage
from pathlib import Path

import aiosmtplib

from agentmail.message.identifiers import make_message_id
from agentmail.message.models import Envelope, Outgoing
from agentmail.outbox import Outbox
from agentmail.settings import Account
from agentmail.smtp import Submitter
from agentmail.store import ThreadStore

from . import floor
from .turns import database, postgresql

WARM = 8
"""Messages that are sent before the clock starts: statements are built, and connections made, once in a process."""
BODY = "hello, this is a line of about eighty characters, as people write them in mail.\n" * 48
FROM, TO = "agent@test.local", "ana@test.local"


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def sink() -> tuple[subprocess.Popen[bytes], int]:
    port = free_port()
    words = ["/usr/sbin/smtp-sink", *(["-u", "nobody"] if os.getuid() == 0 else []), f"127.0.0.1:{port}", "500"]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for _ in range(200):
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return process, port
        except OSError:
            time.sleep(0.02)
    raise SystemExit("smtp-sink does not start: apt-get install postfix")


@asynccontextmanager
async def far_away(port: int, delay: float) -> AsyncIterator[int]:
    """The same server behind a line with this one-way delay (seconds). It keeps the order and adds no other limit."""
    if not delay:
        yield port
        return
    loop = asyncio.get_running_loop()

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            loop.call_later(delay, writer.write, data)
        loop.call_later(delay, writer.close)

    async def session(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(2 * delay)  # the TCP handshake
        up_reader, up_writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            await asyncio.gather(pump(reader, up_writer), pump(up_reader, writer))
        except ConnectionError:
            pass

    server = await asyncio.start_server(session, "127.0.0.1", 0)
    try:
        yield int(server.sockets[0].getsockname()[1])
    finally:
        server.close()


def letter(number: int) -> EmailMessage:
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = FROM, TO, f"message {number}"
    message["Message-ID"] = make_message_id("test.local")
    message.set_content(BODY)
    return message


async def timed(name: str, count: int, work: Callable[[], Awaitable[None]]) -> dict[str, object]:
    wall, cpu = time.perf_counter(), time.process_time()
    await work()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return {"name": name, "per_second": round(count / wall, 1), "cpu_ms": round(1000 * cpu / count, 3)}


async def naive(port: int, count: int) -> dict[str, object]:
    async def send(letters: list[EmailMessage]) -> None:
        for one in letters:
            await aiosmtplib.send(one, hostname="127.0.0.1", port=port, start_tls=False, local_hostname="bench")

    await send([letter(i) for i in range(WARM)])
    letters = [letter(i) for i in range(count)]
    return await timed("aiosmtplib.send", count, lambda: send(letters))


@asynccontextmanager
async def kept_open(port: int) -> AsyncIterator[list[aiosmtplib.SMTP]]:
    """4 connections of aiosmtplib, each of which has sent something."""
    clients = [
        aiosmtplib.SMTP(hostname="127.0.0.1", port=port, start_tls=False, local_hostname="bench") for _ in range(4)
    ]
    for number, client in enumerate(clients):
        await client.connect()
        await client.sendmail(FROM, [TO], bytes(letter(number)).replace(b"\n", b"\r\n"))
    try:
        yield clients
    finally:
        for client in clients:
            await client.quit()


async def pooled(port: int, count: int) -> dict[str, object]:
    bodies = [bytes(letter(i)).replace(b"\n", b"\r\n") for i in range(count)]

    async def one(client: aiosmtplib.SMTP) -> None:
        while bodies:
            await client.sendmail(FROM, [TO], bodies.pop())

    async with kept_open(port) as clients:

        async def work() -> None:
            await asyncio.gather(*map(one, clients))

        return await timed("aiosmtplib, 4 kept connections, no outbox", count, work)


def outbox_of(port: int) -> Callable[[ThreadStore], Outbox]:
    account = Account(address=FROM, imap_host="127.0.0.1", smtp_host="127.0.0.1", smtp_port=port, smtp_security="plain")
    return lambda store: Outbox(account, store, Submitter(account, connections=4, per_connection=1_000_000))


def composed(store: ThreadStore, count: int) -> list[Outgoing]:
    outgoing = []
    for i in range(count):
        one = letter(i)
        raw = bytes(one).replace(b"\n", b"\r\n")
        message_id = make_message_id("test.local", secret=store.secret)
        raw = raw.replace(str(one["Message-ID"]).encode(), message_id.encode())
        envelope = Envelope(mail_from=FROM, rcpt_to=(TO,))
        outgoing.append(Outgoing(raw=raw, envelope=envelope, message_id=message_id))
    return outgoing


async def durable(port: int, count: int, url: str, together: int) -> list[dict[str, object]]:
    async with ThreadStore(url) as store:
        box = outbox_of(port)(store)
        for one in composed(store, WARM):
            await box.queue(one)
        await box.deliver_due()
        outgoing = composed(store, count)
        where = store.db.dialect

        async def rows() -> None:
            waiting = iter(outgoing)

            async def writer() -> None:
                for one in waiting:
                    await box.queue(one)

            await asyncio.gather(*(writer() for _ in range(together)))

        async def sent() -> None:
            done = await box.deliver_due(limit=count)
            assert count == sum(s.state == "sent" for s in done), [s.error for s in done][:3]

        async def without_database() -> None:
            for one in outgoing:
                box._worked_out(one, "new", None)

        part = await timed(f"outbox on {where}: of the rows before, what needs no database", count, without_database)
        before = await timed(f"outbox on {where}: rows before, {together} at the same time", count, rows)
        after = await timed(f"outbox on {where}: row to sent, 4 connections", count, sent)
        await box.close()
        both = 1 / (1 / float(str(before["per_second"])) + 1 / float(str(after["per_second"])))
        return [part, before, after, {"name": f"outbox on {where}: both together", "per_second": round(both, 1)}]


async def at_least(port: int, count: int, together: int, urls: Iterator[str]) -> list[dict[str, object]]:
    """The floor: first what the whole costs, then the submissions alone."""
    outgoing: list[Outgoing] = []

    def mails(store: ThreadStore) -> list[Outgoing]:
        outgoing.extend(composed(store, count))
        return outgoing

    groups = await floor.recorded(next(urls), outbox_of(port), mails, together)
    numbers = {}
    for sql, rows in (statement for group in groups for statement in group):
        if sql.split()[2] == '"submission"':
            columns = sql.partition("(")[2].partition(")")[0].split(", ")
            numbers.update((row[columns.index("message_id")], row[columns.index("id")]) for row in rows)
    to_send = [(numbers[one.message_id], FROM, TO, one.raw) for one in outgoing]
    results = []
    async with kept_open(port) as clients:
        for name, rows_of in (("all rows", groups), ("the submissions alone", floor.of_submissions(groups))):
            before, after = await floor.floor(next(urls), rows_of, to_send, clients, timed, name)
            both = 1 / (1 / float(str(before["per_second"])) + 1 / float(str(after["per_second"])))
            where = str(before["name"]).partition(":")[0]
            results += [before, after, {"name": f"{where}: both together, {name}", "per_second": round(both, 1)}]
    return results


@contextmanager
def stores(given: str) -> Iterator[Iterator[str]]:
    """URLs of empty stores, as many as somebody asks for; of a URL that was given, that one."""
    if "://" in given:
        yield iter([given])
        return
    with ExitStack() as opened:

        def files() -> Iterator[str]:
            directory = opened.enter_context(tempfile.TemporaryDirectory())
            for number in itertools.count():
                yield f"sqlite:///{Path(directory) / f'bench{number}.db'}"

        def databases() -> Iterator[str]:
            server = opened.enter_context(postgresql(None))
            while True:
                yield opened.enter_context(database(server))

        yield {"sqlite": files, "postgresql": databases}[given]()


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=300)
    parser.add_argument("--rtt", type=float, nargs="*", default=[0.0, 20.0], help="milliseconds")
    parser.add_argument("--together", type=int, default=1, help="how many write their rows at the same time")
    parser.add_argument("--store", nargs="*", default=["sqlite"])
    parser.add_argument("--floor", action="store_true", help="also the bare drivers; not for a store given by its URL")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    process, port = sink()
    try:
        for rtt in given.rtt:
            count = given.messages if not rtt else max(40, given.messages // 5)
            async with far_away(port, rtt / 2000) as there:
                results = [await naive(there, count), await pooled(there, count)]
                for given_store in given.store:
                    with stores(given_store) as urls:
                        results += await durable(there, count, next(urls), given.together)
                        if given.floor:
                            results += await at_least(there, count, given.together, urls)
            base, pool = (float(str(r["per_second"])) for r in results[:2])
            for r in results:
                rate = float(str(r["per_second"]))
                r |= {"rtt_ms": rtt, "of_send": round(rate / base, 2), "of_pooled": round(rate / pool, 2)}
                if given.json:
                    print(json.dumps(r))
                else:
                    print(f"{rtt:4.0f} ms  {r['per_second']:>9}/s  {r.get('cpu_ms', ''):>7} ms CPU  "
                          f"{r['of_send']:>6}x send  {r['of_pooled']:>5}x pooled  {r['name']}")  # fmt: skip
    finally:
        process.terminate()
        process.wait()


if __name__ == "__main__":
    asyncio.run(main())

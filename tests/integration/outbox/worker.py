"""A worker in a process of its own that kills or stops itself at a named point. Real sockets, real signals."""

from __future__ import annotations

import asyncio
import imaplib
import os
import signal
import ssl
import time
from dataclasses import dataclass
from typing import Any

from agentmail.attempting import Item
from agentmail.errors import Unreachable
from agentmail.outbox import Outbox
from agentmail.settings import Account
from agentmail.smtp import Submitter, submitter
from agentmail.smtp.session import Session
from agentmail.store import ThreadStore
from agentmail.store.together import Together

POINTS = (
    "claimed", "connected", "recipients", "marked", "half the body", "dot", "accepted", "committed", "appended",
)  # fmt: skip


@dataclass(frozen=True)
class Job:
    """Everything a worker needs, ready to be pickled."""

    url: str
    address: str
    password: str
    ca: str
    imap: int
    smtp: int
    point: str = ""
    signal: int = signal.SIGKILL
    lease: float = 180.0
    looks: tuple[float, ...] = (0.0, 1.0, 1.0, 2.0)
    skew: float = 0.0
    evidence: bool = True
    for_ever: bool = False

    def account(self) -> Account:
        return Account(
            address=self.address, password=self.password, ca_file=self.ca, timeout=10.0,
            imap_host="localhost", imap_port=self.imap, imap_security="tls",
            smtp_host="localhost", smtp_port=self.smtp, smtp_security="tls",
        )  # fmt: skip


class Imap:
    """Evidence over IMAP, without any of our own code on the receiving side."""

    def __init__(self, job: Job) -> None:
        self.job = job

    def _session(self) -> imaplib.IMAP4_SSL:
        context = ssl.create_default_context(cafile=self.job.ca)
        imap = imaplib.IMAP4_SSL("localhost", self.job.imap, ssl_context=context, timeout=10)
        imap.login(self.job.address, self.job.password)
        return imap

    def _find(self, message_id: str, *mailboxes: str) -> bool:
        imap = self._session()
        try:
            for mailbox in mailboxes or ("Sent", "INBOX"):
                imap.select(mailbox, readonly=True)
                if imap.search(None, "HEADER", "Message-ID", f'"{message_id}"')[1][0].split():
                    return True
            return False
        finally:
            imap.logout()

    def _append(self, raw: bytes) -> None:
        imap = self._session()
        try:
            imap.append("Sent", r"(\Seen)", imaplib.Time2Internaldate(time.time()), raw)
        finally:
            imap.logout()

    async def find_sent(self, message_id: str) -> bool:
        try:
            return await asyncio.to_thread(self._find, message_id)
        except (OSError, imaplib.IMAP4.error) as exc:
            raise Unreachable(str(exc)) from exc

    async def file_sent(self, raw: bytes, message_id: str) -> None:
        if not await asyncio.to_thread(self._find, message_id, "Sent"):
            await asyncio.to_thread(self._append, raw)


def die_at(job: Job) -> None:
    """Patch this process so that it gets its signal at the point."""

    def die() -> None:
        os.kill(os.getpid(), job.signal)

    session: Any = Session
    if job.point == "claimed":
        work = Outbox._work

        async def claimed(self: Outbox, holds: Any) -> None:
            die()
            await work(self, holds)

        Outbox._work = claimed  # type: ignore[method-assign]
    elif job.point == "connected":
        connect = Submitter._dial

        async def connected(self: Submitter) -> Any:
            done = await connect(self)
            die()
            return done

        Submitter._dial = connected  # type: ignore[method-assign]
    elif job.point in {"recipients", "marked"}:
        together = Together.__call__

        async def marking(self: Any, item: Any) -> bool:
            marker = isinstance(item, Item) and item.result is None
            if marker and job.point == "recipients":
                die()
            answer = await together(self, item)
            if marker and job.point == "marked":
                die()
            return answer

        Together.__call__ = marking  # type: ignore[method-assign]
    elif job.point == "half the body":

        async def half(self: Any, data: bytes) -> None:
            await self.write(data[: len(data) // 2], 10)
            await asyncio.sleep(0.05)
            die()
            await self.write(data[len(data) // 2 :], 10)

        session.write_body = half
        submitter.AT_ONCE = 0  # nothing is too small for two pieces
    elif job.point in {"dot", "accepted"}:
        reply = session.reply

        async def replied(self: Any, timeout: float) -> Any:
            if timeout == self.timeouts.dot:
                if job.point == "dot":
                    await asyncio.sleep(0.3)  # the dot is on the wire, and the server has read it
                    die()
                answer = await reply(self, timeout)
                die()
                return answer
            return await reply(self, timeout)

        session.reply = replied
    elif job.point == "committed":
        copies = Outbox._file_copies

        async def committed(self: Outbox, rows: Any) -> None:
            if rows:
                die()
            await copies(self, rows)

        Outbox._file_copies = committed  # type: ignore[method-assign]
    elif job.point == "appended":
        append = Imap.file_sent

        async def appended(self: Imap, raw: bytes, message_id: str) -> None:
            await append(self, raw, message_id)
            die()

        Imap.file_sent = appended  # type: ignore[method-assign]


def run(job: Job, ready: Any = None) -> None:
    """The body of the process; `ready` is set once it works."""
    if job.skew:
        real = time.time
        time.time = lambda: real() + job.skew
    die_at(job)
    asyncio.run(work(job, ready))


async def work(job: Job, ready: Any) -> None:
    account = job.account()
    async with ThreadStore(job.url) as store:
        if ready is not None:
            ready.set()
        box = Outbox(
            account, store, Submitter(account, connections=2), evidence=Imap(job) if job.evidence else None,
            lease=job.lease, looks=job.looks, self_copy=True,
        )  # fmt: skip
        while True:
            await box.deliver_due()
            if not job.for_ever:
                break
            await asyncio.sleep(0.02)
        await box.close()

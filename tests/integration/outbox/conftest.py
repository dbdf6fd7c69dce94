"""A store on virtual time, an outbox that submits to a scripted server, and evidence that a test decides."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from agentmail.errors import Unreachable
from agentmail.message.identifiers import make_message_id
from agentmail.message.models import Envelope, Message, Outgoing
from agentmail.message.parse import parse
from agentmail.outbox import Outbox
from agentmail.policy import Policy
from agentmail.smtp import Submitter
from agentmail.store import ThreadStore
from agentmail.testing import ManualClock

from .scripted import ScriptedSmtp


class Shelf:
    """Evidence: what lies in Sent, as far as the test lets it be seen."""

    def __init__(self) -> None:
        self.sent: set[str] = set()
        self.filed: list[str] = []
        self.asked = 0
        self.broken = False

    async def find_sent(self, message_id: str) -> bool:
        self.asked += 1
        if self.broken:
            raise Unreachable("no IMAP server")
        return message_id in self.sent

    async def file_sent(self, raw: bytes, message_id: str) -> None:
        self.filed.append(message_id)
        self.sent.add(message_id)


class Bench:
    """One account, its outbox and its server."""

    def __init__(self, store: ThreadStore, server: ScriptedSmtp, clock: ManualClock) -> None:
        self.store, self.server, self.clock, self.shelf = store, server, clock, Shelf()
        self.outboxes: list[Outbox] = []
        self.box = self.outbox()

    def outbox(self, policy: Policy | None = None, **how: Any) -> Outbox:
        account = how.pop("account", None) or self.server.account()
        box = Outbox(
            account, self.store, how.pop("submitter", None) or Submitter(account),
            evidence=how.pop("evidence", self.shelf), policy=policy, clock=self.clock, sleep=self.clock.sleep,
            monotonic=lambda: self.clock().timestamp(), jitter=lambda: 0.5, **how,
        )  # fmt: skip
        self.outboxes.append(box)
        return box

    def mail(self, *to: str, text: str = "hello", subject: str = "x", reply_to: str = "") -> Outgoing:
        message_id = make_message_id("test.local", secret=self.store.secret)
        names = to or ("ana@test.local",)
        extra = f"In-Reply-To: {reply_to}\r\nReferences: {reply_to}\r\n" if reply_to else ""
        raw = (
            f"From: agent@test.local\r\nTo: {', '.join(names)}\r\nSubject: {subject}\r\n{extra}"
            f"Date: Mon, 05 Jan 2026 09:00:00 +0000\r\nMessage-ID: {message_id}\r\n\r\n{text}\r\n"
        )
        envelope = Envelope(mail_from="agent@test.local", rcpt_to=names)
        return Outgoing(raw=raw.encode(), envelope=envelope, message_id=message_id)

    async def receive(
        self, text: str = "hello?", *, sender: str = "ana@test.local", headers: str = "", message_id: str = ""
    ) -> Message:
        """A message from somebody, filed."""
        message_id = message_id or make_message_id("elsewhere.test")
        raw = (
            f"From: {sender}\r\nTo: agent@test.local\r\nSubject: x\r\n{headers}Message-ID: {message_id}\r\n"
            f"Date: {self.clock().strftime('%a, %d %b %Y %H:%M:%S +0000')}\r\n\r\n{text}\r\n"
        ).encode()
        filed = await self.store.file(parse(raw), account="agent@test.local", raw=raw)
        return await self.store.message(filed.id)


@pytest.fixture
async def bench(store_url: str, clock: ManualClock) -> AsyncIterator[Bench]:
    async with ScriptedSmtp() as server, ThreadStore(store_url, clock=clock) as store:
        bench = Bench(store, server, clock)
        yield bench
        for box in bench.outboxes:
            await box.close()

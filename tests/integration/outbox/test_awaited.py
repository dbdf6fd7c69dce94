"""Waiting for an answer to what came back, or is said to have."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from agentmail import Inbox, Sent, errors, parse
from tests.waiting import until

from .scripted import ScriptedSmtp
from .test_bounces import SAYS_NOTHING
from .test_life import DSN

pytestmark = pytest.mark.usefixtures("no_mail_server")


@asynccontextmanager
async def sent(store_url: str, *, plus_addressing: bool) -> AsyncIterator[tuple[Inbox, Sent, str]]:
    """A mail that went to Ana, and its envelope sender."""
    async with (
        ScriptedSmtp() as server,
        Inbox(server.account(plus_addressing=plus_addressing), store=store_url) as inbox,
    ):
        inbox._outbox.evidence = None
        yield inbox, await inbox.send(["ana@test.local"], "x", "hello"), server.taken[0][0]


async def arrives(inbox: Inbox, text: str) -> None:
    raw = text.replace("\n", "\r\n").encode()
    await inbox.store.file(parse(raw), account=inbox.account.key, raw=raw)


@pytest.mark.parametrize("early", [True, False], ids=["before", "meanwhile"])
@pytest.mark.parametrize("verp", [True, False], ids=["verp", "report"])
async def test_a_bounce_ends_the_wait_wherever_it_lies(store_url: str, verp: bool, early: bool) -> None:
    """A report without fields is matched by the address it came to, and lies in a thread of its own."""
    async with sent(store_url, plus_addressing=verp) as (inbox, mail, path):
        report = SAYS_NOTHING.format(to=path)
        if not verp:
            report = DSN.format(message_id=mail.message_id, to="ana@test.local", action="failed")
        if early:
            await arrives(inbox, report)
            await inbox._outbox.deliver_due()
        waiting = asyncio.create_task(mail.wait_for_reply(timeout=60))
        if not early:
            await until(lambda: inbox._waits)
            await arrives(inbox, report)
        with pytest.raises(errors.Bounced, match="ana@test"):
            await waiting


@pytest.mark.parametrize("who", ["MAILER-DAEMON@mx.test.local", "ana@test.local"])
@pytest.mark.parametrize(("to", "status"), [("carol@else.test", "5.1.1"), ("ana@test.local", "2.0.0")])
async def test_what_is_no_bounce_of_it_ends_no_wait(store_url: str, who: str, to: str, status: str) -> None:
    """Carol was never written to, and a success is no failure, whatever it is called."""
    async with sent(store_url, plus_addressing=False) as (inbox, mail, _):
        report = DSN.format(message_id=mail.message_id, to=to, action="failed")
        report = report.replace("From: MAILER-DAEMON@mx.test.local", f"From: {who}")
        await arrives(inbox, report.replace("Status: 5.1.1", f"Status: {status}"))
        await inbox._outbox.deliver_due()
        with pytest.raises(errors.NoReply):
            await mail.wait_for_reply(timeout=0)
        answer = "From: ana@test.local\nTo: agent@test.local\nMessage-ID: <a@x.test>\n"
        await arrives(inbox, f"{answer}In-Reply-To: {mail.message_id}\n\nyes\n")
        assert "<a@x.test>" == (await mail.wait_for_reply(timeout=60)).message_id

"""Two bots that answer everything, and hide what they are, on virtual time."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from agentmail import Inbox
from agentmail.errors import Refused
from agentmail.message.identifiers import make_message_id
from agentmail.message.models import Envelope, Message, Outgoing
from agentmail.message.parse import parse
from agentmail.outbox import Outbox
from agentmail.policy import Policy
from agentmail.settings import Account
from agentmail.smtp import Submitter
from agentmail.store import ThreadStore
from agentmail.testing import ManualClock

from .conftest import Bench
from .scripted import ScriptedSmtp, with_password


class Bot:
    """Answers whatever comes, at once, with a new text, and says in no header that it is a machine."""

    def __init__(self, address: str, store: ThreadStore, server: ScriptedSmtp, clock: ManualClock) -> None:
        self.address, self.store, self.clock = address, store, clock
        account = Account(
            address=address, imap_host="127.0.0.1", smtp_host="127.0.0.1", smtp_port=server.port, smtp_security="plain"
        )
        self.account = account
        self.box = Outbox(
            account, store, Submitter(account), policy=Policy(), clock=clock, sleep=clock.sleep,
            monotonic=lambda: clock().timestamp(),
        )  # fmt: skip
        self.count = 0
        self.question = Message()

    async def answer(self, raw: bytes, varied: bool) -> str:
        filed = await self.store.file(parse(raw), account=self.account.key, raw=raw)
        self.question = await self.store.message(filed.id)
        return await self.write(self.question, varied)

    async def again(self, varied: bool) -> str:
        return await self.write(self.question, varied)

    async def write(self, question: Message, varied: bool) -> str:
        self.count += 1
        assert question.sender is not None
        message_id = make_message_id("test.local", secret=self.store.secret)
        words = (" ".join(f"w{self.count}x{i}{self.address[0]}" for i in range(30))) if varied else "Thanks!"
        raw = (
            f"From: {self.address}\r\nTo: {question.sender.email}\r\nSubject: Re: hello\r\nMessage-ID: {message_id}\r\n"
            f"In-Reply-To: {question.message_id}\r\nReferences: {question.message_id}\r\n"
            f"Date: {self.clock().strftime('%a, %d %b %Y %H:%M:%S +0000')}\r\n\r\n{words}\r\n"
        )
        envelope = Envelope(mail_from=self.address, rcpt_to=(question.sender.email,))
        outgoing = Outgoing(raw=raw.encode(), envelope=envelope, message_id=message_id)
        sent = await self.box.submit(outgoing, kind="reply", answers=question)
        return sent.state


@pytest.mark.parametrize("varied", [True, False], ids=["new words", "the same words"])
@pytest.mark.parametrize("pause", [1.0, 600.0, 3000.0])
async def test_two_bots_stop(tmp_path: Path, clock: ManualClock, pause: float, varied: bool) -> None:
    """24 hours: at most ten answers per thread from each, then both are held; nobody needs a header for that."""
    async with (
        ScriptedSmtp() as server,
        ThreadStore(f"sqlite:///{tmp_path / 'a.db'}", clock=clock) as store_a,
        ThreadStore(f"sqlite:///{tmp_path / 'b.db'}", clock=clock) as store_b,
    ):
        bots = {
            "a@one.test": Bot("a@one.test", store_a, server, clock),
            "b@two.test": Bot("b@two.test", store_b, server, clock),
        }
        first = b"From: b@two.test\r\nTo: a@one.test\r\nSubject: hello\r\nMessage-ID: <start@two.test>\r\n\r\nhello\r\n"
        start = clock()
        assert "sent" == await bots["a@one.test"].answer(first, varied)
        delivered = 0
        stopped: list[str] = []
        while (clock() - start).total_seconds() < 86_400 and len(stopped) < 2:
            if delivered < len(server.taken):
                _, (to, *_), body = server.taken[delivered]
                delivered += 1
                await clock.advance(pause)
                state = await bots[to].answer(body, varied)
            else:  # one of them is held; the other one gets no answer, and writes again, as bots do
                (to,) = set(bots) - set(stopped)
                await clock.advance(pause)
                state = await bots[to].again(varied)
            if state == "held" and to not in stopped:
                stopped.append(to)
        assert set(bots) == set(stopped), "they would have gone on for ever"
        assert 10 >= max(Counter(sender for sender, _, _ in server.taken).values())
        assert 20 >= len(server.taken)
        for bot in bots.values():
            held = await bot.box.list("held")
            assert held, f"{bot.address} still answers"
            assert all(s.reasons for s in held)
        for bot in bots.values():
            await bot.box.close()


async def test_two_agents_may_negotiate_inside_their_caps(tmp_path: Path, clock: ManualClock) -> None:
    async with ScriptedSmtp() as server, ThreadStore(f"sqlite:///{tmp_path / 'a.db'}", clock=clock) as store:
        bot = Bot("a@one.test", store, server, clock)
        for i in range(4):
            raw = (
                f"From: b@two.test\r\nTo: a@one.test\r\nSubject: hello\r\nMessage-ID: <{i}@two.test>\r\n"
                f"X-Agentmail-Loop: x;hop={i}\r\nAuto-Submitted: auto-replied\r\n\r\n"
                f"{' '.join(f'offer{i}n{j}' for j in range(20))}\r\n"
            ).encode()
            assert "sent" == await bot.answer(raw, varied=True)
            await clock.advance(600)
        await bot.box.close()


@pytest.mark.parametrize(
    "headers",
    ["List-Id: <l.x.test>\r\n", "Precedence: bulk\r\n", "Return-Path: <>\r\n", "Auto-Submitted: auto-replied\r\n",
     "X-Autoreply: yes\r\n", "Precedence: list\r\n"],
)  # fmt: skip
async def test_machines_are_never_answered(bench: Bench, headers: str) -> None:
    question = await bench.receive(headers=headers)
    with pytest.raises(Refused, match="nothing was sent"):
        await bench.box.submit(bench.mail(reply_to=question.message_id), kind="reply", answers=question)
    assert [] == bench.server.taken
    assert () == tuple(await bench.box.list())


async def test_a_bounce_is_never_answered(bench: Bench) -> None:
    question = await bench.receive(sender="MAILER-DAEMON@mx.test.local", headers="Return-Path: <>\r\n")
    with pytest.raises(Refused):
        await bench.box.submit(bench.mail(), kind="reply", answers=question)


async def test_held_answers_count_too(bench: Bench) -> None:
    """A loop must not fill the outbox either, and a denied answer makes room."""
    policy = Policy(per_thread_day=3)
    box = bench.outbox(policy)
    question = await bench.receive()
    states = [(await box.submit(bench.mail(), kind="reply", answers=question)).state for _ in range(5)]
    assert ["sent", "sent", "sent", "held", "held"] == states
    await bench.clock.advance(86_401)
    assert "sent" == (await box.submit(bench.mail(), kind="reply", answers=question)).state


async def test_the_people_of_a_thread(bench: Bench) -> None:
    """Ana wrote; Eve is only named by her; Bob is a stranger."""
    raw = (
        b"From: ana@test.local\r\nTo: agent@test.local\r\nCc: eve@else.test\r\nSubject: x\r\n"
        b"Message-ID: <q@test.local>\r\n\r\nhello\r\n"
    )
    filed = await bench.store.file(parse(raw), account="agent@test.local", raw=raw)
    question = await bench.store.message(filed.id)

    async def rules(*to: str) -> list[str]:
        sent = await bench.box.submit(bench.mail(*to), kind="reply", answers=question, origin="tool")
        return [r.split(" ")[0] for r in sent.reasons]

    assert [] == await rules("ana@test.local")
    assert ["eve@else.test"] == await rules("ana@test.local", "eve@else.test")
    assert "bob@else.test" in await rules("bob@else.test")


def inbox_of(bench: Bench) -> Inbox:
    bench.server.extensions = ("AUTH PLAIN",)
    return Inbox(with_password(bench.server.account()), store=bench.store, clock=bench.clock)


async def asked(bench: Bench, *, sender: str = "ana@test.local", cc: str = "", more: str = "") -> Message:
    headers = (f"Cc: {cc}\r\n" if cc else "") + more
    return await bench.receive(sender=sender, headers=headers)


async def test_a_reply_to_all_leaves_out_what_nobody_reads(bench: Bench) -> None:
    """Ana copied her ticket system: she and Bob get the answer, and it says who does not."""
    question = await asked(bench, cc="bob@test.local, No-Reply@shop.test, mailer-daemon@test.local")
    async with inbox_of(bench) as inbox:
        sent = await inbox.reply(question, "yes", reply_all=True)
        assert "sent" == sent.state
        assert ["ana@test.local", "bob@test.local"] == bench.server.taken[0][1]
        assert b"shop.test" not in bench.server.taken[0][2].partition(b"\r\n\r\n")[0]
        assert ["no-reply@shop.test", "mailer-daemon@test.local"] == [r.split()[0] for r in sent.reasons]
        assert sent.reasons == (await inbox.submission(sent.id)).reasons
        async with inbox.claim(str(question.thread)) as turn:
            again = await turn.reply("and yes", to=question, reply_all=True, again=True)
        assert (sent.reasons, sent.recipients) == (again.reasons, again.recipients)
        plain = await inbox.reply(question, "only you")
        assert ((), ["ana@test.local"]) == (plain.reasons, [r.address for r in plain.recipients])


@pytest.mark.parametrize(
    ("sender", "cc", "more"),
    [("noreply@shop.test", "", ""), ("noreply@shop.test", "bob@test.local", ""),
     ("ana@test.local", "bob@test.local", "Reply-To: noreply@shop.test\r\n")],
)  # fmt: skip
async def test_who_asks_for_no_reply_gets_none_from_a_reply_to_all_either(
    bench: Bench, sender: str, cc: str, more: str
) -> None:
    question = await asked(bench, sender=sender, cc=cc, more=more)
    async with inbox_of(bench) as inbox:
        with pytest.raises(Refused, match=r"nobody reads|bulk mail"):
            await inbox.reply(question, "yes", reply_all=True)
    assert [] == bench.server.taken


async def test_a_follow_up_to_all_leaves_them_out_too(bench: Bench) -> None:
    async with inbox_of(bench) as inbox:
        first = await inbox.send(["noreply@shop.test", "ana@test.local"], "x", "hello", cc=["bob@test.local"])
        sent = await inbox.reply(str(first.message), "still there?", reply_all=True)
        assert ["ana@test.local", "bob@test.local"] == [r.address for r in sent.recipients]
        alone = await inbox.send(["noreply@shop.test"], "x", "hello")
        with pytest.raises(Refused, match="nobody reads"):
            await inbox.reply(str(alone.message), "still there?", reply_all=True)

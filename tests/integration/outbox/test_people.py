"""What the store tells the policy about people and content: whom somebody imitates, what a subject holds."""

from __future__ import annotations

from typing import Any

import pytest

from agentmail.errors import NotFound
from agentmail.message.parse import parse
from agentmail.policy import Policy

from .conftest import Bench


async def test_who_imitates_somebody_of_the_thread_is_held(bench: Bench) -> None:
    """Ana wrote; her imitator joins in, and the answer would go to him alone."""
    raw = (
        b"From: eve@acrne.test\r\nTo: agent@test.local\r\nCc: ana@acme.test\r\nSubject: x\r\n"
        b"Message-ID: <q@acrne.test>\r\n\r\nmy new bank account is\r\n"
    )
    filed = await bench.store.file(parse(raw), account="agent@test.local", raw=raw)
    question = await bench.store.message(filed.id)
    sent = await bench.box.submit(bench.mail("eve@acrne.test"), kind="reply", answers=question, origin="tool")
    assert ("held", ["eve@acrne.test: its domain looks like acme.test and is not"]) == (
        sent.state, [r.split(" (")[0] for r in sent.reasons],
    )  # fmt: skip


@pytest.mark.parametrize("kind", ["reply", "new"])
async def test_who_imitates_somebody_we_wrote_to_is_held(bench: Bench, kind: Any) -> None:
    await bench.box.submit(bench.mail("ana@acme.test"))
    question = await bench.receive(sender="eve@acrne.test")
    answers = question if kind == "reply" else None
    sent = await bench.box.submit(bench.mail("eve@acrne.test"), kind=kind, answers=answers, origin="tool")
    assert ["eve@acrne.test: its domain looks like acme.test and is not"] == [r.split(" (")[0] for r in sent.reasons]


async def test_a_secret_in_the_subject(bench: Bench) -> None:
    await bench.receive()
    sent = await bench.box.submit(bench.mail(subject="key AKIAIOSFODNN7EXAMPLE"), origin="tool")
    assert "held" == sent.state
    assert "AWS" in sent.reasons[0]


async def test_an_answer_to_many_of_one_house_is_one_answer(bench: Bench) -> None:
    """Two answers to all of thirty colleagues are no storm."""
    team = [f"p{i}@acme.test" for i in range(30)]
    for _ in range(3):
        question = await bench.receive(sender=team[0])
        sent = await bench.box.submit(bench.mail(*team, reply_to=question.message_id), kind="reply", answers=question)
        assert ("sent", ()) == (sent.state, sent.reasons)


async def test_another_accounts_mail_is_not_ours_to_decide(bench: Bench) -> None:
    """An edit would send it from the wrong address, and an approval by the wrong policy."""
    other = bench.outbox(Policy(deny=("@evil.test",)), account=bench.server.account(address="other@test.local"))
    held = await other.submit(bench.mail("new@elsewhere.test"), origin="tool")
    for ask in (
        bench.box.get(held.id), bench.box.raw(held.id), bench.box.fingerprint(held.id), bench.box.deliver(held.id),
        bench.box.approve(held.id, by="Bo"), bench.box.deny(held.id, by="Bo"), bench.box.cancel(held.id),
        bench.box.edit(held.id, bench.mail("new@elsewhere.test"), by="Bo"), bench.box.retry(held.id),
        bench.box.resolve(held.id, sent=True, by="Bo"), bench.box.answered(held.id),
    ):  # fmt: skip
        with pytest.raises(NotFound, match="other@test"):
            await ask
    assert "held" == (await other.get(held.id)).state

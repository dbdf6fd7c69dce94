"""What one correspondent sent must not reach another one: known by its content, whoever forgets to say so."""

from __future__ import annotations

from typing import Any

import pytest

from agentmail.message import compose
from agentmail.message.models import Address, Attachment, Draft, Message, Outgoing
from agentmail.message.parse import parse
from agentmail.policy import Policy

from .conftest import Bench

SALARIES = b"name;salary\r\nAna;90000\r\n" * 20


async def with_file(bench: Bench, sender: str, content: bytes, *, outgoing: bool = False) -> Message:
    """A message with an attachment, filed: from somebody, or of our own by some other program."""
    draft = Draft(
        to=(Address(email="ana@test.local" if outgoing else "agent@test.local"),), subject=sender, text="see the file",
        attachments=(Attachment(name="list.csv", content_type="text/csv", content=content),),
    )  # fmt: skip
    mail = compose.new(draft, sender="agent@test.local" if outgoing else sender)
    if outgoing:
        sent = await bench.box.submit(mail)
        return await bench.store.message(str(sent.message))
    filed = await bench.store.file(parse(mail.raw), account="agent@test.local", raw=mail.raw)
    return await bench.store.message(filed.id)


def answer(question: Message, content: bytes, *, name: str = "renamed.csv") -> Outgoing:
    file = Attachment(name=name, content_type="application/octet-stream", content=content)
    return compose.reply(question, "here", sender="agent@test.local", attachments=(file,))


async def rules(bench: Bench, mail: Outgoing, policy: Policy | None = None, **how: Any) -> list[str]:
    box = bench.outbox(policy) if policy is not None else bench.box
    sent = await box.submit(mail, **{"origin": "tool", **how})
    return [r.partition(" (")[0] for r in sent.reasons]


HELD = ["the attachment 'renamed.csv' belongs to another thread"]


async def test_an_attachment_of_another_thread_is_held(bench: Bench) -> None:
    await with_file(bench, "boss@test.local", SALARIES)
    question = await bench.receive(sender="eve@test.local")
    mail = answer(question, SALARIES)
    assert HELD == await rules(bench, mail, kind="reply", answers=question)


async def test_so_is_one_in_new_mail_and_one_of_a_program_that_is_checked(bench: Bench) -> None:
    await with_file(bench, "boss@test.local", SALARIES)
    question = await bench.receive(sender="eve@test.local")
    await bench.box.submit(bench.mail("eve@test.local", reply_to=question.message_id), kind="reply", answers=question)
    file = Attachment(name="renamed.csv", content=SALARIES)
    draft = Draft(to=(Address(email="eve@test.local"),), subject="x", text="x", attachments=(file,))
    assert HELD == await rules(bench, compose.new(draft, sender="agent@test.local"))
    checked = Policy(programs="checked")
    assert HELD == await rules(
        bench, answer(question, SALARIES), checked, kind="reply", answers=question, origin="program"
    )


@pytest.mark.parametrize("which", ["this thread's", "both threads'", "a new one", "our own", "nothing"])
async def test_what_is_no_other_correspondents_goes(bench: Bench, which: str) -> None:
    question = await bench.receive(sender="ana@test.local")
    content = {"a new one": b"made for this answer", "nothing": b""}.get(which, SALARIES)
    if which in {"this thread's", "both threads'"}:
        question = await with_file(bench, "ana@test.local", SALARIES)
    if which == "both threads'":
        await with_file(bench, "boss@test.local", SALARIES)
    if which == "a new one":
        await with_file(bench, "boss@test.local", content[:-1] + b"X")  # as long, and another one
    if which == "our own":  # the price list that every customer gets
        await with_file(bench, "", SALARIES, outgoing=True)
    if which == "nothing":
        await with_file(bench, "boss@test.local", b"")
    assert [] == await rules(bench, answer(question, content), kind="reply", answers=question)


async def test_the_whole_mailbox_may_be_allowed(bench: Bench) -> None:
    await with_file(bench, "boss@test.local", SALARIES)
    question = await bench.receive(sender="eve@test.local")
    mail = answer(question, SALARIES)
    assert [] == await rules(bench, mail, Policy(attachments="mailbox"), kind="reply", answers=question)


async def test_a_forwarded_message_brings_its_own_attachments(bench: Bench) -> None:
    known = await bench.receive(sender="bo@test.local")
    await bench.box.submit(bench.mail("bo@test.local", reply_to=known.message_id), kind="reply", answers=known)
    original = await with_file(bench, "boss@test.local", SALARIES)
    raw = await bench.store.raw(str(original.id))
    mail = compose.forward(
        original, to=[Address(email="bo@test.local")], text="fyi", sender="agent@test.local", original_raw=raw
    )
    assert [] == await rules(bench, mail, kind="forward", answers=original)


async def test_another_accounts_mail_is_not_looked_at(bench: Bench) -> None:
    mail = answer(Message(sender=Address(email="x@test.local"), message_id="<x@test.local>"), SALARIES)
    await bench.store.file(parse(mail.raw), account="other@test.local", raw=mail.raw)
    question = await bench.receive(sender="eve@test.local")
    assert [] == await rules(bench, answer(question, SALARIES), kind="reply", answers=question)


async def test_one_that_is_known_by_its_size_alone_stops_nothing(bench: Bench) -> None:
    """A message may be filed without its bytes; then nobody knows what its attachment held."""
    mail = answer(Message(sender=Address(email="x@test.local"), message_id="<x@test.local>"), SALARIES)
    await bench.store.file(parse(mail.raw), account="agent@test.local")
    question = await bench.receive(sender="eve@test.local")
    assert [] == await rules(bench, answer(question, SALARIES), kind="reply", answers=question)
    await with_file(bench, "boss@test.local", SALARIES)
    again = await bench.receive(sender="eve@test.local")
    assert HELD == await rules(bench, answer(again, SALARIES), kind="reply", answers=again)

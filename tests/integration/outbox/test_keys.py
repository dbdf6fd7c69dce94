"""`key=` gives the first submission back, for good: also after somebody did something to it."""

from __future__ import annotations

import pytest

from agentmail.errors import KeyReused
from agentmail.policy import Policy

from .conftest import Bench

WHO = "new@elsewhere.test"


async def test_a_key_still_means_what_was_asked_after_a_person_edited_it(bench: Bench) -> None:
    """The program starts anew and asks for the same again: it must hear of the edited one, not of an error."""
    held = await bench.box.submit(bench.mail(WHO, text="It costs 10."), origin="tool", key="k")
    edited = await bench.box.edit(held.id, bench.mail(WHO, text="It costs 20."), by="Bo")
    await bench.box.deliver_due()
    for text in ("It costs 10.", "It costs 20."):
        again = await bench.box.submit(bench.mail(WHO, text=text), origin="tool", key="k")
        assert (edited.id, "sent", "k") == (again.id, again.state, again.key)
    with pytest.raises(KeyReused, match=r"10.*30"):
        await bench.box.submit(bench.mail(WHO, text="It costs 30."), origin="tool", key="k")
    assert (await bench.box.get(held.id)).key is None
    assert 1 == len(bench.server.taken)


async def test_a_key_means_what_was_asked_first_however_often_it_is_edited(bench: Bench) -> None:
    box = bench.outbox(Policy(per_thread_day=1))
    question = await bench.receive()
    await box.submit(bench.mail(reply_to=question.message_id), kind="reply", answers=question)

    async def ask(text: str) -> str:
        mail = bench.mail(text=text, reply_to=question.message_id)
        return (await box.submit(mail, kind="reply", answers=question, key="k")).id

    id_ = first = await ask("one")
    for text in ("two", "three"):
        edited = await box.edit(id_, bench.mail(text=text, reply_to=question.message_id), by="Bo")
        assert "held" == edited.state, "the cap of the thread holds it again"
        id_ = edited.id
    assert [id_, id_] == [await ask("one"), await ask("three")]
    with pytest.raises(KeyReused):
        await ask("two")
    await bench.box.deny(id_, by="Bo")
    assert id_ == await ask("one") != first


async def test_a_key_is_spent_with_an_edited_mail_that_is_deleted(bench: Bench) -> None:
    held = await bench.box.submit(bench.mail(WHO), origin="tool", key="k")
    edited = await bench.box.edit(held.id, bench.mail(WHO, text="other"), by="Bo")
    await bench.box.deliver(edited.id)
    await bench.store.delete_thread(str(edited.thread))
    with pytest.raises(KeyReused, match="deleted"):
        await bench.box.submit(bench.mail(WHO), origin="tool", key="k")

"""What is known of a mail that is on its way for some of its people, and what a key or an answer keeps."""

from __future__ import annotations

import pytest

from agentmail.errors import AlreadyAnswered, KeyReused, PermanentFailure

from .conftest import Bench
from .scripted import CLOSE
from .test_life import all_but_bob, bounce


async def test_a_bounce_that_comes_while_others_wait_is_believed(bench: Bench) -> None:
    """Bob's server is greylisting; what Ana got comes back before he is tried again."""
    bench.server.script["rcpt"] = all_but_bob
    waiting = await bench.box.submit(bench.mail("ana@test.local", "bob@test.local"))
    await bounce(bench, waiting.message_id, "bob@test.local")
    assert ["sent", "pending"] == [r.state for r in (await bench.box.get(waiting.id)).recipients], "he has not got it"
    await bounce(bench, waiting.message_id)
    assert ["bounced", "pending"] == [r.state for r in (await bench.box.get(waiting.id)).recipients]
    bench.server.script = {"dot": CLOSE}
    bench.shelf.sent.add(waiting.message_id)
    for _ in range(6):
        await bench.clock.advance(60)
        await bench.box.deliver_due()
    lost = await bench.box.get(waiting.id)
    assert ("unknown", ["bounced", "pending"]) == (lost.state, [r.state for r in lost.recipients])
    await bench.box.resolve(lost.id, sent=True, by="Bo")
    assert ["bounced", "sent"] == [r.state for r in (await bench.box.get(waiting.id)).recipients]


async def test_the_id_of_a_rewriter_counts_for_those_who_were_first(bench: Bench) -> None:
    bench.server.script["rcpt"] = all_but_bob
    bench.server.script["dot"] = "250 2.0.0 OK <AM0PR01@AM0PR02.eurprd01.prod.outlook.com> [Hostname=x]"
    sent = await bench.box.submit(bench.mail("ana@test.local", "bob@test.local"))
    answer = await bench.receive(headers="In-Reply-To: <AM0PR01@AM0PR02.eurprd01.prod.outlook.com>\r\n")
    assert sent.thread == answer.thread


async def test_the_difference_is_shown_where_it_is(bench: Bench) -> None:
    long = "Dear Ana, " + "we are glad to tell you more about our offer. " * 5
    await bench.box.submit(bench.mail(text=f"{long}It costs 100 euros."), key="k")
    with pytest.raises(KeyReused, match=r"100 euros.*900 euros"):
        await bench.box.submit(bench.mail(text=f"{long}It costs 900 euros."), key="k")


async def test_an_answer_to_another_message_is_other_content(bench: Bench) -> None:
    """The same words to the same person, and yet the second question would have got none."""
    first, second = await bench.receive(), await bench.receive(message_id="<other@test.local>")
    await bench.box.submit(bench.mail(reply_to=first.message_id), kind="reply", answers=first, key="k")
    with pytest.raises(KeyReused, match="answers"):
        await bench.box.submit(bench.mail(reply_to=second.message_id), kind="reply", answers=second, key="k")


async def test_an_answer_that_is_tried_again_is_an_answer(bench: Bench) -> None:
    question = await bench.receive()
    bench.server.script["mail"] = "550 no"
    with pytest.raises(PermanentFailure) as caught:
        await bench.box.submit(bench.mail(), kind="reply", answers=question, again=False)
    bench.server.script["mail"] = "451 later"
    await bench.box.retry(str(caught.value.submission), by="Bo")
    with pytest.raises(AlreadyAnswered):
        await bench.box.submit(bench.mail(), kind="reply", answers=question, again=False)


@pytest.mark.parametrize("first", [False, True], ids=["one attempt", "the second"])
async def test_what_came_back_was_sent(bench: Bench, first: bool) -> None:
    """The reply to the dot was lost, and then the bounce of Bob's copy comes: it did go, and does not go again."""
    if first:
        bench.server.script["rcpt"] = all_but_bob
        await bench.box.submit(bench.mail("ana@test.local", "bob@test.local"), key="k")
        await bench.clock.advance(301)
        bench.server.script = {"dot": CLOSE}
        await bench.box.deliver_due()
    else:
        bench.server.script["dot"] = CLOSE
        await bench.box.submit(bench.mail("ana@test.local", "bob@test.local"), key="k")
    bench.server.script.clear()
    (lost,) = await bench.box.list("unknown")
    if first:  # Ana's copy went before, and says nothing of Bob's
        await bounce(bench, lost.message_id)
        assert "unknown" == (await bench.box.get(lost.id)).state
    taken = len(bench.server.taken)
    await bounce(bench, lost.message_id, "bob@test.local")
    for _ in range(6):
        await bench.clock.advance(60)
        await bench.box.deliver_due()
    known = await bench.box.get(lost.id)
    assert ("sent", ["bounced" if first else "sent", "bounced"]) == (known.state, [r.state for r in known.recipients])
    assert taken == len(bench.server.taken)

"""Which message is which: copies, impostors, our own mail under another id, clocks that are wrong."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from agentmail.imap import ImapConnection
from agentmail.message.compose import new
from agentmail.message.models import Address, Draft, Outgoing
from agentmail.message.parse import parse

from .conftest import World, ids, mail
from .liar import Liar

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)


async def in_mailbox(world: World, mailbox: str, *raws: bytes) -> None:
    connection = ImapConnection(world.account)
    await connection.connect()
    try:
        for raw in raws:
            await connection.append(mailbox, raw, [r"\Seen"])
    finally:
        await connection.close()


async def sent_by_us(world: World, text: str = "An offer.", **given: object) -> Outgoing:
    """A mail of ours, written and filed as the outbox files it."""
    await world.store.open()
    await world.store.register(world.account.key, world.account.own_addresses)
    given.setdefault("automatic", False)
    out = new(Draft(to=(Address(email="ana@example.org"),), subject="Offer", text=text), sender=world.user, now=NOW,
              secret=world.store.secret, **given)  # fmt: skip
    message = parse(out.raw).model_copy(update={"outgoing": True})
    await world.store.file(message, account=world.account.key, raw=out.raw, outgoing=True)
    return out


def under_another_id(raw: bytes, before: str, *, more: bytes = b"") -> bytes:
    return more + raw.replace(before.encode(), b"<AM0PR01MB1234@prod.outlook.example>")


async def test_s35_one_message_in_three_mailboxes_is_one_message(world: World) -> None:
    world.dovecot.doveadm("mailbox", "create", "-u", world.user, "Work")
    await in_mailbox(world, "Archive", mail(1))
    await in_mailbox(world, "Work", mail(1))
    world.deliver(1)
    await world.sync(mailboxes=("inbox", "archive", "Work")).poll()
    assert ids(1) == await world.stored()
    assert [("Archive",), ("INBOX",), ("Work",)] == await world.rows("SELECT mailbox FROM location ORDER BY mailbox")
    assert 1 == await world.events()


async def test_s35_the_same_message_id_over_other_words_is_another_message(world: World) -> None:
    """An outsider who sends the same id first takes nobody's place."""
    world.deliver(1, body="poison")
    world.deliver(1, body="the real one")
    await world.sync().poll()
    assert ids(1, 1) == await world.stored()
    assert [(True,), (True,)] == [(bool(v),) for (v,) in await world.rows("SELECT variant FROM message")]
    assert 2 == await world.events()


async def test_s35_our_own_mail_in_sent_and_in_the_inbox_is_no_news(world: World) -> None:
    """It came back (a copy to ourselves, a list): nobody is asked to answer it. An impostor's is somebody's mail."""
    out = await sent_by_us(world)
    await in_mailbox(world, "Sent", out.raw)
    world.dovecot.deliver(world.user, b"Received: from a by b; Fri, 20 Nov 2026 12:00:01 +0000\r\n" + out.raw)
    impostor = mail(7).replace(b"<7@example.org>", out.message_id.encode())
    world.dovecot.deliver(world.user, impostor)
    filed = await world.sync().poll()
    assert [False, True, False] == [f.new for f in filed]
    assert [(1, 1), (2, 0)] == await world.rows("SELECT id, outgoing FROM message ORDER BY id")
    waiting = await world.rows("SELECT message FROM event WHERE kind = 'message.filed' AND message = 2")
    assert [(2,)] == waiting


@pytest.mark.parametrize("evidence", ["content", "header", "mark"])
async def test_s36_the_id_that_a_provider_gives_our_mail_is_learned_from_sent(world: World, evidence: str) -> None:
    """A reply to the rewritten id finds the thread."""
    if evidence == "mark":
        out = await sent_by_us(world, automatic=True)
        copy = under_another_id(out.raw, out.message_id).replace(b"An offer.", b"An offer. [external]")
    elif evidence == "header":
        out = await sent_by_us(world)
        kept = f"X-Microsoft-Original-Message-ID: {out.message_id}\r\n".encode()
        copy = kept + under_another_id(out.raw, out.message_id).replace(b"An offer.", b"Another text.")
    else:
        out = await sent_by_us(world)
        copy = under_another_id(out.raw, out.message_id)
    await in_mailbox(world, "Sent", copy)
    sync = world.sync()
    (filed,) = await sync.poll()
    assert not filed.new
    assert "m1" == filed.id
    answer = mail(2, subject="Re: Offer").replace(
        b"To: agent@test.local",
        b"To: " + world.user.encode() + b"\r\nIn-Reply-To: <AM0PR01MB1234@prod.outlook.example>",
    )
    world.dovecot.deliver(world.user, answer)
    (came,) = await sync.poll()
    assert filed.thread == came.thread
    thread = await world.store.thread(came.thread)
    assert {"m2": "m1"} == {child: parent for child, parent in thread.parents.items() if parent}


async def test_s36_an_answer_that_came_before_the_copy_joins_when_the_id_is_learned(world: World) -> None:
    out = await sent_by_us(world)
    answer = mail(2, subject="So?").replace(
        b"To: agent@test.local",
        b"To: " + world.user.encode() + b"\r\nIn-Reply-To: <AM0PR01MB1234@prod.outlook.example>",
    )
    world.dovecot.deliver(world.user, answer)
    sync = world.sync()
    (came,) = await sync.poll()
    assert "t1" != came.thread
    await in_mailbox(world, "Sent", under_another_id(out.raw, out.message_id))
    await sync.poll()
    assert {"m1", "m2"} == {m.id for m in (await world.store.thread("t1")).messages}


async def test_s36_what_may_have_been_sent_is_found_under_the_other_id_and_not_filed_again(world: World) -> None:
    out = await sent_by_us(world)
    sync = world.sync()
    assert not await sync.find_sent(out.message_id)
    # Like ours in everything but the text: no evidence.
    await in_mailbox(world, "Sent", under_another_id(out.raw, out.message_id).replace(b"An offer.", b"No offer."))
    assert not await sync.find_sent(out.message_id)
    await in_mailbox(world, "Sent", under_another_id(out.raw, out.message_id).replace(b"AM0PR01", b"AM0PR02"))
    assert await sync.find_sent(out.message_id)
    assert not await sync.file_sent(out.raw, out.message_id)
    assert 2 == len(world.dovecot.messages(world.user, "Sent"))
    assert 1 == len(await world.rows("SELECT key FROM alias"))


async def test_s36_what_an_outsider_says_about_ids_proves_nothing(world: World) -> None:
    """In the INBOX the same header makes no alias."""
    out = await sent_by_us(world)
    claim = f"X-Microsoft-Original-Message-ID: {out.message_id}\r\n".encode()
    world.dovecot.deliver(world.user, claim + mail(5))
    (filed,) = await world.sync().poll()
    assert filed.new
    assert [] == await world.rows("SELECT key FROM alias")


@pytest.mark.parametrize("date", ["01-Jan-1970 00:00:00 +0000", "05-Jan-2099 10:00:00 +0000"])
@pytest.mark.parametrize("dated", [True, False])
async def test_s39_a_wrong_internaldate_does_not_move_a_message(world: World, date: str, dated: bool) -> None:
    raw = mail(1) if dated else mail(1).replace(b"Date: Mon, 05 Jan 2026 09:00:00 +0000\r\n", b"")
    async with Liar({1: raw}) as liar:
        real = liar.fetched
        liar.fetched = lambda uid, rest: real(uid, rest).replace(b"05-Jan-2026 10:00:00 +0000", date.encode())  # type: ignore[method-assign]
        await world.sync(liar.account(), mailboxes=("inbox",), clock=lambda: NOW).poll()
    ((at,),) = await world.rows("SELECT at FROM message")
    assert at == (datetime(2026, 1, 5, 9, 0, tzinfo=UTC) if dated else NOW).timestamp()


async def test_s39_a_date_from_tomorrow_counts_as_when_it_came(world: World) -> None:
    future = mail(1).replace(b"Mon, 05 Jan 2026", b"Mon, 05 Jan 2037")
    async with Liar({1: future, 2: mail(2)}) as liar:
        await world.sync(liar.account(), mailboxes=("inbox",), clock=lambda: NOW).poll()
    came = datetime(2026, 1, 5, 10, 0, tzinfo=UTC).timestamp()
    assert [(came,), (came - 3600,)] == await world.rows("SELECT at FROM message ORDER BY id")

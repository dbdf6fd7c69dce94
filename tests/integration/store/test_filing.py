"""What becomes of mail that is filed: once, whole, in its thread, and findable by every id it ever had."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from agentmail import Account
from agentmail.errors import BadInput, NotFound
from agentmail.message.identifiers import make_message_id
from agentmail.message.models import Message
from agentmail.message.parse import parse
from agentmail.store import Arrival, Filed, Location, ThreadStore, quarantine

from ...unit.threads.worlds import US, message

ANA, BOB, EVE = "ana@customer.example", "bob@gmail.com", "eve@evil.example"

MAIL = b"""Received: from %s by mx.our.example; Mon, 2 Mar 2026 09:00:00 +0000
From: Ana <ana@customer.example>
To: support@our.example
Subject: Two files
Message-ID: <files@customer.example>
Date: Mon, 2 Mar 2026 09:00:00 +0000
MIME-Version: 1.0
Content-Type: multipart/mixed; boundary=x

--x
Content-Type: text/plain; charset=utf-8
Content-Transfer-Encoding: %s

%s
--x
Content-Type: application/pdf
Content-Disposition: attachment; filename=one.pdf
Content-Transfer-Encoding: base64

b25l
--x
Content-Type: image/png
Content-Disposition: attachment; filename=two.png
Content-Transfer-Encoding: base64

dHdv
--x--
""".replace(b"\n", b"\r\n")


async def file(store: ThreadStore, *arrivals: Arrival, account: str | None = US) -> list[Filed]:
    return await store.db.run(lambda tx: store.file_batch(tx, arrivals, account=account))


async def test_the_same_mail_is_one_message_however_it_came(store: ThreadStore) -> None:
    """Other hops, another transfer encoding, another mailbox: still that mail, at one more location."""
    one = MAIL % (b"a.example", b"8bit", "Grüße".encode())
    two = MAIL % (b"b.example", b"quoted-printable", b"Gr=C3=BC=C3=9Fe")
    first, second = await file(
        store,
        Arrival(parse(one), one, Location("INBOX", 1, 7)),
        Arrival(parse(two), two, Location("Archive", 1, 1)),
    )
    (again,) = await file(store, Arrival(parse(two), two, Location("INBOX", 1, 7)))
    assert (first.new, second.new, again.new) == (True, False, False)
    assert first.id == second.id == again.id
    assert first.thread == second.thread == again.thread
    assert (await store.thread(first.thread)).count == 1
    assert await store.raw(first.id) == one


async def test_an_account_may_be_given_as_itself(store: ThreadStore) -> None:
    """With its aliases: what they write is ours."""
    account = Account(address="US@gmail.com", aliases=("sales@our.example",))
    named = await store.file(message("a", sender=ANA, to=("us@gmail.com",)), account="us@gmail.com")
    given = await store.file(message("b", sender=ANA, to=("us@gmail.com",), answers=["a"]), account=account)
    assert named.thread == given.thread
    assert store.own_addresses("us@gmail.com") == {"us@gmail.com", "sales@our.example"}


async def test_what_is_filed_says_by_which_header_it_joined(store: ThreadStore) -> None:
    """And an account is its address, however it is written."""
    first = await store.file(message("a"), account=US)
    answer = await store.file(message("b", answers=["a"]), account=US.upper())
    assert answer.thread == first.thread
    assert [m.header for m in answer.why.matched] == ["In-Reply-To"]


async def test_a_location_means_one_message_for_ever(store: ThreadStore) -> None:
    where = Location("INBOX", 1, 7)
    (first,) = await file(store, Arrival(message("a"), location=where))
    (second,) = await file(store, Arrival(message("b"), location=where))
    assert (second.id, second.new) == (first.id, False)


async def test_one_id_with_other_content_is_two_messages(store: ThreadStore) -> None:
    first, second = await file(store, Arrival(message("a", text="x")), Arrival(message("a", text="x\n-- \nfooter")))
    (poison,) = await file(store, Arrival(message("a", EVE, text="pay here")))
    assert second.new and second.thread == first.thread != poison.thread
    assert poison.why.rule == "kept apart"
    assert [m.text for m in (await store.thread(first.thread)).messages] == ["x", "x\n-- \nfooter"]


async def test_our_sent_copy_is_our_mail_whatever_the_server_made_of_it(store: ThreadStore) -> None:
    ours = make_message_id("our.example", secret=store.secret)
    (filed,) = await file(store, Arrival(message(ours, US, [ANA], text="plain"), outgoing=True))
    copy = message(ours, US, [ANA], text="<html> rewritten")
    (sent,) = await file(store, Arrival(copy, location=Location("Sent", 1, 1), outgoing=True))
    assert (sent.id, sent.new) == (filed.id, False)
    # Somebody who received it sends its id back with other words: that is no copy.
    (forged,) = await file(store, Arrival(message(ours, EVE, text="send money")))
    assert forged.new and forged.thread != filed.thread
    # A mailing list sends our own mail back to us: it is ours, and no news.
    (echo,) = await file(store, Arrival(message(ours, US, [ANA], text="plain\nfooter", list_id="l.example")))
    assert echo.new and echo.thread == filed.thread
    assert (await store.message(echo.id)).outgoing


async def test_a_late_mail_joins_two_threads_and_old_ids_keep_leading_there(store: ThreadStore) -> None:
    a, b = await file(store, Arrival(message("a")), Arrival(message("b")))
    await store.set_labels(a.thread, add=["vip"])
    await store.set_labels(b.thread, add=["late"])
    await store.add_note(b.thread, "called them", agent="billing")
    await store.put_data(a.thread, {"order": 1})
    await store.put_data(b.thread, {"order": 2, "tier": "gold"})
    await store.set_status(a.thread, "closed")
    c = await store.file(message("c", answers=["a", "b"]), account=US)
    assert (c.thread, c.absorbed) == (a.thread, (b.thread,))
    thread = await store.thread(b.thread)
    assert thread.id == a.thread
    assert [m.id for m in thread.messages] == [a.id, b.id, c.id]
    assert {m.thread for m in thread.messages} == {a.thread}
    assert thread.parents == {a.id: None, b.id: None, c.id: b.id}
    assert (thread.labels, thread.data, thread.status) == (("late", "vip"), {"order": 1, "tier": "gold"}, "open")
    assert [n["text"] for n in thread.notes] == ["called them"]
    assert [t.id for t in await store.threads()] == [a.thread]
    d = await store.file(message("d", answers=["a", "b", "c"]), account=US)
    e = await store.file(message("e", answers=["c", "x"]), account=US)
    f = await store.file(message("f", answers=["x"]), account=US)
    assert {d.thread, e.thread, f.thread} == {a.thread}


async def test_reading_parses_no_mail_and_attachments_come_out_whole(store: ThreadStore) -> None:
    raw = MAIL % (b"a.example", b"8bit", b"see > the files")
    parsed = parse(raw, received_at=datetime(2026, 3, 2, 9, 1, tzinfo=UTC))
    filed = await store.file(parsed, account=US, raw=raw)
    stored = await store.message(filed.id)
    one, two = stored.attachments
    assert stored.model_copy(
        update={"id": None, "thread": None, "attachments": tuple(a.model_copy(update={"id": None}) for a in (one, two))}
    ) == parsed.model_copy(
        update={"attachments": tuple(a.model_copy(update={"content": None}) for a in parsed.attachments)}
    )
    assert stored.new_text == parsed.new_text
    assert (one.content, [a.name for a in (one, two)]) == (None, ["one.pdf", "two.png"])
    assert (await store.attachment(str(two.id))).content == b"two"
    assert (await store.message("<files@customer.example>")).id == filed.id


@pytest.mark.parametrize(
    "wrong", ["t1", "a1", "o1", "m999", "m", "m-1", "m1; DROP TABLE message", "x", "", "m٣", "m" + "9" * 30]
)
async def test_an_unknown_id_says_so(store: ThreadStore, wrong: str) -> None:
    await store.file(message("a"), account=US)
    with pytest.raises(NotFound) as caught:
        await store.message(wrong)
    if wrong == "t1":
        assert "the id of a thread, not of a message" in str(caught.value)
    for read in (store.thread, store.attachment, store.raw):
        with pytest.raises(NotFound):
            await read("m1" if read is not store.raw else "t1")


async def test_accounts_share_a_store_but_no_threads(store: ThreadStore) -> None:
    mine = await store.file(message("a"), account=US)
    theirs = await store.file(message("a"), account="sales@our.example")
    archive = await store.file(message("a"), account=None)
    assert len({mine.thread, theirs.thread, archive.thread}) == 3
    assert (await store.message("<a@id.example>", account="sales@our.example")).id == theirs.id
    assert [t.id for t in await store.threads(account=US)] == [mine.thread]


async def test_pages_hold_each_thread_once_newest_first(store: ThreadStore) -> None:
    arrivals = [Arrival(message(f"m{n}", subject=f"s{n}", day=n // 3)) for n in range(25)]
    filed = await file(store, *arrivals)
    seen: list[str] = []
    after = None
    while page := await store.threads(limit=4, after=after):
        assert len(page) <= 4
        seen += [t.id for t in page]
        after = page[-1].id
    assert seen == [f.thread for f in reversed(filed)]
    await store.set_status(filed[3].thread, "closed")
    assert [t.id for t in await store.threads("closed")] == [filed[3].thread]
    with pytest.raises(BadInput):
        await store.threads(limit=0)


async def test_explain_names_the_header_and_the_rejected(store: ThreadStore) -> None:
    a, b, eve, alone = [
        (await store.file(m, account=US)).id
        for m in (message("a"), message("b", US, [ANA], answers=["a"]), message("x", EVE, answers=["a", "b"]),
                  message("z", BOB, subject="Other"))
    ]  # fmt: skip
    why = await store.explain(b)
    assert (why.rule, why.confidence, why.parent) == ("ids", "high", a)
    assert [(m.header, m.role, m.message) for m in why.matched] == [("In-Reply-To", "firm", a)]
    why = await store.explain(eve)
    assert (why.rule, why.claimed_parent, why.parent) == ("kept apart", "<b@id.example>", None)
    assert {r.thread for r in why.rejected} == {"t1"}
    assert "does not know eve@evil.example" in why.rejected[0].reason
    assert (await store.thread("t2")).claimed_parent == "<b@id.example>"
    assert (await store.explain(alone)).rule == "new"
    ghost, other = await file(store, Arrival(message("g1", answers=["gone"])), Arrival(message("g2", answers=["gone"])))
    why = await store.explain(other.id)
    assert (why.rule, why.confidence, other.thread) == ("ids", "medium", ghost.thread)


async def test_admit_lets_a_stranger_in(store: ThreadStore) -> None:
    home = await store.file(message("a"), account=US)
    kept = await store.file(message("x", EVE, answers=["a"]), account=US)
    assert kept.thread != home.thread
    assert await store.admit(home.thread, "Eve@Evil.example") == home.thread
    assert (await store.thread(kept.thread)).id == home.thread
    assert (await store.thread(home.thread)).claimed_parent is None
    later = await store.file(message("y", EVE, answers=["a", "x"]), account=US)
    assert later.thread == home.thread


async def test_what_the_outbox_says_it_answers_outweighs_the_chain(store: ThreadStore) -> None:
    """An agent answers a stranger; the chain it copies must not carry the stranger into the thread."""
    home = await store.file(message("a"), account=US)
    kept = await store.file(message("x", EVE, answers=["a"], reply_to=[{"email": ANA}]), account=US)
    reply = message("r", US, [ANA], answers=["a", "x"])
    ours = await store.file(reply, account=US, outgoing=True, answers=kept.id)
    assert ours.thread == kept.thread != home.thread
    assert (await store.thread(kept.thread)).parents[ours.id] == kept.id
    forward = await store.file(message("f", US, [BOB], subject="Fwd: x"), account=US, outgoing=True, answers=home.id)
    assert forward.thread == home.thread


async def test_a_provider_that_renames_our_mail(store: ThreadStore) -> None:
    """As Amazon SES does: the answer names an id that we never wrote."""
    ours = await store.file(message("ours", US, [ANA]), account=US, outgoing=True)
    early = await store.file(message("r1", ANA, answers=["0100018f-abc@email.amazonses.com"]), account=US)
    assert early.thread != ours.thread
    await store.db.run(lambda tx: store.alias(tx, ours.id, "<0100018f-abc@email.amazonses.com>"))
    late = await store.file(message("r2", ANA, answers=["0100018f-abc@email.amazonses.com"]), account=US)
    thread = await store.thread(early.thread)
    assert thread.id == late.thread == ours.thread
    assert thread.parents[early.id] == thread.parents[late.id] == ours.id
    assert (await store.message("<0100018f-abc@email.amazonses.com>")).id == ours.id


async def test_an_answer_to_an_id_that_only_gmail_knows(store: ThreadStore) -> None:
    gmail = "<62b94621.1c69fb81.3a378.57ccSMTPIN_ADDED_BROKEN@mx.google.com>"
    ours = await store.file(message("o", US, [BOB], subject="Order 9"), account=US, outgoing=True)
    answer = await store.file(message("r", BOB, answers=[gmail], subject="Re: Order 9", day=1), account=US)
    assert (answer.thread, answer.why.rule, answer.why.confidence) == (ours.thread, "subject", "low")
    # With the original id at hand (X-Google-Original-Message-ID) it is no guess.
    known = message("o2", US, [BOB], subject="Order 10", other_ids=("<gid@mx.google.com>",))
    ours = await store.file(known, account=US, outgoing=True)
    answer = await store.file(message("r2", BOB, answers=["gid@mx.google.com"], subject="Re: x"), account=US)
    assert (answer.thread, answer.why.rule) == (ours.thread, "ids")


class TestSubjectRule:
    """An answer without ids goes to the one thread that it can mean, and nowhere else."""

    async def placed(self, store: ThreadStore, answer: Message, *before: Message) -> bool:
        await file(store, *(Arrival(m, outgoing=m.sender is not None and m.sender.key == US) for m in before))
        filed = await store.file(answer, account=US)
        assert (await store.explain(filed.id)).rule == filed.why.rule
        return filed.why.rule == "subject"

    @pytest.mark.parametrize(
        ("answer", "before", "expected"),
        [
            (message("r", BOB, day=9, subject="Re: Order 9"), [message("a", US, [BOB], subject="Order 9")], True),
            (message("r", BOB, day=9, subject="AW: Order 9"), [message("a", BOB, subject="Order 9")], True),
            (message("r", BOB, day=9, subject="Order 9"), [message("a", BOB, subject="Order 9")], False),
            (message("r", BOB, day=31, subject="Re: Order 9"), [message("a", BOB, subject="Order 9")], False),
            (message("r", BOB, day=9, subject="Re: Hi"), [message("a", BOB, subject="Hi")], False),
            (message("r", EVE, day=9, subject="Re: Order 9"), [message("a", BOB, subject="Order 9")], False),
            (message("r", BOB, day=9, subject="Re: Order 9", dmarc="fail"),
             [message("a", BOB, subject="Order 9")], False),
            (message("r", BOB, day=9, subject="Re: Order 9"), [message("a", BOB, subject="Order 9", day=10)], False),
            (message("r", BOB, day=9, subject="Re: Order 9"),
             [message("a", BOB, subject="Order 9"), message("b", EVE, subject="Order 9")], False),
            (message("r", BOB, day=9, subject="Re: Order 9", answers=["x1", "x2"]),
             [message("a", BOB, subject="Order 9")], False),
            (message("r", BOB, day=9, subject="Re: Order 9", answers=["x1"]),
             [message("a", BOB, subject="Order 9")], True),
            (message("r", US, [BOB], day=9, subject="Re: Order 9"), [message("a", BOB, subject="Order 9")], True),
            (message("r", US, [EVE], day=9, subject="Re: Order 9"), [message("a", BOB, subject="Order 9")], False),
        ],
    )  # fmt: skip
    async def test_case(self, store: ThreadStore, answer: Message, before: list[Message], expected: bool) -> None:
        assert await self.placed(store, answer, *before) == expected

    async def test_a_second_candidate_takes_it_back_and_a_join_gives_it_again(self, store: ThreadStore) -> None:
        first = await store.file(message("a", BOB, subject="Order 9"), account=US)
        answer = await store.file(message("r", BOB, subject="Re: Order 9", day=5), account=US)
        assert answer.thread == first.thread
        assert (await store.thread(first.thread)).count == 2
        second = await store.file(message("b", ANA, subject="Order 9", day=2), account=US)
        alone = await store.message(answer.id)
        assert alone.thread not in {first.thread, second.thread}
        assert [t.count for t in await store.threads()] == [1, 1, 1]
        await store.file(message("c", ANA, cc=[BOB], answers=["a", "b"], subject="Order 9", day=3), account=US)
        await store.admit(first.thread, ANA)
        assert (await store.message(answer.id)).thread == first.thread
        assert (await store.thread(str(alone.thread))).id == first.thread
        assert [t.count for t in await store.threads()] == [4]

    async def test_the_id_that_it_names_turns_up(self, store: ThreadStore) -> None:
        await store.file(message("a", BOB, subject="Order 9"), account=US)
        answer = await store.file(message("r", BOB, subject="Re: Order 9", answers=["p"], day=5), account=US)
        assert answer.why.rule == "subject"
        parent = await store.file(message("p", US, [BOB], subject="Something else", day=4), account=US, outgoing=True)
        assert (await store.message(answer.id)).thread == parent.thread != answer.thread


async def test_a_row_that_the_database_refuses_does_not_block_its_batch(store: ThreadStore) -> None:
    raw = MAIL % (b"a.example", b"8bit", b"fine")
    bad = message("bad", subject="lone \ud800 surrogate")
    nul = message("nul", text="a\x00b")
    filed = await file(
        store,
        Arrival(message("a")),
        Arrival(bad, raw, Location("INBOX", 1, 2)),
        Arrival(nul, raw),
        Arrival(message("b")),
    )
    assert [f.why.rule for f in filed] == ["new", "quarantined", "quarantined", "new"]
    listed = await store.quarantined()
    assert [q.id for q in listed] == [filed[1].id, filed[2].id]
    assert all(q.reason and q.size == len(raw) and q.attempts == 1 for q in listed)
    again = await store.retry_quarantined(listed[0].id)
    assert again.new and (await store.message(again.id)).subject == "Two files"
    assert [q.id for q in await store.quarantined()] == [filed[2].id]
    (known,) = await file(store, Arrival(parse(raw), raw, Location("INBOX", 1, 2)))
    assert known.id == again.id
    for id in ("q999", "q" + "9" * 40, "q-1", "q", "m1", "q١"):  # noqa: A001
        with pytest.raises(NotFound):
            await store.retry_quarantined(id)


async def test_a_mail_that_several_try_again_at_once_stays_one_row(store: ThreadStore) -> None:
    """It is still refused. On PostgreSQL each of them put it aside anew."""
    raw = MAIL % (b"a.example", b"8bit", b"fine")
    (kept,) = await file(store, Arrival(message("bad", text="a\x00b"), raw))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(quarantine, "parse", lambda raw: message("bad", text="a\x00b"))
        tried = await asyncio.gather(*(store.retry_quarantined(kept.id) for _ in range(4)), return_exceptions=True)
    assert len([one for one in tried if not isinstance(one, NotFound)]) == 1
    assert [(q.attempts, q.size) for q in await store.quarantined()] == [(2, len(raw))]


async def test_what_is_refused_again_is_the_same_row(store: ThreadStore) -> None:
    """Running an import again, or fetching a mailbox again, must not fill the quarantine."""
    raw, other = MAIL % (b"a.example", b"8bit", b"fine"), MAIL % (b"b.example", b"8bit", b"fine")
    bad = message("bad", text="a\x00b")
    (one,) = await file(store, Arrival(bad, raw, Location("INBOX", 1, 2)))
    (again,) = await file(store, Arrival(bad, raw, Location("INBOX", 1, 2)))
    (elsewhere,) = await file(store, Arrival(bad, raw, Location("Archive", 1, 2)))
    (different,) = await file(store, Arrival(bad, other, Location("INBOX", 1, 2)))
    assert again.id == one.id
    assert len({one.id, elsewhere.id, different.id}) == 3
    assert [q.attempts for q in await store.quarantined()] == [2, 1, 1]
    first, second = [(await file(store, Arrival(bad)))[0].id for _ in range(2)]
    assert first != second, "without bytes nobody can say that it is the same"


@pytest.mark.parametrize("told", ["\\u0000", "C:\\\\u0000", "\\\\\\u0000x", 'print("\\u0000")'])
async def test_a_text_about_nul_is_no_nul(store: ThreadStore, told: str) -> None:
    filed = await store.file(message("a", text=told, subject=told), account=US)
    assert filed.new
    assert (await store.message(filed.id)).text == told
    with pytest.raises(ValueError, match="NUL"):
        store.prepare([Arrival(message("b", text=f"{told}\x00"))], account=US)


async def test_a_refusal_inside_the_batch_is_found_by_halving(store: ThreadStore) -> None:
    """What `prepare` cannot foresee: here a size that no integer column holds."""
    batch = store.prepare([Arrival(message(f"m{n}")) for n in range(9)], account=US)
    batch[4].row["size"] = 2**70
    filed = await store.db.run(lambda tx: store.file_batch(tx, batch, account=US))
    assert [f.why.rule == "quarantined" for f in filed] == [n == 4 for n in range(9)]
    assert len(await store.threads()) == 8


async def test_agents_that_write_at_once_lose_nothing(store: ThreadStore) -> None:
    thread = (await store.file(message("a"), account=US)).thread
    await asyncio.gather(
        *(store.put_data(thread, {f"k{n}": n}) for n in range(12)),
        *(store.add_note(thread, f"n{n}") for n in range(12)),
        *(store.set_labels(thread, add=[f"l{n}"]) for n in range(12)),
        *(store.file(message(f"m{n}", answers=["a"]), account=US) for n in range(12)),
    )
    found = await store.thread(thread)
    assert found.data == {f"k{n}": n for n in range(12)}
    assert (len(found.notes), len(found.labels), found.count) == (12, 12, 13)
    for wrong in ("", "two\nlines", "x" * 300):
        with pytest.raises(BadInput):
            await store.set_status(thread, wrong)
    with pytest.raises(BadInput):
        await store.put_data(thread, {"x": object()})


async def test_ancestors_are_the_line_of_parents(store: ThreadStore) -> None:
    filed = await file(
        store, Arrival(message("a")), Arrival(message("b", answers=["a"])), Arrival(message("c", answers=["a"])),
        Arrival(message("d", answers=["a", "b"])),
    )  # fmt: skip
    assert [m.id for m in await store.ancestors(filed[3].id)] == [filed[0].id, filed[1].id]
    assert await store.ancestors(filed[0].id) == []


async def test_a_date_in_the_future_does_not_stay_on_top(store: ThreadStore) -> None:
    arrived = datetime(2026, 3, 1, tzinfo=UTC)
    liar = message("a", day=4_000, received_at=arrived)
    filed = await store.file(liar, account=US)
    assert (await store.thread(filed.thread)).last_at == arrived
    undated = await store.file(message("b", sent_at=None, subject="x"), account=US)
    assert (await store.thread(undated.thread)).last_at is None
    assert timedelta(0) == arrived.utcoffset()

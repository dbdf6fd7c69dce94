"""Search finds what was filed, on both databases alike, newest first, a page at a time."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings

from agentmail.errors import BadInput, NotFound
from agentmail.message.models import Address, Attachment, Message
from agentmail.store import Arrival, ThreadStore, search

from ...unit.test_queries import hostile

START = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
ANA = Address(name="Ana Lima", email="ana.lima@example.org")
BOB = Address(name="Bob", email="bob@billing.example")


def message(
    n: int, text: str, *, subject: str = "", sender: Address = ANA, to: Address = BOB, **more: object
) -> Message:
    return Message(
        message_id=f"<{n}@example.org>", subject=subject or f"Subject {n}", sender=sender, to=(to,), text=text,
        sent_at=START + timedelta(days=n), **more,
    )  # type: ignore[arg-type]  # fmt: skip


MAIL = [
    message(1, "Please pay the invoice 8841 before Friday.", subject="Überfällige Rechnung"),
    message(2, "The invoice was paid. See foo/invoice.pdf", sender=BOB, to=ANA),
    message(3, "会議は東京で開かれます", subject="会議のお知らせ"),
    message(4, "nothing but attachments", attachments=(Attachment(name="Plan B.pdf", size=3),)),
    message(5, "Re-invoicing is not what we do; O'Brien's 100% _sure_ \\ <b>", sender=BOB, to=ANA),
    message(6, "Встреча в Москве, naïve café"),
]  # fmt: skip


@pytest.fixture
async def filled(store: ThreadStore) -> ThreadStore:
    arrivals = [Arrival(m) for m in MAIL]
    await store.db.run(lambda tx: store.file_batch(tx, arrivals, account=None))
    return store


@pytest.mark.parametrize("form", ["dan@münchen.example", "dan@xn--mnchen-3ya.example"])
async def test_an_address_is_found_by_either_form_of_its_domain(store: ThreadStore, form: str) -> None:
    """Mail comes with one, and is shown with the other."""
    mail = [message(1, "x", sender=Address(email=form)), message(2, "x")]
    await store.db.run(lambda tx: store.file_batch(tx, [Arrival(m) for m in mail], account=None))
    for q in ("dan@münchen.example", "Dan@MÜNCHEN.example", "dan@xn--mnchen-3ya.example", "xn--mnchen-3ya.example"):
        assert [1] == await numbers(store, f"from:{q}")
        assert [1] == await numbers(store, q)
        assert [2] == await numbers(store, f"x -from:{q}")
        assert [] == await numbers(store, f"to:{q}")


async def numbers(store: ThreadStore, q: str, **given: object) -> list[int]:
    hits = await store.search(q, **given)  # type: ignore[arg-type]
    return [int(hit.id[1:]) for hit in hits]


CASES = [
    ("invoice", [2, 1]),
    ("INVOICE", [2, 1]),
    ("invoice -paid", [1]),
    ('"the invoice"', [2, 1]),
    ('"invoice the"', []),
    ('"invoice 8841"', [1]),
    ("invoic*", [5, 2, 1]),
    ("88*", [1]),
    ("uberfallige", [1]),
    ("ÜBERFÄLLIGE", [1]),
    ("subject:rechnung", [1]),
    ("subject:invoice", []),
    ("from:ana", [6, 4, 3, 1]),
    ("from:ana.lima@example.org", [6, 4, 3, 1]),
    ("from:bob to:ana", [5, 2]),
    ("to:billing.example", [6, 4, 3, 1]),
    ("-from:ana", [5, 2]),
    ("has:attachment", [4]),
    ("-has:attachment from:ana", [6, 3, 1]),
    ("plan", [4]),
    ("invoice.pdf", [2]),
    ("東京", [3]),
    ("京で", [3]),
    ("京東", []),
    ("会議", [3]),
    ("москве", [6]),
    ("cafe naive", [6]),
    ("o'brien", [5]),
    ("after:2026-01-05", [6, 5, 4]),
    ("before:2026-01-04", [2, 1]),
    ("after:2026-01-03 before:2026-01-05 from:ana", [3]),
    ("invoice after:2027", []),
    ("-absent", [6, 5, 4, 3, 2, 1]),
]


async def test_what_is_found(filled: ThreadStore) -> None:
    found = {q: await numbers(filled, q) for q, _ in CASES}
    assert dict(CASES) == found


async def test_a_hit_says_enough_to_choose(filled: ThreadStore) -> None:
    (hit,) = await filled.search("8841")
    assert hit.id == "m1"
    assert hit.thread == (await filled.message("m1")).thread
    assert hit.subject == MAIL[0].subject
    assert hit.sender == ANA
    assert hit.at == MAIL[0].sent_at
    assert hit.snippet == MAIL[0].text


async def test_labels_are_those_of_the_thread_now(filled: ThreadStore) -> None:
    thread = str((await filled.message("m2")).thread)
    await filled.set_labels(thread, add=["Billing"])
    assert await numbers(filled, "label:billing") == [2]
    assert await numbers(filled, "invoice -label:Billing") == [1]
    assert await numbers(filled, "label:other") == []


async def test_pages(filled: ThreadStore) -> None:
    seen: list[int] = []
    after = None
    while page := await numbers(filled, "-absent", limit=2, after=after):
        seen += page
        after = f"m{page[-1]}"
    assert seen == [6, 5, 4, 3, 2, 1]
    with pytest.raises(NotFound):
        await filled.search("x", after="m99")
    with pytest.raises(BadInput):
        await filled.search("x", limit=0)


async def test_an_account_finds_its_own_mail_only(filled: ThreadStore) -> None:
    await filled.file(message(9, "invoice for somebody else"), account="other@example.net")
    assert await numbers(filled, "invoice", account="other@example.net") == [7]
    assert await numbers(filled, "invoice", account="") == [2, 1]
    assert await numbers(filled, "invoice") == [7, 2, 1]


async def test_what_is_filed_twice_is_found_once(filled: ThreadStore) -> None:
    await filled.file(MAIL[0])
    assert await numbers(filled, "8841") == [1]


async def test_mail_without_a_date_is_found(store: ThreadStore) -> None:
    await store.file(Message(message_id="<x@y>", text="timeless"))
    await store.file(Message(message_id="<z@y>", text="timeless", sent_at=datetime(1, 1, 2, tzinfo=UTC)))
    await store.file(Message(message_id="<w@y>", text="timeless", sent_at=datetime(9999, 12, 30, tzinfo=UTC)))
    hits = await store.search("timeless")
    assert len(hits) == 3


async def test_hostile_queries_find_something_or_are_refused(filled: ThreadStore) -> None:
    """No text of a caller is ever syntax: results, or a BadInput, never an error of the database."""

    @settings(deadline=None, max_examples=60, suppress_health_check=list(HealthCheck))
    @given(hostile)
    def collect(text: str) -> None:
        texts.append(text)

    texts: list[str] = []
    collect()
    for text in [*texts, "'; DROP TABLE message; --", '"""', "a AND (", "label:%", "label:'", 'label:"x\\"']:
        try:
            await filled.search(text)
        except BadInput:
            continue
    assert await numbers(filled, "invoice") == [2, 1]


@pytest.mark.parametrize(
    "text", ["x" * 300_000, "w" * 70 + " end", " ".join(f"n{n}" for n in range(60_000)), "ﷺ" * 20_000]
)
async def test_huge_texts_are_filed_and_found(store: ThreadStore, text: str) -> None:
    filed = await store.file(message(1, text, subject="huge"))
    assert [filed.id] == [h.id for h in await store.search("subject:huge")]


@pytest.mark.parametrize("most", [0, 1_000])
async def test_pages_under_labels_hold_each_hit_once_however_they_are_looked_for(
    store: ThreadStore, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    rng = random.Random(7)
    for name, value in (("_FEW", 4), ("_TRIED", (1, 2)), ("_MOST", most), ("_AT_ONCE", (1, 2, 5))):
        monkeypatch.setattr(search, name, value)
    words = {n: rng.sample(["one", "two", "three"], rng.randint(1, 2)) for n in range(60)}
    arrivals = [Arrival(message(n // 3, " ".join(words[n]), subject=f"{n}")) for n in words]
    for n, arrival in enumerate(arrivals):
        arrivals[n] = Arrival(arrival.message.model_copy(update={"message_id": f"<{n}@x>"}))
    filed = await store.db.run(lambda tx: store.file_batch(tx, arrivals, account=None))
    labels = {}
    for n, one in enumerate(filed):
        labels[n] = {"a"} if n < 30 else set(rng.sample(["b", "c", "D"], rng.randint(0, 2)))
        await store.set_labels(one.thread, add=labels[n])
    everything = await store.messages(limit=1000)
    order = [int(str(one.id)[1:]) - 1 for one in everything]
    assert sorted(order) == list(words)
    for q, word, wanted, unwanted in (
        ("one label:a", "one", "a", ""), ("two label:b label:c", "two", "bc", ""), ("label:b -label:c", "", "b", "c"),
        ("three label:d", "three", "D", ""), ("one label:none", "one", "x", ""), ("label:a", "", "a", ""),
    ):  # fmt: skip
        right = [n for n in order if (not word or word in words[n]) and set(wanted) <= labels[n]
                 and not set(unwanted) & labels[n]]  # fmt: skip
        for limit in (1, 4, 100):
            found: list[int] = []
            after = None
            while page := await store.search(q, limit=limit, after=after):
                found += (int(hit.id[1:]) - 1 for hit in page)
                after = page[-1].id
            assert found == right, (q, limit)

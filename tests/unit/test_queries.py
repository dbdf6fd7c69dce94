"""The query language: any text is a query or a clear refusal, and no text becomes syntax."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pytest import MonkeyPatch

from agentmail.errors import BadInput
from agentmail.message.models import Message
from agentmail.store import queries
from agentmail.store.queries import Query, Term, bounds, fts5, message_at, parse_query, place, tsquery
from agentmail.store.search import snippet
from agentmail.store.words import IndexText, index_text, normalised, tsvector

hostile = st.one_of(
    st.text(max_size=80),
    st.lists(
        st.sampled_from(
            ["NEAR(", "AND", "OR", "NOT", "(", ")", '"', "'", "*", "-", "from:", "before:", "label:", "x", "a:b", "^",
             "%", "_", "{", "}", "+", "&", "|", "!", "<->", ":*", "\\", ";--", "\x00", "\ud800", "東京", "é",
             "before:2026"]
        ),
        max_size=14,
    ).map(" ".join),
)  # fmt: skip


@pytest.fixture(scope="module")
def fts() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(":memory:", check_same_thread=False)) as connection:
        connection.execute(
            "CREATE VIRTUAL TABLE search "
            "USING fts5(subject, sender, recipients, body, marks, content='', tokenize='ascii')"
        )
        yield connection


@given(hostile)
def test_any_text_is_a_query_or_a_refusal(fts: sqlite3.Connection, text: str) -> None:
    try:
        query = parse_query(text)
    except BadInput:
        return
    fts.execute("SELECT rowid FROM search WHERE search MATCH ?", (fts5(query),)).fetchall()
    tsquery(query)
    bounds(query)
    snippet(text, query)


@given(hostile)
def test_cutting_words_again_changes_nothing(text: str) -> None:
    """What is in the index and what is asked for are cut by the same knife."""
    once = normalised(text)
    assert once.split() == normalised(once).split()
    assert all(word.isalnum() for word in once.split())


@given(st.lists(hostile, min_size=1, max_size=4))
def test_a_tsvector_is_words_and_positions_and_nothing_else(texts: list[str]) -> None:
    words = IndexText(*(normalised(" ".join(texts)) for _ in range(4)), marks="\ue000e")
    for entry in tsvector(words).split(" "):
        word, _, positions = entry.partition(":")
        assert word.removeprefix("\ue000").isalnum()
        assert all(p.rstrip("ABC").isdigit() for p in positions.split(",") if p)


@given(st.lists(hostile, min_size=1, max_size=4), st.integers(0, 300))
def test_a_short_text_becomes_the_tsvector_that_a_long_one_would(texts: list[str], repeated: int) -> None:
    """What no limit of PostgreSQL touches takes a way of its own."""
    subject, sender, recipients, body = (normalised(" ".join(texts[n:])) for n in range(4))
    words = IndexText(subject, sender, recipients, f"{body}{' again' * repeated}", marks="\ue000e")
    with MonkeyPatch.context() as patched:
        short = tsvector(words)
        patched.setattr("agentmail.store.words._LARGEST", 100_000)
        patched.setattr("agentmail.store.words._SHORT", 0)
        assert tsvector(words) == short


def test_a_huge_text_fits_into_a_tsvector() -> None:
    """PostgreSQL refuses more than 1 MB, and one message must not block its batch."""
    many = " ".join(f"w{n:x}ürde" for n in range(100_000))
    assert len(tsvector(index_text(Message(text=many))).encode()) < 2**20


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("invoice", Query((Term(("invoice",)),))),
        ("Invoice  Ana", Query((Term(("invoice",)), Term(("ana",))))),
        ('"paid in full"', Query((Term(("paid", "in", "full")),))),
        ('"never closed', Query((Term(("never", "closed")),))),
        ("-spam", Query((Term(("spam",), negative=True),))),
        ("8841*", Query((Term(("8841",), prefix=True),))),
        ('"order 88"*', Query((Term(("order", "88"), prefix=True),))),
        ("from:ana@example.org", Query((Term(("ana", "example", "org"), "sender"),))),
        ("FROM: Ana", Query((Term(("ana",), "sender"),))),
        ('from:"Ana Lima"', Query((Term(("ana", "lima"), "sender"),))),
        ("-to:bob", Query((Term(("bob",), "recipients", negative=True),))),
        ("subject:re*", Query((Term(("re",), "subject", prefix=True),))),
        ("has:attachment", Query((Term((queries.HAS_ATTACHMENT,)),))),
        ("label:billing -label:done", Query(labels=(("billing", False), ("done", True)))),
        ("after:2026-02", Query(after=datetime(2026, 2, 1, tzinfo=UTC))),
        ("before:2026-02-28 before:2027", Query(before=datetime(2026, 2, 28, tzinfo=UTC))),
        ("-before:2026", Query(after=datetime(2026, 1, 1, tzinfo=UTC))),
        ("https://a.example/x?y=1", Query((Term(("https", "a", "example", "x", "y", "1")),))),
        ("NEAR(foo OR", Query((Term(("near", "foo")), Term(("or",))))),
        ("Müller", Query((Term(("muller",)),))),
        ("東京", Query((Term(("東", "京")),))),
        ("from:dan@xn--mnchen-3ya.de", Query((Term(("dan", "xn", "mnchen", "3ya", "de"), "sender",
                                                   other=("dan", "munchen", "de")),))),
        ("-dan@München.de", Query((Term(("dan", "munchen", "de"), negative=True,
                                        other=("dan", "xn", "mnchen", "3ya", "de")),))),
        ("xn--", Query((Term(("xn",)),))),
        ("a@xn--\u00ff-", Query((Term(("a", "xn", "y")),))),
    ],
)  # fmt: skip
def test_reading(text: str, expected: Query) -> None:
    assert expected == parse_query(text)


@pytest.mark.parametrize("text", ["", "   ", "!!!", "-", '""', "before:soon", "after:2026-13", "after:2026-02-30",
                                  "has:wings", "x" * 1001, "a " * 50, "before:٢٠٢٦"])  # fmt: skip
def test_what_means_nothing_is_refused_with_a_reason(text: str) -> None:
    with pytest.raises(BadInput, match=r"nothing to search for|is not a date|is not known|at most"):
        parse_query(text)


@given(st.floats(allow_nan=False, min_value=-1e12, max_value=1e12), st.integers(1, 2**29 - 1))
def test_a_place_is_64_bits_and_knows_its_message(at: float, message: int) -> None:
    assert message == message_at(place(at, message))
    assert 0 <= place(at, message) < 2**63


def test_places_are_in_the_order_of_time() -> None:
    assert place(10.0, 7) < place(10.0, 8) < place(11.0, 1)


@pytest.mark.parametrize(
    ("text", "query", "expected"),
    [
        ("We paid the invoice.", "invoice", "We paid the invoice."),
        ("Línea de crédito\nen euros", "credito", "Línea de crédito en euros"),
        ("x " * 200 + "needle in hay", "needle", "needle"),
        ("invoices " * 40 + "an invoice", "invoice", "an invoice"),
        ("昨日東京で会いました", "東京", "東京"),
        ("", "x", ""),
        ("nothing like it", "absent", "nothing like it"),
    ],
)
def test_snippets_show_what_was_found(text: str, query: str, expected: str) -> None:
    shown = snippet(text, parse_query(query))
    assert expected in shown
    assert len(shown) < 200

"""Answers of servers, read without trust."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentmail.imap.answers import (
    asked_pause,
    fetch_answers,
    mailbox_name,
    response_code,
    search_answer,
    uid_sets,
    vanished_answer,
    within,
    written,
)

UIDS = st.lists(st.integers(1, 2**32 - 1), unique=True, max_size=700).map(sorted)


@given(UIDS)
def test_pieces_name_every_uid_once_and_no_other(uids: list[int]) -> None:
    pieces = list(uid_sets(uids))
    assert uids == [u for piece in pieces for u in piece]
    assert all(len(written(piece)) <= 4_000 and len(piece) <= 500 for piece in pieces)
    for piece in pieces:
        named = [part.partition(":") for part in written(piece).split(",")]
        assert len(piece) == sum(int(b or a) - int(a) + 1 for a, _, b in named)


@given(UIDS, st.integers(1, 2**32 - 1))
def test_a_search_answer_is_sorted_and_never_below_what_was_asked(uids: list[int], low: int) -> None:
    half = len(uids) // 2
    lines = [" ".join(map(str, reversed(part))).encode() for part in (uids[half:], uids[:half])]
    assert [u for u in uids if u >= low] == search_answer(lines, at_least=low)


def test_no_search_line_is_not_an_empty_one() -> None:
    assert search_answer([None]) is None
    assert [] == search_answer([b""])
    assert [3, 5] == search_answer([b"5 3 (MODSEQ 917162500)"])


BYTES = st.binary(max_size=60)


@given(st.lists(st.one_of(BYTES, st.tuples(BYTES, BYTES)), max_size=8))
def test_no_fetch_answer_raises_and_none_is_for_somebody_else(data: list[object]) -> None:
    assert set(fetch_answers(data, {7})) <= {7}


def test_a_fetch_answer_in_any_order_of_its_items() -> None:
    head = b"1 (BODY[] {5}"
    tail = b' INTERNALDATE " 5-Jan-2026 10:00:00 +0200" FLAGS (\\Seen work) UID 7 RFC822.SIZE 5 MODSEQ (12))'
    one = fetch_answers([(head, b"hello"), tail], {7})[7]
    assert (b"hello", 5, ("\\Seen", "work"), 12) == (one.body, one.size, one.flags, one.modseq)
    assert datetime(2026, 1, 5, 8, tzinfo=UTC) == one.received_at


@pytest.mark.parametrize(
    ("said", "body"),
    [(b"1 (UID 7 BODY[] NIL)", b""), (b'1 (UID 7 BODY[] "a\\"b")', b'a"b'), (b"1 (UID 7 FLAGS ())", None)],
)
def test_a_body_without_a_literal(said: bytes, body: bytes | None) -> None:
    assert body == fetch_answers([said], {7})[7].body


def test_what_a_message_says_is_no_item_of_the_answer() -> None:
    evil = b"UID 9 RFC822.SIZE 1 FLAGS (\\Deleted) BODY[] NIL"
    one = fetch_answers([(b"1 (UID 7 RFC822.SIZE 47 BODY[] {47}", evil), b")"], {7, 9})
    assert [7] == list(one)
    assert evil == one[7].body
    assert one[7].flags is None


@pytest.mark.parametrize(
    "date", [b"31-Feb-2026 10:00:00 +0000", b"05-Foo-2026 10:00:00 +0000", b"01-Jan-0000 00:00:00 +0000"]
)
def test_a_date_that_is_none(date: bytes) -> None:
    assert fetch_answers([b'1 (UID 7 INTERNALDATE "' + date + b'")'], {7})[7].received_at is None


def test_codes_and_pauses() -> None:
    assert ("UIDVALIDITY", "7") == response_code("OK [UIDVALIDITY 7] fine")
    assert ("", "") == response_code("NO plain")
    assert asked_pause("Suggested Backoff Time: 92415 milliseconds") == pytest.approx(92.415)


RANGES = st.lists(st.tuples(st.integers(1, 60), st.integers(1, 60)), max_size=8)


@given(RANGES, st.sets(st.integers(1, 70)))
def test_vanished_ranges_hold_the_uids_they_name_and_no_other(ranges: list[tuple[int, int]], uids: set[int]) -> None:
    line = b"(EARLIER) " + ",".join(f"{a}:{b}" if a != b else str(a) for a, b in ranges).encode()
    named = {u for a, b in ranges for u in range(min(a, b), max(a, b) + 1)}
    assert sorted(named & uids) == within(sorted(uids), vanished_answer([line] if ranges else []))
    joined = vanished_answer([line] if ranges else [])
    assert all(high + 1 < low for (_, high), (low, _) in pairwise(joined))


@pytest.mark.parametrize(
    ("said", "name"),
    [
        (b"INBOX", "INBOX"), (b"Gr&APYA3w-e", "Größe"), (b"A&-B", "A&B"), (b"&garbage", None), (b"", None),
        (None, None), (b"Entw\xc3\xbcrfe", None), (b"a\rb", None),
    ],
)  # fmt: skip
def test_a_mailbox_name_can_be_said_back_or_is_none(said: bytes | None, name: str | None) -> None:
    assert name == mailbox_name(said)

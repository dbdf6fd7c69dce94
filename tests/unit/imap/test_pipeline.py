"""FETCH read straight off the wire says what the general reader says, whatever a server sends between."""

from __future__ import annotations

import imaplib
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentmail.imap.answers import Fetched, fetch_answers
from agentmail.imap.pipeline import Asked, Refused, fetched
from agentmail.imap.wire import TooMuch, Wire


class Played(Wire):
    """A wire whose server says what it is told to, and hears nothing."""

    def __init__(self, said: bytes) -> None:
        self.played = io.BytesIO(said.replace(b"TAG", b"ABCD"))
        self.heard = b""
        super().__init__("127.0.0.1", 1, timeout=5.0, tls=None, opened=lambda _: None)
        self.debug, self.tagpre = 0, b"ABCD"
        self.tagnum = 1
        self.tagre = re.compile(rb"(?P<tag>ABCD\d+) (?P<type>[A-Z]+) (?P<data>.*)")

    def open(self, host: str = "", port: int = 143, timeout: float | None = None) -> None:
        self.host, self.port = host, port
        self.file = self.played

    def _connect(self) -> None:
        """Nobody greets."""
        self.tagnum, self.tagged_commands, self.untagged_responses = 1, {}, {}
        self.state, self.is_readonly, self._tls_established = "SELECTED", True, False
        self._mode_ascii()

    def _log(self, line: str) -> None:
        """imaplib keeps the last ten lines; nobody asks for them."""

    def send(self, data: bytes) -> None:
        self.heard += data


@contextmanager
def playing(said: bytes) -> Iterator[Played]:
    yield Played(said)


BODY = st.one_of(
    st.binary(max_size=40), st.just(b")\r\nTAG1 OK\r\n"), st.just(b"* 1 FETCH (UID 9 FLAGS ())\r\n{3}\r\n")
)
FLAGS = st.lists(st.sampled_from(["\\Seen", "$Junk", "\\Flagged"]), unique=True).map(" ".join)
DATE = st.sampled_from(
    [
        "05-Jan-2026 10:00:00 +0000",
        " 5-jan-2026 10:00:00 -0730",
        "31-Feb-2026 10:00:00 +0000",
        "01-Jan-0001 00:00:00 +1400",
        "05-Xyz-2026 10:00:00 +0000",
        "05-Jan-2026 10:00:60 +0100",
    ]
)
ORDER = st.permutations(["UID {uid}", "FLAGS ({flags})", 'INTERNALDATE "{date}"', "RFC822.SIZE {size}"])
USUAL = st.just(["UID {uid}", "FLAGS ({flags})", 'INTERNALDATE "{date}"', "RFC822.SIZE {size}"])
BETWEEN = st.sampled_from(
    [
        b"",
        b"* 7 EXISTS\r\n",
        b"* 3 FETCH (FLAGS (\\Seen))\r\n",
        b"* OK still here\r\n",
        b"* 2 FETCH (UID 77 FLAGS () BODY[] {1}\r\nx)\r\n",
    ]
)


@given(st.lists(st.tuples(st.integers(1, 50), st.one_of(USUAL, ORDER), FLAGS, DATE, BODY, BETWEEN), max_size=4))
def test_the_short_way_and_the_long_way_say_the_same(sent: list[tuple[int, list[str], str, str, bytes, bytes]]) -> None:
    said, general = b"", []
    for uid, order, flags, date, body, between in sent:
        facts = " ".join(order).format(uid=uid, flags=flags, date=date, size=len(body))
        head = f"({facts} BODY[] {{{len(body)}}}".encode()
        said += between + b"* 1 FETCH " + head + b"\r\n" + body + b")\r\n"
        general += [(b"1 " + head, body), b")"]
    tag = b"TAG1"
    wanted = tuple(range(1, 51))
    with playing(said.replace(b"TAG", b"TAH") + tag + b" OK done\r\n") as wire:
        found = fetched(wire, Asked(wanted, "(UID)"))
    assert (
        fetch_answers(
            [
                i.replace(b"TAG", b"TAH") if isinstance(i, bytes) else (i[0], i[1].replace(b"TAG", b"TAH"))
                for i in general
            ],
            wanted,
        )
        == found
    )


ONE = b'* 1 FETCH (UID %d FLAGS () INTERNALDATE "05-Jan-2026 10:00:00 +0000" RFC822.SIZE 2 BODY[] {2}\r\nhi)\r\n'
FACTS_ONLY = b'* 1 FETCH (UID 1 FLAGS () INTERNALDATE "05-Jan-2026 10:00:00 +0000" RFC822.SIZE 2)\r\n'


def test_what_was_asked_ahead_is_the_next_answer() -> None:
    first, second = Asked((1,), "(UID)"), Asked((2,), "(UID)")
    with playing(ONE % 1 + b"TAG1 OK done\r\n" + ONE % 2 + b"TAG2 OK done\r\n") as wire:
        assert [1] == list(fetched(wire, first, second))
        assert wire.ahead is not None
        assert b"hi" == fetched(wire, second)[2].body
        assert wire.ahead is None


@pytest.mark.parametrize(
    "said",
    [
        ONE % 2 + ONE % 1 + b"TAG1 OK done\r\nTAG2 OK done\r\n",
        ONE % 1 + (ONE % 2).replace(b"FLAGS ()", b"FLAGS (\\Seen) MODSEQ (9)") + b"TAG2 OK done\r\nTAG1 OK done\r\n",
    ],
)
def test_the_answer_to_the_second_may_come_before_the_first_is_completed(said: bytes) -> None:
    """Dovecot completes what came in one go only when it has answered all of it."""
    first, second = Asked((1,), "(UID)"), Asked((2,), "(UID)")
    with playing(said) as wire:
        assert {1: b"hi"} == {u: f.body for u, f in fetched(wire, first, second).items()}
        assert {2: b"hi"} == {u: f.body for u, f in fetched(wire, second).items()}


def test_what_was_asked_ahead_and_is_not_wanted_is_thrown_away() -> None:
    said = ONE % 1 + b"TAG1 OK done\r\n* 9 EXISTS\r\n" + ONE % 2 + b"TAG2 OK done\r\n* SEARCH 5\r\nTAG3 OK done\r\n"
    with playing(said) as wire:
        fetched(wire, Asked((1,), "(UID)"), Asked((2,), "(UID)"))
        assert ("OK", [b"5"]) == wire.uid("SEARCH", "ALL")
        assert [b"9"] == wire.untagged_responses["EXISTS"]


def test_a_no_gives_what_came_before_it() -> None:
    with playing(ONE % 1 + b"TAG1 NO [SERVERBUG] later\r\n") as wire, pytest.raises(Refused, match="SERVERBUG") as no:
        fetched(wire, Asked((1, 2), "(UID)"))
    assert [1] == list(no.value.found)


@pytest.mark.parametrize(
    "end", [b"", b"TAG1 OK", ONE % 1, (ONE % 1)[:-4], b"* BYE gone\r\n", b"* 1 FETCH (UID 1 {5}\r\nabc"]
)
def test_an_end_in_the_middle_is_a_lost_connection(end: bytes) -> None:
    with playing(end) as wire, pytest.raises(imaplib.IMAP4.abort):
        fetched(wire, Asked((1,), "(UID)"))


@pytest.mark.parametrize(
    "said",
    [
        (ONE % 1).replace(b"{2}", b"{99999999999}"),
        b"* 1 FETCH (BODY[] {99999999999}\r\n",
        b"* 1 FETCH (UID 1 FLAGS ())\r\n" * 400_000,
        FACTS_ONLY * 20_000,
        ONE % 1 * 20_000,
    ],
)
def test_a_literal_or_a_flood_beyond_the_budget_is_not_read(said: bytes) -> None:
    with playing(said) as wire, pytest.raises(TooMuch):
        wire.budget = 2**20
        fetched(wire, Asked((1,), "(UID)"))


def test_every_byte_of_an_answer_is_counted_once() -> None:
    nil = FACTS_ONLY.replace(b")\r\n", b" BODY[] NIL)\r\n")
    odd = b"* 1 FETCH (FLAGS () UID 1 BODY[] {2}\r\nhi RFC822.SIZE 2)\r\n"
    tail = (ONE % 1).replace(b"hi)", b"hi MODSEQ (9))")
    said = FACTS_ONLY + nil + ONE % 1 + odd + tail + b"* 3 EXISTS\r\nTAG1 OK done\r\n"
    with playing(said) as wire:
        before = wire.budget
        assert fetched(wire, Asked((1,), "(UID)"))[1].modseq == 9
        assert wire.received == before - wire.budget == len(said.replace(b"TAG", b"ABCD"))


def test_the_common_form_is_understood_as_it_stands() -> None:
    with playing(ONE % 7 + b"TAG1 OK\r\n") as wire:
        one = fetched(wire, Asked((7,), "(UID)"))[7]
    assert isinstance(one, Fetched)
    assert (7, 2, "2026-01-05T10:00:00+00:00", (), b"hi") == (
        one.uid,
        one.size,
        one.received_at and one.received_at.isoformat(),
        one.flags,
        one.body,
    )


def test_each_message_is_handed_over_before_the_next_one_is_read() -> None:
    first, second = Asked((1, 3), "(UID)"), Asked((2,), "(UID)")
    # The answer to the second command begins before the first one is completed.
    lines = [ONE % 1, ONE % 2, ONE % 3, b"TAG1 OK done\r\n", b"TAG2 OK done\r\n"]
    at: list[tuple[int, int]] = []
    with playing(b"".join(lines)) as wire:

        def each(one: Fetched) -> None:
            at.append((one.uid, wire.played.tell()))

        assert [1, 3] == sorted(fetched(wire, first, second, each))
        assert [(1, len(lines[0])), (3, len(b"".join(lines[:3])))] == at
        at.clear()
        assert [2] == sorted(fetched(wire, second, each=each))
        assert [2] == [uid for uid, _ in at]


def test_what_is_said_of_a_message_later_is_handed_over_too() -> None:
    seen: list[Fetched] = []
    with playing(ONE % 1 + b"* 1 FETCH (UID 1 FLAGS (\\Seen))\r\nTAG1 OK done\r\n") as wire:
        fetched(wire, Asked((1,), "(UID)"), each=seen.append)
    assert [(), ("\\Seen",)] == [one.flags for one in seen]
    assert [b"hi", b"hi"] == [one.body for one in seen]


@pytest.mark.parametrize("announced", [1, 3])
@pytest.mark.parametrize("order", ["FLAGS () UID 1 RFC822.SIZE 2", None])
def test_a_literal_that_is_longer_or_shorter_than_announced_is_no_message(announced: int, order: str | None) -> None:
    said = (ONE % 1).replace(b"{2}", b"{%d}" % announced)
    if order is not None:
        said = b"* 1 FETCH (%s BODY[] {%d}\r\nhi)\r\n" % (order.encode(), announced)
    with playing(said + b"TAG1 OK done\r\n") as wire, pytest.raises(imaplib.IMAP4.abort):
        fetched(wire, Asked((1,), "(UID)"))

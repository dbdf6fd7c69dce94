"""Each short way of the parser says what the long way beside it says."""

from __future__ import annotations

import binascii
import re
from unittest import mock

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agentmail.message import bodies, charsets, dates, headers, identifiers, mime, parse, transfer
from agentmail.message.addresses import read_addresses, read_usual
from agentmail.message.characters import clean, needs_cleaning
from agentmail.message.charsets import ONE_BYTE, codec_of
from agentmail.message.words import decode_base64
from tests.corpus.cases import cases
from tests.corpus.generate import generate
from tests.corpus.mutate import mutate

NEVER = re.compile(r"(?!)")
often = settings(max_examples=400, suppress_health_check=[HealthCheck.too_slow])  # on a busy machine too


def joined(*pieces: str) -> st.SearchStrategy[str]:
    return st.lists(st.sampled_from(pieces), max_size=12).map("".join)


ADDRESS = st.sampled_from(("a@x.org", "Ana <a@x.org>", '"Ana" <a@x.org>', "=?utf-8?q?=C3=A9?= <a@x.org>", "b@y"))
QUOTED_TWICE = joined('"Ana"', " ", "'", "é", "<a@x.org>").map(lambda text: f'"Ana" "b"{text} <b@y>')
ADDRESSES = st.lists(ADDRESS, min_size=1, max_size=4).map(", ".join)
BROKEN = joined("Ana", " ", ", ", '"', "<a@x.org>", "a@x.org", "(", ")", ";", ":", "\\", "é", "=?utf-8?q?=2C?=")


@often
@given(ADDRESSES | QUOTED_TWICE | BROKEN)
def test_addresses_one_by_one(value):
    value = value.strip(" ")
    pieces = [read_usual(piece) for piece in value.split(", ")]
    if None not in pieces:
        assert (pieces, []) == read_addresses(value)
    people, wrong = parse._addresses(value)
    assert ([(one.name, one.email) for one in people], list(wrong)) == read_addresses(value)


DATE = st.builds(
    lambda *parts: "".join(parts),
    st.sampled_from(("Fri", "xyz", "Fr1")), st.sampled_from((", ", ",,", "  ")), st.sampled_from(("20", "00", "31")),
    st.sampled_from((" ", "-")), st.sampled_from(("Nov", "Feb", "nov", "Nop")), st.just(" "),
    st.sampled_from(("2026", "1850", "0001", "9999", "202a")), st.just(" "),
    st.sampled_from(("09:14:00", "23:59:60", "24:00:00", "09.14.00", "09:14:0Z", "091400.1")),
    st.sampled_from((" +0100", " -0000", " +0000", " -1200", "  0100", " +2400", " +01:0", " +0199", "+01000")),
)  # fmt: skip


@often
@given(DATE)
def test_dates(value):
    try:
        usual = dates._usual(value)
    except (ValueError, KeyError, OverflowError):
        return
    with mock.patch.object(dates, "_usual", side_effect=ValueError):
        assert usual == dates.read_date(value)


LINES = joined("From", "X-a", ":", ": ", " ", "\n", "a b", "é", "=?", "\x0b", "\x1f", "\n\n", "From: a\n", "Cc : b\n")


@given(LINES)
def test_header_lines(text):
    usual = headers._usual(text, 7, clean=False, printable=False)
    if usual is not None:
        raw = text.encode()
        defects: set[str] = set()
        slow = headers._lines(
            raw, 0, len(raw), text, 7, defects, outermost=True, local8=False, clean=False, printable=False
        )
        assert (slow, defects) == (usual, set())
        assert usual.by_name == headers.by_name(usual.fields)


@given(joined("<a@b>", "<c=d/+1@e.f>", " ", "  ", ",", "<", ">", "\t", "a@b", "(x)", "<a@b.>"), st.sampled_from(
    ("own", "in-reply-to", "references")))  # fmt: skip
def test_ids(value, kind):
    usual = identifiers.find_ids(value, kind)
    with mock.patch.multiple(identifiers, _USUAL=NEVER, _ALONE=NEVER, _CLEAN=NEVER):
        assert usual == identifiers.find_ids(value, kind)


CHARSETS = [
    *(label for n in range(1, 17) if codec_of(label := f"iso-8859-{n}")), *(f"windows-125{n}" for n in range(9)),
    *("koi8-r", "koi8-u", "macintosh", "ibm437", "ibm850", "ibm866", "tis-620", "utf-8", "us-ascii", "gb2312", "big5"),
]  # fmt: skip


@often
@given(st.binary(max_size=60) | st.text("aあ㆗ㅤ　é\u200bя\n", max_size=20).map(str.encode), st.sampled_from(CHARSETS))
def test_texts(data, charset):
    for html in (False, True):
        usual: set[str] = set()
        text = bodies.read_text(data, charset, usual, html=html)
        with mock.patch.object(bodies, "_harmless", return_value=None):
            slow: set[str] = set()
            assert bodies.read_text(data, charset, slow, html=html) == text
            assert usual == slow


@given(st.text("aあ㆗ㅤ　é\u200b\ufeff\n", max_size=20))
def test_a_text_that_needs_no_cleaning_is_clean(text):
    assert needs_cleaning(text) or clean(text) == (text, 0)


QUOTED = st.sampled_from((b"=", b" ", b"\t", b"\n", b"\r", b"a", b"=20", b"=\n", b"=3D"))


ONE_BYTE_LABELS = ["windows-874", "windows-1253", "iso-8859-8", "iso-8859-6", "koi8-r", "cp437", "macintosh"]


@pytest.mark.parametrize("label", ONE_BYTE_LABELS)
def test_broken_texts_of_one_byte_charsets(label):
    data = bytes(range(0x100)) + b"\xff\xfe\x80a\xdb" * 3
    codec = codec_of(label) or ""
    assert codec.startswith(ONE_BYTE)
    assert charsets.decode(data, label).text == data.decode(codec, "replace")


def test_a_broken_text_that_costs_time_is_cut_and_says_so():
    found = charsets.decode(b"\xff" * 1_000_001, "utf-7")
    assert (len(found.text), found.defect, found.cut) == (1_000_000, "bad-charset", True)
    assert not charsets.decode(b"\xff" * 1_000_000, "utf-7").cut
    message = parse.parse(b"Content-Type: text/plain; charset=utf-7\n\n" + b"\xff" * 1_000_001)
    assert {"bad-charset", "text-cut"} <= set(message.defects)


@often
@given(st.lists(QUOTED, max_size=12).map(b"".join))
def test_blanks_at_the_ends_of_quoted_printable(data):
    assert transfer._quoted_printable(data) == binascii.a2b_qp(transfer._BLANKS_AT_END.sub(b"", data))


BASE64 = st.sampled_from((b"QUJD", b"Q", b"=", b"==", b"\n", b"\r\n", b" ", b"\t", b"-", b"\xff", b"+/9a"))


@often
@given(st.lists(BASE64, max_size=10).map(b"".join))
def test_base64_that_is_decoded_later(data):
    size = transfer.base64_size(data)
    decoded, clean = decode_base64(data)
    if size is not None:
        assert (len(decoded), clean) == (size, True)
        assert binascii.a2b_base64(data) == decoded
    elif clean:
        assert re.search(rb"=\s+=", data)


LINES = st.sampled_from(
    (b"--b", b"--b--", b"--b ", b"--bb", b"-", b"--", b"a-b", b"", b"QUJD", b"-- ", b"x --b", b"--b--x")
)


def sections(raw: bytes) -> list[tuple[int, int]]:
    """Line by line (RFC 2046 5.1.1)."""
    found: list[tuple[int, int]] = []
    begin, position = -1, 0
    for line in raw.split(b"\n"):
        after = min(position + len(line) + 1, len(raw))
        if line.startswith(b"--b") and (tail := line[3:].strip()) in (b"", b"--"):
            if begin >= 0:
                found.append((begin, max(begin, position - 1)))
            if tail:
                return found
            begin = after
        position = after
    return [*found, (begin, len(raw))] if begin >= 0 else found


@often
@given(st.lists(LINES, max_size=12).map(b"\n".join))
def test_boundaries(raw):
    raw = b"\n" + raw
    assert mime.Content(raw, set())._sections(b"b", 1, len(raw)) == sections(raw)


def both_ways(raw: bytes) -> None:
    raw = raw.replace(b"\r", b"").replace(b"\n", b"\r\n")
    usual = parse.parse(raw)
    with mock.patch.object(parse, "_MAX_CONVERTED", 0):
        slow = parse.parse(raw)
    assert usual == slow
    assert [one.content for one in usual.attachments] == [one.content for one in slow.attachments]


@pytest.mark.parametrize("part", range(4))
def test_mails_with_the_line_ends_of_the_wire(part):
    for number, case in enumerate(cases()):
        if number % 4 == part and len(case.raw) < 50_000:
            both_ways(case.raw)
            for seed in range(2):
                both_ways(mutate(case.raw, f"{case.name}:wire:{seed}"))
    for seed in range(25 * part, 25 * part + 25):
        both_ways(generate(seed).raw)


def test_only_line_ends_that_are_all_alike_are_made_short():
    assert parse._with_lf(b"A: b\r\n\r\nc\r\n") == b"A: b\n\nc\n"
    for raw in (b"\r", b"A: b\r\n\r\nc\n", b"A: b\n\r\nc\r\n", b"A: b\r\n\rc\r\n", b"A: b\r\r\n\r\n"):
        assert parse._with_lf(raw) is None

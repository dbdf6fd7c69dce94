"""Hostile parents, answered: the wire has exactly our header names, and three readers agree on what it says.

The readers are Python's own parser, the strict one beside this file, and our `parse`.
"""

from __future__ import annotations

import email
import email.policy
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentmail.errors import BadInput
from agentmail.message.characters import clean
from agentmail.message.compose import forward, new, reply
from agentmail.message.models import Address, Attachment, Draft, Message
from agentmail.message.parse import parse
from agentmail.message.subject import reply_subject
from agentmail.message.wire import check

from . import strict

NOW = datetime(2026, 5, 14, 9, 30, tzinfo=UTC)
BOT = Address(name="Support", email="bot@example.com")
ANA = Address(name="Ana Ruiz", email="ana@example.org")
FIXED = {"sender": BOT, "now": NOW, "token": bytes(range(17))}
EVIL = Address(name="x\r\nBcc: victim@example.net", email="eve@example.org")

FIRST = ["From", "To"]
REST = ["Auto-Submitted", "X-Auto-Response-Suppress", "X-Agentmail-Loop", "MIME-Version", "Content-Type"]
ALLOWED = {*FIRST, "Cc", "Subject", "Date", "Message-ID", "In-Reply-To", "References", "Thread-Topic", "Thread-Index",
           *REST}  # fmt: skip

ENDS = {"CRLF": "\r\n", "LF": "\n", "CR": "\r", "NUL": "\0", "VT": "\x0b", "FF": "\x0c", "NEL": "\x85", "LS": "\u2028",
        "PS": "\u2029", "ESC": "\x1b", "FS": "\x1c", "GS": "\x1d", "RS": "\x1e", "DEL": "\x7f", "CRLFCRLF": "\r\n\r\n",
        "CRLF-space": "\r\n ", "half-character": "\ud800"}  # fmt: skip


def _raw(headers: str, body: str = "Hi") -> Message:
    return parse(headers.encode("utf-8", "surrogatepass") + b"\r\n\r\n" + body.encode("utf-8", "surrogatepass"))


def _hostile() -> dict[str, Message]:
    """By name: messages as the parser makes them of hostile bytes, and values that no parser should let through."""
    base = {"message_id": "<p@x.org>", "sender": ANA, "subject": "Hello", "text": "Hi"}
    found: dict[str, Message] = {}
    for name, end in ENDS.items():
        inject = f"{end}Bcc: victim@example.net{end}X-Injected: 1"
        found[f"subject {name}"] = Message(**{**base, "subject": f"Hello{inject}"})
        found[f"name {name}"] = Message(**{**base, "sender": Address(name=f"Ana{inject}", email="ana@example.org")})
        found[f"topic {name}"] = Message(**{**base, "thread_topic": f"Hello{inject}"})
        found[f"id {name}"] = Message(**{**base, "message_id": f"<p{inject}@x.org>"})
        found[f"references {name}"] = Message(**{**base, "references": (f"<a{inject}@x>", "<b@x>")})
    for name in ("CRLF", "LF", "VT", "NEL", "NUL", "LS"):
        end = ENDS[name]
        word = "".join(f"={b:02X}" for b in f"Hi{end}Bcc: victim@example.net".encode()).replace("=20", "_")
        for header in ("Subject", "From", "Reply-To", "Thread-Topic", "Message-ID", "References", "In-Reply-To"):
            value = f"=?utf-8?q?{word}?=" + (" <ana@example.org>" if header in {"From", "Reply-To"} else "")
            sender = "" if header == "From" else "From: ana@example.org\r\n"
            found[f"encoded {name} in {header}"] = _raw(f"{sender}{header}: {value}")
    spoof = "\u202egro.elpmaxe@ana\u202c"
    found |= {
        "bidi in the name": _raw(f"From: {spoof} <ana@example.org>\r\nSubject: {spoof}"),
        "zero width": _raw("From: A\u200bna <ana@example.org>\r\nSubject: a\u200b\ufeffb"),
        "tag characters": _raw("From: ana@example.org\r\nSubject: a\U000e0041\U000e0042"),
        "name of 10 kB": _raw(f"From: {'A' * 10_000} <ana@example.org>\r\nSubject: x"),
        "name of 10 kB of umlauts": _raw(f"From: {'ü' * 10_000} <ana@example.org>\r\nSubject: x"),
        "name with quotes": _raw('From: "a\\"b\\\\, <v@x.org>" <ana@example.org>\r\nSubject: x'),
        "name that is an address": _raw('From: "ceo@bank.example" <ana@example.org>\r\nSubject: x'),
        "name that looks encoded": Message(**{**base, "sender": Address(name="=?utf-8?q?=0ABcc:?=", email="a@x.org")}),
        "subject that looks encoded": Message(**{**base, "subject": "=?utf-8?q?=0ABcc:_v@x.org?="}),
        "subject encoded twice": _raw(
            "From: ana@example.org\r\nSubject: =?utf-8?q?=3D=3Futf-8=3Fq=3F=3D0ABcc:=3F=3D?="
        ),
        "subject of 1 MB": Message(**{**base, "subject": "long word " * 100_000}),
        "subject of one word of 1 MB": Message(**{**base, "subject": "x" * 1_000_000}),
        "subject of spaces": Message(**{**base, "subject": " " * 5_000 + "x"}),
        "subject of prefixes": Message(**{**base, "subject": "Re: " * 5_000}),
        "5,000 references": Message(**{**base, "references": tuple(f"<r{i}@x.org>" for i in range(5_000))}),
        "5,000 references on the wire": _raw(
            "From: ana@example.org\r\nMessage-ID: <p@x>\r\nReferences: " + " ".join(f"<r{i}@x>" for i in range(5_000))
        ),
        "references of 900 bytes each": Message(
            **{**base, "references": tuple("<" + c * 880 + "@x>" for c in "abcdef")}
        ),
        "reference of 100 kB": Message(**{**base, "references": ("<" + "a" * 100_000 + "@x>",)}),
        "id of 5 kB": Message(**{**base, "message_id": "<" + "a" * 5_000 + "@x>"}),
        "id with spaces": Message(**{**base, "message_id": "<a b@x>"}),
        "id with brackets": Message(**{**base, "message_id": "<a><b@x>"}),
        "id without brackets": Message(**{**base, "message_id": "a@x"}),
        "id of umlauts": Message(**{**base, "message_id": "<ä@x>", "references": ("<ö@x>", "<b@x>")}),
        "id encoded": Message(**{**base, "message_id": "<=?utf-8?q?=0A?=@x>"}),
        "empty ids": Message(**{**base, "message_id": "", "references": ("", "<>", "< >")}),
        "references to itself": Message(**{**base, "references": ("<p@x.org>",) * 60}),
        "thread-index of garbage": Message(**{**base, "thread_index": "AAAA\r\nBcc: v@x.org"}),
        "thread-index of 60 kB": Message(**{**base, "thread_index": "AQHW" + "LRNo" * 15_000}),
        "thread-index of 1 MB": Message(**{**base, "thread_index": "A" * 1_000_000}),
        "topic of 1 MB": Message(**{**base, "thread_topic": "ä" * 500_000}),
        "reply-to of 5,000": Message(
            **{**base, "reply_to": tuple(Address(name="x", email=f"a{i}@x.org") for i in range(400))}
        ),
        "reply-to with SMTP commands": Message(
            **{**base, "reply_to": (Address(email="a@x.org>\r\nRCPT TO:<v@x.org"),)}
        ),
        "cc with line breaks": Message(**{**base, "cc": (EVIL, Address(email="b@x.org\r\nBcc: v@x.org"))}),
        "date before time": Message(**{**base, "sent_at": datetime(1, 1, 1, tzinfo=UTC)}),
        "date after time": Message(**{**base, "sent_at": datetime(9999, 12, 31, 23, 59, tzinfo=UTC)}),
        "hop of nines": Message(**{**base, "headers": (("X-Agentmail-Loop", "x;hop=9999999999999999"),)}),
        "hop with a line break": Message(**{**base, "headers": (("X-Agentmail-Loop", "x;hop=1\r\nBcc: v@x.org"),)}),
        "body of boundaries": _raw("From: ana@example.org", "--=_\r\n--\r\n" * 100),
        "body of dots": _raw("From: ana@example.org", ".\r\n.\n.\r.\r\n" * 100),
        "body of one line of 1 MB": _raw("From: ana@example.org", "x" * 1_000_000),
        "body of controls": Message(**{**base, "text": "".join(map(chr, range(0x2100))) + "\ud800"}),
        "body of markup": Message(
            **{**base, "text": "</div></blockquote><script>1</script>", "html": "<script>2</script>"}
        ),
    }
    return found


HOSTILE = _hostile()


def test_there_are_enough_of_them():
    assert len(HOSTILE) >= 60


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_parent_puts_nothing_of_its_own_on_the_wire(name):
    parent = HOSTILE[name]
    outgoing = reply(parent, "Thank you.", quote=True, reply_all=True, **FIXED)
    wire = strict.read(outgoing.raw)
    _is_ours(wire, outgoing.raw)
    if "In-Reply-To" in wire.names():
        assert [parent.message_id] == strict.ids(wire["In-Reply-To"])
    references = strict.ids(wire["References"]) if "References" in wire.names() else []
    assert len(references) <= 50
    assert set(references) <= {*parent.references, *parent.in_reply_to, parent.message_id}
    for address in (outgoing.envelope.mail_from, *outgoing.envelope.rcpt_to):
        assert not set(address) & set("\r\n\0 <>")
    assert "victim@example.net" not in outgoing.envelope.rcpt_to
    assert b"<script" not in wire.leaves()[1].content()
    _readers_agree(wire, outgoing.raw)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_message_is_forwarded_as_safely(name):
    outgoing = forward(HOSTILE[name], to=["b@example.org"], text="FYI", **FIXED)
    wire = strict.read(outgoing.raw)
    _is_ours(wire, outgoing.raw)
    _readers_agree(wire, outgoing.raw)


def _is_ours(wire: strict.Part, raw: bytes) -> None:
    names = wire.names()
    assert set(names) <= ALLOWED
    assert len(set(names)) == len(names)
    assert names[:2] == FIRST
    assert names[-len(REST) :] == REST
    assert {"Subject", "Date", "Message-ID", "Thread-Index"} <= set(names)


def _readers_agree(wire: strict.Part, raw: bytes) -> None:
    """Python's parser, old policy and new, our own and the strict one see the same headers and the same parts."""
    old = email.message_from_bytes(raw)
    assert wire.headers == [(n, v.replace("\r\n", "").strip()) for n, v in old.items()]
    assert not old.defects
    modern = email.message_from_bytes(raw, policy=email.policy.default)
    assert not modern.defects
    ours = parse(raw)
    assert set(ours.defects) <= {"unseen-characters"}  # which a quoted text may have brought along
    subject = strict.decoded(wire["Subject"])
    assert subject == ours.subject
    assert " ".join(subject.split()) == " ".join(str(modern["Subject"]).split())
    assert wire["Message-ID"] == ours.message_id
    for name, people in (("To", ours.to), ("Cc", ours.cc)):
        if name in wire.names():
            assert [p.email for p in people] == [a.addr_spec for a in modern[name].addresses]
            # Python (3.11 to 3.13) keeps a space between two encoded words of a phrase, against RFC 2047 6.2.
            assert [_tight(p.name) for p in people] == [_tight(a.display_name) for a in modern[name].addresses]
    leaves = [part for part in modern.walk() if not part.is_multipart()]
    assert [p.content() for p in wire.leaves()] == [part.get_payload(decode=True) for part in leaves]
    assert all(not part.defects for part in modern.walk())


def _tight(text: str) -> str:
    return "".join(text.split())


# -- properties

_TEXT = st.text(st.characters(blacklist_categories=("Cs",), blacklist_characters="\0"), max_size=300)
_LINE = st.text(st.characters(blacklist_categories=("Cs", "Cc", "Zl", "Zp")), max_size=200)
_ATOM = st.text("abcdefghijklmnopqrstuvwxyz0123456789.-_+=", min_size=1, max_size=40).filter(
    lambda s: ".." not in s and s[0] != "." and s[-1] != "."
)
_IDS = st.builds("<{}@{}.example>".format, _ATOM, st.from_regex(r"[a-z]{1,20}", fullmatch=True))
_EMAILS = st.builds("{}@{}.example".format, _ATOM, st.from_regex(r"[a-z]{1,20}", fullmatch=True))
# Our parser takes quotes off the ends of a name, as Outlook puts them there, and what nobody sees out of it.
_PERSON = st.text(
    st.characters(blacklist_categories=("Cs", "Cc", "Zl", "Zp"), blacklist_characters="\"'\\"), max_size=80
)
_SEEN = _PERSON.map(lambda name: " ".join(name.split())).filter(lambda name: clean(name) == (name, 0))
_PEOPLE = st.builds(Address, name=_SEEN, email=_EMAILS)
_NAMES = st.from_regex(r"[a-zA-Z0-9äöü一-龥][a-zA-Z0-9äöü一-龥 ]{0,40}[a-z]\.(pdf|txt|png)", fullmatch=True)
_FILES = st.lists(st.builds(Attachment, name=_NAMES, content=st.binary(max_size=200)), max_size=3)


def _lines(text: str) -> list[str]:
    """A text without how its lines end, which SMTP may change."""
    return text.replace("\r\n", "\n").replace("\r", "\n").rstrip("\n").split("\n")


@settings(deadline=None, max_examples=60)
@given(_IDS, st.lists(_IDS, max_size=60, unique=True), _LINE, _PEOPLE, st.lists(_PEOPLE, max_size=4), _TEXT, _FILES)
def test_what_is_composed_is_parsed_as_it_was_meant(own, references, subject, person, more, text, files):
    parent = Message(message_id=own, references=tuple(references), subject=subject, sender=person, cc=tuple(more))
    if not text.strip():
        text = "x" + text
    outgoing = reply(parent, text, html="<p>x</p>", reply_all=True, attachments=files, **FIXED)
    wire = strict.read(outgoing.raw)
    _readers_agree(wire, outgoing.raw)
    got = parse(outgoing.raw)
    assert (own,) == got.in_reply_to
    expected = [r for r in references if r != own]
    expected = [*expected, own] if len(expected) < 50 else [expected[0], *expected[-48:], own]
    assert tuple(expected) == got.references
    assert reply_subject(subject.strip()).strip() == got.subject
    assert [a.email for a in got.recipients] == list(outgoing.envelope.rcpt_to)
    assert person.name[:200].strip() == got.to[0].name
    assert _lines(text) == _lines(strict.read(outgoing.raw).leaves()[0].content().decode())
    assert [(a.name, a.content) for a in files] == [(a.name, a.content) for a in got.attachments]


@settings(deadline=None)
@given(st.text(max_size=200), st.text(max_size=60), st.text(max_size=60), st.text(max_size=300))
def test_a_draft_is_written_as_it_is_or_refused(subject, name, address, text):
    """Nothing between the two: no cut, no repair, no header of anybody's choice."""
    draft = Draft(to=(Address(name=name, email=address or "a@x.org"), ANA), subject=subject, text=text)
    try:
        outgoing = new(draft, **FIXED)
    except BadInput as error:
        assert str(error).isprintable()
        return
    wire = strict.read(outgoing.raw)
    _is_ours(wire, outgoing.raw)
    assert subject.replace("\t", " ").strip() == strict.decoded(wire["Subject"])


@pytest.mark.parametrize(
    ("raw", "sentence"),
    [
        (b"A: x\r\nBcc: v\r\n\r\n", "header of its own"),
        (b"A: x\r\nA: y\r\n\r\n", "header of its own"),
        (b"A: x\n\r\n\r\n", "printable ASCII"),
        (b"A: x\rB: y\r\n\r\n", "printable ASCII"),
        (b"A: \x00\r\n\r\n", "printable ASCII"),
        (b"A: \xc3\xbc\r\n\r\n", "printable ASCII"),
        (b"A: x\r\n \r\n\r\n", "empty"),
        (b" A: x\r\n\r\n", "printable|header of its own"),
        (b"A : x\r\n\r\n", "printable ASCII"),
        (b"A: " + b"x" * 996 + b"\r\n\r\n", "998"),
        (b"A: x\r\n\r\nbody\n", "CRLF"),
        (b"A: x\r\n\r\n\n.\r\n", "CRLF"),
        (b"A: x\r\n\r\n\xff\r\n", "ASCII"),
        (b"A: x\r\n\r\n" + b"x" * 999 + b"\r\n", "998"),
        (b"A: x\r\n", "end of its headers"),
    ],
)
def test_the_last_look_at_the_bytes_sees_what_must_not_leave(raw, sentence):
    with pytest.raises(BadInput, match=sentence):
        check(raw, ["A"])


def test_the_last_look_lets_the_longest_legal_line_pass():
    check(b"A: " + b"x" * 995 + b"\r\n\r\n" + b"x" * 998 + b"\r\n", ["A"])

"""No bytes make parse raise, and what comes out can be stored and shown (law 3)."""

import random
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentmail.message.parse import parse

BAD = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x84\x86-\x9f\ud800-\udfff]")


def check(raw: bytes) -> None:
    """What must hold of every message, whatever its bytes."""
    message = parse(raw)
    assert "unreadable" not in message.defects
    assert len(raw) == message.size
    assert message.message_id.startswith("<") and message.message_id.endswith(">")
    for text in (message.text, message.html or ""):
        assert not BAD.search(text)
    lines = [value for pair in message.headers for value in pair]
    lines += [
        message.subject,
        message.message_id,
        *message.other_ids,
        *message.in_reply_to,
        *message.references,
    ]
    lines += [
        text for person in (*message.people(), *message.reply_to) for text in (person.name, person.email)
    ]
    lines += [a.name for a in message.attachments]
    for line in lines:
        assert not re.search("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]", line), ascii(line)
    for attachment in message.attachments:
        assert (
            attachment.name and not attachment.name.startswith(".") and not set(attachment.name) & set("/\\:")
        )
        assert len(attachment.name.encode()) <= 160
    message.model_dump_json(exclude={"new_text"}).encode("utf-8")
    assert message == parse(raw)


@given(st.binary(max_size=2_000))
def test_any_bytes(raw):
    check(raw)


PIECES = st.sampled_from(
    [
        b"From: ",
        b"a@b.c", b"To: ", b"Subject: ", b"=?utf-8?b?", b"=?iso-2022-jp?q?", b"?=", b"\n", b"\r\n", b"\n\n",
        b" ", b"\t", b"<", b">", b'"', b"(", b")", b",", b";", b":", b"Content-Type: ", b"text/plain", b"text/html",
        b"multipart/mixed; boundary=b", b"multipart/alternative; boundary=b", b"--b", b"--b--",
        b"--", b"message/rfc822",
        b"Content-Transfer-Encoding: ", b"base64", b"quoted-printable", b"x-uuencode", b"begin 644 a\n", b"end",
        b"Content-Disposition: attachment; filename", b"*0*=utf-8''", b"*=", b"charset=", b"utf-16", b"utf-7", b"hz",
        b"Message-ID: ", b"References: ", b"In-Reply-To: ", b"Date: ",
        b"Mon, 1 Jan 2024 00:00:00 +0000", b"=00", b"\x00",
        b"\xff", b"\xc3\xa9", b"\xed\xa0\x80", b"\x1b$B", b"format=flowed", b"QUJD", b"=", b"..", b"/", b"%00", b"%0a",
    ]
)  # fmt: skip


@settings(max_examples=400)
@given(st.lists(PIECES, max_size=60).map(b"".join))
def test_any_mixture_of_what_mail_is_made_of(raw):
    check(raw)


@pytest.mark.parametrize("seed", range(20))
def test_mutants(seed):
    """Real shapes with bytes changed, cut, doubled and swapped."""
    rng = random.Random(seed)
    base = bytearray(
        b'From: =?utf-8?q?J=C3=BC?= <j@example.com>\r\nTo: g: a@b.c, "x" <d@e.f>;\r\nMessage-ID: <1@x>\r\n'
        b'References: <0@x>\r\nSubject: =?iso-8859-1?b?5A==?=\r\nContent-Type: multipart/mixed; boundary="b"\r\n\r\n'
        b"--b\r\nContent-Type: text/plain; charset=utf-8; format=flowed\r\n\r\nhi \r\nthere\r\n--b\r\n"
        b"Content-Disposition: attachment; filename*0*=utf-8''%e2%82%ac; filename*1=.txt\r\n"
        b"Content-Transfer-Encoding: base64\r\n\r\nQUJD\r\n--b--\r\n"
    )
    for _ in range(60):
        raw = bytearray(base)
        for _ in range(rng.randint(1, 8)):
            at = rng.randrange(len(raw))
            match rng.randrange(4):
                case 0:
                    raw[at] = rng.randrange(256)
                case 1:
                    del raw[at : at + rng.randint(1, 40)]
                case 2:
                    raw[at:at] = raw[max(0, at - 60) : at]
                case _:
                    raw[at:at] = bytes([rng.choice(b'\0\r\n"<>()=?;:,-')])
            raw = raw or bytearray(b"x")
        check(bytes(raw))

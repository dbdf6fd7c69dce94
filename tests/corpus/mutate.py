"""The files of `mail/` with bytes, lines and structure changed: what transport, bugs and attackers make of mail."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator, Sequence

PIECES = (
    b"\r\n", b"\n", b"\r", b"\r\n\r\n", b"\x00", b"\x1b[2J", b"=?", b"?=", b"=?utf-8?q?=0D=0ABcc:_x?=", b"=?idna?b?",
    b"<", b">", b"<>", b"<a@b>", b'"', b"(", b")", b";", b",", b":", b"=", b"@", b"\\", b"--", b"--b",
    b"\xff\xfe", b"\xed\xa0\x80", b"\xe2\x80\xae", b"\xc3", b"%00", b"'", b"*0*=", b" ", b"\t", b"=\n", b"=00",
    b"begin 644 a\n", b"Bcc: v@x.org\r\n",
    b"Content-Type: multipart/mixed; boundary=b\r\n", b"charset=utf-16;", b"<div hidden>", b"\n> ", b"-- \n",
)  # fmt: skip
LABELS = (b"utf-8", b"us-ascii", b"iso-8859-1", b"utf-16", b"iso-2022-jp", b"gb18030", b"utf-7", b"idna", b"")
ENCODINGS = (b"7bit", b"8bit", b"base64", b"quoted-printable", b"x-uuencode", b"binary", b"x-none")
TYPES = (
    b"text/plain", b"text/html", b"multipart/mixed", b"multipart/alternative", b"message/rfc822", b"text",
    b"text/calendar", b"message/delivery-status", b"application/x", b"",
)  # fmt: skip


FIELDS = (
    b"From: Mallory <mallory@evil.example>", b"To: ben@example.org, =?utf-8?q?Z=C3=B6e?= <zoe@example.org>",
    b"Cc: A: b@c.example;", b"Subject: =?iso-8859-1?q?Gr=FC=DFe?=",
    b"Date: 21 Nov 97 09:55:06 GMT", b"Message-ID: <other@example.org>",
    b"In-Reply-To: <parent@example.org> (Ben)", b"References: <a@example.org>,<b@example.org>",
    b"Content-Type: text/html", b"Content-Type: multipart/mixed; boundary=\"b\"", b"Content-Transfer-Encoding: base64",
    b"Content-Disposition: attachment", b"Return-Path: <>", b"Received: from a by b; Fri, 20 Nov 2026 09:14:00 +0100",
    b"X-Long:\r\n folded\r\n\tonce more", b"junk",
)  # fmt: skip
BODIES = (
    b"", b"Hi", b"--b\r\n\r\nOne\r\n--b\r\nContent-Type: text/html\r\n\r\n<p>Two</p>\r\n--b--\r\n",
    b"SGVsbG8=\r\n", b"Gr=C3=BC=C3=9Fe=\r\n",
    b"Gr\xc3\xbc\xc3\x9fe", b"Gr\xfc\xdfe", b"\x1b$B$*@$OC\x1b(B", b"<p>Hello</p><p style='display:none'>unseen</p>",
    b"begin 644 cat.txt\r\n#0V%T\r\n`\r\nend\r\n", b"Yes.\r\n\r\nOn Fri, Nov 20, 2026 Ben wrote:\r\n> No?\r\n",
)  # fmt: skip


def mutate(raw: bytes, seed: str) -> bytes:
    """The mail with one to six changes; the same for the same seed, whatever else is in the corpus."""
    rng = random.Random(seed)
    for _ in range(rng.randint(1, 6)):
        raw = rng.choice(_CHANGES)(raw or b"\n", rng)
    return raw


def mutants(name: str, raw: bytes, count: int, first: int = 0) -> Iterator[tuple[str, bytes]]:
    """Some of one mail, each with the seed that makes it again."""
    for number in range(first, first + count):
        seed = f"{name}:{number}"
        yield seed, mutate(raw, seed)


# ---------------------------------------------------------------------------------------------------------------------

_Change = Callable[[bytes, random.Random], bytes]


def _byte(raw: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(raw))
    return raw[:at] + bytes([rng.randrange(256)]) + raw[at + 1 :]


def _insert(raw: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(raw) + 1)
    return raw[:at] + rng.choice(PIECES) + raw[at:]


def _delete(raw: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(raw))
    return raw[:at] + raw[at + rng.randint(1, 60) :]


def _repeat(raw: bytes, rng: random.Random) -> bytes:
    at, size = rng.randrange(len(raw)), rng.randint(1, 80)
    return raw[:at] + raw[at : at + size] * rng.randint(2, 4) + raw[at + size :]


def _cut(raw: bytes, rng: random.Random) -> bytes:
    return raw[: rng.randrange(len(raw))]


def _line(raw: bytes, rng: random.Random) -> bytes:
    """A line goes, comes twice, moves, or loses its end."""
    lines = raw.splitlines(keepends=True)
    at = rng.randrange(len(lines))
    match rng.randrange(4):
        case 0:
            del lines[at]
        case 1:
            lines.insert(rng.randrange(len(lines)), lines[at])
        case 2:
            lines.insert(rng.randrange(len(lines)), lines.pop(at))
        case _:
            lines[at] = lines[at].rstrip(b"\r\n")
    return b"".join(lines)


def _ends(raw: bytes, rng: random.Random) -> bytes:
    plain = raw.replace(b"\r\n", b"\n")
    return plain.replace(b"\n", rng.choice((b"\n", b"\r\n", b"\r\r\n", b"\n\n", b"\r")), rng.choice((-1, -1, 3)))


def _splice(raw: bytes, rng: random.Random) -> bytes:
    """A header line, or the whole body, of another mail."""
    head, blank, body = raw.partition(b"\r\n\r\n")
    if rng.random() < 0.5:
        return head + blank + rng.choice(BODIES)
    lines = re.split(rb"\r\n(?![ \t])", head)
    lines.insert(rng.randrange(len(lines) + 1), rng.choice(FIELDS))
    return b"\r\n".join(lines) + blank + body


def _value(pattern: bytes, values: Sequence[bytes]) -> _Change:
    """Another value where the pattern finds one."""

    def change(raw: bytes, rng: random.Random) -> bytes:
        found = list(re.finditer(pattern, raw, re.IGNORECASE))
        if not found:
            return raw
        start, end = rng.choice(found).span(1)
        return raw[:start] + rng.choice(values) + raw[end:]

    return change


_CHANGES: tuple[_Change, ...] = (
    *(_byte, _insert, _insert, _delete, _repeat, _cut, _line, _line, _line, _ends, _splice, _splice),
    _value(rb'charset="?([a-z0-9-]+)', LABELS),
    _value(rb"Content-Transfer-Encoding: *([a-z0-9-]+)", ENCODINGS),
    _value(rb"Content-Type: *([a-z0-9/-]+)", TYPES),
    _value(rb'boundary="?([a-z0-9_.-]+)', (b"b", b"c", b"", b'"')),
)

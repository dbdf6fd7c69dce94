"""The fuzz target on bytes that a seed makes: short and the same every time; `make fuzz` looks for new ones."""

from __future__ import annotations

import random

import pytest

from tests.fuzz.target import check

SEED = (
    b"From: =?utf-8?q?Ana_Ru=C3=ADz?= <ana@example.org>\r\nTo: bot@example.org, Team: a@x.org, b@y.org;\r\n"
    b"Subject: =?utf-8?b?UmU6IGhp?= there\r\nMessage-ID: <1@example.org>\r\nIn-Reply-To: <0@example.org>\r\n"
    b"References: <r@example.org>\r\n <0@example.org>\r\nDate: Fri, 20 Nov 2026 09:14:00 +0100\r\n"
    b'Content-Type: multipart/mixed; boundary="b"\r\nMIME-Version: 1.0\r\n\r\n--b\r\nContent-Type: text/plain;\r\n'
    b" charset=utf-8; format=flowed\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\nCould we? =C3=A9 \r\nyes\r\n"
    b"--b\r\nContent-Type: text/html\r\n\r\n<p>hi<span style='display:none'>x</span></p>\r\n--b\r\n"
    b"Content-Type: application/pdf; name*0*=utf-8''a%20; name*1=b.pdf\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    b"JVBERi0xLjQ=\r\n--b--\r\n"
)
PIECES = (
    b"\r\n", b"\n", b"\r", b"\x00", b"=?", b"?=", b"=?utf-8?q?=0D=0ABcc:_x?=", b"<", b">", b'"', b"(", b")", b";",
    b",", b"--b", b"\xff\xfe", b"\xed\xa0\x80", b"\xe2\x80\xae", b"<>", b"<a@b>", b":", b"=", b"%00", b"'", b"*0*=",
    b" ", b"\t",
)  # fmt: skip


def mutated(rng: random.Random) -> bytes:
    data = bytearray(SEED)
    for _ in range(rng.randint(1, 12)):
        at = rng.randrange(len(data) + 1)
        action = rng.randrange(4)
        if action == 0:
            data[at:at] = rng.choice(PIECES)
        elif action == 1:
            del data[at : at + rng.randint(1, 40)]
        elif action == 2:
            start = rng.randrange(len(data) + 1)
            data[at:at] = data[start : start + rng.randint(1, 80)]
        elif at < len(data):
            data[at] = rng.randrange(256)
    return bytes(data)


@pytest.mark.parametrize("seed", range(10))
def test_what_a_seed_makes(seed: int) -> None:
    rng = random.Random(seed)
    for number in range(60):
        data = mutated(rng)
        try:
            check(data)
        except Exception as exc:
            raise AssertionError(f"seed {seed}, number {number}: {exc!r}\n{data!r}") from exc

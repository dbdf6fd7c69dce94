# ruff: noqa: E501  one case, one line
"""Large hostile mails, made when they are needed: every one is cheap to send and was expensive for some parser.

`CASES` are those by name. `wild(seed)` makes one that nobody thought of: something that mail is made of, repeated.
"""

from __future__ import annotations

import random
from collections.abc import Callable

N = 60_000
H = b"From: a@b.c\nMessage-ID: <a@b>\n"


def prose(size: int, seed: int = 0) -> bytes:
    """Text of words on lines, the same for the same seed."""
    rng = random.Random(seed)
    words = ["".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(1, 12))) for _ in range(5_000)]
    line = " ".join(words).encode()
    page = b"\r\n".join(line[at : at + 72] for at in range(0, len(line), 72)) + b"\r\n\r\n"
    return (page * (size // len(page) + 1))[:size]


UNITS = (
    b"a", b" ", b"\t", b"\n ", b"\r\n\t", b",", b";", b":", b'"', b"\\", b"(", b")", b"<", b">", b"@", b".", b"=", b"?", b"*", b"%41", b"'", b"[", b"]",
    b"=?utf-8?q?", b"?=", b"=?utf-8?q?a?=", b"=?utf-8?b?QQ==?=", b"=?iso-2022-jp?b?", b"a@b.c", b"<a@b>", b"a=b;", b"*0*=", b"utf-8''", b"Re: ", b"[a]", b"Fwd:",
    b"\x00", b"\xff", b"\xc3\xbc", b"\xed\xa0\x80", b"\xe2\x80\x8b", b"\x1b$B", b"=20", b"=\n", b"--b", b"\n--b\n", b"\n--b--\n", b"begin 644 a\n", b"end\n", b"> ", b">",
    b"-- \n", b"On a wrote:\n", b"From: a\n", b"<div>", b"<table><tr><td>", b"<!--", b"&amp;", b"<a href=x>", b"</b>", b"<style>a{b:c}</style>", b"BEGIN:VEVENT\n", b"1", b"+", b"Content-Type: message/rfc822\n\n",
)  # fmt: skip
PLACES = (
    b"From: ", b"To: ", b"Cc: ", b"Reply-To: ", b"Subject: ", b"Date: ", b"Message-ID: ", b"In-Reply-To: ", b"References: ", b"Thread-Topic: ", b"Thread-Index: ", b"Content-Type: ",
    b"Content-Type: text/plain; ", b"Content-Type: multipart/mixed; boundary=b\nX: ", b"Content-Disposition: attachment; filename=", b"Content-Transfer-Encoding: ", b"Authentication-Results: mx.example.com; ",
    b"Received: ", b"X-Failed-Recipients: ", b"Auto-Submitted: ", b"List-Id: ", b"",
    b"\n", b"Content-Type: text/html\n\n", b"Content-Type: text/plain; format=flowed; delsp=yes\n\n", b"Content-Type: text/plain; charset=iso-2022-jp\n\n", b"Content-Type: text/plain; charset=utf-7\n\n", b"Content-Type: text/calendar\n\nBEGIN:VCALENDAR\nBEGIN:VEVENT\n",
    b"Content-Transfer-Encoding: base64\n\n", b"Content-Transfer-Encoding: quoted-printable\n\n", b"Content-Transfer-Encoding: x-uuencode\n\n", b"Content-Type: multipart/mixed; boundary=b\n\n--b\n", b"Content-Type: multipart/mixed\n\n",
    b"Content-Type: multipart/report; report-type=delivery-status; boundary=b\n\n--b\nContent-Type: message/delivery-status\n\n",
)  # fmt: skip


def wild(seed: int) -> bytes:
    """One to three things that mail is made of, up to a megabyte of them, in a place where they mean something."""
    rng = random.Random(seed)
    size = rng.choice((30_000, 60_000, 250_000, 1_000_000))
    unit = b"".join(rng.choices(UNITS, k=rng.randint(1, 3)))
    place = rng.choice(PLACES)
    start, end = rng.choice(UNITS), rng.choice(UNITS)
    return H[: rng.choice((0, len(H)))] + place + start + unit * (size // len(unit)) + end + b"\n\nx"


CASES: dict[str, Callable[[], bytes]] = {
    "commas": lambda: b"To: " + b"," * N + b"\n\nx",
    "quotes": lambda: b"To: " + b'"' * N + b"\n\nx",
    "parens": lambda: b"To: " + b"(" * N + b"\n\nx",
    "closed": lambda: b"To: " + b"(" * (N // 2) + b")" * (N // 2) + b"\n\nx",
    "recips": lambda: b"To: " + b"a@b.c, " * 100000 + b"\n\nx",
    "angles": lambda: b"To: " + b"<" * N + b"\n\nx",
    "bs": lambda: b"To: " + b"\\" * N + b"\n\nx",
    "ws": lambda: b"To: a" + b" " * N + b"b\n\nx",
    "atoms": lambda: b"To: " + b"a " * (N // 2) + b"\n\nx",
    "dots": lambda: b"To: " + b"a." * (N // 2) + b"\n\nx",
    "ats": lambda: b"To: " + b"a@" * (N // 2) + b"\n\nx",
    "qpairs": lambda: b"To: " + b'"a" ' * (N // 4) + b"\n\nx",
    "colons": lambda: b"To: " + b"a:" * (N // 2) + b"\n\nx",
    "ew": lambda: b"To: " + b"=?a?q?" * (N // 6) + b"\n\nx",
    "ew2": lambda: b"Subject: " + b"=?utf-8?q?a?= " * (N // 14) + b"\n\nx",
    "ew3": lambda: b"Subject: " + b"=?utf-8?q?" * (N // 10) + b"?=\n\nx",
    "re": lambda: b"Subject: " + b"Re: " * (N // 4) + b"\n\nx",
    "blobs": lambda: b"Subject: " + b"[a] " * (N // 4) + b"\n\nx",
    "refs": lambda: b"References: " + b"<a@b> " * 100000 + b"\n\nx",
    "refs2": lambda: b"References: " + b"<" * N + b"\n\nx",
    "refs3": lambda: b"References: " + b"(" * N + b"\n\nx",
    "refs4": lambda: b"References: " + b'<"' * (N // 2) + b"\n\nx",
    "refs5": lambda: b"References: " + b"<a@b" * (N // 4) + b"\n\nx",
    "refs6": lambda: b"References: " + b"a@b " * (N // 4) + b"\n\nx",
    "refs7": lambda: b"In-Reply-To: <" + b"( a " * (N // 4) + b">\n\nx",
    "refs8": lambda: b"Message-ID: <" + b" " * N + b"\n\nx",
    "refs9": lambda: b"References: " + b"<a@b>," * (N // 6) + b"(\n\nx",
    "folds": lambda: b"Subject: a" + b"\n b" * 100000 + b"\n\nx",
    "headers": lambda: b"A: b\n" * 100000 + b"\nx",
    "1mb": lambda: b"Subject: " + b"a" * 1000000 + b"\n\nx",
    "10mb": lambda: b"Subject: a\n" * 1000000 + b"\n\nx",
    "nonh": lambda: b"A: b\n" + b"junk\n" * 40_000 + b"Subject: x\n\nx",
    "params": lambda: b"Content-Type: text/plain" + b"; a=b" * 10000 + b"\n\nx",
    "params2": lambda: b"Content-Type: text/plain" + b';"' * (N // 2) + b"\n\nx",
    "params3": lambda: b"Content-Type: text/plain; " + b"a" * N + b"\n\nx",
    "params4": lambda: b"Content-Type: text/plain;" + b" " * N + b"\n\nx",
    "params5": lambda: b"Content-Type: text/plain;" + b" a =" * (N // 4) + b"\n\nx",
    "f2231": lambda: (
        b"Content-Disposition: attachment" + b"".join(b"; filename*%d=a" % i for i in range(4000)) + b"\n\nx"
    ),
    "deep": lambda: (
        H + b"".join(b"Content-Type: multipart/mixed; boundary=b%d\n\n--b%d\n" % (i, i) for i in range(10000))
    ),
    "parts": lambda: H + b"Content-Type: multipart/mixed; boundary=b\n\n" + b"--b\n" * 100000,
    "parts2": lambda: H + b"Content-Type: multipart/mixed; boundary=b\n\n" + b"--b\n\nx\n" * 100000,
    "same": lambda: (
        H
        + b"Content-Type: multipart/mixed; boundary=b\n\n"
        + b"--b\nContent-Type: multipart/mixed; boundary=b\n\n" * 10000
    ),
    "prefix": lambda: H + b"Content-Type: multipart/mixed; boundary=b\n\n" + b"--bb\n" * 100_000,
    "b64junk": lambda: H + b"Content-Transfer-Encoding: base64\n\n" + b"=a?" * 1_000_000,
    "qp": lambda: H + b"Content-Transfer-Encoding: quoted-printable\n\n" + b"=" * 3_000_000,
    "begin": lambda: H + b"\n" + b"begin 644 a\n" * 100_000,
    "begin2": lambda: H + b"\n" + b"begin 644 a\nend\n" * 100_000,
    "uu": lambda: H + b"Content-Transfer-Encoding: x-uuencode\n\n" + b"begin 644 a\n" + b"zzzzz\n" * 100_000,
    "flow": lambda: H + b"Content-Type: text/plain; format=flowed\n\n" + b"> a \n" * 150_000,
    "flow2": lambda: H + b"Content-Type: text/plain; format=flowed\n\n" + b"a \n" * 300_000,
    "flow3": lambda: H + b"Content-Type: text/plain; format=flowed\n\n" + b">" * 1_000_000,
    "jis": lambda: H + b"Content-Type: text/plain; charset=iso-2022-jp\n\n" + b"\x1b$B\x1b(B" * 100_000,
    "utf7": lambda: H + b"Content-Type: text/plain; charset=utf-7\n\n" + b"+2AA-" * 200_000,
    "idna": lambda: H + b"Content-Type: text/plain; charset=idna\n\n" + b"a." * 200_000 + b"\xff",
    "nul": lambda: b"\0" * 3000000,
    "ff": lambda: b"\xff" * 3000000,
    "nl": lambda: b"\n" * 1_000_000,
    "cr": lambda: b"\r" * 1_000_000,
    "guess": lambda: H + b"Content-Type: multipart/mixed\n\n" + b"--a\n" * 100_000,
    "htmlmeta": lambda: H + b"Content-Type: text/html\n\n" + b"<meta " * 100_000,
    "rfc822": lambda: H + b"Content-Type: multipart/digest; boundary=b\n\n" + b"--b\n\nSubject: x\n\nx\n" * 3000,
    "date": lambda: b"Date: " + b"1 " * 30000 + b"\n\nx",
    "date2": lambda: b"Date: " + b"(" * 60000 + b"\n\nx",
    "zw": lambda: H + b"Content-Type: text/plain; charset=utf-8\n\n" + "\u200bа".encode() * 200_000,
    "names": lambda: b"From: " + b"a" * 60000 + b" <a@b.c>\n\nx",
    "fromlines": lambda: b"From x\n" * 40_000,
    "ctl": lambda: b"Subject: " + b"\x01\t" * 30000 + b"\n\nx",
    "obs": lambda: b"From: " + b"a . " * 15000 + b"@ b\n\nx",
    "wstype": lambda: b"Content-Type:" + b"\n " * 60000 + b"x",
    # Facts of size, one by one: https://www.rfc-editor.org/rfc/rfc5322 sets none of these limits.
    "100k-recipients": lambda: (
        H + b"To: " + b",\n ".join(b"P%d <p%d@example.org>" % (i, i) for i in range(100_000)) + b"\n\nx"
    ),
    "1000-deep": lambda: (
        H + b"".join(b"Content-Type: multipart/mixed; boundary=b%d\n\n--b%d\n" % (i, i) for i in range(1_000))
    ),
    "1000-deep-rfc822": lambda: H + b"Content-Type: message/rfc822\n\n" * 1_000 + b"x",
    "1000-comments": lambda: H + b"To: " + b"(" * 1_000 + b"x" + b")" * 1_000 + b" a@b.c\n\nx",
    "10000-parts": lambda: (
        H + b"Content-Type: multipart/mixed; boundary=b\n\n" + b"--b\n\npart\n" * 10_000 + b"--b--\n"
    ),
    "2000-files": lambda: (
        H
        + b"Content-Type: multipart/mixed; boundary=b\n\n"
        + b"".join(
            b"--b\nContent-Type: image/png; name=%d.png\nContent-Transfer-Encoding: base64\n\niVBORw==\n" % i
            for i in range(2_000)
        )
        + b"--b--\n"
    ),
    "5000-references": lambda: (
        H + b"References: " + b"\n ".join(b"<r%d@example.org>" % i for i in range(5_000)) + b"\n\nx"
    ),
    "1000-received": lambda: (
        b"".join(b"Received: from a%d by b%d; Fri, 20 Nov 2026 09:14:00 +0100\n" % (i, i) for i in range(1_000))
        + H
        + b"\nx"
    ),
    "40mb-text": lambda: H + b"\n" + prose(40_000_000),
    "40mb-base64": lambda: (
        H + b"Content-Type: application/pdf\nContent-Transfer-Encoding: base64\n\n" + (b"QUJD" * 19 + b"\r\n") * 520_000
    ),
    "40mb-quoted": lambda: (
        H
        + b"Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: quoted-printable\n\n"
        + (b"=C3=BC" * 12 + b"=\r\n") * 530_000
    ),
    "40mb-html": lambda: H + b"Content-Type: text/html\n\n" + b"<p>Hello <b>you</b></p>\n" * 1_700_000,
    "40mb-one-line": lambda: H + b"\n" + b"x" * 40_000_000,
    "40mb-latin1": lambda: H + b"Content-Type: text/plain; charset=utf-8\n\n" + b"\xfc" * 40_000_000,
    "40mb-flowed": lambda: H + b"Content-Type: text/plain; format=flowed\n\n" + b"> word \n" * 5_000_000,
    "40mb-bad-thai": lambda: H + b"Content-Type: text/plain; charset=windows-874\n\n" + b"\xff" * 40_000_000,
    "40mb-bad-utf7": lambda: H + b"Content-Type: text/plain; charset=utf-7\n\n" + b"\xff\xfe\x80" * 13_000_000,
    "40mb-bad-utf16": lambda: H + b"Content-Type: text/plain; charset=utf-16le\n\n" + b"\x00\xdc" * 20_000_000,
    "40mb-bad-jis": lambda: H + b"Content-Type: text/plain; charset=iso-2022-jp\n\n\x1b$B" + b"$*\xa0" * 13_000_000,
    "bad-jis": lambda: H + b"Content-Type: text/plain; charset=iso-2022-jp\n\n\x1b$B" + b"$*\xa0" * 133_000,
    "40mb-of-parts": lambda: (
        H + b"Content-Type: multipart/mixed; boundary=b\n\n" + (b"--b\n\n" + b"x" * 39_990 + b"\n") * 1_000 + b"--b--\n"
    ),
    "40mb-blank-ends": lambda: H + b"Content-Transfer-Encoding: quoted-printable\n\n" + b"a \r\n" * 10_000_000,
    "params6": lambda: b"Content-Type: text/plain; charset=" + b"a" * 100_000 + b"\n\nx",
    "f2231-huge": lambda: (
        b"Content-Disposition: attachment" + b"".join(b"; filename*%d*=%%41" % (10**i) for i in range(200)) + b"\n\nx"
    ),
    "ew4": lambda: b"Subject: " + b"=?utf-8?b?" + b"QUJD" * 15_000 + b"?=\n\nx",
    "ew5": lambda: b"From: " + b"=?utf-8?q?a?=\n " * 10_000 + b"<a@b.c>\n\nx",
    "ew6": lambda: b"Subject: " + b"=?iso-2022-jp?b?GyRCGyhC?= " * 2_000 + b"\n\nx",
    "puny": lambda: b"Subject: =?punycode?q?" + b"a-" * 30_000 + b"?=\n\nx",
    "blank-folds": lambda: b"X-Failed-Recipients: \x00" + b"\r\n\t" * 20_000 + b"a@b.c\n\nx",  # found by wild(1594)
    "attributions-alone": lambda: H + b"\n" + b"On a wrote:\n]=?\n" * 12_000,  # found by wild(1017)
    "quotes-deep": lambda: H + b"\n" + b">" * 20_000 + b" x\n",
    "quotes-many": lambda: H + b"\n" + b"> old words\n" * 200_000,
    "attributions": lambda: H + b"\n" + b"On Fri, Nov 20, 2026 at 9:14 AM\n" * 50_000,
    "signatures": lambda: H + b"\n" + b"-- \nAna\n" * 50_000,
    "spaces": lambda: H + b"\n" + b" " * 1_000_000 + b"x",
    "html-deep": lambda: H + b"Content-Type: text/html\n\n" + b"<div>" * 100_000 + b"x",
    "html-inline": lambda: H + b"Content-Type: text/html\n\n" + b"<b>" * 200_000 + b"x",
    "html-less": lambda: H + b"Content-Type: text/html\n\n" + b"<" * 1_000_000,
    "html-comment": lambda: H + b"Content-Type: text/html\n\n" + b"<!--" * 250_000,
    "html-entities": lambda: H + b"Content-Type: text/html\n\n" + b"&amp" * 250_000,
    "html-attributes": lambda: H + b"Content-Type: text/html\n\n<p " + b"a=1 " * 100_000 + b">x",
    "html-style": lambda: (
        H + b"Content-Type: text/html\n\n<style>" + b".a{color:red}" * 70_000 + b"</style><p class=a>x"
    ),
    "html-tables": lambda: H + b"Content-Type: text/html\n\n" + b"<table><tr><td>" * 10_000 + b"x",
    "calendar": lambda: (
        H
        + b"Content-Type: text/calendar\n\nBEGIN:VCALENDAR\n"
        + b"BEGIN:VEVENT\nUID:a\nRRULE:FREQ=SECONDLY\nEND:VEVENT\n" * 50_000
        + b"END:VCALENDAR\n"
    ),
    "calendar-people": lambda: (
        H
        + b"Content-Type: text/calendar\n\nBEGIN:VCALENDAR\nBEGIN:VEVENT\nUID:a\nDTSTART:20260101T000000Z\n"
        + b"ATTENDEE;CN=x:mailto:a@b.c\n" * 100_000
        + b"END:VEVENT\nEND:VCALENDAR\n"
    ),
    "bounce": lambda: (
        H
        + b"Content-Type: multipart/report; report-type=delivery-status; boundary=b\n\n--b\nContent-Type: message/delivery-status\n\n"
        + b"Final-Recipient: rfc822; a@b.c\nAction: failed\n\n" * 100_000
        + b"--b--\n"
    ),
    "bounce-prose": lambda: b"From: mailer-daemon@x.org\nSubject: failure notice\n\n" + b"<a@b.c>: failed\n" * 30_000,
    "auth": lambda: (
        b"Authentication-Results: mx.example.com;" + b" dkim=pass header.d=a;\n" * 10_000 + b"\n" + H + b"\nx"
    ),
}

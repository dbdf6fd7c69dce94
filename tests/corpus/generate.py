"""Mails from a seed, written in the forms that programs write, and what must come out of each.

The values are drawn first; then each is written in one of its legal forms: folded, as encoded words, in some charset
and transfer encoding, in some tree of parts. So the right answer is known without any parser.
"""

from __future__ import annotations

import base64
import binascii
import random
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, NamedTuple
from urllib.parse import quote

NAMES = (
    "Ana Ruiz", "Zoë Müller", "Jürgen Groß", "山田太郎", "Łukasz Żak", "Ольга Іванова", "O'Neil, Pat", 'Sam "S" Lee',
    "José", "محمد", "Dr. No", "",
)  # fmt: skip
SUBJECTS = (
    "Hello", "Re: Offer 17", "Grüße aus Köln", "会議のお知らせ", "Счёт №5", "10 € – today", "AW: WG: Termin",
    "[list] News",
    "a very long subject that has to be folded because no line of mail should have more than seventy-eight characters",
    "ein sehr langer Betreff mit Umlauten – äöüß – der in mehreren kodierten Wörtern auf mehreren Zeilen stehen muss",
)  # fmt: skip
WORDS = "the offer is fine Grüße größer tomorrow – 10 € maybe señor naïve œuvre žluťoučký".split()
CHARSETS = {
    "utf-8": "utf-8", "UTF-8": "utf-8", "iso-8859-1": "cp1252", "windows-1252": "cp1252", "iso-8859-15": "iso8859_15",
    "windows-1250": "cp1250", "iso-2022-jp": "iso2022_jp", "gb18030": "gb18030", "us-ascii": "ascii",
    "koi8-r": "koi8_r",
}  # fmt: skip
MONTHS = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split()
DAYS = "Mon Tue Wed Thu Fri Sat Sun".split()


class Generated(NamedTuple):
    raw: bytes
    wanted: dict[str, Any]
    """In the form of the .json."""


def generate(seed: int) -> Generated:
    """A mail that keeps to the RFCs."""
    return _Writer(random.Random(seed)).mail()


class _Writer:
    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.end = rng.choice(("\r\n", "\r\n", "\n"))
        self.attachments: list[dict[str, Any]] = []
        self.boundaries = 0

    def mail(self) -> Generated:
        rng = self.rng
        sender, to, cc = self._people(1)[0], self._people(rng.randint(1, 5)), self._people(rng.randint(0, 3))
        subject = rng.choice(SUBJECTS)
        own, *rest = (f"<{rng.getrandbits(40):x}.{i}@example.org>" for i in range(rng.randint(1, 30)))
        zone = rng.choice((0, 60, -480, 330, 765))
        moment = datetime(2000, 1, 1, tzinfo=UTC) + timedelta(seconds=rng.randrange(10**9))
        head = [
            ("From", self._written([sender])),
            ("To", self._written(to)),
            ("Subject", self._unstructured(subject)),
            ("Date", self._date(moment.astimezone(timezone(timedelta(minutes=zone))), zone)),
            ("Message-ID", own),
        ]
        if cc:
            head.append(("Cc", self._written(cc)))
        if rest:
            head += [("In-Reply-To", rest[-1]), ("References", self._folded(rest))]
        text, html = self._text(), None
        plain = self._leaf("text/plain", text)
        shape = rng.randrange(4)
        if shape == 1:
            html = f"<p>{text.strip()}</p>"
            plain = self._multipart("alternative", [plain, self._leaf("text/html", html)])
        if shape >= 2 or rng.random() < 0.2:
            files = [self._file() for _ in range(rng.randint(1, 3))]
            plain = self._multipart("mixed", [plain, *files])
        rng.shuffle(head)
        written = "".join(f"{self._case(name)}: {value}\n" for name, value in head) + "MIME-Version: 1.0\n"
        raw = written.replace("\n", self.end).encode("ascii") + plain
        wanted = {
            "message_id": own,
            "in_reply_to": rest[-1:],
            "references": rest,
            "subject": subject,
            "from": sender,
            "to": to,
            "cc": cc,
            "date": moment.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "text": text.split("\n"),
            "html": html.split("\n") if html is not None else None,
            "attachments": self.attachments,
            "defects": [],
            "automated": None,
        }
        return Generated(raw, wanted)

    # -- headers ------------------------------------------------------------------------------------------------------

    def _case(self, name: str) -> str:
        return self.rng.choice((name, name, name.lower(), name.upper()))

    def _people(self, count: int) -> list[list[str]]:
        return [[self.rng.choice(NAMES), f"p{self.rng.randrange(10**6)}@example.{i}"] for i in range(count)]

    def _written(self, people: list[list[str]]) -> str:
        written = [self._person(name, email) for name, email in people]
        if len(written) > 2 and self.rng.random() < 0.2:
            return f"A Group:{', '.join(written)};"
        return self.rng.choice((", ", ",\n ", ",\n\t")).join(written)

    def _person(self, name: str, email: str) -> str:
        if not name:
            return self.rng.choice((email, f"<{email}>"))
        if not name.isascii():
            return f"{self._words(name)} <{email}>"
        escaped = name.replace('"', '\\"')
        if not name.replace(" ", "").isalpha():
            return f'"{escaped}" <{email}>'
        return self.rng.choice((f"{name} <{email}>", f'"{escaped}" <{email}>', f"{self._words(name)} <{email}>"))

    def _unstructured(self, text: str) -> str:
        if text.isascii():
            return self._folded(text.split(" "))
        return self._words(text)

    def _folded(self, words: list[str]) -> str:
        """On lines of at most 78 characters, or a word a line."""
        lines, room = [""], self.rng.choice((20, 40, 60))
        for word in words:
            if lines[-1] and len(lines[-1]) + len(word) > room:
                lines.append("")
            lines[-1] += f" {word}" if lines[-1] else word
        return "\n ".join(lines)

    def _words(self, text: str) -> str:
        """Encoded words of at most 75 characters (RFC 2047 2), each of whole letters."""
        label, codec = self._charset(text)
        out = []
        while text:
            size = self.rng.randint(1, 12)
            piece, text = text[:size].encode(codec), text[size:]
            if self.rng.random() < 0.5:
                out.append(f"=?{label}?{self.rng.choice('bB')}?{base64.b64encode(piece).decode()}?=")
            else:
                encoded = "".join(chr(b) if chr(b).isalnum() and b < 128 else f"={b:02X}" for b in piece)
                out.append(f"=?{label}?{self.rng.choice('qQ')}?{encoded.replace('=20', '_')}?=")
        return self.rng.choice((" ", "\n ")).join(out)

    def _charset(self, text: str) -> tuple[str, str]:
        fitting = []
        for label, codec in CHARSETS.items():
            try:
                if text.encode(codec).decode(codec) == text:
                    fitting.append((label, codec))
            except UnicodeError:
                pass
        return self.rng.choice(fitting)

    def _date(self, local: datetime, zone: int) -> str:
        sign, minutes = "-" if zone < 0 else "+", abs(zone)
        day = local.day if self.rng.random() < 0.5 else f"{local.day:02}"
        written = f"{day} {MONTHS[local.month - 1]} {local.year} {local:%H:%M:%S} "
        written += f"{sign}{minutes // 60:02}{minutes % 60:02}"
        if self.rng.random() < 0.8:
            written = f"{DAYS[local.weekday()]}, {written}"
        return written + self.rng.choice(("", "", " (CET)"))

    # -- bodies -------------------------------------------------------------------------------------------------------

    def _text(self) -> str:
        lines = [" ".join(self.rng.choices(WORDS, k=self.rng.randint(1, 30))) for _ in range(self.rng.randint(1, 6))]
        return "\n".join(lines)

    def _leaf(self, kind: str, text: str) -> bytes:
        label, codec = self._charset(text)
        # RFC 2045 6.7 and 6.8: line ends of a text are CRLF when it is encoded, and belong to the wire when it is not.
        data = text.replace("\n", "\r\n").encode(codec)
        encodings = ["base64", "quoted-printable", "8bit"]
        encoding = self.rng.choice(encodings)
        quoted = self.rng.choice((label, f'"{label}"'))
        head = f"Content-Type: {kind}; charset={quoted}\nContent-Transfer-Encoding: {encoding}\n\n"
        body = self._encoded(data, encoding) if encoding != "8bit" else text.replace("\n", self.end).encode(codec)
        return head.replace("\n", self.end).encode() + body

    def _encoded(self, data: bytes, encoding: str) -> bytes:
        end = self.end.encode()
        if encoding == "base64":
            return base64.encodebytes(data).replace(b"\n", end).removesuffix(end)
        return binascii.b2a_qp(data).replace(b"\r\n", b"\n").replace(b"\n", end)

    def _file(self) -> bytes:
        rng = self.rng
        content = rng.randbytes(rng.randint(0, 300))
        stem = rng.choice(("offer", "Größe", "a b", "表", "x" * 60))
        name = f"{stem}{len(self.attachments)}.pdf"
        form = rng.randrange(3) if name.isascii() else rng.randrange(1, 3)
        if form == 0:
            about = f' filename="{name}"'
        elif form == 1:
            about = f" filename*=utf-8''{quote(name)}"
        else:
            pieces = [quote(name)[at : at + 40] for at in range(0, len(quote(name)), 40)]
            pieces[0] = f"utf-8''{pieces[0]}"
            about = ";".join(f"\n filename*{i}*={piece}" for i, piece in enumerate(pieces))
        self.attachments.append({"name": name, "type": "application/pdf", "size": len(content)})
        head = f"Content-Type: application/pdf\nContent-Disposition: attachment;{about}\n"
        head += "Content-Transfer-Encoding: base64\n\n"
        return head.replace("\n", self.end).encode() + self._encoded(content, "base64")

    def _multipart(self, kind: str, parts: list[bytes]) -> bytes:
        self.boundaries += 1
        boundary = f"{self.rng.choice(('b', '----=_Part_', '=_x.'))}{self.boundaries}.{self.rng.randrange(10**6)}"
        end = self.end.encode()
        mark = end + b"--" + boundary.encode()
        head = f'Content-Type: multipart/{kind};{self.end} boundary="{boundary}"{self.end}{self.end}'.encode()
        preamble = self.rng.choice((b"", b"This is a multi-part message in MIME format."))
        return head + preamble + b"".join(mark + end + part for part in parts) + mark + b"--" + end

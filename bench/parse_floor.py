"""What no parser in Python that gives these fields can leave out: a parser for the generated mails and no others.

Run by `python -m bench parse --floor`. It knows beforehand what our parser has to find out about any bytes: lines end
in LF, no header is broken, late, repeated or hostile, boundaries stand where they should, nothing has to be cut,
repaired or guessed. Each step is written as shortly and as fast as we know how. What it gives is the same `Message`,
which the bench asserts; so the time between the two is the price of being right about all other mails.
"""

from __future__ import annotations

import binascii
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from functools import lru_cache
from itertools import pairwise
from typing import Any

from agentmail.message.filenames import safe_name
from agentmail.message.models import Address, Attachment, Message
from agentmail.message.words import decode_words

_PLAIN = bytes(range(0x20, 0x7F)) + b"\n\r\t"
_DIGITS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_MONTHS = {m: n for n, m in enumerate("Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split(), 1)}
_AUTOMATED = frozenset(("auto-submitted", "precedence", "list-id", "list-unsubscribe", "x-autoreply", "return-path"))
_CODECS = {"us-ascii": "utf-8", "iso-8859-1": "cp1252"}

_DECODE = {"base64": binascii.a2b_base64, "quoted-printable": binascii.a2b_qp}

Fields = list[tuple[str, str]]
Body = tuple[str, bytes, str, str]
"""`(content type, bytes, transfer encoding, charset or file name)`"""


def split_headers(raw: bytes) -> tuple[Fields, dict[str, str], int]:
    """The fields in order, by name, and where the body begins."""
    stop = raw.find(b"\n\n")
    fields: Fields = []
    by_name: dict[str, str] = {}
    for line in raw[:stop].decode("ascii").replace("\n ", " ").split("\n"):
        name, _, value = line.partition(": ")
        fields.append((name, value))
        by_name[name] = value
    return fields, by_name, stop + 2


def read_headers(by_name: dict[str, str]) -> dict[str, Any]:
    """People, date, ids, subject."""
    subject = by_name["Subject"]
    return {
        "message_id": by_name["Message-ID"],
        "other_ids": (),
        "in_reply_to": (by_name["In-Reply-To"],) if "In-Reply-To" in by_name else (),
        "references": tuple(by_name["References"].split(" ")) if "References" in by_name else (),
        "subject": decode_words(subject) if "=?" in subject else subject,
        "sender": _person(by_name["From"]),
        "to": tuple(map(_person, by_name["To"].split(", "))),
        "sent_at": _moment(by_name["Date"]),
    }


@lru_cache(maxsize=4_096)
def _person(value: str) -> Address:
    name, _, email = value.partition(" <")
    return Address.unchecked({"name": name, "email": email[:-1]})


def _moment(value: str) -> datetime:
    moment = datetime.fromisoformat(f"{_day(value[5:16])}{value[17:25]}+00:00")
    return moment if value[26:] == "+0000" else moment - (_zone(value[26:]).utcoffset(None) or timedelta())


@lru_cache(maxsize=1_024)
def _day(value: str) -> str:
    day, month, year = value.split(" ")
    return f"{year}-{_MONTHS[month]:02}-{day}T"


@lru_cache(maxsize=128)
def _zone(value: str) -> timezone:
    return datetime.strptime(value, "%z").tzinfo or UTC  # type: ignore[return-value]


def split_parts(raw: bytes, by_name: dict[str, str], body: int) -> list[Body]:
    """The bodies, still encoded."""
    kind, about = _described(by_name["Content-Type"])
    if not kind.startswith("multipart/"):
        return [(kind, raw[body:], by_name.get("Content-Transfer-Encoding", ""), about)]
    out: list[Body] = []
    _split(raw[body:], b"--" + about.encode(), out)
    return out


def _split(data: bytes, mark: bytes, out: list[Body]) -> None:
    for part in (b"\n" + data).split(b"\n" + mark)[1:-1]:
        stop = part.find(b"\n\n")
        kind, about, encoding, name = _head(part[1:stop])
        if kind.startswith("multipart/"):
            _split(part[stop + 2 :], b"--" + about.encode(), out)
        else:
            out.append((kind, part[stop + 2 :], encoding, name or about))


@lru_cache(maxsize=1_024)
def _head(block: bytes) -> tuple[str, str, str, str]:
    given = dict(line.split(": ", 1) for line in block.decode("ascii").split("\n"))
    kind, about = _described(given["Content-Type"])
    name = given.get("Content-Disposition", "").partition("filename=")[2].strip('"')
    return kind, about, given.get("Content-Transfer-Encoding", ""), name


@lru_cache(maxsize=1_024)
def _described(value: str) -> tuple[str, str]:
    kind, _, rest = value.partition("; ")
    return kind, rest.partition("=")[2].strip('"')


def decode_bodies(bodies: list[Body]) -> list[str]:
    """The texts, as str."""
    out = []
    for kind, data, encoding, charset in bodies:
        if kind.startswith("text/"):
            decode = _DECODE.get(encoding)
            out.append((decode(data) if decode else data).decode(_CODECS.get(charset, charset)))
    return out


def check(raw: bytes, bodies: list[Body], texts: list[str], by_name: dict[str, str]) -> list[int]:
    """Nothing that no database stores, base64 that is whole, no machine; the sizes of the files."""
    if not raw.isascii() or _AUTOMATED.intersection(by_name):
        raise ValueError
    for text in texts:
        if text.isascii():
            if text.encode().translate(None, _PLAIN):
                raise ValueError
        elif "\x00" in text or "\u200b" in text or "\ufeff" in text:  # the least that can be asked of it
            raise ValueError
    sizes = []
    for kind, data, _, _ in bodies:
        if not kind.startswith("text/"):
            rest = data.translate(None, _DIGITS)
            padding = rest.count(b"=")
            if rest.strip(b"\n="):
                raise ValueError
            sizes.append((len(data) - len(rest) + padding) // 4 * 3 - padding)
    return sizes


def make(
    raw: bytes, fields: Fields, read: dict[str, Any], bodies: list[Body], texts: list[str], sizes: list[int]
) -> Message:
    """The model."""
    values = {**_REST, **read}
    values["headers"] = tuple(fields) if b"=?" not in raw else tuple([(n, decode_words(v)) for n, v in fields])
    values["text"] = texts[0]
    values["html"] = texts[1] if len(texts) > 1 else None
    if sizes:
        values["attachments"] = tuple([
            Attachment.unchecked({"id": None, "name": safe_name(name, kind), "content_type": kind, "size": size,
                                  "content_id": None, "inline": False, "_base64": data})
            for (kind, data, _, name), size in zip(bodies[len(texts):], sizes, strict=True)
        ])  # fmt: skip
    values["size"] = len(raw)
    return Message.unchecked(values)


_REST = dict(Message())


def floor(raw: bytes) -> Message:
    fields, by_name, body = split_headers(raw)
    read = read_headers(by_name)
    bodies = split_parts(raw, by_name, body)
    texts = decode_bodies(bodies)
    return make(raw, fields, read, bodies, texts, check(raw, bodies, texts, by_name))


def steps(mails: list[bytes], clock: Callable[[], float], spent: list[float]) -> None:
    """`floor` step by step, each of them for all of these mails; the time of each is added to its place in `spent`."""
    times = [clock()]
    heads = [split_headers(raw) for raw in mails]
    times.append(clock())
    read = [read_headers(by_name) for _, by_name, _ in heads]
    times.append(clock())
    bodies = [split_parts(raw, by_name, body) for raw, (_, by_name, body) in zip(mails, heads, strict=True)]
    times.append(clock())
    texts = [decode_bodies(some) for some in bodies]
    times.append(clock())
    sizes = [
        check(raw, some, text, by_name)
        for raw, some, text, (_, by_name, _) in zip(mails, bodies, texts, heads, strict=True)
    ]
    times.append(clock())
    for raw, (fields, _, _), one, some, text, size in zip(mails, heads, read, bodies, texts, sizes, strict=True):
        make(raw, fields, one, some, text, size)
    times.append(clock())
    for number, (start, end) in enumerate(pairwise(times)):
        spent[number] += end - start


STEPS = (
    "header lines found and split", "people, date, ids, subject", "parts found", "bodies decoded to str",
    "what a database would refuse, base64 checked", "the model",
)  # fmt: skip

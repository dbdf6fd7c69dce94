"""A second reader of messages, as strict as RFC 5322 and RFC 2045 to 2047 allow: any doubt is an AssertionError.

Written for these tests only and independent of the package: it shares no code with what it reads.
"""

from __future__ import annotations

import base64
import quopri
import re
from dataclasses import dataclass, field

_FIELD = re.compile(rb"([A-Za-z][A-Za-z0-9-]*): (.*)\Z", re.DOTALL)
_WORD = re.compile(r"=\?([A-Za-z0-9-]+)\?([bBqQ])\?([!->@-~]*)\?=")
_ID = re.compile(r"<[^<>\s]+>")
_PARAMETER = re.compile(r';\s*([A-Za-z0-9*-]+)=("(?:[^"\\]|\\.)*"|[^\s;"]+)')


@dataclass
class Part:
    headers: list[tuple[str, str]]
    body: bytes
    parts: list[Part] = field(default_factory=list)

    def __getitem__(self, name: str) -> str:
        (value,) = [v for n, v in self.headers if n.lower() == name.lower()]
        return value

    def names(self) -> list[str]:
        return [n for n, _ in self.headers]

    def leaves(self) -> list[Part]:
        return [leaf for part in self.parts for leaf in part.leaves()] if self.parts else [self]

    @property
    def content_type(self) -> str:
        return self["Content-Type"].partition(";")[0].strip()

    def parameter(self, header: str, name: str) -> str:
        found = {k: (v[1:-1].replace("\\", "") if v[0] == '"' else v) for k, v in _PARAMETER.findall(self[header])}
        if name in found:
            return found[name]
        pieces = [found[k] for k in (f"{name}*", *(f"{name}*{i}*" for i in range(500))) if k in found]
        if not pieces:
            return ""
        charset, _, value = pieces[0].split("'", 2)
        assert charset == "utf-8"
        joined = "".join([value, *pieces[1:]])
        return re.sub(rb"%([0-9A-F]{2})", lambda m: bytes([int(m[1], 16)]), joined.encode("ascii")).decode("utf-8")

    def content(self) -> bytes:
        encoding = self["Content-Transfer-Encoding"]
        if encoding == "base64":
            assert all(len(line) <= 76 for line in self.body.split(b"\r\n"))
            return base64.b64decode(self.body.replace(b"\r\n", b""), validate=True)
        if encoding == "quoted-printable":
            assert all(len(line) <= 76 for line in self.body.split(b"\r\n"))
            assert not re.search(rb"=(?![0-9A-F]{2}|\r\n)", self.body)
            return quopri.decodestring(self.body)
        assert encoding == "7bit"
        return self.body


def read(raw: bytes) -> Part:
    assert raw.isascii()
    assert b"\0" not in raw
    assert raw.count(b"\r") == raw.count(b"\n") == raw.count(b"\r\n")
    assert max(map(len, raw.split(b"\r\n"))) <= 998
    return _part(raw)


def _part(raw: bytes) -> Part:
    head, blank, body = raw.partition(b"\r\n\r\n")
    assert blank
    fields: list[list[bytes]] = []
    for line in head.split(b"\r\n"):
        assert re.fullmatch(rb"[\t\x20-\x7e]+", line), line
        if line[:1] in b" \t":
            assert line.strip()
            fields[-1].append(line)
        else:
            fields.append([line])
    headers = []
    for lines in fields:
        match = _FIELD.match(b"".join(lines))
        assert match, lines
        headers.append((match[1].decode(), match[2].decode().strip()))
    part = Part(headers, body)
    if not part.content_type.startswith("multipart/"):
        return part
    boundary = part.parameter("Content-Type", "boundary").encode()
    assert 1 <= len(boundary) <= 70
    preamble, *sections, epilogue = re.split(rb"(?:\A|\r\n)--" + re.escape(boundary) + rb"(?=\r\n|--\r\n\Z)", body)
    assert preamble == b""
    assert epilogue == b"--\r\n"
    assert sections
    part.parts = [_part(section.removeprefix(b"\r\n")) for section in sections]
    return part


def decoded(value: str) -> str:
    """RFC 2047: only whole words separated by white space are words; white space between two words is nothing."""
    out: list[str] = []
    words = 0  # tokens since the last word
    for token in re.findall(r"\s+|\S+", value):
        match = _WORD.fullmatch(token)
        if match is None:
            out.append(token)
            continue
        assert len(token) <= 75
        encoded = match[3]
        data = base64.b64decode(encoded, validate=True) if match[2] in "bB" else quopri.decodestring(encoded, True)
        text = data.decode(match[1])  # RFC 2047 5: a word never holds part of a character
        if words and len(out) == words + 1 and out[-1].isspace():
            out.pop()
        out.append(text)
        words = len(out)
    return "".join(out)


def ids(value: str) -> list[str]:
    tokens = value.split()
    assert all(_ID.fullmatch(t) for t in tokens), tokens
    return tokens

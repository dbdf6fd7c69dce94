"""The parts of a message (RFC 2046): what to read, what is attached. Boundaries are searched for.

Limits come before any library sees the bytes. What goes over one is kept whole as one opaque attachment, or left out
and named in the defects.

What a mail shows is a row of segments; a segment has one or two renderings, plain and HTML (multipart/alternative).
Most mails have one. Apple Mail puts text before and after each image, which makes several.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from . import charsets, flowed, headers, parameters, transfer
from .calendar import Invitation, invitation
from .characters import clean
from .filenames import safe_name
from .models import Attachment
from .words import decode_words, one_line

MAX_DEPTH = 50
MAX_PARTS = 1_000
MAX_BOUNDARY = 1_000
MAX_TEXT = 4_000_000
"""Characters of text, and of HTML, that a Message carries; a longer body is cut there. The raw bytes keep the rest."""
_MAX_BYTES = 4 * MAX_TEXT
"""Of one text part, decoded from its transfer encoding: no charset needs more than four for a character."""
_WIDE = ("utf_16", "utf_32")
"""Charsets in which a byte 10 is no line end."""

_BODY = frozenset(("text/plain", "text/html", "text/markdown", "text/enriched", "text/richtext"))
_TYPE = re.compile(r"[a-z0-9!#$&^_.+-]+/[a-z0-9!#$&^_.+-]+")
_WANTED = frozenset(("content-type", "content-transfer-encoding", "content-disposition", "content-id"))
_PLAIN_BYTES = bytes(b for b in range(0x20, 0x7F)) + b"\n\t"
_STATEFUL = ("iso2022", "hz", "utf_7", "utf_16", "utf_32")
_HIGH = re.compile("[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0000-\U000e0fff]")
"""What str.isprintable lets through and nobody sees."""
_CONTROLS = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\ud800-\udfff]+")
_FOOTER = re.compile(rb"\s{0,20}_{20,}[ \t]*\r?\n")
_GUESS = re.compile(rb"^--([^\s-][^\r\n]{0,200}?)[ \t]*\r?\n", re.MULTILINE)


class Segment(NamedTuple):
    """Something a mail shows, in its renderings."""

    plain: str | None
    html: str | None


class Content:
    """Everything below the header block of one message."""

    def __init__(self, raw: bytes, defects: set[str]) -> None:
        self.raw = raw
        self.defects = defects
        self.attachments: list[Attachment] = []
        self.invitation: Invitation | None = None
        self._parts = 0

    def read(self, fields: Mapping[str, str], start: int, end: int) -> list[Segment]:
        """The segments of the message with these headers; attachments and invitation are kept on the way."""
        return self._entity(fields, start, end, "text/plain", 0, alternative=False, first=True)

    def _entity(
        self,
        fields: Mapping[str, str],
        start: int,
        end: int,
        default: str,
        depth: int,
        *,
        alternative: bool,
        first: bool,
    ) -> list[Segment]:
        value = fields.get("content-type")
        kind, given = parameters.read(value, self.defects) if value else (default, parameters.NONE)
        if kind[:10] == "multipart/":
            boundary = given.get("boundary", "").rstrip()
            if depth >= MAX_DEPTH:
                self.defects.add("too-deep")
                return self._attach(kind, given, fields, self.raw[start:end])
            if not boundary or len(boundary) > MAX_BOUNDARY:
                self.defects.add("no-boundary")
                boundary = self._guess(start, end)
            sections = self._sections(boundary.encode("utf-8", "replace"), start, end) if boundary else []
            if sections:
                return self._multipart(kind, sections, depth, alternative=alternative, first=first)
            kind, given = "text/plain", parameters.NONE
        elif kind not in _BODY and not _TYPE.fullmatch(kind):
            # RFC 2045 5.2: what cannot be read is text. But a name says that it is a file.
            kind = "text/plain" if kind in ("", "text") or not given.get("name") else "application/octet-stream"
            self.defects.add("bad-content-type")
        return self._leaf(kind, given, fields, start, end, alternative=alternative, first=first)

    def _multipart(
        self, kind: str, sections: list[tuple[int, int]], depth: int, *, alternative: bool, first: bool
    ) -> list[Segment]:
        default = "message/rfc822" if kind == "multipart/digest" else "text/plain"
        choice = kind == "multipart/alternative"
        found: list[list[Segment]] = []
        shown = not first
        for start, end in sections:
            if self._parts >= MAX_PARTS:
                self.defects.add("too-many-parts")
                break
            self._parts += 1
            block = headers.read(self.raw, start, end, set())  # a part need not have headers
            fields: dict[str, str] = {}
            for name, value in block.fields:
                lower = name.lower()
                if lower in _WANTED:
                    fields.setdefault(lower, value)
            inside, leading = alternative or choice, choice or not shown
            segments = self._entity(fields, block.body, end, default, depth + 1, alternative=inside, first=leading)
            if segments:
                found.append(segments)
                shown = True
        if choice and len(found) > 1:
            return [_choice(found)]
        return [segment for segments in found for segment in segments]

    def _leaf(
        self,
        kind: str,
        given: Mapping[str, str],
        fields: Mapping[str, str],
        start: int,
        end: int,
        *,
        alternative: bool,
        first: bool,
    ) -> list[Segment]:
        data = self.raw[start:end]
        encoding = fields.get("content-transfer-encoding")
        if encoding:
            encoding = encoding.partition(";")[0].partition("(")[0].strip(" \"'").lower()
            data = transfer.decode(data, encoding, self.defects)
        if kind not in _BODY:
            return self._attach(kind, given, fields, data)
        disposition = fields.get("content-disposition")
        if disposition:
            how, about = parameters.read(disposition, self.defects)
            if how == "attachment" or about.get("filename"):
                return self._attach(kind, given, fields, data)
        if given.get("name") and not alternative and not first:
            return self._attach(kind, given, fields, data)
        if kind == "text/html":
            charset = given.get("charset") or charsets.charset_in_html(data)
            return [Segment(None, self._text(data, charset, html=True))]
        if not first and not alternative and len(data) < 4_000 and _FOOTER.match(data):
            # What a mailing list adds below every mail is nobody's words: it stays readable as an attachment.
            return self._attach(kind, {"name": "list-footer.txt"}, {"content-disposition": "inline"}, data)
        if b"\nbegin " in data or data.startswith(b"begin "):
            data, files = transfer.take_files(data, self.defects)
            for file in files:
                self._attach("application/octet-stream", {"name": file.name}, {}, file.content)
        text = self._text(data, given.get("charset"), html=False)
        if given.get("format", "").lower() == "flowed":
            text = flowed.unflow(text, delete_space=given.get("delsp", "").lower() == "yes")
        return [Segment(text, None)]

    def _text(self, data: bytes, charset: str | None, *, html: bool) -> str:
        """Text with "\\n" at its line ends that every database stores and every terminal can show."""
        codec = charsets.codec_of(charset) if charset else None
        if len(data) > _MAX_BYTES:
            self.defects.add("text-cut")
            end = 0 if codec is not None and codec.startswith(_WIDE) else data.rfind(b"\n", 0, _MAX_BYTES) + 1
            data = data[: end or _MAX_BYTES]
        if codec is None or not codec.startswith(_STATEFUL):
            if b"\r" in data:
                data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
            if data.isascii() and not data.translate(None, _PLAIN_BYTES):
                return self._cut(data.decode("ascii"))
        text, defect = charsets.decode(data, charset)
        if defect:
            self.defects.add(defect)
        if text[:1] == "\ufeff":
            text = text[1:]
        if "\r" in text:
            text = text.replace("\r\n", "\n").replace("\r", "\n")
        text = self._cut(text)
        seen = text.replace("\n", "").replace("\t", "").replace("\xa0", "").isprintable()
        if seen and (html or not _HIGH.search(text)):
            return text
        if html:
            return _CONTROLS.sub("", text)
        text, removed = clean(text)
        if removed:
            self.defects.add("unseen-characters")
        return text

    def _cut(self, text: str) -> str:
        if len(text) <= MAX_TEXT:
            return text
        self.defects.add("text-cut")
        return text[:MAX_TEXT]

    def _attach(self, kind: str, given: Mapping[str, str], fields: Mapping[str, str], content: bytes) -> list[Segment]:
        disposition = fields.get("content-disposition")
        how, about = parameters.read(disposition, self.defects) if disposition else ("", parameters.NONE)
        name = about.get("filename") or given.get("name", "")
        if not name and kind == "message/rfc822":
            name = self._title(content)
        content_id = fields.get("content-id")
        if content_id:
            content_id = one_line(content_id).strip("<> ")[:998] or None
        if self.invitation is None and kind in ("text/calendar", "application/ics"):
            self.invitation = invitation(content, given.get("method"))
            name = name or "invite.ics"
        self.attachments.append(
            Attachment(
                name=safe_name(name, kind, len(self.attachments)),
                content_type=kind,
                size=len(content),
                content_id=content_id,
                inline=how == "inline" or (content_id is not None and how != "attachment"),
                content=content,
            )
        )
        return []

    def _title(self, content: bytes) -> str:
        """A name for a message inside a message: its subject."""
        for name, value in headers.read(content, 0, len(content), set(), outermost=True).fields:
            if name.lower() == "subject":
                subject = decode_words(value[:1_000]).strip(" .")[:80]
                return f"{subject.replace('/', '_')}.eml" if subject else ""
        return ""

    def _sections(self, boundary: bytes, start: int, end: int) -> list[tuple[int, int]]:
        """Where the parts stand between the boundary lines (RFC 2046 5.1.1)."""
        raw = self.raw
        mark = b"--" + boundary
        wanted = b"\n" + mark
        size = len(mark)
        at = start if raw.startswith(mark, start, end) else raw.find(wanted, start, end) + 1
        sections: list[tuple[int, int]] = []
        begin = -1
        while at > 0 or (at == start == 0 and raw.startswith(mark)):
            after = at + size
            line_end = raw.find(b"\n", after, end)
            tail = raw[after : end if line_end < 0 else min(line_end, after + 80)].strip()
            if not tail or tail == b"--":
                if begin >= 0:
                    stop = at - 1
                    if stop > begin and raw[stop - 1] == 13:
                        stop -= 1
                    sections.append((begin, max(begin, stop)))
                    if len(sections) > MAX_PARTS:
                        return sections
                if tail:
                    return sections
                begin = end if line_end < 0 else line_end + 1
            # Otherwise another boundary, which only begins like this one.
            at = raw.find(wanted, after - 1 if line_end == after else after, end) + 1
        if begin >= 0:
            self.defects.add("no-last-boundary")
            sections.append((begin, end))
        else:
            self.defects.add("no-boundary")
        return sections

    def _guess(self, start: int, end: int) -> str:
        """The boundary that the header forgot to name: a first line `--x` that `--x--` answers."""
        match = _GUESS.search(self.raw, start, min(end, start + 4_000))
        if match is None or self.raw.find(b"\n--" + match[1] + b"--", match.end() - 1, end) < 0:
            return ""
        return match[1].decode("utf-8", "replace")


def _choice(found: list[list[Segment]]) -> Segment:
    """Of several renderings of the same: the first plain one that holds something, and the last HTML."""
    plain: str | None = None
    html: str | None = None
    for segments in found:
        plains = [segment.plain for segment in segments if segment.plain is not None]
        pages = [segment.html for segment in segments if segment.html is not None]
        if plains and (plain is None or not plain.strip()):
            plain = "\n".join(plains)
        if pages:
            html = "\n".join(pages)
    return Segment(plain, html)

"""The parts of a message (RFC 2046): what to read, what is attached. Boundaries are searched for.

Limits come before any library sees the bytes. What goes over one is kept whole as one opaque attachment, or left out
and named in the defects.

What a mail shows is a row of segments; a segment has one or two renderings, plain and HTML (multipart/alternative).
Most mails have one. Apple Mail puts text before and after each image, which makes several.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

from . import bodies, charsets, flowed, headers, parameters, transfer
from .calendar import Invitation, invitation
from .filenames import safe_name
from .models import Attachment
from .words import decode_words, one_line

MAX_DEPTH = 50
MAX_PARTS = 1_000
MAX_BOUNDARY = 1_000

_BODY = frozenset(("text/plain", "text/html", "text/markdown", "text/enriched", "text/richtext"))
_TYPE = re.compile(r"[a-z0-9!#$&^_.+-]+/[a-z0-9!#$&^_.+-]+")
_FOOTER = re.compile(rb"\s{0,20}_{20,}[ \t]*\r?\n")
_GUESS = re.compile(rb"^--([^\s-][^\r\n]{0,200}?)[ \t]*\r?\n", re.MULTILINE)


class Head(NamedTuple):
    """What the header block of a part says about its body."""

    kind: str | None
    """The content type in lower case; None when it says nothing."""
    given: Mapping[str, str]
    """Parameters of the Content-Type."""
    encoding: str
    how: str
    """The Content-Disposition in lower case, or ""."""
    about: Mapping[str, str]
    """Parameters of the Content-Disposition."""
    content_id: str | None
    wrong: tuple[str, ...]


_NOTHING = Head(None, parameters.NONE, "", "", parameters.NONE, None, ())


def describe(value: str | None, encoding: str | None, disposition: str | None, content_id: str | None) -> Head:
    """The headers of a part, read; each is None when there is none."""
    if value is encoding is disposition is content_id is None:
        return _NOTHING
    defects: set[str] = set()
    kind, given = parameters.read(value, defects) if value else (None, parameters.NONE)
    if kind is not None and kind not in _BODY and kind[:10] != "multipart/" and not _TYPE.fullmatch(kind):
        # RFC 2045 5.2: what cannot be read is text. But a name says that it is a file.
        kind = "text/plain" if kind in ("", "text") or not given.get("name") else "application/octet-stream"
        defects.add("bad-content-type")
    if encoding:
        encoding = encoding.partition(";")[0].partition("(")[0].strip(" \"'").lower()
    how, about = parameters.read(disposition, defects) if disposition else ("", parameters.NONE)
    if content_id:
        content_id = one_line(content_id).strip("<> ")[:998]
    return Head(kind, given, encoding or "", how, about, content_id or None, tuple(defects))


_LIST_FOOTER = _NOTHING._replace(given={"name": "list-footer.txt"}, how="inline")
_MAX_REMEMBERED = 300


def _head(raw: bytes, start: int, end: int) -> tuple[Head, int]:
    """The headers of a part and where its body begins. A part need not have headers."""
    for blank in (b"\n\n", b"\n\r\n"):
        stop = raw.find(blank, start, end if end - start < _MAX_REMEMBERED else start + _MAX_REMEMBERED)
        if stop >= 0:
            body = stop + len(blank)
            found = _remembered(raw[start:body])
            if found is not None:
                return found, body
    block = headers.read(raw, start, end, set())
    return _head_of(block.by_name), block.body


@lru_cache(maxsize=1_024)
def _remembered(block: bytes) -> Head | None:
    """Mails share most of the header blocks of their parts, letter for letter. None when it is no plain block."""
    wrong: set[str] = set()
    found = headers.read(block, 0, len(block), wrong)
    return None if wrong or found.body != len(block) else _head_of(found.by_name)


def _head_of(given: Mapping[str, Sequence[str]]) -> Head:
    """What these headers say, the first of each name."""
    value = given["content-type"][0] if "content-type" in given else None
    encoding = given["content-transfer-encoding"][0] if "content-transfer-encoding" in given else None
    disposition = given["content-disposition"][0] if "content-disposition" in given else None
    content_id = given["content-id"][0] if "content-id" in given else None
    if len(value or "") + len(encoding or "") + len(disposition or "") + len(content_id or "") > _MAX_REMEMBERED:
        return describe(value, encoding, disposition, content_id)
    return _described(value, encoding, disposition, content_id)


_described = lru_cache(maxsize=1_024)(describe)


class Segment(NamedTuple):
    """Something a mail shows, in its renderings."""

    plain: str | None
    html: str | None


_made = tuple.__new__
"""Of a NamedTuple, at a third of the price of calling its class, which is a function in Python."""


class Content:
    """Everything below the header block of one message."""

    def __init__(self, raw: bytes, defects: set[str], *, crlf: bool = False) -> None:
        """`crlf`: each line end of the message was CRLF, and is LF in `raw`."""
        self.raw = raw
        self.defects = defects
        self.crlf = crlf
        self.attachments: list[Attachment] = []
        self.invitation: Invitation | None = None
        self._parts = 0

    def read(self, given: Mapping[str, Sequence[str]], start: int, end: int) -> list[Segment]:
        """The segments of the message with these headers; attachments and invitation are kept on the way."""
        return self._entity(_head_of(given), start, end, "text/plain", 0, alternative=False, first=True)

    def _entity(
        self, head: Head, start: int, end: int, default: str, depth: int, *, alternative: bool, first: bool
    ) -> list[Segment]:
        if head.wrong:
            self.defects.update(head.wrong)
        kind = head.kind
        if kind is None:
            kind = default
        elif kind not in _BODY and kind[:10] == "multipart/":
            boundary = head.given.get("boundary", "").rstrip()
            if depth >= MAX_DEPTH:
                self.defects.add("too-deep")
                return self._attach(kind, head, self._as_sent(self.raw[start:end]))
            named = 0 < len(boundary) <= MAX_BOUNDARY
            sections = self._sections(boundary.encode("utf-8", "replace"), start, end) if named else []
            if not sections:
                self.defects.add("no-boundary")
                boundary = self._guess(start, end)
                sections = self._sections(boundary.encode("utf-8", "replace"), start, end) if boundary else []
            if sections:
                return self._multipart(kind, sections, depth, alternative=alternative, first=first)
            kind, head = "text/plain", head._replace(given=parameters.NONE)
        return self._leaf(kind, head, start, end, alternative=alternative, first=first)

    def _multipart(
        self, kind: str, sections: list[tuple[int, int]], depth: int, *, alternative: bool, first: bool
    ) -> list[Segment]:
        default = "message/rfc822" if kind == "multipart/digest" else "text/plain"
        choice = kind == "multipart/alternative"
        inside = alternative or choice
        found: list[list[Segment]] = []
        shown = not first
        for start, end in sections:
            if self._parts >= MAX_PARTS:
                self.defects.add("too-many-parts")
                break
            self._parts += 1
            head, body = _head(self.raw, start, end)
            leading = choice or not shown
            segments = self._entity(head, body, end, default, depth + 1, alternative=inside, first=leading)
            if segments:
                found.append(segments)
                shown = True
        if len(found) == 1:
            return found[0]
        if choice and found:
            return [_choice(found)]
        return [segment for segments in found for segment in segments]

    def _leaf(self, kind: str, head: Head, start: int, end: int, *, alternative: bool, first: bool) -> list[Segment]:
        data = self.raw[start:end]
        if head.encoding == "base64" and kind not in _BODY:
            size = transfer.base64_size(data)
            if size is not None:
                return self._attach(kind, head, data, size)
        given = head.given
        attached = (
            kind not in _BODY
            or (head.how and (head.how == "attachment" or head.about.get("filename")))
            or (not alternative and not first and given.get("name"))
        )
        charset = given.get("charset")
        if self.crlf and (attached or not (first or alternative) or not bodies.is_plain(charset, kind)):
            data = self._as_sent(data)
        if head.encoding:
            data = transfer.decode(data, head.encoding, self.defects)
        if attached:
            return self._attach(kind, head, data)
        if kind == "text/html":
            charset = charset or charsets.charset_in_html(data)
            return [_made(Segment, (None, bodies.read_text(data, charset, self.defects, html=True)))]
        if not first and not alternative and len(data) < 4_000 and _FOOTER.match(data):
            # What a mailing list adds below every mail is nobody's words: it stays readable as an attachment.
            return self._attach(kind, _LIST_FOOTER, data)
        if data.rfind(b"\nbegin ") >= 0 or data[:6] == b"begin ":  # from the end it is a third faster
            data, files = transfer.take_files(data, self.defects)
            for file in files:
                self._attach("application/octet-stream", _NOTHING._replace(given={"name": file.name}), file.content)
        text = bodies.read_text(data, charset, self.defects, html=False)
        if "format" in given and given["format"].lower() == "flowed":
            text = flowed.unflow(text, delete_space=given.get("delsp", "").lower() == "yes")
        return [_made(Segment, (text, None))]

    def _as_sent(self, data: bytes) -> bytes:
        """A piece of `raw` with the line ends that it came with."""
        return data.replace(b"\n", b"\r\n") if self.crlf else data

    def _attach(self, kind: str, head: Head, content: bytes, size: int | None = None) -> list[Segment]:
        """Keep it as an attachment. With `size` the content is base64 and white space, not decoded yet."""
        name = head.about.get("filename") or head.given.get("name", "")
        calendar = self.invitation is None and kind in ("text/calendar", "application/ics")
        if size is not None and (calendar or kind == "message/rfc822"):
            content, size = transfer.decode(content, "base64", self.defects), None
        if not name and kind == "message/rfc822":
            name = self._title(content)
        if calendar:
            self.invitation = invitation(content, head.given.get("method"))
            name = name or "invite.ics"
        fields = {
            "id": None,
            "name": safe_name(name, kind, len(self.attachments)),
            "content_type": kind,
            "size": len(content) if size is None else size,
            "content_id": head.content_id,
            "inline": head.how == "inline" or (head.content_id is not None and head.how != "attachment"),
        }
        self.attachments.append(
            Attachment.unchecked({**fields, "content": content})
            if size is None
            else Attachment.unchecked({**fields, "_base64": content})
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
        find = raw.find
        mark = b"--" + boundary
        wanted = b"\n" + mark
        size = len(mark)
        first = raw[start : start + size] == mark and start + size <= end
        at = start if first else find(wanted, start, end) + 1
        sections: list[tuple[int, int]] = []
        begin = -1
        while at > 0:  # the header that names the boundary stands before it
            after = at + size
            if after < end and raw[after] == 10:
                line_end, tail = after, b""
            elif raw[after : after + 3] == b"--\n" and after + 3 <= end:
                line_end, tail = after + 2, b"--"
            else:
                line_end = find(b"\n", after, end)
                tail = raw[after : end if line_end < 0 else min(line_end, after + 80)].strip()
            if not tail or tail == b"--":
                if begin >= 0:
                    stop = at - 1
                    if stop <= begin:
                        stop = begin
                    elif raw[stop - 1] == 13:
                        stop -= 1
                    sections.append((begin, stop))
                    if len(sections) > MAX_PARTS:
                        return sections
                if tail:
                    if not sections:
                        self.defects.add("no-boundary")
                    return sections
                begin = end if line_end < 0 else line_end + 1
            # Otherwise another boundary, which only begins like this one.
            # One byte is found far faster than several, so base64 and most prose are passed over by the first search.
            behind = after - 1 if line_end == after else after
            dash = find(b"-", behind + 1, end)
            at = find(wanted, dash - 1, end) + 1 if dash > 0 else 0
        if begin >= 0:
            self.defects.add("no-last-boundary")
            sections.append((begin, end))
        else:
            self.defects.add("no-boundary")
        return sections

    def _guess(self, start: int, end: int) -> str:
        """The boundary that the header names wrongly or not at all: a first line `--x` that `--x--` answers."""
        match = _GUESS.search(self.raw, start, min(end, start + 4_000))
        if match is None or self.raw.find(b"\n--" + match[1] + b"--", match.end() - 1, end) < 0:
            return ""
        return match[1].decode("utf-8", "replace")


def _choice(found: list[list[Segment]]) -> Segment:
    """Of several renderings of the same: the first plain one that holds something, and the last HTML."""
    if len(found) == 2 and len(found[0]) == len(found[1]) == 1:
        (first,), (second,) = found
        if first.plain and second.html and not first.plain.isspace():
            return _made(Segment, (first.plain, second.html))  # nearly every mail
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

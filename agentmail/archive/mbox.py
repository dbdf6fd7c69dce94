"""mbox files: where one message ends and the next begins, read line by line in bounded memory.

There is no standard, only four habits (RFC 4155 names them): *mboxo* and *mboxrd* write `>From ` for a body line that
begins with `From `, *mboxcl* does too and adds Content-Length, *mboxcl2* adds Content-Length and quotes nothing. And
there are files that quote nothing and count nothing. So a line is a separator only if it looks like one, the line after
it looks like a header, and no Content-Length that leads exactly to the next separator says otherwise.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import IO

from ..errors import BadInput

LARGEST = 64 * 2**20
"""Bytes of one message; a larger one is named and passed over."""
_LINE = 2**16
"""Bytes read at a time: a file without line ends is no reason to read it whole."""

_DATE = re.compile(rb"\d{1,2}:\d{2}(?::\d{2})?\b.*\d{4}|\d{4}.*\d{1,2}:\d{2}")
_ASCTIME = re.compile(
    rb"From .* ?(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun),? +(?:[A-Z][a-z]{2} +\d{1,2}|\d{1,2} +[A-Z][a-z]{2}) .*\d{1,2}:\d{2}"
)
_HEADER = re.compile(rb"[!-9;-~]+[ \t]*:|>From ")
_QUOTED = re.compile(rb"^>(>*From )", re.MULTILINE)
_UNQUOTED = re.compile(rb"^From ", re.MULTILINE)
_LENGTH = re.compile(rb"^Content-Length:[ \t]*(\d{1,10})[ \t]*\r?$", re.IGNORECASE | re.MULTILINE)
_MARK = b"\xef\xbb\xbf"
"""What some editors put before a text in UTF-8."""
_INTERNAL = b"DON'T DELETE THIS MESSAGE -- FOLDER INTERNAL DATA"


class TooLarge(BadInput):
    """A message is larger than anybody sends; it was passed over."""


def is_mbox(start: bytes) -> bool:
    """Whether a file that begins with these bytes is an mbox."""
    first, _, rest = start.removeprefix(_MARK).lstrip(b"\r\n").partition(b"\n")
    return first.startswith(b"From ") and (not rest or bool(_HEADER.match(rest)) or bool(_DATE.search(first)))


def messages(file: IO[bytes], *, seekable: bool = True, largest: int = LARGEST) -> Iterator[bytes | TooLarge]:
    """The messages of an mbox, in order, as they were before they went in: no From_ line, quoting undone.

    Quoting is undone as mboxrd does it. In an mboxo file a line that began with `>From ` before it went in cannot be
    told from a quoted one; it loses a `>`.
    """
    reader = _Lines(file)
    line = reader.next().removeprefix(_MARK)
    while line and not line.startswith(b"From "):  # blank lines, or what a mail program left at the top
        line = reader.next()
    while line:
        line, raw = _message(reader, seekable=seekable, largest=largest)
        if not (isinstance(raw, bytes) and _INTERNAL in raw[:2000]):
            yield raw


def _message(reader: _Lines, *, seekable: bool, largest: int) -> tuple[bytes, bytes | TooLarge]:
    """One message after its From_ line, and the From_ line of the next one (empty at the end)."""
    kept: list[bytes] = []
    size = 0
    blank = False  # was the line before this one empty?
    in_header = True
    by_length = False
    while line := reader.next():
        if line.startswith(b"From ") and reader.at_line_start and _separates(line, reader.peek(), after_blank=blank):
            break
        size += len(line)
        if size <= largest:
            kept.append(line)
        if reader.at_line_start:
            blank = line in {b"\n", b"\r\n"}
            if in_header and blank:
                in_header = False
                if seekable and (body := _by_length(reader, b"".join(kept), largest)) is not None:
                    kept.append(body)
                    size += len(body)
                    by_length, blank = True, False
    if size > largest:
        return line, TooLarge(f"a message of {size:,} bytes; the largest that is read has {largest:,}")
    raw = b"".join(kept)
    if not by_length or not _UNQUOTED.search(raw):
        # A message that was taken by its length and holds a bare From_ line comes from mboxcl2: nothing is quoted.
        raw = _QUOTED.sub(rb"\1", raw)
    return line, _without_last_blank(raw)


def _separates(line: bytes, following: bytes, *, after_blank: bool) -> bool:
    """Whether a line that begins with `From ` starts a message."""
    header = bool(_HEADER.match(following))
    if after_blank and header:
        return bool(_DATE.search(line))
    if after_blank and not following.strip():  # a message of nothing
        return bool(_ASCTIME.match(line))
    # Some programs forget the blank line. Missing a separator loses a message in another one, so a line that can
    # hardly be anything else is believed.
    return header and bool(_ASCTIME.match(line))


def _by_length(reader: _Lines, header: bytes, largest: int) -> bytes | None:
    """The body, if the header counts it and the count leads exactly to the next From_ line or to the end."""
    found = _LENGTH.search(header)
    if found is None or not 0 < (length := int(found[1])) <= largest:
        return None
    return reader.take_if(length, lambda rest: not rest.strip() or rest.lstrip(b"\r\n").startswith(b"From "))


def _without_last_blank(raw: bytes) -> bytes:
    """Without the empty line that belongs to the next separator."""
    for end in (b"\r\n", b"\n"):
        if raw.endswith(end + end):
            return raw[: -len(end)]
    return raw


class _Lines:
    """Lines of at most `_LINE` bytes, with a look at the one to come."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._ahead: bytes | None = None
        self._whole = True
        self.at_line_start = True
        """Whether the line last returned began where a line begins, and not in the middle of a very long one."""

    def next(self) -> bytes:
        line = self.peek()
        self._ahead = None
        self.at_line_start, self._whole = self._whole, line.endswith(b"\n")
        return line

    def peek(self) -> bytes:
        if self._ahead is None:
            self._ahead = self._file.readline(_LINE)
        return self._ahead

    def take_if(self, length: int, fits: Callable[[bytes], bool]) -> bytes | None:
        """The next `length` bytes, if what follows them fits; else nothing moves."""
        here = self._file.tell() - len(self._ahead or b"")
        self._ahead = None
        self._file.seek(here + length)
        good = fits(self._file.read(64))
        self._file.seek(here)
        body = self._file.read(length) if good else b""
        if len(body) < length:
            self._file.seek(here)
            return None
        self._whole = True
        return body

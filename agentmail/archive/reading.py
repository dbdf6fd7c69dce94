"""Archives on disk: every message in `.eml` files, mbox files, Maildirs, and folders of them, as bytes.

Nothing is guessed from a name where the content can tell. A file that cannot be read is named and passed over: one bad
sector is no reason to lose an archive. Memory holds one message and the names of one folder.
"""

# Paths are text here: a pathlib.Path for each file costs as much as reading it.
# ruff: noqa: PTH116, PTH118, PTH123

from __future__ import annotations

import gzip
import os
import stat
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from . import mbox
from .mbox import LARGEST, TooLarge

_MAIL_SUFFIXES = {".eml", ".mbox", ".mbx", ".mail", ".rfc822"}
_START = 4096
_PACKED = b"\x1f\x8b"


@dataclass(frozen=True, slots=True)
class Found:
    """One message of an archive."""

    source: str
    """Its file; in an mbox with its number: `list.mbox#12`."""
    raw: bytes


@dataclass(frozen=True, slots=True)
class Unread:
    """A file that is small enough to be read by whoever parses it."""

    source: str
    named: bool
    """Somebody said that it is mail, by naming it or by laying it into a Maildir."""
    size: int
    """Bytes."""


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A file, or one message of an mbox, that could not be read."""

    source: str
    reason: str


def read(paths: Iterable[Path | str], *, largest: int = LARGEST) -> Iterator[Found | Unreadable]:
    """Every message under these paths, in the order of the names; what cannot be read is named and passed over.

    A path that is a file is mail because somebody says so. In a folder, files that look like neither a message nor an
    mbox are left alone.
    """
    for one in listed(paths, smaller=0):
        if isinstance(one, Unread):
            yield from read_file(one, largest=largest)
        else:
            yield one


def listed(paths: Iterable[Path | str], *, smaller: int) -> Iterator[Unread | Unreadable]:
    """The files under these paths, unread. Those of at least `smaller` bytes have the size -1: they are to be read
    as a stream, because they may hold many messages.
    """
    for path in paths:
        for file, named in _files(Path(path)):
            if isinstance(file, Unreadable):
                yield file
                continue
            try:
                found = os.stat(file)
            except OSError as exc:
                yield Unreadable(file, exc.strerror or str(exc))
                continue
            # A pipe or a device in a folder would block us for ever.
            if stat.S_ISREG(found.st_mode):
                yield Unread(file, named, found.st_size if found.st_size < smaller else -1)
            elif named:
                yield Unreadable(file, "not a file")


def read_small(file: Unread) -> Found | Unreadable | Unread | None:
    """A file of one message at once. The file itself when it holds several, or is packed: `read_file` can read it.

    None for a file in a folder that does not look like mail.
    """
    try:
        with open(file.source, "rb", buffering=0) as opened:
            raw = opened.readall()
    except OSError as exc:
        return Unreadable(file.source, exc.strerror or str(exc))
    start = raw[:_START]
    if start[:2] == _PACKED or mbox.is_mbox(start):
        return file
    return _single(file, start, raw)


def measure(paths: Iterable[Path | str]) -> int:
    """Bytes under these paths: what a progress bar is measured by."""
    total = 0
    for path in paths:
        for file, _ in _files(Path(path)):
            if isinstance(file, str):
                try:
                    total += os.stat(file).st_size
                except OSError:
                    continue
    return total


def _files(path: Path) -> Iterator[tuple[str | Unreadable, bool]]:
    """The files to read, and whether each was named as mail: by the caller, or by lying in a Maildir."""
    if not path.is_dir():
        yield str(path), True
        return
    # A stack and not recursion: how deep folders lie is up to whoever made them. Links to folders are not followed,
    # because they can lead in a circle.
    waiting = [path]
    while waiting:
        folder = waiting.pop()
        try:
            with os.scandir(folder) as entries:
                names = sorted((e.name, e.is_dir(follow_symlinks=False)) for e in entries)
        except OSError as exc:
            yield Unreadable(str(folder), exc.strerror or str(exc)), False
            continue
        is_maildir = {("cur", True), ("new", True)} <= set(names)
        in_maildir = folder.name in {"cur", "new"} and (folder.parent / "tmp").is_dir()
        # Mail in tmp/ is still being delivered (or never was): the same mail will stand in new/.
        waiting += [folder / n for n, is_folder in reversed(names) if is_folder and not (is_maildir and n == "tmp")]
        for name, is_folder in names:
            if not is_folder and not name.startswith("."):
                yield os.path.join(folder, name), in_maildir


def read_file(unread: Unread, *, largest: int = LARGEST) -> Iterator[Found | Unreadable]:
    """The messages of a file, one after the other."""
    path = unread.source
    try:
        with open(path, "rb") as file:
            packed = file.read(2) == _PACKED
            file.seek(0)
            yield from _read_open(cast("IO[bytes]", gzip.GzipFile(fileobj=file)) if packed else file, unread,
                                  packed=packed, largest=largest)  # fmt: skip
    except OSError as exc:
        yield Unreadable(path, exc.strerror or str(exc))
    except (EOFError, zlib.error) as exc:
        yield Unreadable(path, f"damaged: {exc}")


def _read_open(file: IO[bytes], unread: Unread, *, packed: bool, largest: int) -> Iterator[Found | Unreadable]:
    start = file.read(_START)
    if mbox.is_mbox(start):
        file.seek(0)
        for n, raw in enumerate(mbox.messages(file, seekable=not packed, largest=largest), 1):
            if isinstance(raw, TooLarge):
                yield Unreadable(f"{unread.source}#{n}", str(raw))
            elif not raw.strip():
                yield Unreadable(f"{unread.source}#{n}", "empty")
            else:
                yield Found(f"{unread.source}#{n}", raw)
        return
    rest = file.read(largest - len(start) + 1) if len(start) == _START else b""
    if len(start) + len(rest) > largest:
        if unread.named or _looks_like_mail(unread.source, start):
            yield Unreadable(unread.source, f"larger than {largest:,} bytes")
    elif (one := _single(unread, start, start + rest)) is not None:
        yield one


def _single(file: Unread, start: bytes, raw: bytes) -> Found | Unreadable | None:
    if not (file.named or _looks_like_mail(file.source, start)):
        return None
    if start.strip():
        return Found(file.source, raw)
    # An empty .mbox holds no messages, and that is no fault; an empty .eml has lost one.
    return None if file.source.endswith(".mbox") else Unreadable(file.source, "empty")


def _looks_like_mail(source: str, start: bytes) -> bool:
    """Whether a file found in a folder is a message: by its suffix, or (MH, no suffix) by two headers at its top."""
    suffix = Path(source).suffix
    if suffix.lower() in _MAIL_SUFFIXES:
        return True
    if b"\x00" in start or (suffix and not suffix[1:].isdigit()):
        return False
    names = {line.split(b":", 1)[0].lower() for line in start.split(b"\n") if b":" in line and line[:1].isalpha()}
    return len(names & {b"from", b"date", b"message-id", b"subject", b"to", b"received", b"return-path"}) >= 2

"""Archives on disk: every message in `.eml` files, mbox files, Maildirs, and folders of them, as bytes.

Nothing is guessed from a name where the content can tell. A file that cannot be read is named and passed over: one bad
sector is no reason to lose an archive. Memory holds one message and the names of one folder.
"""

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


@dataclass(frozen=True, slots=True)
class Found:
    """One message of an archive."""

    source: str
    """Its file; in an mbox with its number: `list.mbox#12`."""
    raw: bytes


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
    for path in paths:
        for file, named in _files(Path(path)):
            if isinstance(file, Unreadable):
                yield file
            else:
                yield from _read_file(file, named=named, largest=largest)


def measure(paths: Iterable[Path | str]) -> int:
    """Bytes under these paths: what a progress bar is measured by."""
    total = 0
    for path in paths:
        for file, _ in _files(Path(path)):
            if isinstance(file, Path):
                try:
                    total += file.stat().st_size
                except OSError:
                    continue
    return total


def _files(path: Path) -> Iterator[tuple[Path | Unreadable, bool]]:
    """The files to read, and whether each was named as mail: by the caller, or by lying in a Maildir."""
    if not path.is_dir():
        yield path, True
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
                yield folder / name, in_maildir


def _read_file(path: Path, *, named: bool, largest: int) -> Iterator[Found | Unreadable]:
    try:
        # A pipe or a device in a folder would block us for ever.
        if not stat.S_ISREG(path.stat().st_mode):
            if named:
                yield Unreadable(str(path), "not a file")
            return
        with path.open("rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            yield from _read_open(cast("IO[bytes]", gzip.GzipFile(fileobj=file)) if packed else file, path,
                                  named=named, packed=packed, largest=largest)  # fmt: skip
    except OSError as exc:
        yield Unreadable(str(path), exc.strerror or str(exc))
    except (EOFError, zlib.error) as exc:
        yield Unreadable(str(path), f"damaged: {exc}")


def _read_open(
    file: IO[bytes], path: Path, *, named: bool, packed: bool, largest: int
) -> Iterator[Found | Unreadable]:
    start = file.read(_START)
    if mbox.is_mbox(start.lstrip(b"\r\n")):
        file.seek(0)
        for n, raw in enumerate(mbox.messages(file, seekable=not packed, largest=largest), 1):
            if isinstance(raw, TooLarge):
                yield Unreadable(f"{path}#{n}", str(raw))
            else:
                yield Found(f"{path}#{n}", raw)
        return
    if not (named or _looks_like_mail(path, start)):
        return
    rest = file.read(largest - len(start) + 1) if len(start) == _START else b""
    if not start.strip():
        # An empty .mbox holds no messages, and that is no fault; an empty .eml has lost one.
        if path.suffix != ".mbox":
            yield Unreadable(str(path), "empty")
    elif len(start) + len(rest) > largest:
        yield Unreadable(str(path), f"larger than {largest:,} bytes")
    else:
        yield Found(str(path), start + rest)


def _looks_like_mail(path: Path, start: bytes) -> bool:
    """Whether a file found in a folder is a message: by its suffix, or (MH, no suffix) by two headers at its top."""
    if path.suffix.lower() in _MAIL_SUFFIXES:
        return True
    if b"\x00" in start or (path.suffix and not path.suffix[1:].isdigit()):
        return False
    names = {line.split(b":", 1)[0].lower() for line in start.split(b"\n") if b":" in line and line[:1].isalpha()}
    return len(names & {b"from", b"date", b"message-id", b"subject", b"to", b"received", b"return-path"}) >= 2

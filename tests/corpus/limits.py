"""One mail at a time under the limits of law 3: 1 s of CPU, and 64 MB + 6 times its size of memory.

Each mail is parsed in a child of its own, forked from a program that is already warm, so that neither the memory nor
the caches of one mail help another. The bytes are made by a child before that one and handed over in a file, or what
making them left behind in the allocator would be used for parsing them, and not be seen.

Peak memory is VmHWM above what the child had when the bytes were in place; ru_maxrss would be that of the parent.
Time is the child's own CPU time, so a busy machine does not count. A slow one does: a second is the second of the
machine this was written on, and `slowness` says how many of them this machine needs, by reading a mail with the
standard library: such work waits for memory as much as for the processor. The least of a few runs counts.
"""

from __future__ import annotations

import email
import gc
import json
import os
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from agentmail.message.parse import parse

from .cases import cases

SECONDS = 1.0
ROOM = 64_000_000
PER_BYTE = 6
_TRIES = 5
_REFERENCE = 0.0047
"""CPU seconds of `_read_one` on the machine this was written on, with nothing beside it."""
_LINE = b"Received: from a.example (a.example [192.0.2.1]) by b.example with ESMTP id 7; 5 Jan 2026 09:00:00 +0000\n"
_ONE = (
    _LINE * 40 + b"Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\nContent-Type: multipart/mixed; boundary=x\n\n"
    + b"--x\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: quoted-printable\n\n"
    + b"Gr=C3=BC=C3=9Fe aus dem Haus, und noch viele mehr davon.\n" * 4_000 + b"--x--\n"
)


class Measured(NamedTuple):
    """What one mail cost."""

    name: str
    size: int
    seconds: float
    """CPU time of `parse`."""
    asked: float
    """CPU time of `new_text`, which is worked out when somebody asks."""
    grown: int
    """Bytes of peak memory above the start."""
    defects: Sequence[str]

    def wrong(self, seconds: float) -> str:
        """Which limit was broken, or ""."""
        if "unreadable" in self.defects:
            return f"{self.name}: unreadable"
        if max(self.seconds, self.asked) > seconds:
            return f"{self.name}: {self.seconds:.2f} s and {self.asked:.2f} s of {seconds:.2f} s CPU"
        if self.grown > ROOM + PER_BYTE * self.size:
            return f"{self.name}: {self.grown:,} bytes for {self.size:,}"
        return ""


def measure(mails: Iterable[tuple[str, Callable[[], bytes]]]) -> Iterable[tuple[Measured, str]]:
    """What each costs, and which limit it broke or ""; the least of a few runs when the first is over one."""
    warm()
    seconds = SECONDS * slowness()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mail"
        for name, make in mails:
            _child(lambda make=make: path.write_bytes(make()) and None)
            [best] = _measured([(name, path)])
            for _ in range(_TRIES - 1):
                if best.wrong(seconds):
                    seconds = max(seconds, SECONDS * slowness())  # the machine may be busier by now
                    best = min(best, *_measured([(name, path)]), key=lambda one: max(one.seconds, one.asked))
            yield best, best.wrong(seconds)


def measure_small(mails: Iterable[tuple[str, Path]]) -> Iterable[tuple[Measured, str]]:
    """The same in one child for all: its peak is never less than that of any of them."""
    warm()
    found = _measured(list(mails))
    seconds = SECONDS * slowness()
    yield from ((one, one.wrong(seconds)) for one in found)


def warm() -> None:
    """Imports, compiled patterns and small caches: what a program has that parsed mail before."""
    for case in cases():
        parse(case.raw).new_text
    gc.collect()
    gc.freeze()  # or a collection in a child would copy every page of the parent


def slowness() -> float:
    """How many seconds of this machine are a second of the one this was written on; never less than 1."""
    return max(1.0, statistics.median(_read_one() for _ in range(5)) / _REFERENCE)


# ---------------------------------------------------------------------------------------------------------------------


def _read_one() -> float:
    start = time.process_time()
    for part in email.message_from_bytes(_ONE).walk():
        if not part.is_multipart():
            str(part.get_payload(decode=True), "utf-8")
    return time.process_time() - start


def _measured(mails: Sequence[tuple[str, Path]]) -> list[Measured]:
    answer = _child(lambda: json.dumps([_parse(path) for _, path in mails]))
    if answer is None:
        return [Measured(name, path.stat().st_size, float("inf"), 0.0, 0, ["unreadable"]) for name, path in mails]
    return [Measured(name, *one) for (name, _), one in zip(mails, json.loads(answer), strict=True)]


def _parse(path: Path) -> tuple[int, float, float, int, tuple[str, ...]]:
    raw = path.read_bytes()
    # Fuses, far above the limits: a mail that breaks them must not take the machine along.
    resource.setrlimit(resource.RLIMIT_CPU, (120, resource.RLIM_INFINITY))
    room = _status("VmSize") + 2 * (ROOM + PER_BYTE * len(raw)) + 512_000_000
    resource.setrlimit(resource.RLIMIT_AS, (room, resource.RLIM_INFINITY))
    before = _status("VmRSS")
    start = time.process_time()
    message = parse(raw, trusted_authserv=("mx.example.com",))
    seconds = time.process_time() - start
    grown = _status("VmHWM") - before
    start = time.process_time()
    message.new_text
    asked = time.process_time() - start
    message.model_dump_json(exclude={"html", "text", "new_text"}).encode("utf-8")
    return len(raw), seconds, asked, max(grown, 0), message.defects


def _status(field: str) -> int:
    """Bytes. A forked child begins with a VmHWM of its own (fork sets it to what is resident)."""
    line = Path("/proc/self/status").read_text("ascii").partition(f"{field}:")[2]
    return int(line.split(maxsplit=1)[0]) * 1024


def _child(work: Callable[[], str | None]) -> str | None:
    """What `work` gives in a forked child; None when the child did not end well."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.close(reading)
            os.write(writing, (work() or "").encode())
            code = 0
        except BaseException as exc:  # nothing of the parent's may run in the child
            print(f"{type(exc).__name__}: {exc}", file=sys.stderr)
        finally:
            os._exit(code)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        said = pipe.read().decode()
    _, status = os.waitpid(pid, 0)
    return said if os.waitstatus_to_exitcode(status) == 0 else None

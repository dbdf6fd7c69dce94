"""Preparing in a process of its own, while this one fetches what comes next and files what came before.

```
 parent   fetch 3 ─ fetch 4 ─ file 1, 2 ───────── fetch 5 …
            │ raw bytes ↓       ↑ rows
 child    prepare 1 ─ prepare 2 ─ prepare 3 ─ prepare 4 …
```

Both see the same memory, in slots: the parent copies a batch into a free one, the child leaves its rows there. Only the
number of a slot goes through a pipe, so nobody ever waits for a pipe to be emptied, and no thread is needed that would
want the interpreter while rows are filed.

The child is a convenience. What it does not answer, for whatever reason, its parent prepares by itself: it never gave
the bytes away. The child ends when its input does, and at the next message when its parent is gone.
"""

from __future__ import annotations

import asyncio
import marshal
import mmap
import os
import pickle
import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import IO, Any

from ..forked import Forked, may_fork
from ..imap import Fetched, Gmail
from ..imap.batches import BATCH_BYTES
from ..message.models import Message
from ..store.arrivals import Arrival, Prepared
from ..store.words import IndexText
from ..threads.placement import Facts
from .arriving import Terms, lasting, location, prepared

FEW = 50
"""Messages that are sooner prepared than handed over and taken back."""
SLOTS, ROOM = 12, 4 * BATCH_BYTES
"""Batches that are under way at a time, and bytes of one: the mail going there, the rows coming back. What of it is
never used is never there."""
LATE = 120.0
"""Seconds after which a child that says nothing counts as dead: it may have been stopped."""
_WORD = struct.Struct("=IQ")
"""What goes through the pipes: a slot, and how many bytes in it count."""
_NOTHING: dict[str, Any] = dict(Message().__dict__)
_KEPT = ("message_id", "other_ids", "in_reply_to", "references", "automated")
"""What filing asks of a message beside its row. Of one that went out it asks for everything, so those are not left to a
child."""


class Job:
    """A batch that is being prepared elsewhere."""

    def __init__(self, slot: int, bodies: Sequence[Fetched], terms: Terms) -> None:
        self.slot, self.bodies, self.terms = slot, bodies, terms
        self.size: int | None = None
        """Bytes of the answer, once it is there; 0 when there is none."""


class Ahead:
    """A child, and what it has in hand. For one event loop."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, SLOTS * ROOM)
        self._free = list(range(SLOTS))
        self._jobs: dict[int, Job] = {}
        self._dropped: set[int] = set()
        """Slots that the child is still at, for nobody."""
        memory, parent = self._memory, os.getpid()
        self._child: Forked | None = Forked(lambda source, answers: _serve(memory, parent, source, answers))
        self._said = b""
        os.set_blocking(self._child.stdout.fileno(), False)

    @property
    def at_work(self) -> bool:
        """Whether it takes batches."""
        return self._child is not None

    def take(self, bodies: Sequence[Fetched], said: Mapping[int, Gmail], terms: Terms) -> Job | None:
        """Have a batch prepared. None where that cannot be: it is too big, or nobody is there."""
        if self._child is None or not self._free:
            return None
        facts = [
            (one.uid, one.size, one.received_at, one.flags, said[one.uid].labels if one.uid in said else (),
             len(one.body or b""))
            for one in bodies
        ]  # fmt: skip
        head = pickle.dumps((terms, facts), protocol=pickle.HIGHEST_PROTOCOL)
        if len(head) + sum(fact[-1] for fact in facts) > ROOM:
            return None
        slot = self._free.pop()
        at = slot * ROOM
        for part in (head, *(one.body or b"" for one in bodies)):
            self._memory[at : at + len(part)] = part
            at += len(part)
        try:
            # So short that it always fits: there are never more of them than slots.
            os.write(self._child.stdin.fileno(), _WORD.pack(slot, len(head)))
        except OSError:
            self._end()
            return None
        job = self._jobs[slot] = Job(slot, bodies, terms)
        return job

    def is_done(self, job: Job) -> bool:
        """Whether `rows` would not wait."""
        if job.size is None:
            self._listen()
        return job.size is not None

    async def rows(self, job: Job) -> list[Prepared | None]:
        """A batch, prepared, message by message; None for each that is left to the caller. Each job is asked once."""
        try:
            async with asyncio.timeout(LATE):
                while not self.is_done(job):
                    await self._news()
        except TimeoutError:
            self._end()
        if not job.size:
            self.drop(job)
            return [None] * len(job.bodies)
        begins = job.slot * ROOM
        with memoryview(self._memory) as whole, whole[begins : begins + job.size] as answer:
            packed = marshal.loads(answer)  # noqa: S302  from our own child, through memory that nobody else has
        self.drop(job)
        return [
            _unpacked(row, one, job.terms) if row is not None else None
            for row, one in zip(packed, job.bodies, strict=True)
        ]

    def drop(self, job: Job) -> None:
        """Nobody wants it any more."""
        if job.size is None:
            self._dropped.add(job.slot)
        elif self._jobs.get(job.slot) is job:
            del self._jobs[job.slot]
            self._free.append(job.slot)

    def close(self) -> None:
        """End the child."""
        self._end()
        self._memory.close()

    async def _news(self) -> None:
        assert self._child is not None
        loop, pipe = asyncio.get_running_loop(), self._child.stdout.fileno()
        heard = asyncio.Event()
        loop.add_reader(pipe, heard.set)
        try:
            await heard.wait()
        finally:
            loop.remove_reader(pipe)

    def _listen(self) -> None:
        """Note what the child has said."""
        if self._child is None:
            return
        try:
            said = os.read(self._child.stdout.fileno(), 64 * _WORD.size)
        except BlockingIOError:
            return
        except OSError:
            said = b""
        if not said:
            self._end()
            return
        said = self._said + said
        whole = len(said) - len(said) % _WORD.size
        self._said = said[whole:]
        for slot, size in _WORD.iter_unpack(said[:whole]):
            job = self._jobs[slot]
            job.size = size
            if slot in self._dropped:
                self._dropped.remove(slot)
                self.drop(job)

    def _end(self) -> None:
        """The child is of no use any more; nothing will come of what it had in hand."""
        child, self._child = self._child, None
        if child is None:
            return
        child.kill()
        child.wait()
        for pipe in (child.stdin, child.stdout):
            with suppress(OSError):
                pipe.close()
        for job in self._jobs.values():
            job.size = job.size or 0


@contextmanager
def preparing_ahead(*, wanted: bool) -> Iterator[Ahead | None]:
    """A child for what is done meanwhile, where one is wanted and safe: before there are threads, an event loop or a
    database, none of which a copy may have.
    """
    ahead = None
    if wanted and may_fork():
        with suppress(OSError):  # no memory or no process to be had: then it goes without
            ahead = Ahead()
    try:
        yield ahead
    finally:
        if ahead is not None:
            ahead.close()


def _serve(memory: mmap.mmap, parent: int, source: IO[bytes], answers: IO[bytes]) -> None:
    """The child's main loop."""
    while len(word := source.read(_WORD.size)) == _WORD.size:
        slot, head = _WORD.unpack(word)
        begins = slot * ROOM
        terms, facts = pickle.loads(memory[begins : begins + head])  # noqa: S301  from our own parent
        at = begins + head
        rows: list[Any] = []
        for uid, size, received_at, flags, labels, length in facts:
            if os.getppid() != parent:
                return
            one = Fetched(uid, size, received_at, flags, memory[at : at + length])
            at += length
            rows.append(_packed(one, labels, terms))
        answer = _written(rows)
        memory[begins : begins + len(answer)] = answer
        try:
            answers.write(_WORD.pack(slot, len(answer)))
            answers.flush()
        except BrokenPipeError:
            return


def _written(rows: list[Any]) -> bytes:
    """At most `ROOM` bytes; none when it cannot be said in so many, or not in plain values."""
    try:
        answer = marshal.dumps(rows)
    except ValueError:
        return b""
    return answer if len(answer) <= ROOM else b""


def _packed(one: Fetched, labels: Sequence[str], terms: Terms) -> tuple[Any, ...] | None:
    """What was worked out of a message, as plain values. None where the parent has to look at it itself: what fails is
    put aside there, with the reason."""
    try:
        ready = prepared(one, labels, terms)
    except Exception:  # noqa: BLE001  it is raised again, in the parent
        return None
    message, words = ready.arrival.message, ready.words
    if ready.row["outgoing"] or ready.arrival.outgoing or message.bounce is not None:
        return None
    return (
        [getattr(message, name) for name in _KEPT], ready.arrival.fresh, ready.subject, dict(ready.facts.holds),
        dict(ready.facts.people), ready.row, ready.attachments,
        (words.subject, words.sender, words.recipients, words.body, words.marks),
    )  # fmt: skip


def _unpacked(row: tuple[Any, ...], one: Fetched, terms: Terms) -> Prepared:
    said, fresh, subject, holds, people, values, attachments, words = row
    message = Message.unchecked({**_NOTHING, **dict(zip(_KEPT, said, strict=True))})
    arrival = Arrival(message, one.body or b"", location(one, terms), flags=lasting(one), fresh=fresh)
    return Prepared(arrival, Facts(holds, people), values, attachments, IndexText(*words), subject)

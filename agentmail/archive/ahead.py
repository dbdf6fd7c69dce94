"""Parsing ahead in processes of its own, while the store writes: each takes about half of an import's time.

The workers are child processes that read batches from a pipe. They end when it does, so that a parent that is killed
leaves nothing behind. A program that has threads gets children that start from nothing; the command, which has none
yet, forks (`forked`): what it imported to parse is there at once.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import IO, Any

from ..errors import AgentMailError
from ..forked import Forked, may_fork, settle, widen
from ..message.models import Message
from ..message.parse import parse
from ..store.arrivals import Arrival, Prepared, prepare
from ..store.words import IndexText
from ..threads.placement import Facts
from .reading import Found, Unread, Unreadable, read_small


@dataclass(frozen=True, slots=True)
class Terms:
    """What a batch is prepared with."""

    account: str
    own: frozenset[str]
    secret: bytes


@dataclass(slots=True)
class Batch:
    """Messages that are ready to be filed."""

    arrivals: list[Arrival | Prepared] = field(default_factory=list)
    defective: int = 0
    """How many of them have defects."""
    bytes: int = 0
    several: list[Unread] = field(default_factory=list)
    """Files that turned out to hold many messages: they are still to be read, as a stream."""
    unreadable: list[Unreadable] = field(default_factory=list)


Source = Found | Unread | Unreadable
_PARSED_ALREADY = Message()
"""In place of the parsed message: filing needs the row only, and the way between processes is cheaper without."""


def prepare_batch(found: Sequence[Source], terms: Terms) -> Batch:
    """Read what is unread, parse, and work out all that needs no database."""
    batch = Batch()
    for source in found:
        one = read_small(source) if isinstance(source, Unread) else source
        if one is None:
            continue
        if isinstance(one, Unread):
            batch.several.append(one)
            continue
        if isinstance(one, Unreadable):
            batch.unreadable.append(one)
            continue
        message = parse(one.raw)
        batch.bytes += len(one.raw)
        batch.defective += bool(message.defects)
        arrival = Arrival(message, one.raw, fresh=False)
        try:
            ready = prepare(arrival, account=terms.account, own=terms.own, secret=terms.secret)
        except ValueError:  # no database holds it; the store puts it aside, with the reason
            batch.arrivals.append(arrival)
            continue
        ready.arrival = Arrival(_PARSED_ALREADY, one.raw, fresh=False)
        batch.arrivals.append(ready)
    return batch


def _packed(batch: Batch) -> tuple[Any, ...]:
    """A batch as plain tuples: pickling a class of ours costs more than all its values."""
    return (
        [
            (p.arrival.raw, p.subject, p.facts.holds, p.facts.people, p.row, p.attachments,
             (p.words.subject, p.words.sender, p.words.recipients, p.words.body, p.words.marks))
            if isinstance(p, Prepared) else p
            for p in batch.arrivals
        ],
        batch.defective, batch.bytes, batch.several, batch.unreadable,
    )  # fmt: skip


def _unpacked(packed: tuple[Any, ...]) -> Batch:
    ready: list[Arrival | Prepared] = []
    for one in packed[0]:
        if isinstance(one, Arrival):
            ready.append(one)
            continue
        raw, subject, holds, people, row, attachments, words = one
        arrival = Arrival(_PARSED_ALREADY, raw, fresh=False)
        ready.append(Prepared(arrival, Facts(holds, people), row, attachments, IndexText(*words), subject))
    return Batch(ready, *packed[1:])


class Worker:
    """One process that prepares batches, one after the other."""

    def __init__(self, process: subprocess.Popen[bytes] | Forked) -> None:
        self._process = process
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="agentmail-import")
        widen(process.stdin)
        widen(process.stdout)

    @classmethod
    def started(cls) -> Worker:
        """A process that begins with nothing."""
        # The child gets our module path and nothing from the current directory: that may be an archive of strangers.
        # It collects no garbage before it serves: looking through modules while they come took an eighth of its start.
        start = "from agentmail.archive.ahead import serve_standard; serve_standard()"
        code = f"import gc, sys; gc.disable(); sys.path[:] = {sys.path!r}; {start}"
        return cls(
            subprocess.Popen(  # noqa: S603  our own interpreter and our own words
                [sys.executable, "-P", "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
            )
        )

    def prepare(self, found: Sequence[Source], terms: Terms) -> Future[Batch]:
        """Hand a batch to the process; batches are worked on in the order they were handed over."""
        return self._thread.submit(self._exchange, found, terms)

    def _exchange(self, found: Sequence[Source], terms: Terms) -> Batch:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            _send(self._process.stdin, (found, terms))
            answer = _receive(self._process.stdout)
        except (OSError, EOFError, ValueError) as exc:
            raise AgentMailError(
                f"a parsing process ended early (exit status {self._process.poll()}); what was filed stays filed: "
                "run the import again"
            ) from exc
        if isinstance(answer, BaseException):
            raise answer
        return _unpacked(answer)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                try:
                    pipe.close()
                except OSError:  # what was buffered for the dead child
                    continue
        self._thread.shutdown(wait=True, cancel_futures=True)


def forked(count: int) -> list[Worker]:
    """Copies of this process that prepare batches; none where that is not safe."""
    if not may_fork():
        return []
    return [Worker(Forked(serve)) for _ in range(count)]


def serve_standard() -> None:
    """The main loop of a child that was started: its input and output are the pipes."""
    answers = os.fdopen(os.dup(1), "wb")
    settle()
    serve(sys.stdin.buffer, answers)


def serve(source: IO[bytes], answers: IO[bytes]) -> None:
    """The child's main loop."""
    while True:
        try:
            found, terms = _receive(source)
        except EOFError:
            return
        answer: tuple[Any, ...] | Exception
        try:
            answer = _packed(prepare_batch(found, terms))
        except Exception as exc:  # noqa: BLE001  it is raised in the parent
            answer = exc
        try:
            _send(answers, answer)
        except BrokenPipeError:
            return


def _send(pipe: IO[bytes], value: Any) -> None:
    data = pickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL)
    pipe.write(len(data).to_bytes(8, "big"))
    pipe.write(data)
    pipe.flush()


def _receive(pipe: IO[bytes]) -> Any:
    head = pipe.read(8)
    if len(head) < 8:
        raise EOFError
    size = int.from_bytes(head, "big")
    data = pipe.read(size)
    if len(data) < size:
        raise EOFError
    return pickle.loads(data)  # noqa: S301  from our own child, over a pipe that nobody else holds

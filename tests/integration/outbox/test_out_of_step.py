"""A server that says more or less than it was asked, or takes no more: nobody pays for what was said of somebody else,
and no dot goes at a time that nobody checked.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from agentmail import delivery
from agentmail.errors import StoreUnreachable
from agentmail.message.models import Envelope
from agentmail.outbox import Outbox
from agentmail.smtp import Submitter, Timeouts, transaction
from agentmail.smtp.session import Lost, Session
from agentmail.store import attempts, submissions
from agentmail.store.database import Tx
from agentmail.store.submissions import RecipientState
from tests.servers.process import make_certificates
from tests.waiting import PATIENCE, turns, until

from .conftest import Bench
from .scripted import CLOSE, HANG, RESET, ScriptedSmtp
from .test_along import SHORT, Stuck, all_of, first_only, mail

WHO = ("ana@test.local", "bob@test.local", "eve@test.local")
TO_ALL = Envelope(mail_from="agent@test.local", rcpt_to=WHO)


def bob_is_unknown_and_eve(answer: str) -> Any:
    return lambda line: "550 5.1.1 no" if "bob" in line else answer if "eve" in line else "250 ok"


@pytest.mark.parametrize("answer", [CLOSE, RESET, HANG])
@pytest.mark.parametrize("pipelining", [True, False])
async def test_who_got_no_answer_is_not_refused(answer: str, pipelining: bool) -> None:
    """Ana was taken and Bob refused; what Eve would have been told nobody knows."""
    extensions = ("PIPELINING", "8BITMIME") if pipelining else ("8BITMIME",)
    async with ScriptedSmtp({"rcpt": bob_is_unknown_and_eve(answer)}, extensions=extensions) as server:
        pool = Submitter(server.account(), timeouts=SHORT)
        outcome = await pool.submit(mail(0)[0], TO_ALL)
        await pool.close()
    assert ("temporary", None) == (outcome.state, outcome.code)


async def test_who_got_no_answer_gets_the_mail(bench: Bench) -> None:
    bench.server.script = {"rcpt": bob_is_unknown_and_eve(CLOSE)}
    waiting = await bench.box.submit(bench.mail(*WHO))
    assert "queued" == waiting.state
    bench.server.script = {"rcpt": bob_is_unknown_and_eve("250 ok")}
    await bench.clock.advance(31)
    [done] = await bench.box.deliver_due()
    assert ("sent", ["sent", "failed", "sent"]) == (done.state, [r.state for r in done.recipients])
    assert [["ana@test.local", "eve@test.local"]] == [to for _, to, _ in bench.server.taken]


async def test_a_slow_answer_to_commands_that_went_along_refuses_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their time is short, since another connection has more: the answer to Eve may take longer than that."""
    monkeypatch.setattr(transaction, "SOON", 0.2)
    slow = True

    class Slow(ScriptedSmtp):
        async def _say(self, writer: asyncio.StreamWriter, step: str, line: str, *more: Any) -> bool:
            nonlocal slow
            if slow and "eve" in line:
                slow = False
                await asyncio.Event().wait()
            return await super()._say(writer, step, line, *more)

    async with Slow({"rcpt": bob_is_unknown_and_eve("250 ok")}) as server:
        pool = Submitter(server.account(), connections=1)
        first, second = await asyncio.gather(pool.submit(*mail(0)), pool.submit(mail(1)[0], TO_ALL))
        await pool.close()
    assert ("sent", "sent", {"bob@test.local"}) == (first.state, second.state, set(second.refused))
    assert ["ana@test.local", "eve@test.local"] == server.taken[-1][1]


async def test_nothing_goes_along_with_a_mail_that_was_answered_before_its_end() -> None:
    """The body is refused while it is awaited, and after its dot once more, which would be taken for an answer to the
    next mail's MAIL.
    """

    class Hasty(ScriptedSmtp):
        async def _say(self, writer: asyncio.StreamWriter, step: str, *more: Any) -> bool:
            going = await super()._say(writer, step, *more)
            if step == "data" and not self.taken:
                writer.write(b"552 5.3.4 too much\r\n")
            return going

    async def hook(_: Any) -> Any:
        async with asyncio.timeout(5):
            while session._replies.silent:
                await asyncio.sleep(0.001)
        return lambda: True

    async with Hasty({"dot": first_only("552 5.3.4 too much")}) as server:
        pool = Submitter(server.account(), connections=1, timeouts=SHORT)
        guarded = pool._guarded
        session: Session

        async def seen(one: Session, *more: Any) -> Any:
            nonlocal session
            session = one
            return await guarded(one, *more)

        pool._guarded = seen  # type: ignore[method-assign]
        first, second = (pool.submit(*mail(i), before_body=None if i else hook) for i in range(2))
        outcomes = await asyncio.gather(first, second)
        await pool.close()
    assert ["permanent", "sent"] == [o.state for o in outcomes]


@pytest.mark.parametrize(
    ("answer", "state", "code"),
    [(b"552 5.3.4 too much\r\n", "permanent", 552), (b"451 4.3.0 not now\r\n", "temporary", 451),
     (b"250 2.0.0 what a fine mail\r\n", "temporary", 250), (CLOSE, "temporary", None)],
)  # fmt: skip
@pytest.mark.parametrize("size", [0, 100_000])
async def test_what_a_server_says_before_it_hangs_up_on_a_body_counts(
    answer: str | bytes, state: str, code: int | None, size: int
) -> None:
    """And no 250 does, which it cannot mean: the mail had no end."""

    class Rude(ScriptedSmtp):
        async def _say(self, writer: asyncio.StreamWriter, step: str, *more: Any) -> bool:
            going = await super()._say(writer, step, *more)
            if step == "data":
                return await super()._say(writer, "body", "", "", answer)
            return going

    async def hook(_: Any) -> Any:
        await until(lambda: sessions[0]._replies.ended)
        return lambda: True

    sessions = list[Session]()
    async with Rude() as server:
        pool = Submitter(server.account(), timeouts=SHORT)
        guarded = pool._guarded

        async def seen(one: Session, *more: Any) -> Any:
            sessions.append(one)
            return await guarded(one, *more)

        pool._guarded = seen  # type: ignore[method-assign]
        raw, envelope = mail(0)
        outcome = await pool.submit(raw + b"x" * size, envelope, before_body=hook)
        await pool.close()
    assert (state, "body", code) == (outcome.state, outcome.step, outcome.code)


async def test_a_connection_that_lost_step_is_left() -> None:
    """It took MAIL for something else, and with it all that came behind: nothing that it says now can be believed."""
    mails = 0

    def second(line: str) -> str:
        nonlocal mails
        mails += line.startswith("MAIL")
        return "503 5.5.1 out of step" if mails == 2 and server.connections == 1 else "250 ok"

    server = ScriptedSmtp()
    server.script = {"mail": second, "rcpt": second}
    async with server:
        outcomes = await all_of(Submitter(server.account(), connections=1, timeouts=SHORT), 3)
    assert (["sent"] * 3, 2) == ([o.state for o in outcomes], server.connections)
    assert not any(command.startswith("RSET") for command in server.commands)


# -- the dot goes at once, or never -----------------------------------------------------------------------------------


async def test_a_dot_that_waits_beneath_tls_never_goes(tmp_path: Path) -> None:
    """TLS has taken everything, but the transport beneath it has not: the dot would go when the server reads again."""
    make_certificates(tmp_path)
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    trusting = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
    came, reads = bytearray(), asyncio.Event()
    over = asyncio.Event()

    async def server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            writer.transport.pause_reading()  # type: ignore[attr-defined]
            await reads.wait()
            writer.transport.resume_reading()  # type: ignore[attr-defined]
            while data := await reader.read(2**16):
                came.extend(data)
        except ConnectionError:
            pass
        finally:
            over.set()
            writer.close()

    listening = await asyncio.start_server(server, "127.0.0.1", 0, ssl=serving)
    port = listening.sockets[0].getsockname()[1]
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_connection(
        asyncio.Protocol, "127.0.0.1", port, ssl=trusting, server_hostname="localhost"
    )
    session = Session(transport, {}, SHORT)
    went = session.finish(b"x" * 20_000_000 + b"\r\n.\r\n", b"MAIL FROM:<a@b.c>\r\n")
    reads.set()
    async with asyncio.timeout(60):
        await over.wait()
    session.close()
    listening.close()
    assert not went
    assert b"\r\n.\r\n" not in came


class Beneath(Stuck):
    """The transport beneath TLS: what was left over when the last was written."""

    def __init__(self, left: int) -> None:
        super().__init__(0)
        self.left = b"x" * left

    def write(self, data: Any) -> None: ...


class Over(Stuck):
    """TLS, which hands on all that it is given."""

    def __init__(self, left: int) -> None:
        super().__init__(2**20)
        self._ssl_protocol = type("", (), {"_transport": Beneath(left)})()


@pytest.mark.parametrize(("left", "went"), [(0, True), (1, None), (1000, None), (5000, False)])
async def test_a_little_that_is_left_beneath_tls_may_be_the_commands_behind_the_dot(
    left: int, went: bool | None
) -> None:
    """Nobody can tell then, and a mail that may have gone is not one that has not."""
    transport = Over(left)
    session = Session(transport, {}, SHORT)
    if went is None:
        with pytest.raises(Lost, match="dot"):
            session.finish(b"hello\r\n.\r\n", b"MAIL FROM:<a@b.c>\r\n")
    else:
        assert went == session.finish(b"hello\r\n.\r\n", b"MAIL FROM:<a@b.c>\r\n")


class Wired(Stuck):
    """A transport that has taken everything, over a socket that takes no more."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(2**20)
        self.sock = sock

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self.sock if name == "socket" else default


@contextmanager
def full() -> Iterator[tuple[socket.socket, socket.socket]]:
    """A socket that takes nothing more, and its other end."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        with pytest.raises(BlockingIOError):
            while True:
                ours.send(b"x" * 4096)
        yield ours, theirs


async def test_the_dot_waits_for_room_after_a_large_body() -> None:
    """Asyncio says that all was taken when the socket is full to the last byte: then the dot would not be taken."""
    with full() as (ours, theirs):
        task = asyncio.create_task(Session(Wired(ours), {}, Timeouts()).write_body(b"x"))
        await turns()
        assert not task.done()
        theirs.setblocking(False)
        with pytest.raises(BlockingIOError):
            while True:
                theirs.recv(65_536)
        async with asyncio.timeout(60):
            await task


async def test_who_finds_no_room_in_its_time_is_lost() -> None:
    with full() as (ours, _), pytest.raises(Lost, match="took no data"):
        await Session(Wired(ours), {}, Timeouts(block=0.05)).write_body(b"x")


# -- what a worker says that has lost its row -------------------------------------------------------------------------


async def test_who_lost_its_row_says_nothing_of_those_who_wait(bench: Bench) -> None:
    """Its own attempt was refused for Eve; the one of the worker that has the row now was not, and she may have it."""
    await bench.box.queue(bench.mail(*WHO))

    async def work(tx: Tx) -> list[RecipientState]:
        now = bench.clock().timestamp()
        [row] = await attempts.claim(tx, bench.box.account.key, now=now, lease=180.0, limit=1)
        await submissions.change(tx, row.id, states=["sending"], state="queued", next_at=0)
        [again] = await attempts.claim(tx, bench.box.account.key, now=now, lease=180.0, limit=1)
        assert {row.id} == await attempts.mark(tx, [(row.id, again.epoch)], now=now)
        people = {
            "ana@test.local": RecipientState("ana@test.local", "sent", 250),
            "bob@test.local": RecipientState("bob@test.local", "failed", 550, "no"),
            "eve@test.local": RecipientState("eve@test.local", "pending", 450, "later"),
        }
        late = attempts.Result(row.id, row.epoch, "queued", 250, delay=300.0, recipients=people)
        assert not await attempts.settle(tx, [late], now=now)
        return list((await submissions.read(tx, [row.id]))[0].recipients)

    ana, bob, eve = await bench.store.db.run(work)
    assert ("sent", "pending", "pending", None) == (ana.state, bob.state, eve.state, eve.code)


# -- a server that takes its time -------------------------------------------------------------------------------------


async def test_what_comes_while_a_server_thinks_is_not_held_up(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """It answers the first mail when another has gone that was not there when the first was claimed."""
    monkeypatch.setattr(delivery, "AGAIN", 0.05)
    bench.box = bench.outbox(submitter=Submitter(bench.server.account(), connections=2))
    await bench.box.queue(bench.mail(text="first"))
    taken, say = bench.server.taken, bench.server._say

    async def slow(writer: Any, step: str, *more: Any) -> bool:
        if step == "dot" and len(taken) == 1:
            await until(lambda: len(taken) == 2)
        return await say(writer, step, *more)

    bench.server._say = slow  # type: ignore[method-assign]
    async with asyncio.TaskGroup() as group, asyncio.timeout(PATIENCE / 2):  # less than the server's
        sending = group.create_task(bench.box.deliver_due())
        await until(lambda: taken)
        await bench.box.queue(bench.mail(text="second"))
        done = await sending
    assert ["sent", "sent"] == [sent.state for sent in done]


async def test_a_look_for_more_that_fails_is_no_failure(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The store is away for a moment in which nothing of it is needed."""
    monkeypatch.setattr(delivery, "AGAIN", 0.05)
    claim, claims = Outbox._claim, 0

    async def failing(self: Outbox, **how: Any) -> Any:
        nonlocal claims
        claims += 1
        if claims == 2:
            raise StoreUnreachable("gone")
        return await claim(self, **how)

    monkeypatch.setattr(Outbox, "_claim", failing)
    bench.box = bench.outbox(submitter=Submitter(bench.server.account(), connections=2))
    await bench.box.queue(bench.mail())
    say = bench.server._say

    async def slow(writer: Any, step: str, *more: Any) -> bool:
        if step == "dot":
            await until(lambda: claims == 3)
        return await say(writer, step, *more)

    bench.server._say = slow  # type: ignore[method-assign]
    assert ["sent"] == [sent.state for sent in await bench.box.deliver_due()]


@pytest.mark.parametrize("fails", [False, True])
async def test_who_is_cancelled_with_a_250_in_the_hand_writes_it(bench: Bench, fails: bool) -> None:
    """Forgotten, the mail would be looked for, and go again where nobody files what was sent. A statement that is cut
    may fail in place of being cancelled.
    """
    row = await bench.box.queue(bench.mail())
    writes, write, ending, go_on = bench.box._writes, bench.box._writes._write, asyncio.Event(), asyncio.Event()

    async def held(items: Any) -> Any:
        if any(item.result is not None for item in items):
            ending.set()
            try:
                await go_on.wait()
            except asyncio.CancelledError:
                if not fails:
                    raise
                raise StoreUnreachable("cut") from None
        return await write(items)

    writes._write = held
    task = asyncio.create_task(bench.box.deliver(row.id))
    async with asyncio.timeout(PATIENCE):
        await ending.wait()
    task.cancel()
    await turns(1)
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        async with asyncio.timeout(PATIENCE):
            await task
    assert "sent" == (await bench.box.get(row.id)).state

"""Mails that follow each other on a connection: the commands of the next go along with the final dot of the one before.

Whatever becomes of the one, the other is sent once, or not sent and known to be so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from agentmail.message.models import Envelope
from agentmail.smtp import Outcome, Submitter, Timeouts, submitter, transaction
from agentmail.smtp.session import Session
from tests.waiting import PATIENCE

from .scripted import CLOSE, HANG, RESET, ScriptedSmtp
from .test_wire import stopped, too_late

SHORT = Timeouts(command=0.5, data=0.5, block=0.5, dot=0.5)


def patience(answer: object) -> Timeouts:
    """Little with a server that hangs, and else more than a machine needs that stands still for a second."""
    return SHORT if answer == HANG else Timeouts()


def mail(number: int, *more: str) -> tuple[bytes, Envelope]:
    raw = f"From: agent@test.local\r\nMessage-ID: <{number}@b>\r\n\r\nhello {number}\r\n".encode()
    return raw, Envelope(mail_from="agent@test.local", rcpt_to=(f"n{number}@test.local", *more))


async def all_of(pool: Submitter, count: int, **how: Any) -> list[Outcome]:
    """So many mails, all asked for at the same time."""
    try:
        return await asyncio.gather(*(pool.submit(*mail(i), **how) for i in range(count)))
    finally:
        await pool.close()


class Peeking(ScriptedSmtp):
    """Remembers what had come by the time it answered a dot."""

    def __init__(self, *given: Any, **more: Any) -> None:
        super().__init__(*given, **more)
        self.behind: list[bytes] = []

    async def _session(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        await super()._session(reader, writer)

    async def _say(self, writer: asyncio.StreamWriter, step: str, *more: Any) -> bool:
        if step == "dot":
            self.behind.append(bytes(self._reader._buffer))  # type: ignore[attr-defined]
        return await super()._say(writer, step, *more)


class Forgetful(Peeking):
    """Advertises PIPELINING, and throws away what comes behind a body."""

    async def _say(self, writer: asyncio.StreamWriter, step: str, *more: Any) -> bool:
        going = await super()._say(writer, step, *more)
        if step == "dot":
            self._reader._buffer.clear()  # type: ignore[attr-defined]
        return going


def first_only(answer: str | bytes) -> Callable[[str], str | bytes]:
    answers = iter([answer])
    return lambda _: next(answers, "250 2.0.0 queued")


async def test_the_next_mails_commands_go_with_the_dot() -> None:
    async with Peeking() as server:
        outcomes = await all_of(Submitter(server.account(), connections=1), 3)
    assert ["sent"] * 3 == [o.state for o in outcomes]
    assert [b"hello 0\r\n", b"hello 1\r\n", b"hello 2\r\n"] == [body[-9:] for _, _, body in server.taken]
    commands = b"MAIL FROM:<agent@test.local> BODY=8BITMIME\r\nRCPT TO:<n%d@test.local>\r\nDATA\r\n"
    assert [commands.replace(b" BODY=8BITMIME", b"") % 1, commands.replace(b" BODY=8BITMIME", b"") % 2, b""] == (
        server.behind
    )
    assert 1 == server.connections


async def test_no_pipelining_nothing_behind_a_dot() -> None:
    async with Peeking(extensions=("8BITMIME",)) as server:
        outcomes = await all_of(Submitter(server.account(), connections=1), 3)
    assert (["sent"] * 3, [b""] * 3) == ([o.state for o in outcomes], server.behind)


async def test_a_connection_carries_no_more_than_it_may() -> None:
    async with ScriptedSmtp() as server:
        outcomes = await all_of(Submitter(server.account(), connections=1, per_connection=2), 5)
    assert (["sent"] * 5, 3) == ([o.state for o in outcomes], server.connections)


@pytest.mark.parametrize(
    ("answer", "state"),
    [
        ("250 2.0.0 queued", "sent"), ("451 4.3.0 later", "temporary"), ("550 5.7.1 refused", "permanent"),
        ("421 4.3.2 closing", "temporary"), (CLOSE, "unknown"), (RESET, "unknown"), (HANG, "unknown"),
        (b"\x00\xff garbage\r\n", "unknown"), ("354 go on", "unknown"), (b"250 2.0.0 queued, and bye\r\n", "sent"),
        (b"250 2.0.0 queued\r\n421 4.3.2 enough for one connection\r\n", "sent"),
    ],
)  # fmt: skip
async def test_the_end_of_a_mail_is_not_the_end_of_the_next(answer: str | bytes, state: str) -> None:
    async with ScriptedSmtp({"dot": first_only(answer)}) as server:
        outcomes = await all_of(Submitter(server.account(), connections=1, timeouts=patience(answer)), 3)
    assert [state, "sent", "sent"] == [o.state for o in outcomes]
    assert [["n0@test.local"], ["n1@test.local"], ["n2@test.local"]] == [to for _, to, _ in server.taken]


@pytest.mark.parametrize(
    ("step", "answer", "state"),
    [
        ("mail", "451 4.3.0 later", "temporary"), ("mail", "550 5.7.1 no", "permanent"),
        ("rcpt", "450 4.2.0 later", "temporary"), ("rcpt", "550 5.1.1 no", "permanent"),
        ("data", "451 4.3.0 later", "temporary"), ("data", "554 no", "permanent"),
        ("mail", CLOSE, "sent"), ("rcpt", CLOSE, "sent"), ("data", CLOSE, "sent"), ("mail", "421 enough", "sent"),
        ("mail", "503 5.5.1 nested MAIL", "sent"), ("mail", b"what?\r\n", "sent"), ("data", HANG, "sent"),
    ],
)  # fmt: skip
async def test_commands_that_went_along_fail_like_any_and_a_lost_connection_is_replaced(
    step: str, answer: str | bytes, state: str
) -> None:
    """Nothing of the second was sent by then, so another connection may try when this one has gone."""
    seen = 0

    def second(line: str) -> str | bytes:
        nonlocal seen
        seen += 1
        return answer if seen == 2 else "354 go on" if step == "data" else "250 ok"

    async with ScriptedSmtp({step: second}) as server:
        outcomes = await all_of(Submitter(server.account(), connections=1, timeouts=patience(answer)), 3)
    assert ["sent", state, "sent"] == [o.state for o in outcomes]
    assert 2 + (state == "sent") == len(server.taken)


async def test_a_server_that_throws_away_what_is_behind_a_body(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is left alone after the first time: no mail waits twice."""
    monkeypatch.setattr(transaction, "SOON", 0.1)
    async with Forgetful() as server:
        outcomes = await all_of(Submitter(server.account(), connections=1), 5)
    assert ["sent"] * 5 == [o.state for o in outcomes]
    assert 2 == server.connections
    assert [True, False, False, False, False] == [bool(behind) for behind in server.behind]


async def test_who_is_cancelled_while_its_commands_are_on_their_way() -> None:
    """The server waits for a body that nobody has: the connection ends, and the others are sent."""
    async with ScriptedSmtp({"dot": HANG}) as server:
        pool = Submitter(server.account(), connections=1, timeouts=patience(HANG))
        tasks = [asyncio.create_task(pool.submit(*mail(i))) for i in range(3)]
        async with asyncio.timeout(PATIENCE):
            await server.hung.wait()
        tasks[1].cancel()
        server.script = {}
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        await pool.close()
    assert ["unknown", "sent"] == [o.state for o in outcomes if isinstance(o, Outcome)]
    assert [["n0@test.local"], ["n2@test.local"]] == [to for _, to, _ in server.taken]


async def test_who_is_cancelled_takes_nobody_along() -> None:
    async with ScriptedSmtp({"dot": HANG}) as server:
        pool = Submitter(server.account(), connections=1)
        tasks = [asyncio.create_task(pool.submit(*mail(i))) for i in range(3)]
        async with asyncio.timeout(PATIENCE):
            await server.hung.wait()
        server.script = {}
        tasks[0].cancel()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        await pool.close()
    assert ["sent", "sent"] == [o.state for o in outcomes if isinstance(o, Outcome)]
    assert 3 == len(server.taken)


@pytest.mark.parametrize("hook", [stopped, too_late])
async def test_a_hook_that_stops_the_next_mail_stops_no_other(hook: Any) -> None:
    """The server waits for a body, so the connection is closed; also when the dot may not go any more."""
    async with ScriptedSmtp() as server:
        pool = Submitter(server.account(), connections=1)
        first, second, third = (pool.submit(*mail(i), before_body=hook if i == 1 else None) for i in range(3))
        outcomes = await asyncio.gather(first, second, third)
        await pool.close()
    assert [("sent", "dot"), ("temporary", "hook"), ("sent", "dot")] == [(o.state, o.step) for o in outcomes]
    assert [["n0@test.local"], ["n2@test.local"]] == [to for _, to, _ in server.taken]


async def test_nobody_waits_for_a_slow_server_who_has_another_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """One connection waits long for its answer: the mail behind it goes over the other one, once."""
    monkeypatch.setattr(transaction, "PATIENCE", 0.05)
    answered = asyncio.Event()

    async def finished(pool: Submitter, number: int) -> Outcome:
        outcome = await pool.submit(*mail(number))
        if number:
            answered.set()
        return outcome

    class Slow(ScriptedSmtp):
        async def _say(self, writer: asyncio.StreamWriter, step: str, *more: Any) -> bool:
            if step == "dot" and self.taken[-1][1] == ["n0@test.local"]:
                async with asyncio.timeout(PATIENCE):
                    while len(self.taken) < 4:
                        await answered.wait()
                        answered.clear()
            return await super()._say(writer, step, *more)

    async with Slow() as server:
        pool = Submitter(server.account(), connections=2)
        outcomes = await asyncio.gather(*(finished(pool, i) for i in range(4)))
        await pool.close()
    assert ["sent"] * 4 == [o.state for o in outcomes]
    assert 4 == len(server.taken)


async def test_recipients_of_one_are_not_those_of_the_next() -> None:
    def rcpt(line: str) -> str:
        return "550 5.1.1 no" if "bob" in line else "250 ok"

    async with ScriptedSmtp({"rcpt": rcpt}) as server:
        pool = Submitter(server.account(), connections=1)
        bob = "bob@test.local"
        outcomes = await asyncio.gather(pool.submit(*mail(0)), pool.submit(*mail(1, bob)), pool.submit(*mail(2)))
        await pool.close()
    assert [{}, {bob: (550, "5.1.1 no")}, {}] == [o.refused for o in outcomes]
    assert [["n0@test.local"], ["n1@test.local"], ["n2@test.local"]] == [to for _, to, _ in server.taken]


async def test_many_over_real_tls(postfix: Any) -> None:
    """Postfix, which disconnects who pipelines what must not be."""
    to = postfix.dovecot.new_user("along")
    pool = Submitter(postfix.account(to, smtp_security="tls", smtp_port=postfix.smtps), connections=2)
    envelope = Envelope(mail_from=to, rcpt_to=(to,))
    raw = mail(0)[0]
    outcomes = await asyncio.gather(*(pool.submit(raw + b"x" * size, envelope) for size in [0, 50_000, 3_000] * 7))
    await pool.close()
    assert ["sent"] * 21 == [o.state for o in outcomes]


class Stuck(asyncio.Transport):
    """A kernel that takes only so much, and what became of the rest."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self.room, self.left, self.taken, self.aborted = room, b"", b"", False

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None: ...

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...

    def get_write_buffer_size(self) -> int:
        return len(self.left)

    def is_closing(self) -> bool:
        return self.aborted

    def write(self, data: Any) -> None:
        self.taken, self.left = self.taken + data[: self.room], bytes(data[self.room :])

    def abort(self) -> None:
        self.aborted, self.left = True, b""


@pytest.mark.parametrize(("room", "went"), [(100, True), (10, True), (9, False), (7, False), (0, False)])
async def test_a_dot_that_is_not_taken_at_once_never_goes(room: int, went: bool) -> None:
    """Who waited for the kernel would let it go at a time that nobody checked."""
    transport = Stuck(room)
    session = Session(transport, {}, Timeouts())
    assert went == session.finish(b"hello\r\n.\r\n", b"MAIL FROM:<a@b.c>\r\n")
    assert went != transport.aborted
    if not went:
        assert not transport.taken.endswith(b".\r\n")
        assert 0 == session.at_once


async def test_who_cannot_write_in_one_piece_writes_in_two(monkeypatch: pytest.MonkeyPatch) -> None:
    finish, pieces = Session.finish, list[bytes]()

    def cut(self: Session, last: bytes, along: bytes) -> bool:
        pieces.append(last)
        if len(last) > 3:
            self.at_once = 0
            self.close()
            return False
        return finish(self, last, along)

    monkeypatch.setattr(Session, "finish", cut)
    async with ScriptedSmtp() as server:
        outcomes = await all_of(Submitter(server.account(), connections=1), 2)
    assert [("temporary", "body"), ("sent", "dot")] == [(o.state, o.step) for o in outcomes]
    assert b".\r\n" == pieces[-1]
    assert 1 == len(server.taken)


async def test_after_one_that_did_no_good_they_go_along_again() -> None:
    time = 0.0
    async with Peeking({"mail": first_only("250 ok")}) as server:
        pool = Submitter(server.account(), connections=1, monotonic=lambda: time)
        pool._one_by_one = submitter.SLOW
        await all_of(pool, 3)
        time = submitter.SLOW
        await all_of(pool, 3)
    assert [False, False, False, True, True, False] == [bool(behind) for behind in server.behind]

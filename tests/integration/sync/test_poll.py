"""Polling a real Dovecot: each message once, in order, and nothing on the server changes."""

from __future__ import annotations

import asyncio
import threading
from datetime import UTC, datetime
from typing import Any

import pytest

from agentmail.errors import AuthenticationFailed, CertificateRejected, NotFound, Unreachable
from agentmail.imap import ImapConnection
from agentmail.mailsync import FirstRun
from agentmail.testing import FaultProxy

from .conftest import World, ids, mail


@pytest.mark.parametrize("security", ["tls", "starttls", "plain"])
async def test_mail_comes_in_once_over_every_kind_of_connection(world: World, security: str) -> None:
    sync = world.sync(world.dovecot.account(world.user, security))
    world.deliver(1, 2, 3)
    filed = await sync.poll()
    assert ids(1, 2, 3) == await world.stored()
    assert [True] * 3 == [f.new for f in filed]
    assert [] == await sync.poll()
    world.deliver(4)
    assert 1 == len(await sync.poll())
    assert 4 == await world.events()


async def test_a_mailbox_that_was_empty_at_first_sight_has_no_history(world: World) -> None:
    sync = world.sync(first_run=FirstRun())
    assert [] == await sync.poll()
    world.deliver(1, 2)
    await sync.poll()
    assert 2 == await world.events()


async def test_old_mail_is_history_and_new_unread_mail_is_news(world: World) -> None:
    """At first sight the newest messages are filed without an event; what came just now is meant for us."""
    old = ImapConnection(world.account)
    await old.connect()
    long_ago = "01-Jan-2020 10:00:00 +0000"
    for n in range(1, 8):
        await old._call(lambda n=n: old._wire.append("INBOX", "", f'"{long_ago}"', mail(n)), "appending")  # type: ignore[union-attr, misc]
    await old.close()
    world.deliver(8)
    await world.sync(first_run=FirstRun(history=5)).poll()
    assert ids(4, 5, 6, 7, 8) == await world.stored()
    assert [("<8@example.org>",)] == await world.rows("SELECT message_id FROM message WHERE fresh")
    assert 1 == await world.events()
    world.deliver(9)
    await world.sync(first_run=FirstRun(history=5)).poll()
    assert 2 == await world.events()


async def test_what_came_just_now_is_news_however_much_it_is(world: World) -> None:
    """More unread mail than the history that is filed, all of it minutes old: none is left on the server unseen."""
    world.deliver(*range(1, 8))
    await world.sync(first_run=FirstRun(history=2)).poll()
    assert ids(*range(1, 8)) == await world.stored()
    assert 7 == await world.events()


async def test_history_that_was_left_is_filed_when_asked_later(world: World) -> None:
    """As history: no agent is asked to answer it."""
    connection = ImapConnection(world.account)
    await connection.connect()
    for n in range(1, 8):
        await connection.append("INBOX", mail(n), at=datetime(2026, 1, n, 12, tzinfo=UTC))
    await connection.close()
    await world.sync(first_run=FirstRun(history=2)).poll()
    assert ids(6, 7) == await world.stored()
    assert 1 == await world.events("mailbox.first")
    for reach, numbers in (
        (FirstRun(history=2, reach_back=True), (6, 7)),
        (FirstRun(since=datetime(2026, 1, 5, tzinfo=UTC), reach_back=True), (6, 7, 5)),
        (FirstRun(history=None, reach_back=True), (6, 7, 5, 1, 2, 3, 4)),
    ):
        await world.sync(first_run=reach).poll()
        assert ids(*numbers) == await world.stored()
    world.deliver(8)
    await world.sync().poll()
    assert 1 == await world.events()


async def test_progress_is_told_for_each_batch(world: World) -> None:
    world.deliver(1, 2, 3)
    told: list[tuple[str, int, int]] = []
    await world.sync(progress=lambda *said: told.append(said)).poll()
    assert [("INBOX", 3, 3)] == told


async def test_a_limit_ends_a_poll_and_the_next_one_goes_on(world: World) -> None:
    sync = world.sync()
    world.deliver(*range(1, 8))
    assert [3, 3, 1, 0] == [len(await sync.poll(limit=3)) for _ in range(4)]
    assert ids(*range(1, 8)) == await world.stored()


async def test_s38_reading_never_sets_seen(world: World) -> None:
    world.deliver(1, 2)
    await world.sync().poll()
    connection = ImapConnection(world.account)
    await connection.connect()
    await connection.examine("INBOX")
    flags = await connection.flags(1)
    assert not any("\\Seen" in (f.flags or ()) for f in flags.values())
    await connection.close()


async def test_mail_sent_by_hand_belongs_to_the_thread_and_is_no_news(world: World) -> None:
    world.deliver(1)
    sync = world.sync()
    await sync.poll()
    answer = mail(2).replace(b"From: ana@example.org", b"From: " + world.user.encode()).replace(
        b"To: agent@test.local", b"To: ana@example.org\r\nIn-Reply-To: <1@example.org>")  # fmt: skip
    connection = ImapConnection(world.account)
    await connection.connect()
    await connection.append("Sent", answer, [r"\Seen"])
    await connection.close()
    (filed,) = await sync.poll()
    thread = await world.store.thread(filed.thread)
    assert ids(1, 2) == [m.message_id for m in thread.messages]
    assert [False, True] == [m.outgoing for m in thread.messages]


async def test_one_copy_in_sent_and_it_is_found_again(world: World) -> None:
    sync = world.sync()
    assert not await sync.find_sent("<7@example.org>")
    assert await sync.file_sent(mail(7), "<7@example.org>")
    assert not await sync.file_sent(mail(7), "<7@example.org>")
    assert await sync.find_sent("<7@example.org>")
    assert not await sync.find_sent("<@example.org>")
    assert not await sync.find_sent("<7@example>")
    assert 1 == len(world.dovecot.messages(world.user, "Sent"))


@pytest.mark.parametrize("filed", [True, False])
async def test_one_copy_in_sent_when_the_answer_to_append_is_lost(
    world: World, filed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection ends after APPEND was done, or before it was: either way there is one copy in the end."""
    append, lost = ImapConnection.append, list[ImapConnection]()

    async def loses(self: ImapConnection, *given: Any, **more: Any) -> None:
        if lost:
            return await append(self, *given, **more)
        lost.append(self)
        if filed:
            await append(self, *given, **more)
        self._shut()
        return await self.noop()

    monkeypatch.setattr(ImapConnection, "append", loses)
    sync = world.sync()
    assert filed != await sync.file_sent(mail(7), "<7@example.org>")
    assert lost
    assert 1 == len(world.dovecot.messages(world.user, "Sent"))


async def test_actions_go_to_the_server_only_when_asked(world: World) -> None:
    world.deliver(1, 2)
    sync = world.sync()
    first, second = await sync.poll()
    await sync.mark(first.id, add=["\\Seen", "agentmail-done"])
    await sync.move(second.id, "archive")
    assert 1 == len(world.dovecot.messages(world.user, "Archive"))
    await sync.poll()
    assert [(1, '["\\\\Seen", "agentmail-done"]')] == await world.rows(
        "SELECT uid, flags FROM location WHERE message = 1"
    )
    assert [(2,)] == await world.rows("SELECT uid FROM departed")
    with pytest.raises(NotFound, match="not lie"):
        await sync.move(second.id, "archive")


async def test_s34_a_moved_message_is_the_same_message(world: World) -> None:
    world.deliver(1)
    sync = world.sync(mailboxes=("inbox", "archive"))
    await sync.poll()
    world.dovecot.doveadm("move", "-u", world.user, "Archive", "mailbox", "INBOX", "all")
    assert [False] == [f.new for f in await sync.poll()]
    assert ids(1) == await world.stored()
    assert [("Archive",), ("INBOX",)] == sorted(await world.rows("SELECT mailbox FROM location"))
    assert 1 == await world.events()


async def test_closing_leaves_no_thread_and_takes_no_time(world: World) -> None:
    world.deliver(1)
    sync = world.sync()
    await sync.poll()
    async with asyncio.timeout(5):
        await sync.close()
    named = [t.name for t in threading.enumerate() if t.name.startswith("agentmail-imap")]
    assert [] == named
    with pytest.raises(Unreachable):
        await sync.poll()


async def test_a_poll_that_hangs_is_ended_by_close(world: World) -> None:
    world.deliver(1)
    async with FaultProxy("127.0.0.1", world.account.imap_port) as proxy:
        sync = world.sync(proxy.in_front_of(world.account, "imap"))
        await sync.poll()
        proxy.stall()
        async with asyncio.timeout(8):
            polling = asyncio.ensure_future(sync.poll())
            await asyncio.sleep(0.05)
            await sync.close()
            with pytest.raises(Unreachable):
                await polling


async def test_a_wrong_password_is_tried_three_times_and_not_again_until_it_changes(world: World, clock) -> None:  # type: ignore[no-untyped-def]
    wrong = world.account.model_copy(update={"password": type(world.account.password)("wrong")})
    sync = world.sync(wrong, clock=clock)
    for pause in (60, 300, 900):
        with pytest.raises(AuthenticationFailed):
            await sync.poll()
        with pytest.raises(AuthenticationFailed, match="not tried again"):
            await sync.poll()
        await clock.advance(pause + 1)
    with pytest.raises(AuthenticationFailed, match="change the password"):
        await sync.poll()
    assert "needs_auth" == (await sync.health()).state
    world.deliver(1)
    right = world.sync(clock=clock)
    assert 1 == len(await right.poll())
    assert "ok" == (await right.health()).state


async def test_what_is_wrong_with_a_server_is_said_in_words(world: World) -> None:
    untrusted = world.dovecot.account(world.user, "tls", ca_file=None)
    with pytest.raises(CertificateRejected, match="ca_file"):
        await world.sync(untrusted).poll()
    with pytest.raises(Unreachable, match="refused"):
        await world.sync(world.account.model_copy(update={"imap_port": 9})).poll()
    with pytest.raises(Unreachable, match="no such host"):
        await world.sync(world.dovecot.account(world.user, "tls", imap_host="no-such-host.invalid")).poll()

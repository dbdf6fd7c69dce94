"""What holds for an account as a whole: connections, refused and ended logins, pauses, a server that serves nothing."""

from __future__ import annotations

import asyncio
import base64
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from sqlalchemy import text

from agentmail import oauth
from agentmail.errors import AuthenticationFailed, MailboxError, Throttled, Unreachable
from agentmail.mailsync import MailSync
from agentmail.mailsync.slots import is_dead, new_holder
from agentmail.oauth import Endpoints, Tokens, keep_login, saved_token
from agentmail.testing.clock import ManualClock
from agentmail.tokenfile import TokenFile

from .conftest import World, ids, mail
from .liar import CLOSE, Liar


def reading(world: World, liar: Liar, **given: object) -> MailSync:
    return world.sync(liar.account(**given.pop("account", {})), mailboxes=("inbox",), **given)  # type: ignore[arg-type]


async def test_any_number_of_readers_have_three_connections_together(world: World) -> None:
    """All get their turn; two connections stay open, the third passes from hand to hand."""
    async with Liar({1: mail(1)}) as liar:
        at_once, most = 0, 0
        serve = liar._serve

        async def counted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal at_once, most
            at_once += 1
            most = max(most, at_once)
            try:
                await serve(reader, writer)
            finally:
                at_once -= 1

        liar._server.close()
        liar._serve = counted  # type: ignore[method-assign]
        async with liar:
            readers = [reading(world, liar, account={"timeout": 120.0}) for _ in range(8)]
            readers[0].watches = True
            for _ in range(3):
                async with asyncio.TaskGroup() as group:
                    for one in readers:
                        group.create_task(one.poll())
            assert most <= 3
            assert [(1,), (2,)] == await world.rows("SELECT number FROM slot WHERE holder <> '' ORDER BY number")
            for one in readers:
                await one.close()
            assert [] == await world.rows("SELECT number FROM slot WHERE holder <> ''")
    assert ids(1) == await world.stored()


async def test_when_all_connections_are_in_use_that_is_said(world: World) -> None:
    async with Liar({1: mail(1)}) as liar:
        watchers = [reading(world, liar) for _ in range(3)]
        for one in watchers:
            one.watches = True
            await one.poll()
        with pytest.raises(Throttled, match="all 3 connections"):
            await reading(world, liar, account={"timeout": 0.2}).poll()
        await watchers[1].close()
        await reading(world, liar).poll()
        assert "ok" == (await watchers[0].health()).state


async def test_the_connections_of_a_dead_process_are_free_at_once(world: World) -> None:
    code = "from agentmail.mailsync.slots import new_holder; print(new_holder(), flush=True)"
    dead = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    assert is_dead(dead)
    assert not is_dead(new_holder())
    assert not is_dead("another-machine/pid:[1] 1 1 abc")
    await world.store.open()
    account = world.account.key
    async with world.store.db.write() as tx:
        for n in (1, 2, 3):
            await tx.execute(text("INSERT INTO slot VALUES (:a, :n, :h, 1e12)"), {"a": account, "n": n, "h": dead})
    world.deliver(1)
    assert 1 == len(await world.sync().poll())


async def test_s21_throttling_in_the_middle_of_a_session_is_a_pause_for_all(world: World, clock: ManualClock) -> None:
    async with Liar({1: mail(1)}) as liar:
        first, second = reading(world, liar, clock=clock), reading(world, liar, clock=clock)
        await first.poll()
        liar.lies["SEARCH"] = lambda s, tag, rest: (
            f"{tag} BAD Request is throttled. Suggested Backoff Time: 92415 milliseconds\r\n".encode())  # fmt: skip
        liar.add(2, mail(2))
        with pytest.raises(Throttled):
            await first.poll()
        del liar.lies["SEARCH"]
        before = liar.connections
        for one in (first, second):
            with pytest.raises(Throttled, match="asked for a pause"):
                await one.poll()
        assert before == liar.connections
        assert "throttled" == (await second.health()).state
        await clock.advance(93)
        assert 1 == len(await second.poll())
        assert "ok" == (await first.health()).state


@pytest.mark.parametrize("word", ["LIST", "EXAMINE", "SEARCH"])
async def test_s21_a_pause_counts_wherever_it_is_asked_for(world: World, clock: ManualClock, word: str) -> None:
    """And it grows, and says why once."""
    async with Liar({1: mail(1)}) as liar:
        sync = reading(world, liar, clock=clock)
        liar.lies[word] = lambda s, tag, rest: f"{tag} NO [THROTTLED] slow down\r\n".encode()
        for pause in (60, 120, 240):
            with pytest.raises(Throttled, match=r"while \w+ing .*slow down$|mailboxes: .*slow down$|searching: "):
                await sync.poll()
            for _ in range(3):
                with pytest.raises(Throttled, match="asked for a pause"):
                    await sync.poll()
            health = await sync.health()
            assert "throttled" == health.state
            assert 1 == health.error.count("slow down") == health.error.count("pause")
            assert health.next_try is not None
            assert pause == (health.next_try - clock()).total_seconds()
            await clock.advance(pause + 1)
        del liar.lies[word]
        assert 1 == len(await sync.poll())
        assert ("ok", "") == ((await sync.health()).state, (await sync.health()).error)


@pytest.mark.parametrize(
    ("word", "work"),
    [
        ("FETCH", lambda sync: sync.poll_news()),
        ("LIST", lambda sync: sync.file_sent(mail(7), "<7@example.org>")),
        ("SEARCH", lambda sync: sync.find_sent("<7@example.org>")),
        ("SELECT", lambda sync: sync.mark("m1", add=["\\Seen"])),
    ],
    ids=["news", "filing", "looking", "marking"],
)
async def test_s21_throttling_is_a_pause_for_all_whatever_was_asked(
    world: World, clock: ManualClock, word: str, work: Callable[[MailSync], Awaitable[object]]
) -> None:
    async with Liar({1: mail(1)}) as liar:
        sync, other = reading(world, liar, clock=clock), reading(world, liar, clock=clock)
        await sync.poll()
        await (await sync.connection()).examine("INBOX")
        sync._roles = None
        liar.add(2, mail(2))
        liar.lies[word] = lambda s, tag, rest: f"{tag} NO [THROTTLED] slow down\r\n".encode()
        with pytest.raises(Throttled, match="slow down"):
            await work(sync)
        with pytest.raises(Throttled, match="asked for a pause, 60 s are left"):
            await other.poll()
        assert "throttled" == (await other.health()).state


@pytest.mark.parametrize("word", ["LIST", "EXAMINE", "SEARCH"])
@pytest.mark.parametrize("answer", ["NO why", "cut"])
async def test_a_mailbox_that_cannot_be_read_is_seen_in_the_health(
    world: World, clock: ManualClock, word: str, answer: str
) -> None:
    """Logging in works, so the account is not unreachable; but nothing comes."""
    async with Liar({1: mail(1)}) as liar:
        sync = reading(world, liar, clock=clock)
        await sync.poll()
        liar.lies[word] = lambda s, tag, rest: CLOSE if answer == "cut" else f"{tag} {answer}\r\n".encode()
        sync._roles = None
        with pytest.raises((Unreachable, MailboxError)):
            await sync.poll()
        assert "while" in (await sync.health()).error
        del liar.lies[word]
        await sync.poll(thorough=False)
        assert "" == (await sync.health()).error


class Ending:
    """An access token that ends, and a way to get the next one."""

    def __init__(self) -> None:
        self.number, self.renewed = 1, 0

    def __call__(self) -> str:
        return f"token-{self.number}"

    async def renew(self) -> None:
        self.renewed += 1
        self.number += 1


async def test_s23_a_token_that_ends_in_the_middle_is_renewed_once(world: World) -> None:
    async with Liar({1: mail(1)}, capabilities="IMAP4rev1 SASL-IR AUTH=XOAUTH2") as liar:
        good = {"token-1"}

        asked = ""

        def asks(server: Liar, tag: str, rest: str) -> bytes:
            nonlocal asked
            asked = tag
            return b"+ \r\n"

        def hears(server: Liar, said: str, rest: str) -> bytes:
            if any(f"Bearer {token}\x01" in base64.b64decode(said).decode() for token in good):
                return f"{asked} OK in\r\n".encode()
            return f"{asked} NO [AUTHENTICATIONFAILED] token expired\r\n".encode()

        liar.lies["AUTHENTICATE"], liar.lies[""] = asks, hears
        token = Ending()
        sync = reading(world, liar, account={"password": None, "token": token})
        await sync.poll()
        good = {"token-2"}
        liar.lies["EXAMINE"] = lambda s, tag, rest: b"* BYE Session expired\r\n" + CLOSE
        liar.add(2, mail(2))
        with pytest.raises(Unreachable):
            await sync.poll()
        del liar.lies["EXAMINE"]
        await sync.poll()
        assert ids(1, 2) == await world.stored()
        assert 1 == token.renewed
        good = set()
        liar.lies["EXAMINE"] = lambda s, tag, rest: b"* BYE Session expired\r\n" + CLOSE
        with pytest.raises(AuthenticationFailed):
            await sync.poll()
        assert 2 == token.renewed
        assert "refused" == (await sync.health()).state


async def test_s22_a_running_process_notices_a_new_login(
    world: World, clock: ManualClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After `needs_auth` nobody asks the server; `agentmail login`, by whichever process, ends that at once."""
    provider = Endpoints("http://127.0.0.1:9/token")
    given = {"one": "refused", "two": "good"}

    async def post(url: str, form: dict[str, str]) -> Tokens:
        return Tokens(access_token=given[form["refresh_token"]], expires_in=3600)

    monkeypatch.setattr(oauth, "post", post)
    file = TokenFile(tmp_path / "tokens.json", use_keyring=False)
    keep_login(file, world.account.key, provider, "id", "", Tokens(refresh_token="one"))
    async with Liar({1: mail(1)}, capabilities="IMAP4rev1 SASL-IR AUTH=XOAUTH2") as liar:
        asked = ""

        def asks(server: Liar, tag: str, rest: str) -> bytes:
            nonlocal asked
            asked = tag
            return b"+ \r\n"

        def hears(server: Liar, said: str, rest: str) -> bytes:
            good = b"Bearer good\x01" in base64.b64decode(said)
            return f"{asked} {'OK in' if good else 'NO [AUTHENTICATIONFAILED] no'}\r\n".encode()

        liar.lies["AUTHENTICATE"], liar.lies[""] = asks, hears
        login = {"password": None, "token": saved_token(file, world.account.key), "address": world.account.address}
        sync = reading(world, liar, account=login, clock=clock)
        for pause in (61, 301, 1):
            with pytest.raises(AuthenticationFailed):
                await sync.poll()
            await clock.advance(pause)
        assert "needs_auth" == (await sync.health()).state
        before = liar.connections
        for _ in range(10):
            with pytest.raises(AuthenticationFailed, match="log in anew"):
                await sync.poll()
        assert before == liar.connections
        keep_login(file, world.account.key, provider, "id", "", Tokens(refresh_token="two"))
        assert 1 == len(await sync.poll())
        assert "ok" == (await sync.health()).state


async def test_s22_another_token_is_tried_at_once(world: World, clock: ManualClock) -> None:
    """A callable that gave an old token gives a new one: nobody has to wait for the end of the pause."""
    async with Liar({1: mail(1)}, capabilities="IMAP4rev1 SASL-IR AUTH=XOAUTH2") as liar:
        asked, offered, gives = "", list[bytes](), ["old"]

        def asks(server: Liar, tag: str, rest: str) -> bytes:
            nonlocal asked
            asked = tag
            return b"+ \r\n"

        def hears(server: Liar, said: str, rest: str) -> bytes:
            offered.append(base64.b64decode(said).split(b"Bearer ")[1].strip(b"\x01"))
            good = offered[-1] == b"new"
            return f"{asked} {'OK in' if good else 'NO [AUTHENTICATIONFAILED] no'}\r\n".encode()

        def token() -> str:
            if gives[0] == "nothing":
                raise OSError("the vault is shut")
            return gives[0]

        liar.lies["AUTHENTICATE"], liar.lies[""] = asks, hears
        sync = reading(world, liar, account={"password": None, "token": token}, clock=clock)
        for gives[0] in ("old", "old", "nothing", "old"):
            with pytest.raises(AuthenticationFailed):
                await sync.poll()
        assert [b"old"] == offered
        assert "refused" == (await sync.health()).state
        gives[0] = "new"
        assert 1 == len(await sync.poll())
        assert [b"old", b"new"] == offered
        assert "ok" == (await sync.health()).state


@pytest.mark.parametrize("refused_before", [False, True])
async def test_closing_does_not_wait_for_a_token_that_does_not_come(world: World, refused_before: bool) -> None:
    async with Liar({1: mail(1)}, capabilities="IMAP4rev1 SASL-IR AUTH=XOAUTH2") as liar:
        asked, hangs = asyncio.Event(), not refused_before
        liar.lies["AUTHENTICATE"] = lambda s, tag, rest: f"{tag} NO [AUTHENTICATIONFAILED] no\r\n".encode()

        async def token() -> str:
            if hangs:
                asked.set()
                await asyncio.Event().wait()
            return "old"

        sync = reading(world, liar, account={"password": None, "token": token})
        if refused_before:
            with pytest.raises(AuthenticationFailed):
                await sync.poll()
        hangs = True
        polling = asyncio.ensure_future(sync.poll())
        async with asyncio.timeout(5.0):
            await asked.wait()
            await sync.close()
            with pytest.raises((Unreachable, AuthenticationFailed)):
                await polling


async def test_s26_exchange_lets_us_in_and_serves_nothing(world: World, clock: ManualClock) -> None:
    """For three hours that is taken for passing trouble, a try each five minutes; then somebody has to look."""
    async with Liar({1: mail(1)}) as liar:
        liar.lies["EXAMINE"] = lambda s, tag, rest: f"{tag} BAD User is authenticated but not connected.\r\n".encode()
        sync = reading(world, liar, clock=clock)
        for _ in range(36):
            with pytest.raises(Unreachable, match="licence"):
                await sync.poll()
            before = liar.connections
            with pytest.raises(Unreachable, match="not tried again for"):
                await sync.poll()
            assert before == liar.connections
            assert "unserved" == (await sync.health()).state
            await clock.advance(301)
        with pytest.raises(Unreachable):
            await sync.poll()
        health = await sync.health()
        assert "needs_auth" == health.state
        assert "licence" in health.error


async def test_s26_it_passes(world: World, clock: ManualClock) -> None:
    async with Liar({1: mail(1)}) as liar:
        liar.lies["EXAMINE"] = lambda s, tag, rest: b"* BYE Connection is closed. 14\r\n" + CLOSE
        sync = reading(world, liar, clock=clock)
        with pytest.raises(Unreachable):
            await sync.poll()
        liar.lies["EXAMINE"] = lambda s, tag, rest: f"{tag} BAD User is authenticated but not connected.\r\n".encode()
        with pytest.raises(Unreachable, match="licence"):
            await sync.poll()
        del liar.lies["EXAMINE"]
        await clock.advance(301)
        assert 1 == len(await sync.poll())
        assert "ok" == (await sync.health()).state

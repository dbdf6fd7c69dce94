"""The ways in which IMAP servers and networks fail, each with what must happen. S1…S44 are numbered as in
docs/explanation/receiving.md."""

from __future__ import annotations

import asyncio
import resource

import pytest

from agentmail.errors import (
    AgentMailError,
    AuthenticationFailed,
    CertificateRejected,
    MailboxError,
    ServerError,
    Throttled,
    Unreachable,
)
from agentmail.imap import ImapConnection
from agentmail.mailsync import FirstRun, MailSync
from agentmail.testing.clock import ManualClock

from .conftest import World, ids, mail
from .liar import CLOSE, Liar


def three() -> dict[int, bytes]:
    return {n: mail(n) for n in (1, 2, 3)}


def reading(world: World, liar: Liar, **given: object) -> MailSync:
    return world.sync(liar.account(), mailboxes=("inbox",), **given)


async def test_s1_a_new_uidvalidity_brings_no_news(world: World) -> None:
    world.deliver(1, 2, 3, 4, 5)
    sync = world.sync()
    await sync.poll()
    world.dovecot.doveadm("mailbox", "update", "-u", world.user, "--uid-validity", "77", "INBOX")
    await sync.poll()
    assert ids(1, 2, 3, 4, 5) == await world.stored()
    assert 5 == await world.events()
    assert 1 == await world.events("mailbox.reset")
    assert [(5,)] == await world.rows("SELECT count(*) FROM location WHERE uidvalidity = 77")
    world.deliver(6)
    await sync.poll()
    assert 6 == await world.events()


async def test_s1_the_same_messages_twice_are_told_apart_by_content(world: World) -> None:
    async with Liar({1: mail(1, body="aaaa"), 2: mail(1, body="bbbb")}) as liar:
        sync = reading(world, liar)
        await sync.poll()
        liar.uidvalidity = "[UIDVALIDITY 3]"
        await sync.poll()
        assert 2 == len(await world.stored())
        assert [(2,)] == await world.rows("SELECT count(*) FROM location WHERE uidvalidity = 3")


async def test_s1_an_old_uidvalidity_that_comes_back_means_nothing_of_what_it_meant(
    world: World, clock: ManualClock
) -> None:
    """A server that makes them from the clock, or was restored: the same pair of numbers is another message now."""
    async with Liar(three()) as liar:
        sync = reading(world, liar, clock=clock)
        await sync.poll()
        liar.uidvalidity = "[UIDVALIDITY 8]"
        del liar.messages[1]
        await sync.poll()
        liar.uidvalidity = "[UIDVALIDITY 7]"
        liar.messages = {1: mail(2), 2: mail(3), 3: mail(4)}
        await sync.poll()
        assert ids(1, 2, 3, 4) == await world.stored()
        assert 4 == await world.events()
        places = "SELECT uid, message FROM location WHERE uidvalidity = 7 ORDER BY uid"
        assert [(1, 2), (2, 3), (3, 4)] == await world.rows(places)
        assert [] == await world.rows("SELECT uid FROM departed WHERE uidvalidity = 7")


async def test_s1_a_reset_before_the_first_pass_was_complete_makes_no_news_of_old_mail(
    world: World, clock: ManualClock
) -> None:
    async with Liar(three()) as liar:
        await clock.advance(86_400)
        sync = reading(world, liar, clock=clock, first_run=FirstRun())
        liar.lies["FETCH"] = lambda s, tag, rest: CLOSE
        with pytest.raises(Unreachable):
            await sync.poll()
        del liar.lies["FETCH"]
        liar.uidvalidity = "[UIDVALIDITY 8]"
        await sync.poll()
        assert ids(1, 2, 3) == await world.stored()
        assert 0 == await world.events()


async def test_s1_a_reset_that_changes_the_order_hides_no_new_mail(world: World, clock: ManualClock) -> None:
    """Old mail that was left on the server has a higher uid now than what came since."""

    class Dated(Liar):
        def fetched(self, uid: int, rest: str) -> bytes:
            day = b"07-Jan" if b"number 4" in self.messages[uid] else b"05-Jan"
            return super().fetched(uid, rest).replace(b"05-Jan", day)

    async with Dated(three()) as liar:
        await clock.advance(86_400)
        sync = reading(world, liar, clock=clock, first_run=FirstRun(history=1))
        await sync.poll()
        assert ids(3) == await world.stored()
        await clock.advance(86_400 + 3_600)
        liar.uidvalidity = "[UIDVALIDITY 8]"
        liar.messages = {1: mail(1), 2: mail(4), 3: mail(2), 4: mail(3)}
        liar.next = 5
        await sync.poll()
        assert "<4@example.org>" in await world.stored()
        assert 1 == await world.events()


async def test_s1_a_mailbox_that_is_reset_again_and_again_is_left_alone(world: World) -> None:
    async with Liar(three()) as liar:
        sync = reading(world, liar)
        await sync.poll()
        for n in range(6):
            liar.uidvalidity = f"[UIDVALIDITY {100 - n}]"
            await sync.poll()
        before = len(liar.heard)
        with pytest.raises(MailboxError, match="left alone"):
            await sync.poll()
        assert not any("EXAMINE" in c for c in liar.heard[before:])
    assert 3 == await world.events()


@pytest.mark.parametrize("said", ["", "[UIDVALIDITY 0]"])
async def test_s2_without_uidvalidity_only_content_counts(world: World, said: str) -> None:
    async with Liar(three()) as liar:
        liar.uidvalidity = said
        sync = reading(world, liar)
        await sync.poll()
        await sync.poll()
        liar.add(4, mail(4))
        await sync.poll()
    assert ids(1, 2, 3, 4) == await world.stored()
    assert 4 == await world.events()
    assert [] == await world.rows("SELECT uid FROM location")


async def test_s3_a_gap_in_the_uids_costs_nothing(world: World) -> None:
    world.deliver(1)
    sync = world.sync()
    await sync.poll()
    world.dovecot.doveadm("mailbox", "update", "-u", world.user, "--min-next-uid", "4000000000", "INBOX")
    world.deliver(2)
    await sync.poll()
    await sync.poll()
    assert ids(1, 2) == await world.stored()


async def test_s4_and_s6_without_uidnext_the_last_message_is_not_new_each_time(world: World) -> None:
    async with Liar(three()) as liar:
        liar.uidnext = False
        sync = reading(world, liar)
        await sync.poll()
        assert [] == await sync.poll()
        liar.add(4, mail(4))
        assert 1 == len(await sync.poll())


async def test_s4_without_uidnext_the_last_message_may_leave_too(world: World) -> None:
    async with Liar(three()) as liar:
        liar.uidnext = False
        sync = reading(world, liar)
        await sync.poll()
        for uid, left in ((3, [(3,)]), (2, [(2,), (3,)]), (1, [(1,), (2,), (3,)])):
            del liar.messages[uid]
            await sync.poll()
            assert left == await world.rows("SELECT uid FROM departed ORDER BY uid")


async def test_s5_uidnext_goes_back(world: World) -> None:
    async with Liar(three()) as liar:
        sync = reading(world, liar)
        await sync.poll()
        liar.messages = {1: mail(1), 2: mail(9)}
        liar.next = 3
        liar.messages[2] = mail(9)
        await sync.poll()
        liar.add(3, mail(10))
        await sync.poll()
    assert "<10@example.org>" in await world.stored()


async def test_s7_what_arrives_during_a_pass_comes_with_the_next(world: World) -> None:
    async with Liar(three()) as liar:

        def arrives(server: Liar, tag: str, rest: str) -> bytes | None:
            server.add(4, mail(4))
            return None

        liar.lies["FETCH"] = arrives
        sync = reading(world, liar)
        assert 3 == len(await sync.poll())
        assert 1 == len(await sync.poll())


async def test_s8_one_comes_while_another_goes(world: World) -> None:
    async with Liar(three()) as liar:
        sync = reading(world, liar)
        await sync.poll()
        del liar.messages[2]
        liar.add(4, mail(4))
        await sync.poll(thorough=False)
        assert ids(1, 2, 3, 4) == await world.stored()
        assert [(2,)] == await world.rows("SELECT uid FROM departed")


async def test_s9_a_message_that_is_out_of_sight_for_once_is_not_lost(world: World) -> None:
    async with Liar({n: mail(n) for n in range(1, 10)}) as liar:
        liar.lies["SEARCH"] = lambda s, tag, rest: f"* SEARCH 1 2 3 4 5 6 8 9\r\n{tag} OK\r\n".encode()
        sync = reading(world, liar)
        assert 8 == len(await sync.poll())
        del liar.lies["SEARCH"]
        assert 1 == len(await sync.poll())
        assert 9 == await world.events()


@pytest.mark.parametrize("answer", ["* SEARCH 3 1\r\n* SEARCH 2\r\n", "* SEARCH 3 3 2 1\r\n* SEARCH\r\n"])
async def test_s10_search_answers_in_any_shape(world: World, answer: str) -> None:
    async with Liar(three()) as liar:
        liar.lies["SEARCH"] = lambda s, tag, rest: f"{answer}{tag} OK done\r\n".encode()
        await reading(world, liar).poll()
    assert ids(1, 2, 3) == await world.stored()


async def test_s10_an_answer_without_a_search_line_is_asked_again(world: World) -> None:
    async with Liar(three()) as liar:
        liar.lies["SEARCH"] = lambda s, tag, rest: f"{tag} OK done\r\n".encode() if "UID" in rest else None
        await reading(world, liar).poll()
    assert ids(1, 2, 3) == await world.stored()


async def test_s11_expunged_between_search_and_fetch(world: World) -> None:
    async with Liar(three()) as liar:

        def gone(server: Liar, tag: str, rest: str) -> bytes | None:
            server.messages.pop(2, None)
            return None

        liar.lies["FETCH"] = gone
        await reading(world, liar).poll()
        assert ids(1, 3) == await world.stored()
        assert 0 == len(await world.rows("SELECT uid FROM skipped"))


async def test_s12_part_of_an_answer_then_no(world: World) -> None:
    async with Liar(three()) as liar:

        def partly(server: Liar, tag: str, rest: str) -> bytes | None:
            if "BODY" in rest and "," in rest.split(maxsplit=1)[0] + ("," if ":" in rest.split(maxsplit=1)[0] else ""):
                return server.fetched(1, rest) + f"{tag} NO [EXPUNGEISSUED] some are gone\r\n".encode()
            return None

        liar.lies["FETCH"] = partly
        await reading(world, liar).poll()
    assert sorted(ids(1, 2, 3)) == sorted(await world.stored())


async def test_s13_what_nobody_asked_for_is_not_stored(world: World) -> None:
    async with Liar(three()) as liar:

        def chatter(server: Liar, tag: str, rest: str) -> bytes | None:
            noise = b"* 1 FETCH (FLAGS (\\Seen))\r\n* 2 FETCH (UID 99 FLAGS () BODY[] {4}\r\nevil)\r\n"
            noise += b"* 3 FETCH (FLAGS () RFC822.SIZE 4 BODY[] {4}\r\nevil)\r\n"
            return noise + server.honest("FETCH", tag, rest)

        liar.lies["FETCH"] = chatter
        await reading(world, liar).poll()
    assert ids(1, 2, 3) == await world.stored()


async def test_a_message_that_kills_the_connection_is_isolated(world: World) -> None:
    """Dovecot does this for ever with a truncated Maildir file."""
    async with Liar({n: mail(n) for n in range(1, 41)}) as liar:

        def dies(server: Liar, tag: str, rest: str) -> bytes | None:
            poison = "BODY" in rest and 17 in server.matching("UID " + rest)
            return b"* 17 FETCH (UID 17 BODY[] {100}\r\nhalf" + CLOSE if poison else None

        liar.lies["FETCH"] = dies
        sync = reading(world, liar)
        await sync.poll()
        assert ids(*(n for n in range(1, 41) if n != 17)) == await world.stored()
        assert 1 == (await sync.health()).skipped
        opened = liar.connections
        await sync.poll()
        assert opened == liar.connections, "it is not asked for again at every poll"
    assert 1 == await world.events("message.skipped")


@pytest.mark.parametrize("literal", ["{2199023255552}", "{99999999999999999999999}"])
async def test_s30_a_literal_that_lies_about_its_size(world: World, literal: str) -> None:
    async with Liar(three()) as liar:

        def lies(server: Liar, tag: str, rest: str) -> bytes | None:
            if "BODY" in rest and 2 in server.matching("UID " + rest):
                return f"* 2 FETCH (UID 2 RFC822.SIZE 9 BODY[] {literal}\r\nshort)\r\n{tag} OK\r\n".encode()
            return None

        liar.lies["FETCH"] = lies
        await reading(world, liar).poll()
    assert ids(1, 3) == await world.stored()


@pytest.mark.parametrize("wrong", [-3, -2, 1])
async def test_s30_a_literal_of_another_length_is_stored_by_nobody(world: World, wrong: int) -> None:
    """A message that is short of its last bytes, or has a part of the protocol in it, is worse than one that is missed
    and said to be."""
    async with Liar({1: mail(1), 2: mail(2).rstrip(), 3: mail(3)}) as liar:

        def lies(server: Liar, tag: str, rest: str) -> bytes | None:
            if "BODY" not in rest:
                return None
            size = len(server.messages[2])
            return server.honest("FETCH", tag, rest).replace(b"{%d}" % size, b"{%d}" % (size + wrong))

        liar.lies["FETCH"] = lies
        sync = reading(world, liar)
        await sync.poll()
        assert 1 == (await sync.health()).skipped
        del liar.lies["FETCH"]
        await sync.poll()
    assert ids(1, 3) == await world.stored()


async def test_s31_a_wrong_size_is_no_reason_to_fetch_for_ever(world: World) -> None:
    async with Liar(three()) as liar:
        honest = liar.fetched
        liar.fetched = lambda uid, rest: honest(uid, rest).replace(b"RFC822.SIZE ", b"RFC822.SIZE 1")  # type: ignore[method-assign]
        sync = reading(world, liar)
        await sync.poll()
        assert [] == await sync.poll()
    assert ids(1, 2, 3) == await world.stored()


@pytest.mark.parametrize("nothing", ["NIL", '""', "{0}\r\n"])
async def test_s32_a_body_that_is_not_there_is_filed_once_in_the_end(world: World, nothing: str) -> None:
    async with Liar(three()) as liar:

        def empty(server: Liar, tag: str, rest: str) -> bytes | None:
            if "BODY" not in rest:
                return None
            said = b"".join(
                f"* 2 FETCH (UID 2 RFC822.SIZE 90 FLAGS () BODY[] {nothing})\r\n".encode()
                if uid == 2 else server.fetched(uid, rest) for uid in server.matching("UID " + rest)
            )  # fmt: skip
            return said + f"{tag} OK\r\n".encode()

        liar.lies["FETCH"] = empty
        sync = reading(world, liar)
        for _ in range(4):
            await sync.poll()
    assert 3 == len(await world.stored())
    assert 3 == await world.events()


async def test_s33_a_huge_message_comes_in_pieces_and_goes_on_after_a_cut(world: World) -> None:
    big = mail(2, body="x" * 76 + "\r\n" + "0123456789" * 550_000)
    async with Liar({1: mail(1), 2: big}) as liar:
        cut: list[str] = []

        def once(server: Liar, tag: str, rest: str) -> bytes | None:
            if "<2097152." in rest and not cut:
                cut.append(rest)
                return b"* 2 FETCH (UID 2 BODY[]<2097152> {1048576}\r\nab" + CLOSE
            return None

        liar.lies["FETCH"] = once
        await reading(world, liar).poll()
        assert cut
        assert big == await world.store.raw("m2")
        assert 2 == liar.connections


@pytest.mark.parametrize("lie", ["short", "nil"])
async def test_s33_a_part_that_is_shorter_than_asked_for_is_not_the_end(world: World, lie: str) -> None:
    big = mail(2, body="x" * 76 + "\r\n" + "0123456789" * 550_000)
    async with Liar({1: mail(1), 2: big}) as liar:
        lied: list[str] = []

        def shorter(server: Liar, tag: str, rest: str) -> bytes | None:
            if "<1048576." not in rest or lied:
                return None
            lied.append(rest)
            if lie == "nil":
                return f"* 2 FETCH (UID 2 BODY[]<1048576> NIL)\r\n{tag} OK\r\n".encode()
            return server.fetched(2, rest.replace(".1048576>", ".5000>")) + f"{tag} OK\r\n".encode()

        liar.lies["FETCH"] = shorter
        await reading(world, liar).poll()
        assert lied
        assert big == await world.store.raw("m2")


async def test_s33_a_huge_message_that_comes_in_crumbs_keeps_nobody_waiting(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agentmail.mailsync.fetching.PIECES", 50)
    big = mail(2, body="0123456789" * 250_000)
    async with Liar({1: mail(1), 2: big, 3: mail(3)}) as liar:
        liar.lies["FETCH"] = lambda s, tag, rest: (
            s.fetched(2, rest.replace(".1048576>", ".25000>")) + f"{tag} OK\r\n".encode()
            if ".1048576>" in rest else None)  # fmt: skip
        sync = reading(world, liar)
        await sync.poll()
        assert [] == await sync.poll()
        assert 50 == sum(".1048576>" in command for command in liar.heard)
        assert 1 == (await sync.health()).skipped
    assert ids(1, 3) == await world.stored()


async def test_s33_a_huge_message_that_is_smaller_than_it_said_ends(world: World) -> None:
    async with Liar(three()) as liar:
        liar.lies["FETCH"] = lambda s, tag, rest: (
            None if "BODY" in rest
            else s.honest("FETCH", tag, rest).replace(b"SIZE %d" % len(mail(2)), b"SIZE 5000000"))  # fmt: skip
        sync = reading(world, liar)
        await sync.poll()
        assert [] == await sync.poll()
    assert ids(1, 2, 3) == await world.stored()


async def test_s32_a_huge_message_without_a_body_is_asked_for_again(world: World) -> None:
    big = mail(2, body="0123456789" * 250_000)
    async with Liar({1: mail(1), 2: big}) as liar:
        nothing = "* 2 FETCH (UID 2 BODY[]<0> NIL)\r\n"
        liar.lies["FETCH"] = lambda s, tag, rest: (
            f"{nothing}{tag} OK\r\n".encode() if "BODY.PEEK[]<" in rest else None)  # fmt: skip
        sync = reading(world, liar)
        await sync.poll()
        assert ids(1) == await world.stored()
        del liar.lies["FETCH"]
        await sync.poll()
        assert big == await world.store.raw("m2")


async def test_s20_goodbye_at_any_moment_is_no_refused_login(world: World) -> None:
    async with Liar(three()) as liar:
        liar.lies["LOGIN"] = lambda s, tag, rest: b"* BYE shutting down\r\n" + CLOSE
        with pytest.raises(Unreachable):
            await reading(world, liar).poll()
        liar.lies["LOGIN"] = lambda s, tag, rest: CLOSE
        with pytest.raises(Unreachable):
            await reading(world, liar).poll()
        liar.lies.clear()
        liar.greeting = b"* BYE too busy\r\n"
        with pytest.raises(Unreachable):
            await reading(world, liar).poll()
        assert "unreachable" == (await world.syncs[-1].health()).state


@pytest.mark.parametrize(
    ("said", "state", "pause"),
    [("NO [LIMIT] Maximum number of connections", "throttled", 60), ("NO [THROTTLED] slow down", "throttled", 60),
     ("BAD Request is throttled. Suggested Backoff Time: 92415 milliseconds", "throttled", 92),
     ("NO [UNAVAILABLE] later", "throttled", 60), ("NO [SERVERBUG] later", "unreachable", 0),
     ("NO [ALERT] Too many simultaneous connections. (Failure)", "throttled", 60),
     ("NO [ALERT] Application-specific password required: https://x.example/ (Failure)", "refused", 60),
     ("NO [AUTHENTICATIONFAILED] no", "refused", 60),
     ("NO wrong password", "refused", 60)],
)  # fmt: skip
async def test_s21_and_s22_what_a_refused_login_means(world: World, said: str, state: str, pause: int, clock) -> None:  # type: ignore[no-untyped-def]
    async with Liar(three()) as liar:
        liar.lies["LOGIN"] = lambda s, tag, rest: f"{tag} {said}\r\n".encode()
        sync = reading(world, liar, clock=clock)
        with pytest.raises((Throttled, Unreachable, AuthenticationFailed)):
            await sync.poll()
        assert state == (await sync.health()).state
        liar.lies.clear()
        if pause:
            await clock.advance(pause - 1)
            before = liar.connections
            with pytest.raises((Throttled, AuthenticationFailed)):
                await sync.poll()
            assert before == liar.connections, "nobody asks the server meanwhile"
            await clock.advance(3)
        assert 3 == len(await sync.poll())
        assert "ok" == (await sync.health()).state


async def test_s27_a_mailbox_that_cannot_be_opened_does_not_stop_the_others(world: World) -> None:
    async with Liar(three()) as liar:
        liar.lies["EXAMINE"] = lambda s, tag, rest: (
            f"{tag} NO [NONEXISTENT] no such mailbox\r\n".encode() if "Ghost" in rest else None
        )
        sync = world.sync(liar.account(), mailboxes=("Ghost", "inbox"))
        assert 3 == len(await sync.poll())


async def test_s28_a_mailbox_that_is_deleted_keeps_its_locations(world: World) -> None:
    world.dovecot.doveadm("mailbox", "create", "-u", world.user, "Work")
    sync = world.sync(mailboxes=("inbox", "Work"))
    world.deliver(1)
    await sync.poll()
    world.dovecot.doveadm("mailbox", "delete", "-u", world.user, "Work")
    world.deliver(2)
    await sync.poll()
    assert ids(1, 2) == await world.stored()


async def test_s29_structure_is_never_asked_for(world: World) -> None:
    async with Liar(three()) as liar:
        await reading(world, liar).poll()
        assert not [c for c in liar.heard if "BODYSTRUCTURE" in c or "ENVELOPE" in c or "1:*" in c]


@pytest.mark.parametrize("drip", [b"* OK still here\r\n", b"*"])
async def test_s40_a_drip_ends_at_the_deadline(world: World, drip: bytes) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"* OK [CAPABILITY IMAP4rev1] slow\r\n")
        try:
            while True:
                writer.write(drip)
                await asyncio.sleep(0.02)
                await writer.drain()
        except (OSError, asyncio.CancelledError):
            writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with Liar() as liar:
        account = liar.account(imap_port=server.sockets[0].getsockname()[1], timeout=0.5)
    async with asyncio.timeout(4):
        with pytest.raises(ServerError, match=r"within 0\.5 s"):
            await world.sync(account).poll()
    server.close()


@pytest.mark.parametrize("flood", [b"* 5 EXISTS\r\n" * 1000, b"x" * 65536, b"* OK {3}\r\nabc more\r\n" * 500])
async def test_a_flood_costs_no_memory(world: World, flood: bytes) -> None:
    writers: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        writer.write(b"* OK [CAPABILITY IMAP4rev1] flood\r\n")
        try:
            await reader.readline()
            while True:
                writer.write(flood)
                await writer.drain()
        except (OSError, asyncio.CancelledError):
            writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with Liar() as liar:
        account = liar.account(imap_port=server.sockets[0].getsockname()[1])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    async with asyncio.timeout(60):
        with pytest.raises(AgentMailError):
            await world.sync(account).poll()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 120_000
    server.close()
    for writer in writers:
        writer.transport.abort()
    await asyncio.sleep(0.05)  # the transports close in the loop's next turns


@pytest.mark.parametrize("greeting", [b"220 mail.example.org ESMTP\r\n", b"HTTP/1.1 400 Bad\r\n", b"* HELLO\r\n"])
async def test_what_is_no_imap_server_is_said(world: World, greeting: bytes) -> None:
    """It is nothing about a mailbox: none is left alone for it."""
    async with Liar(three()) as liar:
        liar.greeting = greeting
        with pytest.raises(Unreachable, match=r"check imap_host and imap_port|connection lost while connecting"):
            await reading(world, liar).poll()
        assert "unreachable" == (await world.syncs[-1].health()).state


async def test_what_is_offered_and_refused_is_done_without(world: World) -> None:
    async with Liar(three(), capabilities="IMAP4rev1 ENABLE CONDSTORE QRESYNC") as liar:
        liar.lies["ENABLE"] = lambda s, tag, rest: f"{tag} NO not today\r\n".encode()
        assert 3 == len(await reading(world, liar).poll())


async def test_a_full_mailbox_is_no_reason_to_stop_receiving(world: World) -> None:
    async with Liar(three()) as liar:
        sync = reading(world, liar)
        await sync.poll()
        liar.lies["LIST"] = lambda s, tag, rest: f'* LIST (\\Sent) "/" "Sent"\r\n{tag} OK\r\n'.encode()
        liar.lies["APPEND"] = lambda s, tag, rest: f"{tag} NO [OVERQUOTA] Quota exceeded\r\n".encode()
        sync._roles = None
        with pytest.raises(MailboxError, match="no room left"):
            await sync.file_sent(mail(7), "<7@example.org>")
        assert "ok" == (await sync.health()).state


async def test_s42_starttls_is_never_given_up(world: World) -> None:
    async with Liar(three(), capabilities="IMAP4rev1") as liar:
        account = liar.account(imap_security="starttls")
        with pytest.raises(CertificateRejected, match="no STARTTLS"):
            await world.sync(account).poll()
        liar.greeting = b"* PREAUTH [CAPABILITY IMAP4rev1 STARTTLS] welcome\r\n"
        with pytest.raises(CertificateRejected, match="before TLS"):
            await world.sync(account).poll()
        assert not [c for c in liar.heard if "LOGIN" in c]


async def test_s43_a_tagged_ok_without_text(world: World) -> None:
    async with Liar(three()) as liar:
        liar.lies["SEARCH"] = lambda s, tag, rest: f"* SEARCH 1 2 3\r\n{tag} OK\r\n".encode()
        await reading(world, liar).poll()
    assert ids(1, 2, 3) == await world.stored()


async def test_nothing_an_outsider_wrote_becomes_a_command(world: World) -> None:
    async with Liar(three()) as liar:
        sync = reading(world, liar)
        with pytest.raises(AgentMailError):
            await sync.find_sent('<x"\r\nA9 DELETE INBOX@example.org>')
        connection = ImapConnection(liar.account())
        await connection.connect()
        await connection.examine("INBOX")
        await connection.find('x" OR "\\')
        for bad in ("a\r\nb", "a\0b", "a\x7f"):
            with pytest.raises(AgentMailError):
                await connection.examine(bad)
            with pytest.raises(AgentMailError):
                await connection.change_flags([1], add=[bad])
        await connection.close()
        assert not [c for c in liar.heard if "DELETE" in c]
        assert [c for c in liar.heard if 'HEADER Message-ID "x\\" OR \\"\\\\"' in c]


async def test_a_mailbox_of_200000_messages_is_searched_in_pieces(world: World) -> None:
    few = {199_998: mail(1), 199_999: mail(2), 200_000: mail(3)}
    async with Liar() as liar:
        longest = 0

        def search(server: Liar, tag: str, rest: str) -> bytes | None:
            nonlocal longest
            if "UNSEEN" in rest:
                return f"* SEARCH\r\n{tag} OK done\r\n".encode()
            low, _, high = rest.removeprefix("UID ").partition(":")
            uids = range(int(low), min(200_000, int(high) if high != "*" else 200_000) + 1)
            longest = max(longest, len(uids))
            return f"* SEARCH {' '.join(map(str, uids))}\r\n{tag} OK done\r\n".encode()

        liar.lies["SEARCH"] = search
        liar.lies["EXAMINE"] = lambda s, tag, rest: (
            f"* 200000 EXISTS\r\n* OK [UIDVALIDITY 7] ok\r\n* OK [UIDNEXT 200001] ok\r\n{tag} OK done\r\n".encode()
        )
        liar.messages = few
        sync = reading(world, liar, first_run=FirstRun(history=3))
        await sync.poll()
        assert longest <= 50_000
        assert ids(1, 2, 3) == await world.stored()
        assert all(len(c) < 4500 for c in liar.heard)
        assert [] == await sync.poll()

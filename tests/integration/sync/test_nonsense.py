"""Answers that no server should give: what can be understood is, and nothing else becomes an error of ours."""

from __future__ import annotations

import pytest

from agentmail.errors import AuthenticationFailed, MailboxError

from .conftest import World, ids, mail
from .liar import Liar


def two() -> dict[int, bytes]:
    return {1: mail(1), 2: mail(2)}


@pytest.mark.parametrize(
    ("honest", "lie"),
    [
        ("UIDVALIDITY 7", "UIDVALIDITY 99999999999999999999"),
        ("UIDVALIDITY 7", "UIDVALIDITY x"),
        ("UIDNEXT 3", "UIDNEXT 9223372036854775808"),
        ("UIDNEXT 3", "UIDNEXT x"),
        ("UIDNEXT 3", "UIDNEXT 0"),
        ("* FLAGS", "* OK [HIGHESTMODSEQ 99999999999999999999999] x\r\n* FLAGS"),
        ("* 2 EXISTS", "* 4000000000 EXISTS"),
    ],
)
async def test_numbers_that_imap_does_not_have(world: World, honest: str, lie: str) -> None:
    """They are not believed, and no database is asked to keep them."""
    async with Liar(two()) as liar:
        liar.lies["EXAMINE"] = lambda s, tag, rest: (
            s.honest("EXAMINE", tag, rest).replace(honest.encode(), lie.encode()))  # fmt: skip
        sync = world.sync(liar.account(), mailboxes=("inbox",))
        await sync.poll()
        await sync.poll()
        assert ids(1, 2) == await world.stored()
        assert 2 == await world.events()


async def test_a_mailbox_of_more_messages_than_there_are_numbers(world: World) -> None:
    async with Liar(two()) as liar:
        liar.lies["EXAMINE"] = lambda s, tag, rest: (
            s.honest("EXAMINE", tag, rest).replace(b"* 2 EXISTS", b"* 99999999999999999999 EXISTS"))  # fmt: skip
        sync = world.sync(liar.account(), mailboxes=("inbox",))
        assert [] == await sync.poll()
        assert 20 > len(liar.heard)
        del liar.lies["EXAMINE"]
        assert 2 == len(await sync.poll())


@pytest.mark.parametrize("more", ["99999999999999999999999999", "5000000000", "9" * 5000, "-1 0 x"])
async def test_uids_that_imap_does_not_have(world: World, more: str) -> None:
    async with Liar(two()) as liar:
        liar.lies["SEARCH"] = lambda s, tag, rest: f"* SEARCH 1 2 {more}\r\n{tag} OK\r\n".encode()
        await world.sync(liar.account(), mailboxes=("inbox",)).poll()
    assert ids(1, 2) == await world.stored()


@pytest.mark.parametrize(
    "said",
    ["", "NIL", '(("" "/")', "((NIL NIL)) NIL NIL", '"x', "() () ()", '(("a"))', '((5 "/")) NIL NIL', '((\xff "/"))'],
)
async def test_a_namespace_that_cannot_be_read_is_none(world: World, said: str) -> None:
    """Half of the servers have none: an odd one is no reason to hang up."""
    async with Liar(two(), capabilities="IMAP4rev1 NAMESPACE") as liar:
        line = f"* NAMESPACE {said}\r\n" if said else ""
        liar.lies["NAMESPACE"] = lambda s, tag, rest: f"{line}{tag} OK done\r\n".encode("latin-1")
        assert 2 == len(await world.sync(liar.account()).poll())
        assert 1 == liar.connections


@pytest.mark.parametrize(
    "line",
    ["* LIST", "* LIST ()", '* LIST (\\a "/" INBOX', '* LIST () "/" INBOX extra ("x" (y))', "* LIST (5 6) 7 8",
     '* LIST () "/" {0}\r\n', '* LIST () "/" "', "* LIST (((((( NIL x"],
)  # fmt: skip
async def test_a_line_of_list_that_cannot_be_read_hides_no_other(world: World, line: str) -> None:
    async with Liar(two()) as liar:
        good = '* LIST (\\HasNoChildren \\Sent) "/" "Gesendet"'
        liar.lies["LIST"] = lambda s, tag, rest: f"{line}\r\n{good}\r\n{tag} OK\r\n".encode()
        assert ["INBOX", "Gesendet"] == await world.sync(liar.account()).mailboxes()
        assert 1 == liar.connections


async def test_a_mailbox_that_may_not_be_written_says_so(world: World) -> None:
    async with Liar(two()) as liar:
        liar.lies["SELECT"] = lambda s, tag, rest: s.honest("SELECT", tag, rest)
        sync = world.sync(liar.account(), mailboxes=("inbox",))
        first, _ = await sync.poll()
        with pytest.raises(MailboxError, match="read-only"):
            await sync.mark(first.id, add=["\\Seen"])
        assert not [c for c in liar.heard if "STORE" in c]
        assert 1 == liar.connections


async def test_what_a_server_says_moves_no_cursor(world: World) -> None:
    async with Liar(two()) as liar:
        liar.lies["LOGIN"] = lambda s, tag, rest: f"{tag} NO \x1b[2J\x9b31m\x07 wrong\r\n".encode("latin-1")
        with pytest.raises(AuthenticationFailed) as raised:
            await world.sync(liar.account()).poll()
        assert str(raised.value).isprintable()

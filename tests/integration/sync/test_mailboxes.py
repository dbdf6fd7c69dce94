"""Which mailboxes there are, under what names, and what happens to those that cannot be read."""

from __future__ import annotations

import pytest

from agentmail.errors import AgentMailError

from .conftest import World, ids, mail
from .liar import Liar


async def test_s41_names_in_every_alphabet_can_be_read_and_moved_to(world: World) -> None:
    name = 'Projekte/Größe & "Preis" 台北'
    world.dovecot.doveadm("mailbox", "create", "-u", world.user, name)
    world.deliver(1, 2)
    sync = world.sync(mailboxes=("inbox", name))
    first, _ = await sync.poll()
    await sync.move(first.id, name)
    await sync.poll()
    assert [(name,)] == await world.rows(
        "SELECT mailbox FROM location WHERE message = 1 AND NOT EXISTS (SELECT 1 FROM departed"
        " WHERE departed.mailbox = location.mailbox AND departed.uid = location.uid)"
    )
    assert ids(1, 2) == await world.stored()


async def test_s41_a_list_with_nil_raw_utf8_and_mailboxes_that_cannot_be_opened(world: World) -> None:
    async with Liar({1: mail(1)}) as liar:
        lines = (
            '* LIST () "/" "INBOX"', '* LIST (\\NoSelect) "/" "Sent"', "* LIST () NIL Gesendet", '* LIST () "/" NIL',
            '* LIST (\\NonExistent \\Sent) "/" "Gone"', '* LIST () "/" "&garbage"', '* LIST () "/" ""',
            '* LIST () "/" {5}\r\nTr\xe4sh', '* LIST (\\HasNoChildren) "." "Entw\xc3\xbcrfe"',
        )  # fmt: skip
        said = "".join(f"{line}\r\n" for line in lines).encode("latin-1")
        liar.lies["LIST"] = lambda s, tag, rest: said + f"{tag} OK\r\n".encode()
        sync = world.sync(liar.account())
        assert [True, False] == [f.new for f in await sync.poll()]
        assert ["INBOX", "Gesendet"] == await sync.mailboxes()


@pytest.mark.parametrize("name", ["a\r\nx LOGOUT", "a\0b"])
async def test_s41_a_name_that_would_be_a_command_is_refused(world: World, name: str) -> None:
    world.deliver(1)
    sync = world.sync()
    (filed,) = await sync.poll()
    with pytest.raises(AgentMailError):
        await sync.move(filed.id, name)

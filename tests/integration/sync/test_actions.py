"""What an agent does to the mail on the server, by the Inbox: only when asked, and each call does what it says."""

from __future__ import annotations

import pytest

from agentmail import Inbox
from agentmail.errors import BadInput, MailboxError, NotFound
from agentmail.imap import ImapConnection
from agentmail.mailsync import FirstRun

from .conftest import World, mail
from .liar import Liar


async def flags(world: World, mailbox: str = "INBOX") -> list[set[str]]:
    connection = ImapConnection(world.account)
    await connection.connect()
    await connection.examine(mailbox)
    found = await connection.flags(1)
    await connection.close()
    return [set(one.flags or ()) - {"\\Recent"} for one in found.values()]


async def test_marks_moves_archives_and_labels_reach_the_server(world: World) -> None:
    world.deliver(1, 2, 3)
    async with Inbox(world.account, store=world.store, first_run=FirstRun(everything_is_new=True)) as inbox:
        first, second, third = await inbox.receive()
        assert [set(), set(), set()] == await flags(world)
        await inbox.mark(first, seen=True, flagged=True)
        await inbox.label(first, add=["invoice", "paid"])
        assert [{"\\Seen", "\\Flagged", "invoice", "paid"}, set(), set()] == await flags(world)
        assert () == await inbox.labels(first)
        await inbox.sync()
        assert ("invoice", "paid") == await inbox.labels(first)
        await inbox.mark(str(first.id), seen=False)
        await inbox.label(first, remove=["paid"])
        assert [{"\\Flagged", "invoice"}, set(), set()] == await flags(world)
        await inbox.archive(second)
        await inbox.move(third, "trash")
        counts = [len(world.dovecot.messages(world.user, box)) for box in ("INBOX", "Archive", "Trash")]
        assert [1, 1, 1] == counts
        with pytest.raises(BadInput, match="not a flag"):
            await inbox.label(first, add=["two words"])
        with pytest.raises(NotFound, match="m999"):
            await inbox.mark("m999", seen=True)
        await inbox.sync()
        assert ("invoice",) == await inbox.labels(str(first.id))
        with pytest.raises(NotFound, match="not lie"):
            await inbox.archive(second)


@pytest.mark.parametrize(
    ("lasting", "good", "bad"),
    [("(\\Seen)", "\\Seen", "invoice"), ("(\\Seen \\*)", "invoice", "\\Flagged"), ("(invoice)", "Invoice", "other"),
     ("()", "", "\\Seen")],
)  # fmt: skip
async def test_a_flag_that_would_be_forgotten_is_refused(world: World, lasting: str, good: str, bad: str) -> None:
    """Such a server says OK and keeps nothing."""
    async with Liar({1: mail(1)}) as liar:
        liar.lies["SELECT"] = lambda s, tag, rest: (
            s.honest("EXAMINE", tag, rest)
            .replace(b"* FLAGS", f"* OK [PERMANENTFLAGS {lasting}] limited\r\n* FLAGS".encode())
            .replace(b"READ-ONLY", b"READ-WRITE")
        )
        sync = world.sync(liar.account(), mailboxes=("inbox",))
        (filed,) = await sync.poll()
        if good:
            await sync.mark(filed.id, add=[good])
        with pytest.raises(MailboxError, match="does not keep"):
            await sync.mark(filed.id, add=[bad])
        await sync.mark(filed.id, remove=[bad])
        assert [bool(good), True] == [any(f"{sign}FLAGS" in c for c in liar.heard) for sign in "+-"]

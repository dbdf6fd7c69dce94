"""What others do to a mailbox: flags, moves, deletions; with CONDSTORE and QRESYNC (RFC 7162) and without."""

from __future__ import annotations

import pytest

from agentmail.errors import ServerError
from agentmail.imap import ImapConnection
from agentmail.mailsync import MailSync, changes

from .conftest import World, ids, mail
from .liar import CLOSE, Liar

CONDSTORE = "IMAP4rev1 IDLE ENABLE CONDSTORE"
QRESYNC = CONDSTORE + " QRESYNC"


def reading(world: World, liar: Liar, **given: object) -> MailSync:
    return world.sync(liar.account(), mailboxes=("inbox",), **given)


class Keeps(Liar):
    """A server that counts changes. `modseq` is what it says; None: NOMODSEQ."""

    def __init__(self, messages: dict[int, bytes], *, capabilities: str = CONDSTORE) -> None:
        super().__init__(messages, capabilities=capabilities)
        self.modseq: int | None = 100
        self.flags: dict[int, str] = {}
        self.vanished = ""
        self.lies["EXAMINE"] = lambda s, tag, rest: self.honest("EXAMINE", tag, rest).replace(
            b"* FLAGS", f"* OK [{'NOMODSEQ' if self.modseq is None else f'HIGHESTMODSEQ {self.modseq}'}]\r\n"
            "* FLAGS".encode())  # fmt: skip
        self.lies["ENABLE"] = lambda s, tag, rest: f"* ENABLED {rest}\r\n{tag} OK\r\n".encode()
        self.lies["FETCH"] = self._fetch

    def _fetch(self, server: Liar, tag: str, rest: str) -> bytes | None:
        if "BODY" in rest or "SIZE" in rest:
            return None
        gone = f"* VANISHED (EARLIER) {self.vanished}\r\n" if "VANISHED" in rest and self.vanished else ""
        uids = [u for u in self.matching("UID " + rest) if "CHANGEDSINCE" not in rest or u in self.flags]
        lines = (f"* {n} FETCH (UID {u} FLAGS ({self.flags.get(u, '')}))\r\n" for n, u in enumerate(uids, 1))
        return (gone + "".join(lines) + f"{tag} OK done\r\n").encode()

    def asked(self, what: str) -> list[str]:
        return [c for c in self.heard if what in c]


async def flags(world: World) -> dict[int, str]:
    return {int(str(u)): str(f) for u, f in await world.rows("SELECT uid, flags FROM location ORDER BY uid")}


async def test_flags_and_deletions_are_followed_by_qresync(world: World) -> None:
    """On Dovecot: no list of all uids is asked for, and one that left below the window is noted all the same."""
    world.deliver(*range(1, 8))
    sync = world.sync(mailboxes=("inbox",))
    await sync.poll()
    other = ImapConnection(world.account)
    await other.connect()
    await other.examine("INBOX", writable=True)
    await other.change_flags([2], add=["\\Flagged"])
    await other.move([3], "Archive")
    await other.close()
    import agentmail.mailsync.mailbox as module

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "WINDOW", 2)
        await sync.poll()
    assert (await flags(world))[2] == '["\\\\Flagged"]'
    assert [(3,)] == await world.rows("SELECT uid FROM departed")


@pytest.mark.parametrize("modseq", [50, None])
async def test_s14_a_modseq_that_went_back_means_that_nothing_is_known_to_be_unchanged(
    world: World, modseq: int | None
) -> None:
    async with Keeps({n: mail(n) for n in (1, 2, 3)}) as liar:
        sync = reading(world, liar)
        await sync.poll()
        await sync.poll()
        liar.flags = {1: "\\Flagged", 3: "\\Seen"}
        liar.modseq = modseq
        await sync.poll()
        assert not liar.asked("CHANGEDSINCE")
        assert {1: '["\\\\Flagged"]', 2: "[]", 3: '["\\\\Seen"]'} == await flags(world)
        liar.modseq, liar.flags = 200, {2: "\\Answered"}
        await sync.poll()
        assert (await flags(world))[2] == '["\\\\Answered"]'


async def test_s15_a_huge_range_of_vanished_uids_is_never_counted_out(world: World) -> None:
    """The server's word names candidates; who still shows up has not left."""
    async with Keeps({n: mail(n) for n in (1, 2, 3, 4_000_000_000)}, capabilities=QRESYNC) as liar:
        sync = reading(world, liar)
        await sync.poll()
        del liar.messages[2]
        liar.vanished, liar.modseq = "1:4294967295,7,9:8", 101
        import agentmail.mailsync.mailbox as module

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, "WINDOW", 0)
            await sync.poll()
        assert [(2,)] == await world.rows("SELECT uid FROM departed")
        assert liar.asked("CHANGEDSINCE 100 VANISHED")


async def test_s16_a_modseq_is_kept_only_when_its_changes_are(world: World) -> None:
    async with Keeps({n: mail(n) for n in (1, 2, 3)}) as liar:
        sync = reading(world, liar)
        await sync.poll()
        liar.flags, liar.modseq = {2: "\\Seen"}, 101
        honest = liar.lies["FETCH"]

        def dies(server: Liar, tag: str, rest: str) -> bytes | None:
            return b"* 2 FETCH (UID 2 FL" + CLOSE if "CHANGEDSINCE" in rest else honest(server, tag, rest)

        liar.lies["FETCH"] = dies
        with pytest.raises(ServerError):
            await sync.poll()
        assert [(100,)] == await world.rows("SELECT modseq FROM mailbox")
        liar.lies["FETCH"] = honest
        await sync.poll()
        assert [(101,)] == await world.rows("SELECT modseq FROM mailbox")
        assert (await flags(world))[2] == '["\\\\Seen"]'


async def test_s37_a_storm_of_flags_costs_one_command_and_no_body(world: World) -> None:
    """Toggled a hundred thousand times between two looks, a flag changed once."""
    async with Keeps({n: mail(n) for n in range(1, 301)}) as liar:
        sync = reading(world, liar)
        await sync.poll()
        liar.heard.clear()
        liar.flags, liar.modseq = dict.fromkeys(range(1, 301), "\\Seen"), 100_100
        liar.lies["FETCH"] = lambda s, tag, rest: liar._fetch(s, tag, rest) and b"".join(
            f"* {n} FETCH (UID {n} FLAGS ({toggled}))\r\n".encode()
            for toggled in ("", "\\Seen", "\\Flagged", "\\Seen") for n in liar.flags
        ) + f"{tag} OK done\r\n".encode()  # fmt: skip
        (result,) = [await sync.poll_one("INBOX")]
        assert 300 == result.reflagged
        assert not liar.asked("BODY")
        assert 1 == len(liar.asked("FETCH"))
    assert 300 == await world.events()


async def test_without_condstore_flags_are_looked_at_now_and_then(world: World, clock) -> None:  # type: ignore[no-untyped-def]
    async with Keeps({n: mail(n) for n in (1, 2)}, capabilities="IMAP4rev1") as liar:
        liar.modseq = None
        sync = reading(world, liar, clock=clock)
        await sync.poll()
        liar.flags = {1: "\\Seen"}
        await sync.poll()
        assert "[]" == (await flags(world))[1]
        await clock.advance(301)
        await sync.poll()
        assert '["\\\\Seen"]' == (await flags(world))[1]


async def test_changes_of_a_big_mailbox_are_asked_for_in_pieces(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """No uid is left out between two pieces: one that is unknown may have vanished there."""
    async with Keeps({n: mail(n) for n in (1, 2, 5, 9, 10)}, capabilities=QRESYNC) as liar:
        sync = reading(world, liar)
        await sync.poll()
        liar.flags, liar.modseq = {1: "\\Seen", 5: "\\Seen", 10: "\\Seen"}, 101
        monkeypatch.setattr(changes, "CHANGES_AT_ONCE", 2)
        await sync.poll()
        asked = [c.split()[2] for c in liar.asked("CHANGEDSINCE")]
        assert ["1:2", "3:9", "10:*"] == asked
        assert ["\\Seen" in f for f in (await flags(world)).values()] == [True, False, True, False, True]


@pytest.mark.parametrize("looks_between", [True, False])
async def test_s5_uids_that_are_given_again_lose_nothing(world: World, looks_between: bool) -> None:
    """A server whose uidnext is its highest uid + 1 gives the uid of a deleted message to the next one."""
    async with Liar({n: mail(n) for n in (1, 2, 3)}) as liar:
        sync = reading(world, liar)
        await sync.poll()
        for uid in (2, 3):
            del liar.messages[uid]
        liar.next = 2
        if looks_between:
            await sync.poll()
        liar.add(2, mail(12))
        liar.add(3, mail(13))
        await sync.poll()
        assert ids(1, 2, 3, 12, 13) == await world.stored()
        liar.add(4, mail(14))
        await sync.poll()
        assert ids(1, 2, 3, 12, 13, 14) == await world.stored()
    assert 6 == await world.events()

"""Gmail: one message in many mailboxes, labels, and a limit of bytes a day. By a scripted server."""

from __future__ import annotations

import json
import re

import pytest

import agentmail.mailsync.gmail
from agentmail.errors import Throttled
from agentmail.mailsync import FirstRun, MailSync
from agentmail.testing.clock import ManualClock

from .conftest import World, ids, mail
from .liar import Liar

ALL = "[Gmail]/All Mail"


class Google(Liar):
    """Messages by Gmail's id; each mailbox gives them uids of its own."""

    def __init__(self) -> None:
        super().__init__(capabilities="IMAP4rev1 IDLE ENABLE CONDSTORE MOVE UIDPLUS X-GM-EXT-1")
        self.boxes: dict[str, dict[int, int]] = {"INBOX": {}, ALL: {}, "[Gmail]/Sent Mail": {}}
        self.mail: dict[int, bytes] = {}
        self.labels: dict[int, str] = {}
        self.flags: dict[int, str] = {}
        self.changed: set[int] = set()
        self.modseq = 10
        self.box = "INBOX"
        self.lies.update({"EXAMINE": self._open, "SELECT": self._select, "LIST": self._list, "FETCH": self._fetch})
        self.lies["ENABLE"] = lambda s, tag, rest: f"* ENABLED {rest}\r\n{tag} OK\r\n".encode()

    def put(self, msgid: int, raw: bytes, labels: str, **uids: int) -> None:
        self.mail[msgid], self.labels[msgid] = raw, labels
        for box, uid in uids.items():
            self.boxes[{"inbox": "INBOX", "all": ALL, "sent": "[Gmail]/Sent Mail"}[box]][uid] = msgid

    def _list(self, server: Liar, tag: str, rest: str) -> bytes:
        lines = ('* LIST (\\HasNoChildren) "/" "INBOX"', f'* LIST (\\All) "/" "{ALL}"',
                 '* LIST (\\Sent) "/" "[Gmail]/Sent Mail"')  # fmt: skip
        return "".join(f"{line}\r\n" for line in lines).encode() + f"{tag} OK\r\n".encode()

    def _select(self, server: Liar, tag: str, rest: str) -> bytes:
        return self._open(server, tag, rest).replace(b"READ-ONLY", b"READ-WRITE")

    def _open(self, server: Liar, tag: str, rest: str) -> bytes:
        self.box = rest.strip('"')
        self.messages = {uid: self.mail[msgid] for uid, msgid in self.boxes[self.box].items()}
        self.next = max(self.messages, default=0) + 1
        said = self.honest("EXAMINE", tag, rest)
        return said.replace(b"* FLAGS", f"* OK [HIGHESTMODSEQ {self.modseq}]\r\n* FLAGS".encode())

    def _fetch(self, server: Liar, tag: str, rest: str) -> bytes | None:
        if "X-GM" not in rest:
            return None
        lines = b""
        for uid in self.matching("UID " + rest):
            msgid = self.boxes[self.box][uid]
            if "CHANGEDSINCE" in rest and msgid not in self.changed:
                continue
            facts = f"X-GM-THRID {2**64 - 1} X-GM-MSGID {msgid} X-GM-LABELS ({self.labels[msgid]}) UID {uid} "
            facts += f"FLAGS ({self.flags.get(msgid, '')})"
            lines += f"* 1 FETCH ({facts})\r\n".encode()
        return lines + f"{tag} OK\r\n".encode()

    def fetched(self, uid: int, rest: str) -> bytes:
        flags = self.flags.get(self.boxes[self.box][uid], "")
        return super().fetched(uid, rest).replace(b"FLAGS ()", f"FLAGS ({flags})".encode())

    def fetched_bodies(self) -> int:
        return sum(len(c.split()[2].split(",")) for c in self.heard if "BODY.PEEK[]" in c)


def reading(world: World, google: Google, **given: object) -> MailSync:
    return world.sync(google.account(), mailboxes=("inbox", "all", "sent"), **given)


async def test_s24_one_message_in_inbox_and_all_mail_is_fetched_once(world: World) -> None:
    async with Google() as google:
        google.put(2**63 + 5, mail(1), '"\\\\Inbox" "\\\\Important" Invoices "Gr&APYA3w-e" {3}\r\na"b', inbox=1, all=71)
        google.put(6, mail(2).replace(b"To: agent@", b"To: ana@"), '"\\\\Sent"', all=72, sent=4)
        google.put(7, mail(3), '"\\\\Draft"', all=73)
        sync = reading(world, google)
        await sync.poll()
        assert ids(1, 2) == await world.stored()
        bodies = [c for c in google.heard if "BODY.PEEK[]" in c]
        assert 2 == len(bodies)
        places = await world.rows("SELECT mailbox, uid, message FROM location ORDER BY mailbox, uid")
        assert [("INBOX", 1, 1), (ALL, 71, 1), (ALL, 72, 2), ("[Gmail]/Sent Mail", 4, 2)] == sorted(
            places, key=lambda p: (p[0] != "INBOX", str(p[0]), p[1])
        )
        assert ("Größe", "Invoices", "\\Important", "\\Inbox", 'a"b') == await sync.labels("m1")
        assert [(0,), (1,)] == await world.rows("SELECT outgoing FROM message ORDER BY id")


async def test_s24_a_message_that_is_known_elsewhere_has_its_flags(world: World) -> None:
    async with Google() as google:
        google.put(5, mail(1), "", inbox=1, all=71)
        google.flags[5] = "\\Seen \\Flagged"
        await reading(world, google).poll()
        places = await world.rows("SELECT mailbox, flags FROM location ORDER BY mailbox")
        assert ["INBOX", ALL] == [box for box, _ in places]
        assert [{"\\Seen", "\\Flagged"}] * 2 == [set(json.loads(str(flags))) for _, flags in places]


async def test_s24_news_of_the_inbox_are_news_though_all_mail_is_new_to_us(world: World, clock: ManualClock) -> None:
    """Whatever the order in which mailboxes are named: the first look calls all of its mail history."""
    async with Google() as google:
        google.put(5, mail(1), "", inbox=1, all=71)
        given = {"first_run": FirstRun(), "clock": clock}
        await world.sync(google.account(), mailboxes=("inbox",), **given).poll()
        await clock.advance(86_400)
        before = await world.events()
        google.put(6, mail(2), "", inbox=2, all=72)
        await world.sync(google.account(), mailboxes=("all", "inbox"), **given).poll()
        assert ids(1, 2) == await world.stored()
        assert before + 1 == await world.events()


async def test_s24_what_a_header_says_is_no_gmail_id(world: World) -> None:
    async with Google() as google:
        google.put(5, mail(1), "", inbox=1)
        sync = reading(world, google)
        await sync.poll()
        google.put(6, b"X-GM-MSGID: 5\r\nSubject: X-GM-MSGID 5 X-GM-LABELS (Trusted)\r\n" + mail(2), "", inbox=2)
        await sync.poll()
        assert ids(1, 2) == await world.stored()
        assert () == await sync.labels("m2")


async def test_labels_are_followed_and_put_on_only_when_asked(world: World) -> None:
    async with Google() as google:
        google.put(5, mail(1), "Old", inbox=1)
        sync = reading(world, google)
        await sync.poll()
        assert not [c for c in google.heard if "UID STORE" in c]
        google.labels[5], google.changed, google.modseq = "New", {5}, 11
        await sync.poll()
        assert ("New",) == await sync.labels("m1")
        await sync.label("m1", add=["Größe", 'a"b'], remove=["New"])
        stores = [c for c in google.heard if "UID STORE" in c]
        assert 2 == len(stores)
        assert re.fullmatch(r'UID STORE 1 \+X-GM-LABELS\.SILENT \("?Gr&APYA3w-e"? "a\\"b"\)', stores[0])
        assert "-X-GM-LABELS.SILENT" in stores[1]
        await sync.archive("m1")
        assert [c for c in google.heard if c == f'UID MOVE 1 "{ALL}"']


async def test_s25_no_more_bytes_a_day_than_gmail_bears(
    world: World, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And nothing that is stored is fetched again."""
    async with Google() as google:
        for n in range(1, 5):
            google.put(n, mail(n), "", inbox=n, all=100 + n)
        monkeypatch.setattr(agentmail.mailsync.gmail, "DAILY", 3 * len(mail(1)))
        sync = reading(world, google, clock=clock)
        await sync.poll()
        await sync.poll()
        assert 4 == len(await world.rows("SELECT message FROM gmail"))
        ((spent,),) = await world.rows("SELECT fetched FROM traffic")
        assert spent == sum(len(mail(n)) for n in range(1, 5))
        google.put(9, mail(9), "", inbox=9)
        before = len(google.heard)
        with pytest.raises(Throttled, match="midnight"):
            await sync.poll()
        assert not [c for c in google.heard[before:] if "BODY" in c]
        assert "throttled" == (await sync.health()).state
        await clock.advance(86_400)
        await sync.poll()
        assert ids(1, 2, 3, 4, 9) == await world.stored()

"""An IMAP server of several mailboxes whose mail changes between, and during, what a client does; and which fails.

What it says is true unless a trait or a fault says otherwise: each is one of the ways of real servers.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from random import Random

from .liar import Liar

CONDSTORE = {"ENABLE", "CONDSTORE"}
QRESYNC = CONDSTORE | {"QRESYNC"}
ALL = "[Gmail]/All Mail"


@dataclass(eq=False)
class Mail:
    """One message, wherever it lies."""

    number: int
    raw: bytes
    at: datetime
    step: int
    """When it came into being."""
    labels: str = ""
    empty: int = 0
    """How often its body is still said to be NIL."""


@dataclass(eq=False)
class Copy:
    """A message in a mailbox."""

    mail: Mail
    flags: frozenset[str] = frozenset()
    modseq: int = 1
    hidden: bool = False
    """The next SEARCH does not find it."""


@dataclass(eq=False)
class Box:
    """A mailbox."""

    name: str
    role: str = ""
    validity: int = 7
    next: int = 1
    modseq: int = 1
    copies: dict[int, Copy] = field(default_factory=dict)
    gone: list[tuple[int, int]] = field(default_factory=list)
    """(modseq, uid) of what left."""
    before: dict[int, tuple[int, dict[int, Mail]]] = field(default_factory=dict)
    """What was there when another uidvalidity began: uidvalidity -> (uidnext, mail by uid)."""

    def touch(self) -> int:
        self.modseq += 1
        return self.modseq

    def add(self, mail: Mail, flags: Iterable[str] = ()) -> int:
        uid, self.next = self.next, self.next + 1
        self.copies[uid] = Copy(mail, frozenset(flags), self.touch())
        return uid

    def remove(self, uid: int, *, counts_from_what_is_there: bool = False) -> Copy:
        self.gone.append((self.touch(), uid))
        copy = self.copies.pop(uid)
        if counts_from_what_is_there:
            self.next = max(self.copies, default=0) + 1
        return copy

    def flag(self, uid: int, flags: Iterable[str]) -> None:
        copy = self.copies[uid]
        copy.flags, copy.modseq = frozenset(flags), self.touch()

    def reset(self, validity: int, order: list[Copy]) -> None:
        """Another uidvalidity, with these copies in this order."""
        self.before[self.validity] = self.next, {uid: copy.mail for uid, copy in self.copies.items()}
        self.validity, self.next, self.copies, self.gone, self.modseq = validity, 1, {}, [], 1
        for copy in order:
            self.add(copy.mail, copy.flags)

    def restore(self, validity: int) -> None:
        """Back to what was there under an old uidvalidity, as from a backup."""
        uidnext, mails = self.before[validity]
        here = {copy.mail: copy for copy in self.copies.values()}
        self.before[self.validity] = self.next, {uid: copy.mail for uid, copy in self.copies.items()}
        self.validity, self.next, self.gone, self.modseq = validity, uidnext, [], self.modseq + 1
        self.copies = {uid: Copy(m, here[m].flags if m in here else frozenset(), 1) for uid, m in mails.items()}
        since = [copy for mail, copy in here.items() if mail not in mails.values()]
        for copy in since:
            self.add(copy.mail, copy.flags)


@dataclass
class Traits:
    """What kind of server it is."""

    capabilities: frozenset[str] = frozenset()
    says_uidnext: bool = True
    says_validity: bool = True
    search: str = "plain"
    """plain, unsorted, lines, lower"""
    chatty: bool = False
    """Says things that nobody asked for."""
    torn: bool = False
    """Says flags in a response of their own, in any order of messages."""
    reuses: bool = False
    """Counts from what is there: the uid of the last message, once deleted, goes to the next one."""
    gmail: bool = False


@dataclass(eq=False)
class Session:
    """One connection."""

    number: int
    box: Box | None = None
    enabled: set[str] = field(default_factory=set)
    idling: str = ""


Hook = Callable[[Session, str], Awaitable[None]]


class Shifting(Liar):
    """`fault(word)` names what goes wrong with the next command, if anything: see `_broken`."""

    def __init__(self, traits: Traits, random: Random) -> None:
        offered = ["IMAP4rev1", *sorted(traits.capabilities), *(["X-GM-EXT-1"] if traits.gmail else [])]
        super().__init__(capabilities=" ".join(offered))
        self.traits, self.random = traits, random
        names = {"INBOX": "", ALL: "\\All", "[Gmail]/Sent Mail": "\\Sent"} if traits.gmail else {
            "INBOX": "", "Sent": "\\Sent", "Archive": "\\Archive"}  # fmt: skip
        self.boxes = {name: Box(name, role, validity=7 + i) for i, (name, role) in enumerate(names.items())}
        self.fault: Callable[[str], str] = lambda word: ""
        self.meanwhile: Hook | None = None
        """Awaited before each command is answered."""
        self.open = self.most = self.logins = 0
        self.words: Counter[str] = Counter()

    @property
    def sent(self) -> Box:
        return next(box for box in self.boxes.values() if box.role == "\\Sent")

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        self.open += 1
        self.most = max(self.most, self.open)
        session = Session(self.connections)
        try:
            if self.fault("GREETING") in {"bye", "close"}:
                writer.write(b"* BYE too busy\r\n")
                return
            writer.write(self.greeting)
            while line := await reader.readline():
                text = line.decode("ascii", "replace").rstrip("\r\n")
                tag, _, command = text.partition(" ")
                self.heard.append(command)
                if tag == "DONE":
                    writer.write(f"{session.idling} OK done\r\n".encode())
                    continue
                while literal := re.search(r"\{(\d+)\}\Z", command):
                    writer.write(b"+ go on\r\n")
                    data = await reader.readexactly(int(literal[1]))
                    command += "\r\n" + data.decode("latin-1") + (await reader.readline()).decode("latin-1").rstrip()
                word, _, rest = command.removeprefix("UID ").partition(" ")
                word = word.upper()
                self.words[word] += 1
                fault = self.fault(word)
                if self.meanwhile is not None:
                    await self.meanwhile(session, word)
                answer = self.answer(session, word, tag, rest)
                if fault:
                    if not await self._broken(fault, answer, tag, reader, writer):
                        return
                    continue
                writer.write(answer)
                await writer.drain()
                if word == "LOGOUT":
                    return
        except (OSError, asyncio.CancelledError, asyncio.IncompleteReadError):
            pass
        finally:
            self.open -= 1
            self._tasks.discard(task)
            writer.close()

    async def _broken(
        self, fault: str, answer: bytes, tag: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        """Say something else; whether the connection goes on."""
        kind, _, words = fault.partition(" ")
        if kind == "cut":
            writer.write(answer[: self.random.randrange(len(answer))])
        elif kind == "bye":
            writer.write(b"* BYE going down\r\n")
        elif kind == "hang":
            while await reader.read(65536):
                pass
        elif kind in {"NO", "BAD"}:
            writer.write(f"{tag} {kind} {words}\r\n".encode())
            return True
        elif kind == "half":  # part of the answer, and then a refusal
            responses = answer.split(b"\r\n* ")
            first = b"\r\n* ".join(responses[: len(responses) // 2])
            writer.write((first + b"\r\n" if len(responses) > 1 else b"") + f"{tag} NO {words}\r\n".encode())
            return True
        elif kind == "flood":
            writer.write(b"* OK still here\r\n" * 2_000 + answer)
            return True
        return False

    # -- what it says

    def answer(self, session: Session, word: str, tag: str, rest: str) -> bytes:
        said = getattr(self, f"_{word.lower()}", None)
        lines: list[bytes] = list(said(session, rest)) if said is not None else []
        if word == "IDLE":
            session.idling = tag
            return b"+ idling\r\n"
        code = " [READ-ONLY]" if word == "EXAMINE" else " [READ-WRITE]" if word == "SELECT" else ""
        if word in {"EXAMINE", "SELECT"} and session.box is None:
            return f"{tag} NO [NONEXISTENT] no such mailbox\r\n".encode()
        if self.traits.chatty and session.box is not None and word not in {"EXAMINE", "SELECT"}:
            lines[:0] = self._chatter(session.box)
            lines += self._chatter(session.box)
        return b"".join(line + b"\r\n" for line in lines) + f"{tag} OK{code} done\r\n".encode()

    def _chatter(self, box: Box) -> list[bytes]:
        said = [f"* {len(box.copies)} EXISTS".encode(), b"* 0 RECENT", b"* OK [ALERT] buy more", b"* OK",
                b"* 1 FETCH (FLAGS (\\Seen))", b"* 999999 FETCH (FLAGS (\\Seen) BODY[] {3}\r\nabc)",
                b"* 1 FETCH (UID 4294967295 FLAGS (\\Deleted))", b"* FLAGS (\\Seen)",
                b"* 5 FETCH (BODY[] NIL)", b"* STATUS INBOX (MESSAGES 5)"]  # fmt: skip
        return self.random.sample(said, self.random.randrange(3))

    def _capability(self, session: Session, rest: str) -> Iterable[bytes]:
        yield b"* CAPABILITY " + self.capabilities.encode()

    def _login(self, session: Session, rest: str) -> Iterable[bytes]:
        self.logins += 1
        return ()

    def _logout(self, session: Session, rest: str) -> Iterable[bytes]:
        yield b"* BYE bye"

    def _list(self, session: Session, rest: str) -> Iterable[bytes]:
        for box in self.boxes.values():
            use = box.role if "SPECIAL-USE" in self.capabilities else ""
            yield f'* LIST ({use}) "/" "{box.name}"'.encode()

    def _enable(self, session: Session, rest: str) -> Iterable[bytes]:
        session.enabled |= set(rest.split())
        yield f"* ENABLED {rest}".encode()

    def _namespace(self, session: Session, rest: str) -> Iterable[bytes]:
        yield b'* NAMESPACE (("" "/")) NIL NIL'

    def _examine(self, session: Session, rest: str) -> Iterable[bytes]:
        box = session.box = self.boxes.get(rest.strip('"'))
        if box is None:
            return
        yield b"* FLAGS (\\Seen \\Flagged \\Deleted)"
        yield b"* OK [PERMANENTFLAGS (\\Seen \\Flagged \\Deleted \\*)] ok"
        yield f"* {len(box.copies)} EXISTS".encode()
        if self.traits.says_validity:
            yield f"* OK [UIDVALIDITY {box.validity}] ok".encode()
        if self.traits.says_uidnext:
            yield f"* OK [UIDNEXT {box.next}] ok".encode()
        if "CONDSTORE" in self.traits.capabilities:
            yield f"* OK [HIGHESTMODSEQ {box.modseq}] ok".encode()

    _select = _examine

    def _search(self, session: Session, rest: str) -> Iterable[bytes]:
        box = session.box
        assert box is not None
        found = [uid for uid in self._found(box, rest) if not box.copies[uid].hidden]
        for copy in box.copies.values():
            copy.hidden = False
        style = self.traits.search
        if style == "unsorted":
            self.random.shuffle(found)
        if style == "lines":
            yield b"* SEARCH " + b" ".join(b"%d" % uid for uid in found[::2])
            yield b"* SEARCH " + b" ".join(b"%d" % uid for uid in found[1::2])
        elif found or style != "silent":
            yield b"* SEARCH" + b"".join(b" %d" % uid for uid in found)

    def _found(self, box: Box, rest: str) -> list[int]:
        order = sorted(box.copies)
        if rest.startswith("UID "):
            return self._set(order, rest.removeprefix("UID "))
        if rest.startswith("HEADER"):
            wanted = rest.split('"')[1].encode()
            return [uid for uid in order if wanted in box.copies[uid].mail.raw]
        if "SINCE" in rest and "SENT" not in rest:
            day = datetime.strptime(rest.rsplit(maxsplit=1)[-1], "%d-%b-%Y").replace(tzinfo=UTC)
            return [uid for uid in order if box.copies[uid].mail.at >= day
                    and ("UNSEEN" not in rest or "\\Seen" not in box.copies[uid].flags)]  # fmt: skip
        if "SENT" in rest:
            return order
        first, _, last = rest.partition(":")
        return order[int(first) - 1 : int(last or first)]

    @staticmethod
    def _set(order: list[int], text: str) -> list[int]:
        top = order[-1] if order else 0
        found: set[int] = set()
        for part in text.split(","):
            a, _, b = part.partition(":")
            low, high = sorted(top if x == "*" else int(x) for x in (a, b or a))
            found.update(uid for uid in order if low <= uid <= high)
        return sorted(found)

    def _fetch(self, session: Session, rest: str) -> Iterable[bytes]:
        box = session.box
        assert box is not None
        which, _, items = rest.partition(" ")
        order = sorted(box.copies)
        uids = self._set(order, which)
        if since := re.search(r"CHANGEDSINCE (\d+)( VANISHED)?", items):
            modseq = int(since[1])
            uids = [uid for uid in uids if box.copies[uid].modseq > modseq]
            if since[2] and (gone := sorted({uid for at, uid in box.gone if at > modseq and uid not in box.copies})):
                yield f"* VANISHED (EARLIER) {','.join(map(str, gone))}".encode()
        if self.traits.torn:
            self.random.shuffle(uids)
        for uid in uids:
            yield from self._fetched(box, order.index(uid) + 1, uid, items)

    def _fetched(self, box: Box, place: int, uid: int, items: str) -> Iterable[bytes]:
        copy = box.copies[uid]
        mail, raw = copy.mail, copy.mail.raw
        facts = [f"UID {uid}"]
        flags = f"FLAGS ({' '.join(sorted(copy.flags))})"
        if "FLAGS" in items:
            if self.traits.torn and self.random.random() < 0.5:
                yield f"* {place} FETCH (UID {uid} {flags})".encode()
            else:
                facts.append(flags)
        if "X-GM-THRID" in items:
            facts.append(f"X-GM-THRID {1000 + mail.number}")
        if "X-GM-MSGID" in items:
            facts.append(f"X-GM-MSGID {5000 + mail.number}")
        if "X-GM-LABELS" in items:
            facts.append(f"X-GM-LABELS ({mail.labels})")
        if "INTERNALDATE" in items:
            facts.append(f'INTERNALDATE "{mail.at:%d-%b-%Y %H:%M:%S} +0000"')
        if "RFC822.SIZE" in items:
            facts.append(f"RFC822.SIZE {len(raw)}")
        if "CHANGEDSINCE" in items:
            facts.append(f"MODSEQ ({copy.modseq})")
        head = " ".join(facts)
        if "HEADER.FIELDS" in items:
            name = b"DATE" if "(DATE)" in items else b"MESSAGE-ID"
            top = raw.partition(b"\r\n\r\n")[0].split(b"\r\n")
            said = b"".join(h + b"\r\n" for h in top if h.upper().startswith(name + b":")) + b"\r\n"
            yield f"* {place} FETCH ({head} BODY[HEADER.FIELDS ({name.decode()})] {{{len(said)}}}\r\n".encode() + (
                said + b")")  # fmt: skip
        elif "BODY" not in items:
            yield f"* {place} FETCH ({head})".encode()
        elif mail.empty:
            mail.empty -= 1
            yield f"* {place} FETCH ({head} BODY[] NIL)".encode()
        else:
            part = re.search(r"<(\d+)\.(\d+)>", items)
            start = ""
            if part is not None:
                raw, start = raw[int(part[1]) : int(part[1]) + int(part[2])], f"<{part[1]}>"
            yield f"* {place} FETCH ({head} BODY[]{start} {{{len(raw)}}}\r\n".encode() + raw + b")"

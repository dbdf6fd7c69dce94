"""A small pool of connections for one account."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from ..errors import AuthenticationFailed, CertificateRejected, Unreachable
from ..message.models import Envelope
from ..settings import Account
from ..unbroken import TaskGroup
from .connecting import connect, tls_context
from .session import AT_ONCE, Session, Timeouts, together
from .transaction import After, BeforeBody, Mail, Outcome, check_envelope, commands, transact

FEWER = {"smtp.office365.com": 3, "smtp-mail.outlook.com": 3, "smtp.office.com": 3}
"""Connections that a provider takes at the same time from one mailbox, where it is less than usual."""

SLOW = 300.0
"""Seconds for which mails go one by one after it did no good that one went along with another."""
OUT_OF_STEP = {421, 500, 502, 503}
"""What a server says that had enough with the mail before, or took the commands behind it for something else."""


@dataclass(slots=True, eq=False)
class _Place:
    """Somebody who waits for a connection."""

    mail: Mail | None
    turn: asyncio.Future[Session | None]
    """Any connection (None), or the one on which its transaction has begun already."""


@dataclass(slots=True, eq=False)
class _Line:
    """One mail on a connection, and the mail behind it."""

    begun: bool
    """Its commands went along with the mail before."""
    next: _Place | None = None
    """Whose commands went along with it, and who has its place then."""
    left: bool = False
    """The commands of somebody who did not wait for their answer went along with it."""


class Submitter:
    """Submits for one account over a small pool of connections that are kept open. Building it opens nothing."""

    def __init__(
        self, account: Account, *, connections: int = 4, timeouts: Timeouts | None = None, keep: float = 45.0,
        per_connection: int = 100, monotonic: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        """
        Args:
            connections: At most so many at the same time; further submissions wait.
            keep: Seconds an idle connection is used again; servers close theirs after 60 to 300.
            per_connection: Messages after which a connection is replaced; some providers refuse after 100.
        """
        self.account = account
        self.connections = connections = min(connections, FEWER.get(account.smtp_host.lower(), connections))
        self.timeouts = timeouts or Timeouts()
        self._keep, self._per_connection, self._monotonic = keep, per_connection, monotonic
        self._free = connections
        """Connections that may still be used; none as long as somebody waits."""
        self._waiting: deque[_Place] = deque()
        self._one_by_one = float("-inf")
        """Until when no mail goes along with the one before it."""
        self._at_once = AT_ONCE
        self._idle: list[Session] = []
        self._busy = 0
        """Sessions in use."""
        self._door = asyncio.Lock()
        self._proven = False
        """A login held, and none was refused since."""
        self._refusals = 0
        self._refused: Exception | None = None
        self._context: list[ssl.SSLContext | None] = []
        """Made when it is needed first: reading the system's certificates takes 40 ms."""

    async def submit(
        self, raw: bytes, envelope: Envelope, *, before_body: BeforeBody | None = None, submission: str | None = None
    ) -> Outcome:
        """Try once to hand the message over.

        Args:
            before_body: Runs when the server waits for the body. See `BeforeBody`.
            submission: Our id of it, which the server repeats in delivery reports where it can (RFC 3461 ENVID).

        Raises:
            Unreachable, CertificateRejected, AuthenticationFailed: it did not come to a transaction.
            BadInput: an address cannot be written into an SMTP command.
        """
        check_envelope(envelope)
        seen, mail = self._refusals, Mail(raw, envelope, before_body, submission)
        session = await self._turn(mail)
        line = _Line(begun=session is not None)
        try:
            while session := session or self._reusable():
                outcome = await self._guarded(session, mail, line)
                # It had gone away while idle, or with the mail before; nothing was sent, so a fresh one may try.
                gone = outcome.code is None or (line.begun and outcome.code in OUT_OF_STEP)
                if not gone or outcome.step not in {"mail", "rcpt", "data"}:
                    return outcome
                if line.begun:
                    self._one_by_one = self._monotonic() + SLOW
                session, line.begun = None, False
            return await self._guarded(await self._connect(seen), mail, line)
        finally:
            if line.next is None:
                self._pass_on()

    async def check(self) -> tuple[str, ...]:
        """Connect and log in, without sending anything; the extensions that the server offers. Raises like submit."""
        await self._turn(None)
        try:
            session = await self._connect(self._refusals)
            self._idle.append(session)
            return tuple(sorted(session.extensions))
        finally:
            self._pass_on()

    async def close(self) -> None:
        """Say goodbye on every idle connection. Returns within 2 seconds."""
        idle, self._idle = self._idle, []
        async with TaskGroup() as group:
            for session in idle:
                group.create_task(session.quit())

    async def _turn(self, mail: Mail | None) -> Session | None:
        """Wait for a connection; the one on which the transaction has begun, if it has."""
        if self._free:
            self._free -= 1
            return None
        place = _Place(mail, asyncio.get_running_loop().create_future())
        self._waiting.append(place)
        try:
            return await place.turn
        except asyncio.CancelledError:
            if not place.turn.cancelled():  # its turn came at the same moment
                if (session := place.turn.result()) is not None:
                    session.close()
                self._pass_on()
            raise

    def _pass_on(self) -> None:
        """Somebody is done: the next one's turn."""
        while self._waiting:
            place = self._waiting.popleft()
            if not place.turn.done():
                place.turn.set_result(None)
                return
        self._free += 1

    async def _guarded(self, session: Session, mail: Mail, line: _Line) -> Outcome:
        """The transaction; the connection is used again only when its state is certain, also on cancel."""
        outcome: Outcome | None = None
        self._busy += 1
        after = After(lambda: self._along(session, line), lambda: self._let_go(line))
        try:
            outcome = await transact(session, mail, after, begun=line.begun)
            return outcome
        finally:
            self._busy -= 1
            session.used += 1
            self._at_once = min(self._at_once, session.at_once)
            certain = outcome is not None and outcome.code not in {None, 421} and outcome.step != "hook"
            if outcome is not None and line.begun and outcome.code in OUT_OF_STEP:
                certain = False
            self._give_back(session, line, usable=certain and not line.left and session.used < self._per_connection)

    def _give_back(self, session: Session, line: _Line, *, usable: bool) -> None:
        """To the mail behind, which has begun on it, or to the pool."""
        if line.next is not None and line.next.turn.done():  # it was cancelled, and nobody ends what it began
            line.next, usable = None, False
        if line.next is None and usable and session.usable:
            session.idle_since = self._monotonic()
            self._idle.append(session)
        elif line.next is None or not usable:
            session.close()
        if line.next is not None:
            line.next.turn.set_result(session if usable else None)

    def _along(self, session: Session, line: _Line) -> bytes:
        """The commands of the mail that waits longest, which begins on this connection then."""
        again = session.offers("pipelining") and session.used + 1 < self._per_connection
        if not again or self._monotonic() < self._one_by_one:
            return b""
        while self._waiting and self._waiting[0].turn.done():  # cancelled
            self._waiting.popleft()
        if not self._waiting or (mail := self._waiting[0].mail) is None:
            return b""
        said = commands(session, mail)
        if isinstance(said, Outcome):
            return b""
        line.next = self._waiting.popleft()
        return together(said)

    def _let_go(self, line: _Line) -> None:
        """The server takes its time for the mail before: who waits for it there may take any other connection."""
        place, line.next, line.left = line.next, None, True
        self._one_by_one = self._monotonic() + SLOW
        if place is None or place.turn.done():
            return
        self._waiting.appendleft(place)
        if self._free:
            self._free -= 1
            self._pass_on()

    def _reusable(self) -> Session | None:
        while self._idle:
            session = self._idle.pop()
            if session.usable and self._monotonic() - session.idle_since < self._keep:
                return session
            session.close()
        return None

    async def _connect(self, seen: int) -> Session:
        """A new one. As long as no login is known to hold, one at a time knocks, and who waited meanwhile shares its
        fate: thirty wrong passwords at once lock an account.

        Args:
            seen: How many refusals there had been when the caller began to wait.
        """
        if not self._proven:
            async with self._door:
                if not self._proven:
                    if self._refused is not None and self._refusals > seen:
                        raise type(self._refused)(str(self._refused))
                    return await self._dial()
        return await self._dial()

    async def _dial(self) -> Session:
        if not self._context:
            self._context.append(tls_context(self.account))
        try:
            session = await connect(self.account, self.timeouts, self._context[0])
        except (AuthenticationFailed, CertificateRejected, Unreachable) as exc:
            # Busy servers turn some away while others are in.
            if isinstance(exc, AuthenticationFailed) or not (self._busy or self._idle):
                self._proven, self._refusals, self._refused = False, self._refusals + 1, exc
            raise
        self._proven = True
        session.at_once = self._at_once
        return session

"""A small pool of connections for one account."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable

from ..errors import AuthenticationFailed, CertificateRejected, Unreachable
from ..message.models import Envelope
from ..settings import Account
from .connecting import connect, tls_context
from .session import Session, Timeouts
from .transaction import BeforeBody, Outcome, check_envelope, transact

FEWER = {"smtp.office365.com": 3, "smtp-mail.outlook.com": 3, "smtp.office.com": 3}
"""Connections that a provider takes at the same time from one mailbox, where it is less than usual."""


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
        self._slots = asyncio.Semaphore(connections)
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
        seen = self._refusals
        async with self._slots:
            while session := self._reusable():
                outcome = await self._guarded(session, raw, envelope, before_body, submission)
                if outcome.code is None and outcome.state == "temporary" and outcome.step in {"mail", "rcpt", "data"}:
                    continue  # it had gone away while idle; nothing was sent, so a fresh one may try
                return outcome
            return await self._guarded(await self._connect(seen), raw, envelope, before_body, submission)

    async def check(self) -> tuple[str, ...]:
        """Connect and log in, without sending anything; the extensions that the server offers. Raises like submit."""
        async with self._slots:
            session = await self._connect(self._refusals)
            self._idle.append(session)
            return tuple(sorted(session.extensions))

    async def close(self) -> None:
        """Say goodbye on every idle connection. Returns within 2 seconds."""
        idle, self._idle = self._idle, []
        async with asyncio.TaskGroup() as group:
            for session in idle:
                group.create_task(session.quit())

    async def _guarded(
        self, session: Session, raw: bytes, envelope: Envelope, before_body: BeforeBody | None, submission: str | None
    ) -> Outcome:
        """The transaction; the connection goes back to the pool only when its state is certain, also on cancel."""
        outcome: Outcome | None = None
        self._busy += 1
        try:
            outcome = await transact(session, raw, envelope, before_body, submission)
            return outcome
        finally:
            self._busy -= 1
            certain = outcome is not None and outcome.code not in {None, 421} and outcome.step != "hook"
            session.used += 1
            if certain and session.used < self._per_connection and session.usable:
                session.idle_since = self._monotonic()
                self._idle.append(session)
            else:
                session.close()

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
        return session

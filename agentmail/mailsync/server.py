"""An account's server: the one connection, made when it may be made, and what its mailboxes are called there."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime

from ..errors import AuthenticationFailed, ServerError, Throttled, Unreachable
from ..imap import ImapConnection, NotServing
from ..settings import Account
from ..store import ThreadStore, Tx, positions
from ..store.events import append_event
from ..store.positions import Connectivity, Position, fingerprint
from . import pacing
from .ahead import Ahead
from .first import FirstRun
from .roles import ROLES, mailbox_for
from .slots import SLOTS, slots_of

SLOT_PAUSE = 5.0
"""Seconds after which it is worth asking again for a connection."""

REOPENED = 40
"""Connections that one pass may use up. Finding one poisonous message among 200 costs 16."""


def system_clock() -> datetime:
    return datetime.now(UTC)


class Server:
    """What every part of `MailSync` stands on."""

    def __init__(
        self, account: Account, store: ThreadStore, *, clock: Callable[[], datetime] | None = None,
        first_run: FirstRun | None = None, mailboxes: Sequence[str] = ("inbox", "sent"),
        progress: Callable[[str, int, int], None] | None = None,
    ) -> None:  # fmt: skip
        self.account, self.store = account, store
        self.clock = clock or system_clock
        self.first_run = first_run or FirstRun()
        self.wanted = tuple(mailboxes)
        self.progress = progress
        self.ahead: Ahead | None = None
        """A child that prepares what comes, while there is one."""
        self._connection: ImapConnection | None = None
        self._roles: dict[str, str | None] | None = None
        """Our word -> the mailbox's name, as this connection's server has them."""
        self._turn = asyncio.Lock()
        self._connecting: set[ImapConnection] = set()
        self._opened = 0
        self._closed = False
        self.watches = False
        """This one waits for mail: one of the account's connections is kept for such."""
        self._slot: tuple[str, int] | None = None
        self._unproven = ""
        """`unserved` or `throttled`, as long as this connection has not shown that it is over."""
        self._unopened: ServerError | None = None
        """Why the last attempt to connect came to nothing."""
        self._offered = ""
        """The token of the last login."""
        self._known: Position | None = None
        """The INBOX's position, as long as only news are read: it is written under the lease that this one holds."""

    @asynccontextmanager
    async def _session(self) -> AsyncIterator[None]:
        """One call at a time; what it needs is ready, and what others wait for is given back at its end. A pause that
        the server asks for meanwhile is one for all processes, whatever it was asked.
        """
        async with self._turn:
            await self._begin()
            try:
                yield
            except (Throttled, NotServing) as exc:
                await self._failing(exc)
                raise
            finally:
                await self._leave_the_door()

    async def _leave_the_door(self) -> None:
        """Who came in by the last slot leaves again, so that others get their turn."""
        if self._slot is not None and self._slot[1] == SLOTS and not self.watches:
            await self._hang_up()

    async def _hang_up(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()
        slot, self._slot = self._slot, None
        if slot is not None:
            await slots_of(self.store).free(self.account.key, slot[0])

    async def keep_slot(self) -> None:
        """Say that the connection is in use; without its slot it is closed."""
        if self._slot is not None and not await slots_of(self.store).keeps(self._slot[0], time.monotonic):
            await self._hang_up()

    async def _take_slot(self) -> None:
        """Wait for one of the account's connections, no longer than for an answer of the server.

        Raises:
            Throttled: other processes use all of them.
        """
        await self.keep_slot()
        end = time.monotonic() + self.account.timeout
        while self._slot is None:
            self._slot = await slots_of(self.store).take(self.account.key, watches=self.watches)
            if self._slot is None:
                if time.monotonic() >= end or self._closed:
                    raise Throttled(
                        f"{self.account.key}: all {SLOTS} connections that one account may have are in use by other "
                        "processes; share an Inbox, or run fewer that poll by themselves", retry_after=SLOT_PAUSE,
                    )  # fmt: skip
                await asyncio.sleep(0.1)

    async def _begin(self) -> None:
        if self._closed:
            raise Unreachable("this MailSync is closed")
        await self.store.register(self.account.key, self.account.own_addresses)
        await self.keep_slot()
        self._opened = 0

    async def connection(self) -> ImapConnection:
        """The usable connection, a new one when there is none.

        Raises:
            AuthenticationFailed, Throttled: also without asking the server, while it must not be asked.
            Unreachable, CertificateRejected, ConfigurationError
        """
        if self._connection is not None and self._connection.usable:
            return self._connection
        if self._closed:
            raise Unreachable("this MailSync is closed")
        if self._opened >= REOPENED:
            raise Unreachable(f"IMAP {self.account.imap_host}: the connection was lost {self._opened} times; later")
        self._opened += 1
        return await self._opened_anew()

    async def _opened_anew(self, *, force: bool = False) -> ImapConnection:
        self._connection = None
        try:
            self._connection = await self.open(force=force)
        except ServerError as exc:
            self._unopened = exc
            raise
        return self._connection

    async def open(self, *, force: bool = False) -> ImapConnection:
        """A new connection, if the account's state allows one; its end is the caller's.

        Args:
            force: Also where a refused login would be waited out.
        """
        await self.store.open()
        key = self.account.key
        secret, now = self._fingerprint(self._credentials()), self.clock().timestamp()
        async with self.store.reading() as tx:
            known = await positions.connectivity(tx, key)
        refusal = pacing.refusal(known, secret=secret, now=now, account=key)
        if refusal is not None and not force:
            token = await self._another_token(known)
            if pacing.refusal(known, secret=secret, now=now, account=key, token=token) is not None:
                raise refusal
        await self._take_slot()
        self._offered = ""
        try:
            connection = await self._login()
        except ServerError as exc:
            token = self._fingerprint(self._offered) if self._offered else ""
            after = pacing.after_failure(known, exc, secret=secret, now=now,
                                         token=token if self.account.token is not None else None)  # fmt: skip
            if after != known:
                await self._note(known, after)
            raise
        # Being let in is not yet being served.
        self._unproven = known.state if known.state in {"unserved", "throttled"} else ""
        if known.state != "ok" and not self._unproven:
            await self._note(known, Connectivity(at=now))
        return connection

    async def _failing(self, exc: Throttled | NotServing) -> None:
        """What the server said in the middle of a session, for all processes to know: a pause, or nothing at all."""
        if exc is self._unopened:  # `open` noted its own
            return
        async with self.store.reading() as tx:
            known = await positions.connectivity(tx, self.account.key)
        secret = self._fingerprint(self._credentials())
        await self._note(known, pacing.after_failure(known, exc, secret=secret, now=self.clock().timestamp()))
        await self._hang_up()

    async def _served(self) -> None:
        if self._unproven:
            before, self._unproven = Connectivity(self._unproven), ""
            await self._note(before, Connectivity(at=self.clock().timestamp()))

    async def _login(self) -> ImapConnection:
        for attempt in (1, 2):
            connection = ImapConnection(self.account)
            self._connecting.add(connection)
            try:
                await connection.connect()
            except BaseException as exc:
                self._offered = connection.offered
                await connection.close()
                renew = getattr(self.account.token, "renew", None)
                if isinstance(exc, AuthenticationFailed) and renew is not None and attempt == 1:
                    await renew()  # the token may have ended before its time: one new one, then it is an error
                    continue
                raise
            finally:
                self._connecting.discard(connection)
            return connection
        raise AssertionError("unreachable")

    async def _another_token(self, known: Connectivity) -> str:
        """The fingerprint of the token that a login would offer now, where that matters and where there is one."""
        if self.account.token is None or not pacing.is_about_a_token(known):
            return ""
        asking = ImapConnection(self.account)
        self._connecting.add(asking)
        try:
            return self._fingerprint(await asking.token() or "")
        except ServerError:
            return ""
        finally:
            self._connecting.discard(asking)

    def _fingerprint(self, credentials: str) -> str:
        return fingerprint(self.store.secret, credentials)

    def _credentials(self) -> str:
        """What a refusal is about. Of a token it is the login that it comes from, for the token itself is another one
        each hour."""
        token, password = self.account.token, self.account.password
        if token is not None or password is None:
            return f"token {getattr(token, 'login', '')}"
        return password.get_secret_value()

    async def _note(self, before: Connectivity, after: Connectivity) -> None:
        async def work(tx: Tx) -> None:
            await positions.save_connectivity(tx, self.account.key, after)
            if before.state != after.state:
                await append_event(tx, f"account.{after.state}", account=self.account.key, at=after.at,
                                   data={"error": after.error} if after.error else None)  # fmt: skip

        await self.store.db.run(work)

    async def _learn_roles(self) -> dict[str, str | None]:
        connection = await self.connection()
        if self._roles is None:
            listed = await connection.mailboxes()
            prefix = await connection.prefix()
            self._roles = {role: mailbox_for(role, listed, prefix) for role in ROLES}
        return self._roles

    async def close(self) -> None:
        """Leave the server. Returns within 5 seconds; a poll that is under way raises Unreachable."""
        self._closed = True
        for opening in list(self._connecting):
            opening.kill()
        connection, self._connection = self._connection, None
        if connection is not None:
            if self._turn.locked():
                connection.kill()
            await connection.close()
        slot, self._slot = self._slot, None
        if slot is not None:
            await slots_of(self.store).free(self.account.key, slot[0])

"""The one way to an IMAP server: one IMAPClient, one worker thread of its own, a deadline for every call.

A thread cannot be cancelled. When a call's time is over the loop shuts the socket down, which ends the thread's read
at once; the connection is then of no further use, and says so. While it idles it has no thread at all.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, TypeVar

from ..errors import AuthenticationFailed, ConfigurationError, MailboxError, Unreachable
from ..settings import Account
from . import translate
from .doors import Door
from .ear import Ear
from .idle import Idle
from .opening import checked, log_in, opened
from .wire import QUIET, Client, Wire

T = TypeVar("T")

CLOSING = 2.0
"""Seconds for LOGOUT, and for a thread to notice that its socket is gone."""


class Link:
    """A connection that can be opened, used by one call after the other, and closed. What is said on it is for others.

    Building it does nothing; `connect` opens it, once. After `Unreachable` it is closed for good.
    """

    def __init__(self, account: Account) -> None:
        self.account = account
        self.where = f"{account.imap_host}:{account.imap_port}"
        self.timeout = account.timeout
        self.capabilities: frozenset[str] = frozenset()
        self.exists: int | None = None
        """How many messages the server said there are, where nothing has made us unsure of it."""
        self.arrived: int | None = None
        """How many came while it idled the last time; None when that is not known."""
        self.selected: str | None = None
        """The mailbox that EXAMINE or SELECT opened last."""
        self.examined = 0
        """How often a mailbox was opened: each time the server tells of all that is there, and not again."""
        self.uidvalidity = 0
        """Of that mailbox; 0 when the server did not say."""
        self.keeps: frozenset[bytes] | None = None
        """The flags that last in that mailbox, lower case, `\\*` for any keyword; None when the server did not say."""
        self.offered = ""
        """The access token of the login, where it is one by a token."""
        self.tells_who_left = False
        """QRESYNC is on: `changes` says which messages left."""
        self._client: Client | None = None
        self._wire: Wire | None = None
        self._socket: socket.socket | None = None
        self._worker: ThreadPoolExecutor | None = None
        self._waiting: asyncio.Future[Any] | None = None
        """While a token is waited for, or a turn to connect."""
        self._turn = asyncio.Lock()
        self._ear: Ear | None = None
        """The loop has the socket: from the first IDLE on, until a thread needs it."""
        self._idle: Idle | None = None
        """The IDLE that is under way there."""
        self._closed = False
        self._stopped = False

    @property
    def usable(self) -> bool:
        return self._client is not None and not self._closed

    @property
    def received(self) -> int:
        """Bytes that came from the server."""
        return self._wire.received if self._wire is not None else 0

    # -- opening and closing

    async def connect(self) -> None:
        """Connect, secure, log in. TLS is verified always; STARTTLS that is not offered is an error, not a downgrade.

        Raises:
            Unreachable, CertificateRejected, AuthenticationFailed, Throttled, ConfigurationError
        """
        if self._client is not None or self._closed:
            raise RuntimeError("an ImapConnection is used once")
        account = self.account
        user = checked(account.username or account.address, "the user name")
        token = await self.token()
        self.offered = token or ""
        if token is not None:
            checked(token, "the access token")
        elif account.password is None:
            raise ConfigurationError("no password and no token: set AGENTMAIL_PASSWORD, or log in with OAuth2")
        password = account.password.get_secret_value() if account.password is not None else ""

        door = Door()
        try:
            await self._unless_killed(door.enter())
            await self._log_in(user, password, token)
        finally:
            door.leave()

    async def _log_in(self, user: str, password: str, token: str | None) -> None:
        account = self.account

        def work() -> Client:
            return opened(account, timeout=self.timeout, seen=self._opened, made=self._made)

        def login(client: Client) -> None:
            log_in(client, user, password, token)

        # Connect and login each get the time-out for a step of theirs; the whole has a deadline too.
        client: Client = await self._call(work, "connecting", deadline=self.timeout, step="connect")
        self._client = client
        await self._call(lambda: login(client), "logging in", deadline=self.timeout, budget=QUIET // 8,
                         step="login")  # fmt: skip
        found = await self._call(client.capabilities, "asking for capabilities")
        self.capabilities = frozenset(c.decode("ascii", "replace").upper() for c in found)
        # Without it EXAMINE does not say HIGHESTMODSEQ (RFC 7162 3.1), by which flag changes are found. QRESYNC implies
        # CONDSTORE, and lets a FETCH tell who left (RFC 7162 3.2.6).
        best = next((c for c in ("QRESYNC", "CONDSTORE") if {"ENABLE", c} <= self.capabilities), None)
        if best is not None:
            with suppress(MailboxError):  # offered and refused: then it does without
                on = await self._call(lambda: client.enable(best), f"enabling {best}")
                self.tells_who_left = best == "QRESYNC" and b"QRESYNC" in on

    async def token(self) -> str | None:
        """The access token that a login offers; None where it is by a password. `kill` ends the waiting for it.

        Raises:
            Unreachable, AuthenticationFailed, ConfigurationError: as `Account.access_token` does.
        """
        if self.account.token is None:
            return None
        return await self._unless_killed(self.account.access_token())

    async def _unless_killed(self, waiting: Coroutine[Any, Any, T]) -> T:
        """For what is waited for before there is a socket to shut down."""
        self._waiting = task = asyncio.ensure_future(waiting)
        if self._stopped:
            task.cancel()
        try:
            await asyncio.wait([task])
            if task.cancelled():
                raise translate.Lost(f"IMAP {self.where}: the connection is closed")
            return task.result()
        finally:
            task.cancel()
            self._waiting = None

    def _made(self, wire: Wire) -> None:
        self._wire = wire

    def _opened(self, sock: socket.socket) -> None:
        sock.settimeout(self.timeout)
        self._socket = sock
        if self._stopped:
            self._shut()

    async def close(self) -> None:
        """Say goodbye if there is time for it, and end. Leaves no thread and no socket."""
        if self._closed:
            return
        busy = self._turn.locked()
        if self._ear is not None or busy or self._client is None:
            await self._finish()
            return
        try:
            client = self._client
            await self._call(client.logout, "leaving", deadline=CLOSING)
        except (Unreachable, MailboxError, AuthenticationFailed):
            pass  # it is over either way
        finally:
            await self._finish()

    def kill(self) -> None:
        """End it now, from any place in the loop. A call that is under way raises Unreachable."""
        self._stopped = True
        if self._waiting is not None:
            self._waiting.cancel()
        self._shut()

    def _shut(self) -> None:
        if self._socket is not None:
            try:
                # The base class's: SSLSocket's own first forgets its TLS state, under the feet of the reading thread.
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)
            except OSError:
                pass

    async def _finish(self) -> None:
        self._closed = True
        if self._ear is not None:
            self._ear.release()
            self._ear = self._idle = None
        self.kill()
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.shutdown(wait=False, cancel_futures=True)
            await _ended(worker)
        if self._wire is not None:
            for end in (self._wire.stream.close, self._wire.sock.close):
                try:
                    end()
                except (OSError, ValueError):
                    pass
        elif self._socket is not None:
            self._socket.close()
        self._client = None

    # -- the one way through

    async def _call(
        self, work: Callable[[], T], doing: str, *, deadline: float | None = None, budget: int = QUIET,
        step: translate.Step = "",
    ) -> T:  # fmt: skip
        async with self._turn:
            return await self._call_in_turn(work, doing, deadline or self.timeout, budget, step=step)

    async def _call_in_turn(
        self, work: Callable[[], T], doing: str, deadline: float, budget: int, *, step: translate.Step = ""
    ) -> T:
        if self._ear is not None:
            await self._take_back()
        return await self._call_now(work, doing, deadline, budget, step=step)

    async def _call_now(
        self, work: Callable[[], T], doing: str, deadline: float, budget: int, *, step: translate.Step = ""
    ) -> T:
        if self._closed or self._stopped:
            raise translate.Lost(f"IMAP {self.where}: the connection is closed")
        if self._worker is None:
            self._worker = ThreadPoolExecutor(1, thread_name_prefix="agentmail-imap")
        if self._wire is not None:
            self._wire.budget = budget
        loop = asyncio.get_running_loop()
        future = loop.run_in_executor(self._worker, work)
        late = False

        def over() -> None:
            nonlocal late
            late = True
            self.kill()

        timer = loop.call_later(deadline, over)
        try:
            # Waiting, not awaiting: a cancelled caller must not leave the thread at work on our socket.
            await asyncio.wait([future], timeout=deadline + CLOSING)
        except asyncio.CancelledError:
            self.kill()
            await asyncio.wait([future], timeout=CLOSING)
            await self._finish()
            _forget(future)
            raise
        finally:
            timer.cancel()
        if not future.done():  # the resolver has no deadline of its own, and a thread in it cannot be woken
            future.add_done_callback(_forget)
            await self._finish()
            raise Unreachable(f"IMAP {self.where}: no answer within {deadline:g} s while {doing}{self._silent(step)}")
        exc = future.exception()
        if exc is None:
            return future.result()
        if late:
            await self._finish()
            late_for = f"no complete answer within {deadline:g} s while {doing}{self._silent(step)}"
            raise translate.Lost(f"IMAP {self.where}: {late_for}") from exc
        if isinstance(exc, TimeoutError):
            doing += self._silent(step)
        error = translate.translated(exc, self.where, doing, step=step)
        if translate.is_dead(exc) or translate.is_dead(error):
            await self._finish()
        raise error from exc

    def _silent(self, step: translate.Step) -> str:
        """What else it may be when nobody speaks: on a TLS port the client has to begin."""
        if step != "connect" or self._socket is None or self.account.imap_security == "tls":
            return ""
        return " (is it a TLS port, as 993 is? Then imap_security is tls)"

    # -- while the loop has the socket

    async def _say_here(
        self, say: Callable[[Wire], bytes], understand: Callable[[Wire], T], doing: str, *, budget: int
    ) -> T:
        """One command whose answer is short, by the event loop: two walks between threads take longer than it does.

        Args:
            say: Sends it; its tag.
            understand: Reads the answer, which is there as a whole.
        """
        wire, ear = self._wire, self._ear
        assert wire is not None
        assert ear is not None
        wire.budget = budget
        try:
            tag = say(wire) + b" "
            ear.listen(lambda line: not line.startswith(tag), budget=budget, keep=True)
            async with asyncio.timeout(self.timeout):
                await ear.until(lambda: ear.complete)
            return wire.reading(ear.taken(), understand)
        except asyncio.CancelledError:
            await self._finish()
            raise
        except TimeoutError as exc:
            await self._finish()
            raise translate.Lost(
                f"IMAP {self.where}: no complete answer within {self.timeout:g} s while {doing}"
            ) from exc
        except Exception as exc:
            error = translate.translated(exc, self.where, doing)
            if translate.is_dead(exc) or translate.is_dead(error):
                await self._finish()
            raise error from exc

    async def _end_idle(self) -> bool:
        """DONE; whether there was news that nobody was told of. The loop keeps the socket."""
        assert self._idle is not None
        assert self._wire is not None
        try:
            news = await self._idle.finish(min(self.timeout, 10.0))
        except BaseException:
            await self._finish()
            raise
        self.exists, self.arrived = self._idle.exists, self._idle.arrived
        self._idle = None
        self._wire.tagged_commands.clear()
        return news

    async def _take_back(self) -> bool:
        """Give the socket to the thread again; whether there was news that nobody was told of."""
        news = await self._end_idle() if self._idle is not None else False
        ear, wire = self._ear, self._wire
        assert ear is not None
        assert wire is not None
        rest = ear.release()
        try:
            if ear.lost is not None:
                raise ear.lost
            wire.reading(rest, _heard)
        except Exception as exc:
            await self._finish()
            raise translate.translated(exc, self.where, "waiting for new mail") from exc
        self._ear = None
        wire.take_up()
        wire.sock.settimeout(self.timeout)
        return news

    def _ready(self) -> Client:
        if self._client is None or self._closed:
            raise translate.Lost(f"IMAP {self.where}: the connection is closed")
        return self._client


async def _ended(worker: ThreadPoolExecutor) -> None:
    """Wait for its thread, but not for one that hangs in the resolver, where nothing reaches it."""
    loop = asyncio.get_running_loop()
    end = loop.time() + CLOSING
    while any(thread.is_alive() for thread in worker._threads) and loop.time() < end:  # noqa: SLF001, ASYNC110
        await asyncio.sleep(0.001)


def _forget(future: asyncio.Future[T]) -> None:
    """Take note of an exception that nobody waits for any more."""
    if future.done() and not future.cancelled():
        future.exception()


def _heard(wire: Wire) -> None:
    """Read what came between two commands: whole lines that answer none."""
    while wire.stream.peek(1):
        wire._get_response()  # noqa: SLF001

"""A mail server inside this process: IMAP (pymap) and SMTP (aiosmtpd) on loopback, in one event loop, in memory.

For demos, examples and your own tests. It starts in milliseconds and needs no account. It is not a mail server for
people: it checks no certificate, keeps nothing, and lies in the ways that the workarounds below name.
"""

from __future__ import annotations

import asyncio
import logging
import os
import ssl
from argparse import Namespace
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any, NamedTuple, Self

from ..errors import ConfigurationError
from ..settings import Account

try:
    import aiosmtpd.smtp as smtp_server
    from proxyprotocol.sock import SocketInfo
    from pymap.backend.dict import Config as DictConfig
    from pymap.backend.dict import Identity, Login
    from pymap.backend.dict.mailbox import MailboxData
    from pymap.concurrent import Subsystem
    from pymap.imap import IMAPServer
    from pymap.parsing.message import AppendMessage
    from pymap.parsing.specials.flag import Flag, Recent, Wildcard, get_system_flags
    from pymap.user import UserMetadata
    from pysasl.hashing import Cleartext
except ModuleNotFoundError as exc:  # pragma: no cover - the environment of the tests has it
    raise ConfigurationError(
        f"the embedded mail server needs {exc.name}: pip install 'agentmail-inbox[testing]'"
    ) from exc

MAILBOXES = ("Sent", "Drafts", "Trash", "Junk", "Archive")
MAX_MESSAGE = 50_000_000

# aiosmtpd warns of its own deprecated attribute at every AUTH.
logging.getLogger("mail.log").setLevel(logging.ERROR)

# pymap builds its MailboxData by name, so its two defects are mended in the class and not in a subclass of ours.
# 1. Stock permanent flags lack "\*": a client's keywords are dropped without a word.
MailboxData.permanent_flags = property(  # type: ignore[method-assign,assignment]
    lambda _: (get_system_flags() - {Recent}) | {Wildcard}
)
_update_selected = MailboxData.update_selected


async def _update_at_once(self: Any, selected: Any, *, wait_on: Any = None) -> Any:
    # 2. Stock IDLE sleeps on what changed between the last command and IDLE, until something else happens.
    pending = selected.mod_sequence is not None and self._mod_sequences.highest > selected.mod_sequence
    return await _update_selected(self, selected, wait_on=None if pending else wait_on)


MailboxData.update_selected = _update_at_once  # type: ignore[method-assign]


class _Config(DictConfig):
    # Stock: socket.getfqdn(), a blocking DNS question in the event loop, for every connection.
    greeting = b"agentmail embedded IMAP ready"


class Accepted(NamedTuple):
    """What the SMTP server said 250 to: the envelope, and the bytes as they came over the wire."""

    mail_from: str
    rcpt_to: tuple[str, ...]
    raw: bytes


class EmbeddedMail:
    """`async with EmbeddedMail({"agent@demo.local": "demo"}) as mail:` with IMAP and SMTP for those users.

    Mail to an address that is no user is refused with 550. Everything is in memory and gone at the end.
    Use it in the event loop that it was started in; clients may be anywhere on this machine.
    """

    host = "127.0.0.1"

    def __init__(self, users: Mapping[str, str], *, tls: ssl.SSLContext | None = None) -> None:
        self.users = {address.lower(): password for address, password in users.items()}
        self._tls = tls
        self.accepted: list[Accepted] = []
        """Every submission, in order."""
        self.answers: dict[str, str] = {}
        """What SMTP says to a recipient instead of 250: `{"full@demo.local": "452 4.2.2 mailbox full"}`."""
        self._connections: set[asyncio.Task[Any]] = set()
        self._sessions: set[_Session] = set()
        self._config = _Config(
            Namespace(passlib_cfg=None, proxy_protocol=None), host=None, port=0, demo_data=False, demo_user="",
            demo_password="", ssl_context=tls, tls_enabled=tls is not None, invalid_user_sleep=0.0,
            max_append_len=MAX_MESSAGE, hash_context=Cleartext(), cpu_subsystem=Subsystem.for_asyncio(),
        )  # fmt: skip
        self._login = Login(self._config)

    async def __aenter__(self) -> Self:
        self._config.apply_context()  # a context variable: it must be set in the task that starts the server
        for address, password in self.users.items():
            await self.add_user(address, password)
        imap = IMAPServer(self._login, self._config)

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            # Not proxyprotocol's own callback: it keeps no reference to its task, and 3.13 collects it mid-session.
            task = asyncio.current_task()
            assert task is not None
            self._connections.add(task)
            try:
                await imap(reader, writer, SocketInfo.get(writer, None, unique_id=os.urandom(8)))
            except (asyncio.CancelledError, OSError):
                pass  # the server is closing, or the client went away
            finally:
                self._connections.discard(task)
                writer.close()

        loop = asyncio.get_running_loop()
        self._imap = await asyncio.start_server(serve, self.host, 0, limit=2**20)
        self._smtp = await loop.create_server(lambda: self._smtp_session(loop), self.host, 0)
        self.imap_port: int = self._imap.sockets[0].getsockname()[1]
        self.smtp_port: int = self._smtp.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._imap.close()
        self._smtp.close()
        for task in list(self._connections):
            task.cancel()
        for session in list(self._sessions):
            session.abort()
        if self._connections:
            await asyncio.wait(self._connections)
        # The rest ends in the loop's next turns: SMTP sessions at connection_lost(), and the task that pymap leaves
        # behind when it is cancelled inside IDLE.
        for _ in range(10):
            await asyncio.sleep(0)

    async def add_user(self, address: str, password: str) -> None:
        """One more user, with an empty INBOX, Sent, Drafts, Trash, Junk and Archive."""
        address = address.lower()
        self.users[address] = password
        identity = Identity(address, self._login, None, frozenset())
        await identity.set(UserMetadata(self._config, address, password=password))
        async with identity.new_session() as session:
            for name in MAILBOXES:
                await session.mailbox_set.add_mailbox(name)

    def account(self, address: str, **given: Any) -> Account:
        """The Account of one of its users."""
        return Account(
            **{
                "address": address, "password": self.users[address.lower()],
                "imap_host": self.host, "imap_port": self.imap_port, "imap_security": "plain",
                "smtp_host": self.host, "smtp_port": self.smtp_port, "smtp_security": "plain",
                "timeout": 10.0, **given,
            }
        )  # fmt: skip

    async def deliver(self, address: str, raw: bytes, mailbox: str = "INBOX", flags: Iterable[bytes] = ()) -> int:
        """Put a message into a mailbox, as if it had come by SMTP; its uid."""
        box = await self.mailbox(address, mailbox)
        message = AppendMessage(raw, None, frozenset(Flag(f) for f in flags))
        return int((await box.append(message, recent=True)).uid)

    async def mailbox(self, address: str, mailbox: str = "INBOX") -> Any:
        """pymap's own mailbox, for what a test wants to see or break (`_uid_validity = n` resets it)."""
        return await self._config.set_cache[address.lower()][0].get_mailbox(mailbox)

    async def messages(self, address: str, mailbox: str = "INBOX") -> list[bytes]:
        """The raw messages of a mailbox, oldest first."""
        box = await self.mailbox(address, mailbox)
        return [bytes(m._content) async for m in box.messages()]  # noqa: SLF001 - the only whole copy

    # -- SMTP: aiosmtpd calls these by name

    def _smtp_session(self, loop: asyncio.AbstractEventLoop) -> _Session:
        return _Session(
            self._sessions, self, hostname="localhost", enable_SMTPUTF8=True, data_size_limit=MAX_MESSAGE,
            auth_require_tls=False, authenticator=self._authenticate, tls_context=self._tls, loop=loop,
        )  # fmt: skip

    def _authenticate(self, server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> Any:
        known = (
            mechanism in {"LOGIN", "PLAIN"} and self.users.get(data.login.decode().lower()) == data.password.decode()
        )
        return smtp_server.AuthResult(success=known, handled=False)  # stock True: a failure is never answered

    async def handle_RCPT(self, server: Any, session: Any, envelope: Any, address: str, options: Any) -> str:  # noqa: N802
        if address.lower() in self.answers:
            return self.answers[address.lower()]
        if address.lower() not in self.users:
            return "550 5.1.1 no such user here"
        envelope.rcpt_tos.append(address.lower())
        return "250 2.1.5 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802
        sender = envelope.mail_from or ""
        self.accepted.append(Accepted(sender, tuple(envelope.rcpt_tos), envelope.original_content))
        for address in envelope.rcpt_tos:
            # as a server does at final delivery (RFC 5321 4.4)
            await self.deliver(address, f"Return-Path: <{sender}>\r\n".encode() + envelope.original_content)
        return "250 2.0.0 OK: delivered"


class _Session(smtp_server.SMTP):
    """One SMTP connection that knows how to end: closing an asyncio server leaves its connections open."""

    def __init__(self, sessions: set[_Session], handler: EmbeddedMail, **options: Any) -> None:
        super().__init__(handler, **options)
        self._sessions = sessions

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._sessions.add(self)
        super().connection_made(transport)

    def connection_lost(self, error: Exception | None) -> None:
        self._sessions.discard(self)
        super().connection_lost(error)

    def abort(self) -> None:
        if isinstance(self.transport, asyncio.WriteTransport):
            self.transport.abort()

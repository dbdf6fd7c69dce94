"""One sentence puts a test in front of any mail server with any mail in it."""

from __future__ import annotations

import asyncio
from itertools import count
from typing import Any, NamedTuple, Protocol

from agentmail.settings import Account
from agentmail.testing import EmbeddedMail

from .dovecot import Dovecot


class Server(Protocol):
    """What a test may ask of a mail server, whichever it is."""

    name: str

    async def new_user(self, name: str = "user") -> str:
        """Make a user; its address."""

    async def deliver(self, address: str, *raws: bytes) -> None:
        """Put messages into its INBOX, as a delivery would; they are there when this returns."""

    def account(self, address: str, **given: Any) -> Account: ...

    async def messages(self, address: str, mailbox: str = "INBOX") -> list[bytes]:
        """What the server stores, oldest first, lines ended by CRLF, read past IMAP."""


class OnDovecot:
    name = "dovecot"

    def __init__(self, dovecot: Dovecot) -> None:
        self.dovecot = dovecot

    async def new_user(self, name: str = "user") -> str:
        return self.dovecot.new_user(name)

    async def deliver(self, address: str, *raws: bytes) -> None:
        await asyncio.to_thread(self.dovecot.deliver, address, *raws)

    def account(self, address: str, **given: Any) -> Account:
        return self.dovecot.account(address, **given)

    async def messages(self, address: str, mailbox: str = "INBOX") -> list[bytes]:
        return self.dovecot.messages(address, mailbox)


class OnEmbedded:
    name = "embedded"

    def __init__(self, mail: EmbeddedMail) -> None:
        self.mail = mail
        self._names = count(1)

    async def new_user(self, name: str = "user") -> str:
        address = f"{name}{next(self._names)}@demo.local"
        await self.mail.add_user(address, "demo")
        return address

    async def deliver(self, address: str, *raws: bytes) -> None:
        for raw in raws:
            await self.mail.deliver(address, raw)

    def account(self, address: str, **given: Any) -> Account:
        return self.mail.account(address, **given)

    async def messages(self, address: str, mailbox: str = "INBOX") -> list[bytes]:
        return await self.mail.messages(address, mailbox)


class Front(NamedTuple):
    """A user of a server, with mail in its INBOX."""

    server: Server
    address: str
    account: Account

    async def deliver(self, *raws: bytes) -> None:
        await self.server.deliver(self.address, *raws)

    async def messages(self, mailbox: str = "INBOX") -> list[bytes]:
        return await self.server.messages(self.address, mailbox)


async def mail_on(server: Server, *raws: bytes, **given: Any) -> Front:
    """A new user on `server` whose INBOX holds these messages; `given` are fields of its Account."""
    address = await server.new_user()
    await server.deliver(address, *raws)
    return Front(server, address, server.account(address, **given))

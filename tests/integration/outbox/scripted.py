"""An SMTP server that does at each step exactly what the test says, and remembers what it took."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from pydantic import SecretStr

from agentmail.settings import Account

CLOSE, RESET, HANG = "close", "reset", "hang"
"""In place of a reply: end the connection, tear it down, or say nothing for ever."""

Answer = str | bytes | Callable[[str], str | bytes]


class ScriptedSmtp:
    """`script[step]` is a reply (without CRLF), raw bytes (sent as they are, then closed), CLOSE, RESET or HANG.

    Steps: greeting, ehlo, starttls, auth, mail, rcpt, data, body (before the dot is read), dot, rset.
    `accept=False` at the dot together with a script means the server had not stored the mail.
    """

    def __init__(
        self, script: dict[str, Answer] | None = None, *, extensions: tuple[str, ...] = ("PIPELINING", "8BITMIME"),
        delay: float = 0.0,
    ) -> None:  # fmt: skip
        self.script = script or {}
        self.extensions = extensions
        self.delay = delay
        self.taken: list[tuple[str, list[str], bytes]] = []
        """(MAIL FROM, RCPT TO…, body as it was on the wire, without the dot) of every message that reached its dot."""
        self.commands: list[str] = []
        self.connections = 0
        self._writers: set[asyncio.StreamWriter] = set()
        self.hung = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._session, "127.0.0.1", 0, limit=2**20)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        for writer in list(self._writers):
            writer.transport.abort()
        await asyncio.sleep(0)

    def account(self, **given: Any) -> Account:
        return Account(
            **{
                "address": "agent@test.local", "imap_host": "127.0.0.1", "smtp_host": "127.0.0.1",
                "smtp_port": self.port, "smtp_security": "plain", "imap_security": "plain", "timeout": 5.0, **given,
            }
        )  # fmt: skip

    def _answer(self, step: str, line: str, default: str) -> str | bytes:
        answer = self.script.get(step, default)
        return answer(line) if callable(answer) else answer

    async def _say(
        self, writer: asyncio.StreamWriter, step: str, line: str, default: str, given: str | bytes | None = None
    ) -> bool:
        """False when the connection is over."""
        answer = self._answer(step, line, default) if given is None else given
        if self.delay:
            await asyncio.sleep(self.delay)
        if answer == HANG:
            self.hung.set()
            await asyncio.Event().wait()
        if answer == RESET:
            sock = writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
            return False
        if answer == CLOSE:
            writer.close()
            return False
        if isinstance(answer, bytes):
            writer.write(answer)
            await writer.drain()
            writer.close()
            return False
        writer.write(answer.encode() + b"\r\n")
        return not answer.startswith("421")

    async def _session(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.add(writer)
        try:
            await self._dialogue(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _dialogue(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not await self._say(writer, "greeting", "", "220 scripted ESMTP"):
            return
        sender, recipients = "", list[str]()
        while line := (await reader.readline()).decode("utf-8", "replace").rstrip("\r\n"):
            self.commands.append(line)
            verb = line.split(" ")[0].upper()
            if verb == "EHLO":
                ehlo = "\r\n".join(f"250-{e}" for e in ("scripted", *self.extensions)) + "\r\n250 HELP"
                going = await self._say(writer, "ehlo", line, ehlo)
            elif verb == "AUTH":
                going = await self._say(writer, "auth", line, "235 2.7.0 ok")
            elif verb == "STARTTLS":
                going = await self._say(writer, "starttls", line, "454 no")
            elif verb == "MAIL":
                sender, recipients = line[len("MAIL FROM:<") :].split(">")[0], []
                going = await self._say(writer, "mail", line, "250 2.1.0 ok")
            elif verb == "RCPT":
                address = line[len("RCPT TO:<") :].split(">")[0]
                said = self._answer("rcpt", line, "250 2.1.5 ok")
                if isinstance(said, str) and said.startswith("25"):
                    recipients.append(address)
                going = await self._say(writer, "rcpt", line, "", said)
            elif verb == "DATA":
                if not recipients and not isinstance(self.script.get("data"), str | bytes):
                    going = await self._say(writer, "nobody", line, "554 5.5.1 no valid recipients")
                    continue
                answer = self._answer("data", line, "354 go on")
                going = await self._say(writer, "data", line, "", answer)
                if going and isinstance(answer, str) and answer.startswith("354"):
                    if "body" in self.script:
                        await reader.read(1000)
                        if not await self._say(writer, "body", "", ""):
                            return
                    body = await reader.readuntil(b"\r\n.\r\n")
                    self.taken.append((sender, recipients, body[:-3]))
                    going = await self._say(writer, "dot", "", "250 2.0.0 queued")
            elif verb == "RSET":
                going = await self._say(writer, "rset", line, "250 2.0.0 ok")
            elif verb == "QUIT":
                writer.write(b"221 bye\r\n")
                return
            else:
                going = await self._say(writer, "other", line, "502 what?")
            if not going:
                return


def with_password(account: Account, password: str = "secret") -> Account:
    return account.model_copy(update={"password": SecretStr(password)})

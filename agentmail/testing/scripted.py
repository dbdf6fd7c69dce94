"""A server that plays a script, for what no real server does on request: hang, lie, die after DATA.

A script is a transcript, as in an RFC:

```text
S: 220 ready            the server says a line
C: EHLO                 the client says a line that begins like this (in any case; an IMAP tag is left out)
S: {tag} OK done        {tag} is the tag of the last IMAP command
s: 250 o                the server says this, without ending the line
C: .                    the whole text after DATA, up to the dot
! hang                  say nothing more until the client goes
! close                 end the connection
! reset                 end it by RST
! starttls              go on under TLS
```
"""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
import struct
import textwrap
from collections.abc import Mapping
from types import TracebackType
from typing import Self

SMTP_LOGIN = """
S: 220 scripted
C: EHLO
S: 250-scripted
S: 250 AUTH PLAIN LOGIN
C: AUTH
S: 235 2.7.0 welcome
"""
"""How an SMTP session begins; what follows is the test's."""

SMTP_BODY = (
    SMTP_LOGIN
    + """
C: MAIL
S: 250 2.1.0 ok
C: RCPT
S: 250 2.1.5 ok
C: DATA
S: 354 go on
C: .
"""
)
"""A session up to the dot; what the server says to it is the test's."""

IMAP_LOGIN = """
S: * OK [CAPABILITY IMAP4rev1 SASL-IR] scripted
C: LOGIN
S: {tag} OK [CAPABILITY IMAP4rev1] welcome
"""

IMAP_OTHERWISE = {
    "CAPABILITY": "S: * CAPABILITY IMAP4rev1\nS: {tag} OK done",
    "NOOP": "S: {tag} OK done",
    "ID": "S: * ID NIL\nS: {tag} OK done",
    "LOGOUT": "S: * BYE gone\nS: {tag} OK done\n! close",
}
SMTP_OTHERWISE = {"RSET": "S: 250 2.0.0 ok", "NOOP": "S: 250 2.0.0 ok", "QUIT": "S: 221 2.0.0 bye\n! close"}


class ScriptedServer:
    """`async with ScriptedServer(first, second) as server:` plays the first script to the first connection, and so on.

    The last script is played to every further connection. `otherwise` answers commands that the script does not
    expect at that point. When the client does something that neither knows, leaving the block raises AssertionError.
    """

    host = "127.0.0.1"

    def __init__(
        self, *scripts: str, otherwise: Mapping[str, str] | None = None, tls: ssl.SSLContext | None = None
    ) -> None:
        self.imap = imap = any(re.search(r"^\s*S: \* ", script, re.MULTILINE) for script in scripts)
        self.otherwise = dict(otherwise if otherwise is not None else IMAP_OTHERWISE if imap else SMTP_OTHERWISE)
        self._scripts = [_steps(script) for script in scripts]
        self.tls = tls
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0
        self.connections = 0
        self.heard: list[bytes] = []
        """Every line of every client, without its end; after DATA, the whole text as one entry."""
        self.surprises: list[str] = []
        """What a client said that the script did not expect."""

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, self.host, self.port, limit=2**26)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        if exc is None and self.surprises:
            raise AssertionError("; ".join(self.surprises))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        script = self._scripts[min(self.connections, len(self._scripts) - 1)]
        self.connections += 1
        try:
            session = _Session(self, reader, writer)
            await session.play(script)
            await session.linger()
        except (asyncio.IncompleteReadError, OSError):
            pass  # the client went away, which a script need not foresee
        except asyncio.CancelledError:
            pass  # the server is closing; nobody waits for this task's result
        finally:
            self._tasks.discard(task)
            writer.close()


class _Session:
    """One connection and how far its script has come."""

    def __init__(self, server: ScriptedServer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.server, self.reader, self.writer = server, reader, writer
        self.tag = "*"

    async def play(self, script: list[tuple[str, str]]) -> None:
        for who, what in script:
            if who == "C":
                await self._hear(what)
            elif who == "!":
                await self._act(what)
            else:
                end = "\r\n" if who == "S" else ""
                self.writer.write((what.replace("{tag}", self.tag) + end).encode("utf-8", "surrogateescape"))
                await self.writer.drain()

    async def linger(self) -> None:
        """After the script: say goodbye, and nothing else, until the client goes."""
        while True:
            await self._otherwise(await self._command())

    async def _hear(self, expected: str) -> None:
        if expected == ".":
            self.server.heard.append(await self._text_after_data())
            return
        while not (text := await self._command()).casefold().startswith(expected.casefold()):
            if not await self._otherwise(text):
                self.server.surprises.append(f"expected {expected!r}, the client said {text!r}")
                raise ConnectionAbortedError

    async def _otherwise(self, text: str) -> bool:
        answer = self.server.otherwise.get(text.partition(" ")[0].upper())
        if answer is not None:
            await self.play(_steps(answer))
        return answer is not None

    async def _command(self) -> str:
        """What the client says next, without an IMAP tag, which is remembered."""
        said = await self._line()
        self.server.heard.append(said)
        text = said.decode("utf-8", "replace")
        if self.server.imap:
            tag, _, command = text.partition(" ")
            if tag.isalnum():
                self.tag, text = tag, command
        return text

    async def _line(self) -> bytes:
        """One line, with the literals in it (RFC 3501 4.3)."""
        line = await self.reader.readuntil(b"\r\n")
        while self.server.imap and (literal := re.search(rb"\{(\d+)(\+?)\}\r\n\Z", line)):
            if not literal[2]:
                self.writer.write(b"+ go on\r\n")
                await self.writer.drain()
            line += await self.reader.readexactly(int(literal[1])) + await self.reader.readuntil(b"\r\n")
        return line.removesuffix(b"\r\n")

    async def _text_after_data(self) -> bytes:
        lines = b""
        while (line := await self.reader.readuntil(b"\r\n")) != b".\r\n":
            lines += line[1:] if line.startswith(b".") else line
        return lines

    async def _act(self, what: str) -> None:
        if what == "hang":
            while await self.reader.read(65536):
                pass
        elif what == "close":
            self.writer.close()
            raise ConnectionAbortedError
        elif what == "reset":
            raw: socket.socket = self.writer.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # close() then sends RST
            self.writer.transport.abort()
            raise ConnectionAbortedError
        elif what == "starttls" and self.server.tls is not None:
            await self.writer.start_tls(self.server.tls)
        else:
            raise ValueError(f"a script cannot {what!r}")


def _steps(script: str) -> list[tuple[str, str]]:
    steps = []
    for line in textwrap.dedent(script).splitlines():
        if not line.strip():
            continue
        match = re.fullmatch(r"([SsC]): ?(.*)|(!) (\w+)", line)
        if match is None:
            raise ValueError(f"not a line of a script: {line!r}")
        steps.append((match[1] or match[3], match[2] if match[1] else match[4]))
    return steps

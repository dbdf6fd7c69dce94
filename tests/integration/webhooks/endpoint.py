"""A real HTTP endpoint on loopback that keeps what it was sent and answers what the test says."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from types import TracebackType
from typing import Any, NamedTuple, Self

OK = b"HTTP/1.1 204 No Content\r\n\r\n"


class Request(NamedTuple):
    line: str
    headers: dict[str, str]
    body: bytes


class Endpoint:
    """`answers` are given in turn, the last one again and again; a callable decides by the request."""

    def __init__(self, *answers: bytes | Callable[[Request], bytes], tls: ssl.SSLContext | None = None) -> None:
        self.answers = list(answers) or [OK]
        self.requests: list[Request] = []
        self.arrived = asyncio.Condition()
        self.connections = 0
        self._tls = tls
        self._writers: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        await self._server.wait_closed()

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://localhost:{self.port}/hooks?to=agentmail"

    async def expect(self, enough: Callable[[list[Request]], Any]) -> None:
        async with asyncio.timeout(60), self.arrived:
            await self.arrived.wait_for(lambda: enough(self.requests))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.add(writer)
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("ascii").split("\r\n")
            headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in head[1:] if line)}
            request = Request(head[0], headers, await reader.readexactly(int(headers["content-length"])))
            self.requests.append(request)
            answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
            writer.write(answer(request) if callable(answer) else answer)
            await writer.drain()
            async with self.arrived:
                self.arrived.notify_all()
            await reader.read()  # until the other side goes
        except (OSError, EOFError):
            pass
        finally:
            writer.transport.abort()

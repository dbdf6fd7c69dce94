"""An IMAP server that does what it should, except where a test says otherwise."""

from __future__ import annotations

import asyncio
import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable
from types import TracebackType
from typing import Self

from agentmail.settings import Account

Answer = Callable[["Liar", str, str], bytes | None]
"""(server, tag, arguments) -> what to say instead; None for the honest answer."""

CLOSE = b"\0close"


class Liar:
    """Messages by uid in one INBOX. `lies["FETCH"] = answer` replaces what it says to a command."""

    def __init__(self, messages: dict[int, bytes] | None = None, *, capabilities: str = "IMAP4rev1 IDLE") -> None:
        self.messages = dict(messages or {})
        self.uidvalidity, self.uidnext = "[UIDVALIDITY 7]", True
        self.next = max(self.messages, default=0) + 1
        self.capabilities = capabilities
        self.greeting = b"* OK [CAPABILITY " + capabilities.encode() + b"] liar\r\n"
        self.lies: dict[str, Answer] = {}
        self.heard: list[str] = []
        self.connections = 0
        self.port = 0
        self.writers: set[asyncio.StreamWriter] = set()
        """Of the connections that are open."""
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=2**26)
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

    def account(self, **given: object) -> Account:
        return Account(**{  # type: ignore[arg-type]
            "address": "agent@test.local", "password": "secret", "timeout": 5.0, "imap_host": "127.0.0.1",
            "imap_port": self.port, "imap_security": "plain", "smtp_host": "127.0.0.1", "smtp_port": 9,
            "smtp_security": "plain", **given,
        })  # fmt: skip

    def add(self, uid: int, raw: bytes) -> None:
        self.messages[uid] = raw
        self.next = max(self.next, uid + 1)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        self.writers.add(writer)
        try:
            writer.write(self.greeting)
            while line := await reader.readline():
                text = line.decode("ascii", "replace").rstrip("\r\n")
                tag, _, command = text.partition(" ")
                self.heard.append(command)
                word, _, rest = command.removeprefix("UID ").partition(" ")
                lie = self.lies.get(word.upper())
                said = lie(self, tag, rest) if lie is not None else None
                answer = said if said is not None else self.honest(word.upper(), tag, rest)
                writer.write(answer.removesuffix(CLOSE))
                await writer.drain()
                if answer.endswith(CLOSE):
                    return
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            self.writers.discard(writer)
            writer.close()

    def honest(self, word: str, tag: str, rest: str) -> bytes:
        done = f"{tag} OK done\r\n".encode()
        if word == "LOGOUT":
            return b"* BYE bye\r\n" + done + CLOSE
        if word == "CAPABILITY":
            return b"* CAPABILITY " + self.capabilities.encode() + b"\r\n" + done
        if word == "LIST":
            return b'* LIST () "/" "INBOX"\r\n' + done
        if word in {"EXAMINE", "SELECT"}:
            lines = [f"* {len(self.messages)} EXISTS", "* FLAGS (\\Seen)"]
            if self.uidvalidity:
                lines.append(f"* OK {self.uidvalidity} ok")
            if self.uidnext:
                lines.append(f"* OK [UIDNEXT {self.next}] ok")
            return "".join(f"{line}\r\n" for line in lines).encode() + f"{tag} OK [READ-ONLY] done\r\n".encode()
        if word == "SEARCH":
            return f"* SEARCH {' '.join(map(str, self.matching(rest)))}\r\n".encode() + done
        if word == "FETCH":
            return b"".join(self.fetched(uid, rest) for uid in self.matching("UID " + rest)) + done
        return done

    def matching(self, criteria: str) -> list[int]:
        match = re.match(r"(UID )?([\d:*,]+)", criteria)
        if match is None:
            return sorted(self.messages)
        wanted: set[int] = set()
        order = sorted(self.messages)
        top = (order[-1] if match[1] else len(order)) if order else 0
        for part in match[2].split(","):
            a, _, b = part.partition(":")
            low, high = sorted(top if x == "*" else int(x) for x in (a, b or a))
            wanted.update(
                order[bisect_left(order, low) : bisect_right(order, high)] if match[1] else order[low - 1 : high]
            )
        return sorted(wanted & set(order))

    def fetched(self, uid: int, rest: str) -> bytes:
        raw = self.messages[uid]
        number = sorted(self.messages).index(uid) + 1
        facts = f'UID {uid} FLAGS () INTERNALDATE "05-Jan-2026 10:00:00 +0000" RFC822.SIZE {len(raw)}'
        if part := re.search(r"<(\d+)\.(\d+)>", rest):
            raw = raw[int(part[1]) : int(part[1]) + int(part[2])]
            about = facts if "RFC822.SIZE" in rest else f"UID {uid}"
            return f"* {number} FETCH ({about} BODY[]<{part[1]}> {{{len(raw)}}}\r\n".encode() + raw + b")\r\n"
        if "BODY" not in rest:
            return f"* {number} FETCH ({facts})\r\n".encode()
        return f"* {number} FETCH ({facts} BODY[] {{{len(raw)}}}\r\n".encode() + raw + b")\r\n"


class Pusher(Liar):
    """It idles, and tells of new mail at once."""

    def __init__(self, messages: dict[int, bytes] | None = None) -> None:
        super().__init__(messages)
        self._idling = ""
        self.lies["IDLE"] = self._idle
        self.lies[""] = lambda s, tag, rest: f"{self._idling} OK done\r\n".encode() if tag == "DONE" else None

    def _idle(self, server: Liar, tag: str, rest: str) -> bytes:
        self._idling = tag
        return b"+ idling\r\n"

    def push(self, uid: int, raw: bytes) -> None:
        """A message comes, and everybody who is connected hears of it."""
        self.add(uid, raw)
        self.say(f"* {len(self.messages)} EXISTS\r\n".encode())

    def say(self, data: bytes) -> None:
        for writer in self.writers:
            writer.write(data)

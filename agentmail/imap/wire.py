"""The socket under an IMAPClient: made by us, so that it can be seen, limited and closed from outside.

imaplib asks the server how much to read. Here every command has a budget of bytes, checked before they are read: a
literal that lies about its size or a flood of untagged lines ends the connection and not the process (law 11).
"""

from __future__ import annotations

import imaplib
import io
import re
import socket
import ssl
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from imapclient import IMAPClient

from .pipeline import Ahead, discard

_BARE = re.compile(rb"\S+ (?:OK|NO|BAD) ?\r\n\Z")
_LITERAL = re.compile(rb"\{(\d+)\}\r?\n\Z")

T = TypeVar("T")

QUIET = 8 * 2**20
"""Bytes that the answer to a command may have when it carries no mail: a UID SEARCH over 500,000 messages fits."""


AT_ONCE = 64 * 2**10
"""Bytes of one read, while there is mail to fetch."""


class TooMuch(imaplib.IMAP4.abort):
    """The server sent more than the command can be worth. What it says next cannot be trusted either."""


class Wire(imaplib.IMAP4):
    """imaplib over a socket of ours. TLS from the first byte when `tls` is given."""

    def __init__(
        self, host: str, port: int, *, timeout: float, tls: ssl.SSLContext | None,
        opened: Callable[[socket.socket], None],
    ) -> None:  # fmt: skip
        self.budget = QUIET // 8  # for greeting, TLS and capabilities
        self.received = 0
        """Bytes of all answers so far."""
        self.pushed = b""
        """A line that was read and is imaplib's to understand."""
        self.ahead: Ahead | None = None
        """A FETCH that was asked for in advance."""
        self._opened = opened
        self._connect_timeout = timeout
        self._tls = tls
        super().__init__(host, port)

    def _create_socket(self, timeout: float | None) -> socket.socket:
        sock = socket.create_connection((self.host, self.port), self._connect_timeout)
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            # A NAT forgets an idle connection without telling either side; a probe a minute keeps it, or shows it.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for name, value in (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 20), ("TCP_KEEPCNT", 3)):
                if hasattr(socket, name):
                    sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
            self._opened(sock)
            return self._secured(sock, self._tls) if self._tls is not None else sock
        except BaseException:
            sock.close()
            raise

    def open(self, host: str = "", port: int = 143, timeout: float | None = None) -> None:
        super().open(host, port, timeout)
        self._read_by(io.BufferedReader(self.stream.detach(), AT_ONCE))

    def _secured(self, sock: socket.socket, tls: ssl.SSLContext) -> ssl.SSLSocket:
        # The handshake is a step of its own, so that whoever watches the deadline can reach the socket during it.
        secure = tls.wrap_socket(sock, server_hostname=self.host, do_handshake_on_connect=False)
        self._opened(secure)
        try:
            secure.do_handshake()
        except BaseException:
            secure.close()
            raise
        return secure

    def start_tls(self, tls: ssl.SSLContext) -> None:
        """STARTTLS. Whatever the server said before the handshake is forgotten with the old reader (RFC 9051 6.2.1)."""
        kind, data = self._simple_command("STARTTLS")
        if kind != "OK":
            raise self.error(f"STARTTLS refused: {data[-1]!r}")
        old = self.stream
        self.sock = self._secured(self.sock, tls)
        self._read_by(self.sock.makefile("rb", AT_ONCE))
        old.close()
        self.untagged_responses.clear()
        self._get_capabilities()

    def _get_capabilities(self) -> None:
        """What the greeting said, which most servers say there (RFC 9051 7.1, CAPABILITY), or else by asking.

        Nothing that was said before TLS is there any more when it is asked for after STARTTLS.
        """
        told = self.untagged_responses.pop("CAPABILITY", None)
        if told and isinstance(told[-1], bytes):
            self.capabilities = tuple(told[-1].decode("ascii", "replace").upper().split())
        else:
            super()._get_capabilities()  # type: ignore[misc]  # imaplib has it; its stubs do not

    def read(self, size: int) -> bytes:
        self.spend(size)
        return super().read(size)

    def readline(self) -> bytes:
        if self.pushed:
            line, self.pushed = self.pushed, b""
            return line
        try:
            line = super().readline()
        except self.error as exc:
            raise TooMuch(str(exc)) from exc
        if _BARE.match(line):  # imaplib hangs up on a server that says OK and nothing else
            line = line.rstrip() + b" (no text)\r\n"
        literal = _LITERAL.search(line[-24:])
        # The literal is charged when it is read; here it is only looked at, before anybody allocates for it.
        self.spend(len(line), ahead=int(literal[1]) if literal else 0)
        return line

    def settle(self) -> None:
        """Read what was asked for in advance; nobody wants it now."""
        if self.ahead is not None:
            unwanted, self.ahead = self.ahead, None
            discard(self, unwanted)

    def _command(self, name: str, *args: Any) -> Any:
        self.settle()
        return super()._command(name, *args)  # type: ignore[misc]  # imaplib has it; its stubs do not

    def spend(self, size: int, ahead: int = 0) -> None:
        self.received += size
        self.budget -= size
        if self.budget < ahead:
            raise TooMuch(f"the server announced {size + ahead} bytes more than its answer can need")

    def lay_aside(self) -> None:
        """Give up the reader's buffer, which holds nothing now: an idle mailbox should cost a socket."""
        self._read_by(self.stream.detach())
        getattr(self, "_cmd_log", {}).clear()  # imaplib's last commands, LOGIN among them

    def take_up(self) -> None:
        """Read with a buffer again."""
        self._read_by(io.BufferedReader(self.stream))

    def _read_by(self, stream: io.IOBase) -> None:
        setattr(self, "_file" if hasattr(self, "_file") else "file", stream)

    def reading(self, said: bytes, understand: Callable[[Wire], T]) -> T:
        """What `understand` makes of an answer that was read already."""
        before = self.stream
        self._read_by(io.BufferedReader(io.BytesIO(said)))
        try:
            return understand(self)
        finally:
            self._read_by(before)

    @property
    def stream(self) -> Any:
        """imaplib's buffered reader; Python 3.14 renamed it."""
        return getattr(self, "_file", None) or self.file


class Client(IMAPClient):  # type: ignore[misc]
    """IMAPClient on a `Wire`."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        super().__init__(wire.host, wire.port, ssl=False, timeout=None)
        # As shipped imaplib formats the repr of every message body for a logger that is off: half of the time.
        wire.debug = 0
        self.normalise_times = False

    def _create_IMAP4(self) -> Wire:  # noqa: N802
        return self._wire

    def _set_read_timeout(self) -> None:
        """Each connection sets its own, by what it waits for."""


@lru_cache(maxsize=16)  # one holds the system's authorities: half a megabyte, too much for every mailbox
def trusted(ca_file: Path | None) -> ssl.SSLContext:
    """A context that verifies certificate and name, by the system's authorities and the given ones.

    Raises:
        OSError: the file cannot be read, or holds no certificate (ssl.SSLError).
    """
    context = ssl.create_default_context()
    if ca_file is not None:
        context.load_verify_locations(ca_file)
    return context

"""Bytes to SMTP: one submission, and an honest answer about how it ended.

The only importer of aiosmtplib. It connects, negotiates TLS and logs in; then we speak the mail transaction ourselves,
step by step, because its exceptions do not tell a connection lost before the body from one lost after the final dot,
and only the second may have been sent.

```
connect ─▶ EHLO ─▶ STARTTLS ─▶ AUTH ─▶ MAIL ─▶ RCPT… ─▶ DATA ─▶ 354 ─▶ hook ─▶ body ─▶ deadline ─▶ dot ─▶ reply
└─────── an error is raised ───────┘   └──────── temporary or permanent: nothing was sent ───────┘   └ unknown ┘
```

Nothing is sent until the final dot (RFC 5321 4.1.1.4), so whatever breaks before it is certain. What breaks after it,
and a reply that is no reply, is `unknown`. TLS is always verified; STARTTLS is required, never opportunistic.
"""

from __future__ import annotations

import asyncio
import inspect
import re
import ssl
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import aiosmtplib

from .errors import AuthenticationFailed, BadInput, CertificateRejected, ConfigurationError, Unreachable
from .message.models import Envelope
from .settings import Account

State = Literal["sent", "temporary", "permanent", "unknown"]
Step = Literal["mail", "rcpt", "data", "hook", "body", "dot"]
BeforeBody = Callable[[], Awaitable[Callable[[], bool] | None]]
"""Called when the server said 354. It returns what says, just before the dot, whether it may still go; None: stop."""

_PATH = re.compile(r'(?:[^\s"<>@\x00-\x20\x7f]+|"(?:[^"\\\x00-\x1f\x7f]|\\[\x20-\x7e])*")@[^\s"<>@\x00-\x20\x7f]+')
_BARE_END = re.compile(rb"\r(?!\n)|(?<!\r)\n")
_LEADING_DOT = re.compile(rb"(?m)^\.")
_MAX_REPLY = 32_768


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds for each step, never less than RFC 5321 4.5.3.2 asks for once the mail transaction has begun."""

    command: float = 300.0
    """MAIL and RCPT."""
    data: float = 120.0
    """The 354 after DATA."""
    block: float = 180.0
    """Each block of the body."""
    dot: float = 600.0
    """The reply to the final dot. Trap: a client that waits less sends mail twice that was accepted once."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a submission ended."""

    state: State
    step: Step
    """How far it came."""
    code: int | None = None
    """The reply code that decided; None when the server said nothing."""
    text: str = ""
    refused: dict[str, tuple[int, str]] = field(default_factory=dict)
    """Recipients that the server did not take, with its reply; beside `sent` the others were taken."""


class _Lost(Exception):
    """No usable reply: the connection closed, the time ran out, or what came is no SMTP."""


class _Session:
    """One connection after login: a stream of lines, and what the server can do."""

    def __init__(self, transport: asyncio.Transport, extensions: dict[str, str], timeouts: Timeouts) -> None:
        loop = asyncio.get_running_loop()
        self.reader = asyncio.StreamReader(limit=_MAX_REPLY, loop=loop)
        protocol = asyncio.StreamReaderProtocol(self.reader, loop=loop)
        # aiosmtplib pairs one command with one reply; PIPELINING needs them apart (RFC 2920).
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        transport.set_write_buffer_limits(high=0)  # drain() returns when the kernel has everything
        self.writer = asyncio.StreamWriter(transport, protocol, self.reader, loop)
        self.extensions = extensions
        self.timeouts = timeouts
        self.used = 0
        self.dirty = False
        """A transaction was refused and not yet reset."""
        self.idle_since = 0.0

    def offers(self, extension: str) -> bool:
        return extension in self.extensions

    @property
    def usable(self) -> bool:
        """Whether the server is still there and has said nothing unasked, such as 421 before it hangs up."""
        return not (self.reader.at_eof() or self.writer.is_closing() or self.reader._buffer)  # type: ignore[attr-defined] # noqa: SLF001

    async def ask(self, *commands: str, timeout: float) -> list[tuple[int, str]]:
        """Send commands, all at once where PIPELINING is offered; their replies in order.

        Without PIPELINING a refusal ends the sequence: the caller sees fewer replies than commands.
        """
        if self.offers("pipelining"):
            await self._write("".join(f"{c}\r\n" for c in commands).encode(), timeout)
            return await self._replies(len(commands), timeout)
        replies: list[tuple[int, str]] = []
        for command in commands:
            await self._write(f"{command}\r\n".encode(), timeout)
            replies.append(await self.reply(timeout))
            if replies[-1][0] == 421 or (replies[-1][0] >= 400 and not command.startswith("RCPT")):
                break
        return replies

    async def _replies(self, count: int, timeout: float) -> list[tuple[int, str]]:
        """The replies to commands that went together; fewer when the last one is a refusal that ends the session."""
        replies: list[tuple[int, str]] = []
        try:
            while len(replies) < count:
                replies.append(await self.reply(timeout))  # each has its own time
        except _Lost:
            if not replies or replies[-1][0] < 400:
                raise
        return replies

    async def reply(self, timeout: float) -> tuple[int, str]:
        """One reply, all its lines. Raises _Lost for anything that is not one."""
        lines: list[str] = []
        size = 0
        try:
            async with asyncio.timeout(timeout):
                while True:
                    line = await self.reader.readuntil(b"\n")
                    size += len(line)
                    if not re.match(rb"[2-5]\d\d[ \r\n-]", line) or size > _MAX_REPLY:
                        raise _Lost(f"the server sent no SMTP reply: {_printable(line)[:80]!r}")
                    lines.append(_printable(line[4:]))
                    if line[3:4] != b"-":
                        return int(line[:3]), " ".join(filter(None, lines))
        except TimeoutError:
            raise _Lost(f"no reply within {timeout:.0f} s") from None
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, OSError) as exc:
            raise _Lost(f"the connection was lost: {_reason(exc)}") from exc

    async def _write(self, data: bytes, timeout: float) -> None:
        try:
            self.writer.write(data)
            if not self.writer.transport.get_write_buffer_size() and not self.writer.is_closing():
                return  # the kernel has it all
            async with asyncio.timeout(timeout):
                await self.writer.drain()
        except TimeoutError:
            raise _Lost(f"the server took no data for {timeout:.0f} s") from None
        except OSError as exc:
            raise _Lost(f"the connection was lost: {_reason(exc)}") from exc

    async def write_body(self, data: bytes) -> None:
        """Everything but the final dot, and not a byte of it left in our own buffers."""
        for start in range(0, len(data), 65_536):
            await self._write(data[start : start + 65_536], self.timeouts.block)

    def close(self) -> None:
        """At once, without QUIT: the peer sees a transaction without a dot and forgets it."""
        self.writer.transport.abort()

    async def quit(self) -> None:
        try:
            async with asyncio.timeout(1.0):
                self.writer.write(b"QUIT\r\n")
                await self.reader.readuntil(b"\n")
        except (TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # it is being closed anyway
        finally:
            self.close()


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
        self.connections = connections
        self.timeouts = timeouts or Timeouts()
        self._keep, self._per_connection, self._monotonic = keep, per_connection, monotonic
        self._slots = asyncio.Semaphore(connections)
        self._idle: list[_Session] = []
        self._context: ssl.SSLContext | None = None

    @property
    def server(self) -> str:
        return f"{self.account.smtp_host}:{self.account.smtp_port}"

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
        async with self._slots:
            while session := self._reusable():
                outcome = await self._guarded(session, raw, envelope, before_body, submission)
                if outcome.code is None and outcome.state == "temporary" and outcome.step in {"mail", "rcpt", "data"}:
                    continue  # it had gone away while idle; nothing was sent, so a fresh one may try
                return outcome
            return await self._guarded(await self._connect(), raw, envelope, before_body, submission)

    async def check(self) -> tuple[str, ...]:
        """Connect and log in, without sending anything; the extensions that the server offers. Raises like submit."""
        async with self._slots:
            session = await self._connect()
            self._idle.append(session)
            return tuple(sorted(session.extensions))

    async def close(self) -> None:
        """Say goodbye on every idle connection. Returns within 2 seconds."""
        idle, self._idle = self._idle, []
        async with asyncio.TaskGroup() as group:
            for session in idle:
                group.create_task(session.quit())

    # -- the transaction

    async def _guarded(
        self, session: _Session, raw: bytes, envelope: Envelope, before_body: BeforeBody | None, submission: str | None
    ) -> Outcome:
        """The transaction; the connection goes back to the pool only when its state is certain, also on cancel."""
        outcome: Outcome | None = None
        try:
            outcome = await self._transaction(session, raw, envelope, before_body, submission)
            return outcome
        finally:
            certain = outcome is not None and outcome.code not in {None, 421} and outcome.step != "hook"
            session.used += 1
            if certain and session.used < self._per_connection and session.usable:
                session.idle_since = self._monotonic()
                self._idle.append(session)
            else:
                session.close()

    async def _transaction(
        self, session: _Session, raw: bytes, envelope: Envelope, before_body: BeforeBody | None, submission: str | None
    ) -> Outcome:
        commands = _commands(session, raw, envelope, submission)
        if isinstance(commands, Outcome):
            return commands
        step: Step = "mail"
        try:
            times = session.timeouts
            if session.dirty:
                if (await session.ask("RSET", timeout=times.command))[0][0] != 250:
                    return Outcome("temporary", "mail", None, "the server would not reset the connection")
                session.dirty = False
            replies = await session.ask(*commands, timeout=times.command)
            session.dirty = True
            step, outcome, refused = _judge(replies, envelope)
            if outcome is not None:
                if replies[-1][0] == 354:  # it waits for a body nobody will get (RFC 2920 3.1)
                    session.close()
                return outcome
            step = "hook"
            may_finish = await before_body() if before_body is not None else lambda: True
            if may_finish is None:
                return Outcome("temporary", "hook", None, "stopped before the body", refused)
            step = "body"
            await session.write_body(_stuffed(raw))
            if not may_finish():
                # Paused for longer than the lease: somebody else may have taken over (and may have sent it).
                return Outcome("temporary", "hook", None, "too late to finish: closed before the final dot", refused)
            step = "dot"
            await session._write(b".\r\n", times.block)  # noqa: SLF001
            code, text = await session.reply(times.dot)
            if code // 100 == 3:
                raise _Lost(f"the server answered the message with {code} {text}")
            session.dirty = False
            return Outcome(_verdict(code), "dot", code, text, refused)
        except _Lost as exc:
            return Outcome("unknown" if step == "dot" else "temporary", step, None, str(exc))

    # -- connecting

    def _reusable(self) -> _Session | None:
        while self._idle:
            session = self._idle.pop()
            if session.usable and self._monotonic() - session.idle_since < self._keep:
                return session
            session.close()
        return None

    async def _connect(self) -> _Session:
        account, wait = self.account, self.account.timeout
        client = aiosmtplib.SMTP(
            hostname=account.smtp_host, port=account.smtp_port, use_tls=account.smtp_security == "tls",
            start_tls=False, local_hostname="[127.0.0.1]", timeout=wait, tls_context=self._tls(),
        )  # fmt: skip
        done = False
        step = "connect"
        try:
            async with asyncio.timeout(3 * wait):  # a server that drips one byte a second has a deadline too
                await client.connect()
                step = "EHLO"
                await client.ehlo()
                if account.smtp_security == "starttls":
                    step = "STARTTLS"
                    if not client.supports_extension("starttls"):
                        raise Unreachable(
                            f"SMTP server {self.server} offers no STARTTLS, so nothing was sent to it: use "
                            "smtp_security=tls (usually port 465), or another port"
                        )
                    await client.starttls(server_hostname=account.smtp_host)
                    step = "EHLO"
                    await client.ehlo()
                step = "AUTH"
                await self._log_in(client)
            transport = client.transport
            if not isinstance(transport, asyncio.Transport) or transport.is_closing():
                raise Unreachable(f"SMTP server {self.server} hung up after the login")
            session = _Session(transport, {k.lower(): v for k, v in client.esmtp_extensions.items()}, self.timeouts)
            client.protocol = None  # the stream is ours now
            done = True
            return session
        except (aiosmtplib.SMTPException, OSError, ValueError) as exc:
            raise self._translated(exc, step) from exc
        finally:
            if not done:
                client.close()

    async def _log_in(self, client: aiosmtplib.SMTP) -> None:
        """One try, one mechanism: aiosmtplib's login() tries three, and three wrong tries lock accounts."""
        account = self.account
        user = _user(account)
        password = account.smtp_password or account.password
        offered = client.server_auth_methods
        if account.token is not None:
            token = account.token()
            await client.auth_xoauth2(user, await token if inspect.isawaitable(token) else token)
        elif password is None:
            return  # a relay that knows us by where we are
        elif "plain" in offered:
            await client.auth_plain(user, password.get_secret_value())
        elif "login" in offered:
            await client.auth_login(user, password.get_secret_value())
        else:
            raise AuthenticationFailed(
                f"SMTP server {self.server} offers no login that we speak ({', '.join(offered) or 'none at all'}): "
                "use port 587 with smtp_security=starttls, or 465 with tls; or an OAuth2 token"
            )

    def _tls(self) -> ssl.SSLContext:
        if self._context is None:
            self._context = ssl.create_default_context()
            if self.account.ca_file is not None:
                try:
                    self._context.load_verify_locations(cafile=self.account.ca_file)
                except (OSError, ssl.SSLError) as exc:
                    raise ConfigurationError(f"ca_file {self.account.ca_file}: {_reason(exc)}") from exc
        return self._context

    def _translated(self, exc: Exception, step: str) -> Exception:
        """Their exception as ours, by what the caller can do next."""
        where = f"SMTP server {self.server}"
        cause = exc.__cause__ if isinstance(exc.__cause__, Exception) else exc
        if isinstance(cause, ssl.SSLCertVerificationError):
            return CertificateRejected(
                f"{where}: its certificate does not prove that it is {self.account.smtp_host} "
                f"({cause.verify_message}): check smtp_host, or set ca_file to the CA that signed it"
            )
        if isinstance(cause, ssl.SSLError):
            return Unreachable(
                f"{where} speaks no TLS we can use ({_reason(cause)}): port 465 wants smtp_security=tls, 587 starttls"
            )
        if isinstance(exc, aiosmtplib.SMTPAuthenticationError) and exc.code >= 500:
            said = f"{exc.code} {_printable(exc.message)[:200]}"
            return AuthenticationFailed(
                f"{where} refused the login of {_user(self.account)} ({said}): check the password; many providers want "
                "an app password"
            )
        if isinstance(exc, aiosmtplib.SMTPResponseException):
            said = f"{exc.code} {_printable(exc.message)[:200]}"
            return Unreachable(f"{where} refused at {step}: {said}; try again later")
        if isinstance(exc, TimeoutError):
            return Unreachable(f"{where} did not answer in time at {step}: check smtp_host, smtp_port and the network")
        return Unreachable(f"{where}: no connection at {step} ({_reason(cause)}): check smtp_host and smtp_port")


def check_envelope(envelope: Envelope) -> None:
    """Raise BadInput for an address that would mean something else as an SMTP command, or nothing at all."""
    if not envelope.rcpt_to:
        raise BadInput("a message needs at least one recipient")
    for address in (*envelope.rcpt_to, *([envelope.mail_from] if envelope.mail_from else [])):
        if len(address) > 320 or not _PATH.fullmatch(address):
            raise BadInput(f"address {address[:320]!r} cannot be written into an SMTP command")


def _user(account: Account) -> str:
    return account.smtp_username or account.username or account.address


def _commands(session: _Session, raw: bytes, envelope: Envelope, submission: str | None) -> list[str] | Outcome:
    """MAIL, RCPT… and DATA with what the server offers; or why it cannot take this message."""
    limit = session.extensions.get("size", "").strip()
    if limit.isdigit() and 0 < int(limit) < len(raw):
        return Outcome("permanent", "mail", 552, f"{len(raw)} bytes, and the server takes {limit} at most (RFC 1870)")
    options = f" SIZE={len(raw)}" if session.offers("size") else ""
    addresses = (envelope.mail_from, *envelope.rcpt_to)
    if not raw.isascii():
        if not session.offers("8bitmime"):
            return Outcome("permanent", "mail", 554, "the server takes no 8-bit text (no 8BITMIME, RFC 6152)")
        options += " BODY=8BITMIME"
    if not all(a.isascii() for a in addresses) or not raw.partition(b"\r\n\r\n")[0].isascii():
        if not session.offers("smtputf8"):
            return Outcome("permanent", "mail", 553, "the server takes ASCII addresses only (no SMTPUTF8, RFC 6531)")
        options += " SMTPUTF8"
    notify = ""
    if session.offers("dsn"):
        options += " RET=HDRS" + (f" ENVID={submission}" if submission and submission.isalnum() else "")
        notify = " NOTIFY=FAILURE,DELAY"
    return [
        f"MAIL FROM:<{envelope.mail_from}>{options}",
        *(f"RCPT TO:<{a}>{notify}" for a in envelope.rcpt_to),
        "DATA",
    ]


def _judge(
    replies: Sequence[tuple[int, str]], envelope: Envelope
) -> tuple[Step, Outcome | None, dict[str, tuple[int, str]]]:
    """What the replies to MAIL, RCPT… and DATA mean; no Outcome means that the body may go."""
    (code, text), asked = replies[0], len(envelope.rcpt_to)
    if code != 250:
        return "mail", Outcome(_verdict(code), "mail", code, text), {}
    answers = replies[1 : 1 + asked]
    refused = {a: r for a, r in zip(envelope.rcpt_to, answers, strict=False) if r[0] not in {250, 251, 252}}
    if len(refused) == asked or len(answers) < asked:
        # One that may be taken later makes the whole worth another attempt: lowest code first.
        code, text = min(refused.values())
        return "rcpt", Outcome(_verdict(code), "rcpt", code, text, refused), refused
    code, text = replies[-1]
    if len(replies) < asked + 2:
        return "rcpt", Outcome("temporary", "rcpt", code, text), {}
    if code != 354:
        state = "temporary" if code // 100 in {2, 3} else _verdict(code)
        return "data", Outcome(state, "data", code, text, refused), refused
    return "data", None, refused


def _verdict(code: int) -> State:
    if 200 <= code < 300:
        return "sent"  # 251 after the dot is an acceptance too
    # 503 means that we and the server lost step with each other, not that the mail is bad.
    return "temporary" if code < 500 or code == 503 else "permanent"


def _stuffed(raw: bytes) -> bytes:
    """CRLF line ends only, and dots doubled: nothing in the body can end it (RFC 5321 4.5.2)."""
    if _BARE_END.search(raw):
        raw = _BARE_END.sub(b"\r\n", raw)
    if not raw.endswith(b"\r\n"):
        raw += b"\r\n"
    return _LEADING_DOT.sub(b"..", raw)


def _printable(text: bytes | str) -> str:
    """What a server said, on one line, without anything that moves a terminal's cursor."""
    if isinstance(text, bytes):
        text = text.decode("utf-8", "replace")
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def _reason(exc: BaseException) -> str:
    if isinstance(exc, asyncio.IncompleteReadError):
        return "closed by the server"
    return _printable(getattr(exc, "strerror", None) or str(exc) or type(exc).__name__)[:200]


_SES = re.compile(r"email-smtp\.([a-z0-9-]+)\.amazonaws\.com")
_SES_REPLY = re.compile(r"Ok ([0-9a-f]{16}-[0-9a-f-]{36,50})$", re.IGNORECASE)


def assigned_id(host: str, text: str) -> str | None:
    """The Message-ID that a rewriting service gave the mail, read from its reply to the final dot; None for most.

    Amazon SES replaces the header by `<id@region.amazonses.com>` and tells the id; Outlook.com tells the whole of it.
    """
    region = _SES.fullmatch(host.casefold())
    if region and (found := _SES_REPLY.search(text)):
        domain = "email.amazonses.com" if region[1] == "us-east-1" else f"{region[1]}.amazonses.com"
        return f"<{found[1]}@{domain}>"
    if found := re.search(r"<[^<>\s@]{1,200}@[^<>\s@]{1,200}\.(?:prod\.outlook|PROD\.OUTLOOK)\.(?:com|COM)>", text):
        return found[0]
    return None

"""IMAP's failures as errors of this house, by what the caller can do next."""

from __future__ import annotations

import imaplib
import socket
import ssl

from imapclient.exceptions import IMAPClientError

from ..errors import (
    AgentMailError,
    AuthenticationFailed,
    CertificateRejected,
    MailboxError,
    ServerError,
    Throttled,
    Unreachable,
)
from .answers import asked_pause, response_code

_PERMANENT = {"AUTHENTICATIONFAILED", "AUTHORIZATIONFAILED", "EXPIRED", "PRIVACYREQUIRED"}
_PAUSE = {"THROTTLED", "LIMIT", "INUSE", "OVERQUOTA"}
_AWAY = {"UNAVAILABLE", "SERVERBUG", "CONTACTADMIN"}


class Lost(Unreachable):
    """The connection ended in the middle of a session. Worth another one."""


class NotServing(Unreachable):
    """The server let us in and then serves nothing: Exchange's way to say that there is no such mailbox now."""


class IdleRefused(MailboxError):
    """The server does not want to IDLE: poll instead."""


class NoSuchMailbox(MailboxError):
    """The server has no mailbox of this name any more."""


GONE: tuple[type[BaseException], ...] = (imaplib.IMAP4.abort, OSError, EOFError)
"""The connection is of no use any more. TimeoutError and ssl.SSLError are OSErrors."""


def is_dead(exc: BaseException) -> bool:
    """Whether the connection must be closed after this."""
    if isinstance(exc, ServerError):
        return not (
            type(exc) in (MailboxError, NoSuchMailbox, IdleRefused) or isinstance(exc, Throttled | AuthenticationFailed)
        )
    return isinstance(exc, GONE) or _dropped(exc) or not isinstance(exc, imaplib.IMAP4.error)


def _dropped(exc: BaseException) -> bool:
    """A connection that ended during LOGIN is raised by IMAPClient as LoginError; the cause tells (abort, OSError)."""
    seen: BaseException | None = exc
    while seen is not None:
        if isinstance(seen, GONE):
            return True
        seen = seen.__cause__ or seen.__context__
    return False


def translated(exc: BaseException, where: str, doing: str, *, logging_in: bool = False) -> AgentMailError:
    """The error to raise instead, `from exc`. `where` is host:port; secrets are never part of the text."""
    if isinstance(exc, AgentMailError):
        return exc
    reason = " ".join(str(exc).split())[:300]
    if isinstance(exc, ssl.SSLCertVerificationError):
        return CertificateRejected(
            f"IMAP {where}: certificate rejected ({exc.verify_message}); check the host name, or set ca_file when the "
            "server has a private CA"
        )
    if isinstance(exc, ssl.SSLError):
        return Unreachable(
            f"IMAP {where}: no TLS ({exc.reason or reason}); is it a STARTTLS or plain port? "
            "Check imap_port and imap_security"
        )
    if isinstance(exc, socket.gaierror):
        return Unreachable(f"IMAP {where}: no such host; check imap_host")
    if isinstance(exc, ConnectionRefusedError):
        return Unreachable(f"IMAP {where}: connection refused; check imap_host and imap_port")
    code, _ = response_code(reason)
    pause = asked_pause(reason)
    if code in _PAUSE or pause is not None or "throttled" in reason.lower():
        return Throttled(f"IMAP {where}: the server asks for a pause while {doing}: {reason}", retry_after=pause)
    if "authenticated but not connected" in reason.lower():
        return NotServing(
            f"IMAP {where}: logged in, and then the server says {reason!r} while {doing}; if that stays so, the "
            "mailbox has no licence, IMAP is switched off for it, or the user name is not the mailbox's"
        )
    if isinstance(exc, TimeoutError):
        return Lost(f"IMAP {where}: no answer while {doing}; the server is slow or the network is gone")
    if _dropped(exc):
        return Lost(f"IMAP {where}: connection lost while {doing}: {reason or type(exc).__name__}")
    if logging_in:
        if code in _PERMANENT or (not code and isinstance(exc, IMAPClientError | imaplib.IMAP4.error)):
            return AuthenticationFailed(
                f"IMAP {where}: the server refused user name, password or token ({reason}); many providers want an "
                "app password or OAuth2"
            )
        return Unreachable(f"IMAP {where}: login is not possible now: {reason}")
    if code in _AWAY:
        return Unreachable(f"IMAP {where}: not available while {doing}: {reason}")
    if code in {"NONEXISTENT", "TRYCREATE"} or "doesn't exist" in reason or "unknown mailbox" in reason.lower():
        return NoSuchMailbox(f"IMAP {where}: no such mailbox while {doing}: {reason}")
    if "* BYE" in reason:  # instead of a greeting
        return Unreachable(f"IMAP {where}: the server takes no connection now: {reason}")
    if isinstance(exc, imaplib.IMAP4.error):
        return MailboxError(f"IMAP {where}: the server said no while {doing}: {reason}")
    return Lost(f"IMAP {where}: an answer that cannot be read while {doing} ({type(exc).__name__})")

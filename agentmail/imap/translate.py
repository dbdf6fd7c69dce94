"""IMAP's failures as errors of this house, by what the caller can do next."""

from __future__ import annotations

import imaplib
import re
import socket
import ssl
from typing import Literal

from ..errors import (
    AgentMailError,
    AuthenticationFailed,
    CertificateRejected,
    MailboxError,
    ServerError,
    Throttled,
    Unreachable,
)
from .refusals import meaning, pause_for

_BAD = re.compile(r"^(?:\w+ )+command error: BAD \[b['\"](.*)['\"]\]$")
"""imaplib's words around those of the server."""

Step = Literal["", "connect", "login"]
"""What a failure happened in: before anything may be said to an account, in its login, or in a session."""


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


def translated(exc: BaseException, where: str, doing: str, *, step: Step = "") -> AgentMailError:
    """The error to raise instead, `from exc`. `where` is host:port; secrets are never part of the text."""
    if isinstance(exc, AgentMailError):
        return exc
    # What a server says is shown on terminals: no escape sequence of its own.
    reason = _BAD.sub(r"\1", " ".join(str(exc).split()))[:300]
    reason = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in reason)
    if isinstance(exc, ssl.SSLError | OSError) and (network := _network(exc, where, reason)) is not None:
        return network
    means = meaning(reason, logging_in=step == "login")
    if means == "pause":
        return Throttled(
            f"IMAP {where}: the server asks for a pause while {doing}: {reason}", retry_after=pause_for(reason)
        )
    if "authenticated but not connected" in reason.lower():
        return NotServing(
            f"IMAP {where}: logged in, and then the server says {reason!r} while {doing}; if that stays so, the "
            "mailbox has no licence, IMAP is switched off for it, or the user name is not the mailbox's"
        )
    if isinstance(exc, TimeoutError):
        return Lost(f"IMAP {where}: no answer while {doing}; the server is slow or the network is gone")
    if step == "connect" and "unexpected response" in reason:
        return Unreachable(_no_imap(where, reason.partition("response: ")[2]))
    if _dropped(exc):
        return Lost(f"IMAP {where}: connection lost while {doing}: {reason or type(exc).__name__}")
    if not isinstance(exc, imaplib.IMAP4.error):
        return Lost(f"IMAP {where}: an answer that cannot be read while {doing} ({type(exc).__name__})")
    return _said_no(where, doing, reason, means, step)


def _network(exc: OSError, where: str, reason: str) -> ServerError | None:
    """No connection came about, for a reason that the operating system or TLS knows."""
    if isinstance(exc, ssl.SSLCertVerificationError):
        return CertificateRejected(f"IMAP {where}: certificate rejected ({exc.verify_message}); {_mended(exc)}")
    if isinstance(exc, ssl.SSLError):
        return Unreachable(
            f"IMAP {where}: no TLS ({exc.reason or reason}); is it a STARTTLS or plain port? "
            "Check imap_port and imap_security"
        )
    if isinstance(exc, socket.gaierror):
        return Unreachable(f"IMAP {where}: no such host; check imap_host")
    if isinstance(exc, ConnectionRefusedError):
        return Unreachable(f"IMAP {where}: connection refused; check imap_host and imap_port")
    return None


_EXPIRED, _NOT_YET, _OTHER_NAME, _OTHER_ADDRESS = 10, 9, 62, 64
"""X509_V_ERR_… of OpenSSL."""


def _mended(exc: ssl.SSLCertVerificationError) -> str:
    """What to do about a certificate."""
    if exc.verify_code in {_EXPIRED, _NOT_YET}:
        return "the server needs a new one, or this machine's clock is wrong"
    if exc.verify_code in {_OTHER_NAME, _OTHER_ADDRESS}:
        return "set imap_host to a name that it was made for"
    return "set ca_file to the CA that signed it, if you know that CA; else somebody may be in between"


def _said_no(where: str, doing: str, reason: str, means: str, step: Step) -> ServerError:
    """The server answered, and the answer was no."""
    if means == "refused":
        return AuthenticationFailed(
            f"IMAP {where}: the server refused user name, password or token ({reason}); {_instead(reason, where)}"
        )
    if means == "full":
        full = f"IMAP {where}: the account has no room left ({reason}); delete mail, or get more room"
        return Unreachable(full) if step else MailboxError(full)
    if means == "away" and step == "login":
        return Unreachable(f"IMAP {where}: login is not possible now: {reason}")
    if "* BYE" in reason:  # instead of a greeting
        return Unreachable(f"IMAP {where}: the server takes no connection now: {reason}")
    if step:
        return Unreachable(_no_imap(where, reason))
    if means == "away":
        return Unreachable(f"IMAP {where}: not available while {doing}: {reason}")
    if means == "missing":
        return NoSuchMailbox(f"IMAP {where}: no such mailbox while {doing}: {reason}")
    return MailboxError(f"IMAP {where}: the server said no while {doing}: {reason}")


def _no_imap(where: str, said: str) -> str:
    said = f" ({said})" if said not in {"", "None"} else ""
    return f"IMAP {where}: what answers there does not speak IMAP as it should{said}; check imap_host and imap_port"


_MICROSOFT = re.compile(r"^(?:outlook\.office(?:365)?|imap-mail\.outlook)\.com:", re.IGNORECASE)
_SWITCHED_OFF = re.compile(
    r"(?:not enabled|disabled) for imap|enable\b.* imap|imap (?:access |use )?is disabled", re.IGNORECASE
)


def _instead(reason: str, where: str) -> str:
    """What a person may do about a refused login: by the server's words, or by what its provider takes."""
    if _SWITCHED_OFF.search(reason):
        return "IMAP is switched off for this account: switch it on in the provider's settings"
    if _MICROSOFT.match(where) or "basic auth" in reason.lower():
        return "Microsoft takes no passwords: `agentmail login outlook`"
    if "application-specific password" in reason.lower():
        return "make an app password in the provider's settings, or use OAuth2 (`agentmail login`)"
    return "many providers want an app password or OAuth2"

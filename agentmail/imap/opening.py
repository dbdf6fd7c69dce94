"""A connection from nothing to logged in: TLS, STARTTLS, login. Runs in the connection's worker thread."""

from __future__ import annotations

import imaplib
import socket
from collections.abc import Callable

from ..errors import BadInput, CertificateRejected, ConfigurationError
from ..settings import Account
from .wire import Client, Wire, trusted


def checked(value: str, what: str) -> str:
    """The value, or BadInput: a line end in an argument would begin a command of its own."""
    if any(ord(c) < 32 or ord(c) == 127 for c in value):
        raise BadInput(f"{what} contains a control character; it cannot be said to an IMAP server")
    return value


def opened(
    account: Account, *, timeout: float, seen: Callable[[socket.socket], None], made: Callable[[Wire], None]
) -> Client:
    """A secured connection that is not logged in. `seen` gets each socket as soon as there is one.

    Raises:
        CertificateRejected: also when STARTTLS is not offered: the password is never sent without TLS.
        ConfigurationError: the file of CA certificates cannot be used.
    """
    where = f"{account.imap_host}:{account.imap_port}"
    try:
        tls = None if account.imap_security == "plain" else trusted(account.ca_file)
    except OSError as exc:
        raise ConfigurationError(f"ca_file {account.ca_file}: cannot be used ({exc})") from exc
    wire = Wire(account.imap_host, account.imap_port, timeout=timeout,
                tls=tls if account.imap_security == "tls" else None, opened=seen)  # fmt: skip
    made(wire)
    if account.imap_security == "starttls" and tls is not None:
        if wire.state != "NONAUTH":
            raise CertificateRejected(
                f"IMAP {where}: the server says we are logged in before TLS began; somebody is in between"
            )
        if "STARTTLS" not in wire.capabilities:
            raise CertificateRejected(
                f"IMAP {where}: the server offers no STARTTLS, so the password would cross the network "
                "readable; use imap_security=tls and its port (993), or find out who took STARTTLS away"
            )
        wire.start_tls(tls)
    return Client(wire)


def log_in(client: Client, user: str, password: str, token: str | None) -> None:
    """Log in by the way that the server offers; OAuth2 when there is a token."""
    wire = client._imap  # noqa: SLF001
    if wire.state != "NONAUTH":
        return
    known = client.capabilities()
    if token is not None:
        if b"AUTH=OAUTHBEARER" in known and b"AUTH=XOAUTH2" not in known:
            client.oauthbearer_login(user, token)
        else:
            client.oauth2_login(user, token)
    elif password.isascii() and user.isascii() and b"LOGINDISABLED" not in known:
        quoted = [wire._quote(checked(word, "user name or password")) for word in (user, password)]  # noqa: SLF001
        kind, data = wire._simple_command("LOGIN", *quoted)  # noqa: SLF001
        if kind != "OK":
            raise imaplib.IMAP4.error(data[-1].decode("ascii", "replace") if data[-1] else "refused")
        wire.state = "AUTH"
    else:
        client.plain_login(user, password)

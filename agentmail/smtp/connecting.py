"""From nothing to a connection that is logged in: TLS that is verified, one login, errors by what the caller can do.

The only importer of aiosmtplib: it connects, negotiates TLS and logs in.
"""

from __future__ import annotations

import asyncio
import base64
import ssl

import aiosmtplib

from ..errors import AuthenticationFailed, CertificateRejected, ConfigurationError, Unreachable
from ..settings import Account
from ..unbroken import cancellations, heed_cancellation
from .session import Session, Timeouts, printable, reason


def server(account: Account) -> str:
    return f"{account.smtp_host}:{account.smtp_port}"


async def connect(account: Account, timeouts: Timeouts, context: ssl.SSLContext | None) -> Session:
    """A connection that is logged in. A token that is refused before its time is renewed once, where it can be.

    Raises:
        Unreachable, CertificateRejected, AuthenticationFailed: it did not come to that.
    """
    try:
        return await _connected(account, timeouts, context, await account.access_token())
    except AuthenticationFailed:
        renew = getattr(account.token, "renew", None)
        if renew is None:
            raise
        await renew()
    return await _connected(account, timeouts, context, await account.access_token())


async def _connected(
    account: Account, timeouts: Timeouts, context: ssl.SSLContext | None, token: str | None
) -> Session:
    where, wait = server(account), account.timeout
    client = aiosmtplib.SMTP(
        hostname=account.smtp_host, port=account.smtp_port, use_tls=account.smtp_security == "tls",
        start_tls=False, local_hostname="[127.0.0.1]", timeout=wait, tls_context=context,
    )  # fmt: skip
    done = False
    step = "connect"
    asked = cancellations()
    try:
        async with asyncio.timeout(3 * wait):  # a server that drips one byte a second has a deadline too
            await client.connect()
            step = "EHLO"
            await client.ehlo()
            if account.smtp_security == "starttls":
                step = "STARTTLS"
                if not client.supports_extension("starttls"):
                    raise Unreachable(
                        f"SMTP server {where} offers no STARTTLS, so nothing was sent to it: use "
                        "smtp_security=tls (usually port 465), or another port"
                    )
                await client.starttls(server_hostname=account.smtp_host)
                step = "EHLO"
                await client.ehlo()
            step = "AUTH"
            await _log_in(client, account, token)
        # asyncio.wait_for, by which aiosmtplib waits, forgets a cancellation that comes together with the answer
        # (Python before 3.12), and whoever waits for our end would wait for ever.
        heed_cancellation(asked)
        transport = client.transport
        if not isinstance(transport, asyncio.Transport) or transport.is_closing():
            raise Unreachable(f"SMTP server {where} hung up after the login")
        session = Session(transport, {k.lower(): v for k, v in client.esmtp_extensions.items()}, timeouts)
        client.protocol = None  # the stream is ours now
        done = True
        return session
    except (aiosmtplib.SMTPException, OSError, ValueError) as exc:
        raise _translated(exc, step, account) from exc
    finally:
        if not done:
            client.close()


async def _oauthbearer(client: aiosmtplib.SMTP, user: str, token: str, account: Account) -> None:
    """RFC 7628 3.1; a refusal comes as a challenge, and is ended by ^A (3.2.3)."""
    name = user.replace("=", "=3D").replace(",", "=2C")
    said = f"n,a={name},\x01host={account.smtp_host}\x01port={account.smtp_port}\x01auth=Bearer {token}\x01\x01"
    answer = await client.execute_command(b"AUTH", b"OAUTHBEARER", base64.b64encode(said.encode()))
    if answer.code == 334:
        answer = await client.execute_command(b"AQ==")
    if answer.code != 235:
        raise aiosmtplib.SMTPAuthenticationError(answer.code, answer.message)


async def _log_in(client: aiosmtplib.SMTP, account: Account, token: str | None) -> None:
    """One try, one mechanism: aiosmtplib's login() tries three, and three wrong tries lock accounts."""
    user = _user(account)
    password = account.smtp_password or account.password
    offered = client.server_auth_methods
    if token is not None:
        # RFC 7628 where it is offered and Google's elder form is not: both say the same.
        if "oauthbearer" in offered and "xoauth2" not in offered:
            await _oauthbearer(client, user, token, account)
        else:
            await client.auth_xoauth2(user, token)
    elif password is None:
        return  # a relay that knows us by where we are
    elif "plain" in offered:
        await client.auth_plain(user, password.get_secret_value())
    elif "login" in offered:
        await client.auth_login(user, password.get_secret_value())
    else:
        raise AuthenticationFailed(
            f"SMTP server {server(account)} offers no login that we speak ({', '.join(offered) or 'none at all'}): "
            "use port 587 with smtp_security=starttls, or 465 with tls; or an OAuth2 token"
        )


def tls_context(account: Account) -> ssl.SSLContext | None:
    """What every TLS connection of the account is verified with; None when it uses no TLS."""
    if account.smtp_security == "plain":
        return None
    context = ssl.create_default_context()
    if account.ca_file is not None:
        try:
            context.load_verify_locations(cafile=account.ca_file)
        except (OSError, ssl.SSLError) as exc:
            raise ConfigurationError(f"ca_file {account.ca_file}: {reason(exc)}") from exc
    return context


def _translated(exc: Exception, step: str, account: Account) -> Exception:
    """Their exception as ours, by what the caller can do next."""
    where = f"SMTP server {server(account)}"
    cause = exc.__cause__ if isinstance(exc.__cause__, Exception) else exc
    if isinstance(cause, ssl.SSLCertVerificationError):
        return CertificateRejected(
            f"{where}: its certificate does not prove that it is {account.smtp_host} "
            f"({cause.verify_message}): check smtp_host, or set ca_file to the CA that signed it"
        )
    if isinstance(cause, ssl.SSLError):
        return Unreachable(
            f"{where} speaks no TLS we can use ({reason(cause)}): port 465 wants smtp_security=tls, 587 starttls"
        )
    if isinstance(exc, aiosmtplib.SMTPAuthenticationError) and exc.code >= 500:
        said = f"{exc.code} {printable(exc.message)[:200]}"
        return AuthenticationFailed(
            f"{where} refused the login of {_user(account)} ({said}): check the password; many providers want "
            "an app password"
        )
    if isinstance(exc, aiosmtplib.SMTPResponseException):
        said = f"{exc.code} {printable(exc.message)[:200]}"
        return Unreachable(f"{where} refused at {step}: {said}; try again later")
    if isinstance(exc, TimeoutError):
        return Unreachable(f"{where} did not answer in time at {step}: check smtp_host, smtp_port and the network")
    return Unreachable(f"{where}: no connection at {step} ({reason(cause)}): check smtp_host and smtp_port")


def _user(account: Account) -> str:
    return account.smtp_username or account.username or account.address

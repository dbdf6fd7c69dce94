"""What servers say when they refuse, in their own words, and what each of it means."""

from __future__ import annotations

import imaplib

import pytest

from agentmail.errors import AuthenticationFailed
from agentmail.imap.refusals import meaning, pause_for
from agentmail.imap.translate import translated


@pytest.mark.parametrize(
    "said",
    [
        # Gmail
        "[AUTHENTICATIONFAILED] Invalid credentials (Failure)",
        "[ALERT] Invalid credentials (Failure)",
        "[ALERT] Application-specific password required: https://support.google.com/accounts/answer/185833 (Failure)",
        "[WEBALERT https://accounts.google.com/signin/continue?x=1] Web login required. (Failure)",
        "[ALERT] Please log in via your web browser: https://support.google.com/mail/accounts/answer/78754 (Failure)",
        "[ALERT] Your account is not enabled for IMAP use. Please visit your Gmail settings page (Failure)",
        "[ALERT] IMAP access is disabled for your domain. Please contact your domain administrator (Failure)",
        # Microsoft, Yahoo, iCloud, Zoho, QQ
        "LOGIN failed.",
        "AUTHENTICATE failed.",
        "[AUTHENTICATIONFAILED] LOGIN Invalid credentials",
        "[AUTHENTICATIONFAILED] Authentication failed.",
        "[ALERT] Your account does not have IMAP access enabled",
        "Login fail. Account is abnormal, password is incorrect, login frequency limited, or system is busy.",
        # Dovecot, Cyrus, Courier, RFC 5530
        "[AUTHENTICATIONFAILED] Authentication failed.",
        "Login failed: authentication failure",
        "LOGIN Login failed.",
        "[EXPIRED] That password isn't valid any more",
        "[CONTACTADMIN] Your account is closed, try again later",
        "[PRIVACYREQUIRED] Plaintext authentication disallowed on non-secure connections.",
        "[X-UNKNOWN] no",
    ],
)
def test_what_a_person_must_mend_is_not_tried_again_and_again(said: str) -> None:
    """Each try counts at the provider: an account is locked by a program that takes this for bad weather."""
    assert "refused" == meaning(said, logging_in=True)


@pytest.mark.parametrize("logging_in", [True, False])
@pytest.mark.parametrize(
    "said",
    [
        "[ALERT] Too many simultaneous connections. (Failure)",
        "[ALERT] Account exceeded command or bandwidth limits. (Failure)",
        "[OVERQUOTA] Account exceeded command or bandwidth limits. 3600 (Failure)",
        "[LIMIT] LOGIN Rate limit hit.",
        "[AUTHENTICATIONFAILED] LOGIN Rate limit hit.",
        "[INUSE] Too many connections",
        "[THROTTLED] slow down",
        "Request is throttled. Suggested Backoff Time: 92415 milliseconds",
        "[LIMIT] Maximum number of connections from user+IP exceeded (mail_max_userip_connections=10)",
        "Maximum number of connections from user+IP exceeded (mail_max_userip_connections=10)",
        "[UNAVAILABLE] Maximum number of connections from user+IP exceeded",
        "* BYE Too many open connections for this account",
        "Too many failed login attempts",
    ],
)
def test_what_is_too_much_is_a_pause_for_the_account(said: str, logging_in: bool) -> None:
    assert "pause" == meaning(said, logging_in=logging_in)


@pytest.mark.parametrize(
    "said",
    [
        "[SERVERBUG] LOGIN Server error - Please try again later",
        "Temporary authentication failure.",
        "[ALERT] Server is busy",
        "Server Unavailable. 15",
    ],
)
def test_what_passes_does_not_count_as_a_refused_login(said: str) -> None:
    assert "away" == meaning(said, logging_in=True)


def test_a_part_of_the_server_that_is_down_is_asked_again_after_a_minute() -> None:
    said = "[UNAVAILABLE] Temporary authentication failure."
    assert ("pause", 60.0) == (meaning(said, logging_in=True), pause_for(said))
    assert pause_for("[LIMIT] LOGIN Rate limit hit.") is None
    assert 92.415 == pause_for("Request is throttled. Suggested Backoff Time: 92415 milliseconds")


@pytest.mark.parametrize(
    ("said", "means"),
    [("[OVERQUOTA] Quota exceeded (mailbox for user is full)", "full"), ("[TRYCREATE] no", "missing"),
     ("Mailbox doesn't exist: x", "missing"), ("[CANNOT] no", ""), ("[SERVERBUG] Internal error", "away")],
)  # fmt: skip
def test_a_no_to_one_command_is_not_about_the_account(said: str, means: str) -> None:
    assert means == meaning(said, logging_in=False)


@pytest.mark.parametrize(
    ("said", "where", "advice"),
    [
        ("[AUTHENTICATIONFAILED] Invalid credentials (Failure)", "imap.gmail.com:993", "app password or OAuth2"),
        ("[ALERT] Application-specific password required: https://x (Failure)", "imap.gmail.com:993", "make an app"),
        ("[ALERT] Your account is not enabled for IMAP use. (Failure)", "imap.gmail.com:993", "IMAP is switched off"),
        ("Please visit your settings page and enable your account for IMAP access.", "h:993", "IMAP is switched off"),
        ("IMAP access is disabled for your domain. Please contact your domain administrator", "imap.gmail.com:993",
         "IMAP is switched off"),
        ("AUTHENTICATE failed.", "outlook.office365.com:993", "`agentmail login outlook`"),
        ("Basic authentication is disabled", "mail.example.org:993", "`agentmail login outlook`"),
        ("LOGIN command error: BAD [b'Command Argument Error. 11']", "mail.example.org:993",
         "(Command Argument Error. 11); many providers"),
    ],
)  # fmt: skip
def test_a_refused_login_says_what_a_person_can_do(said: str, where: str, advice: str) -> None:
    error = translated(imaplib.IMAP4.error(said), where, "logging in", step="login")
    assert isinstance(error, AuthenticationFailed)
    assert advice in str(error)


def test_a_login_to_a_full_account_blames_neither_the_password_nor_the_port() -> None:
    error = translated(imaplib.IMAP4.error("[OVERQUOTA] Mailbox is full"), "h:993", "logging in", step="login")
    assert "delete mail" in str(error)
    assert "imap_port" not in str(error)


@pytest.mark.parametrize(
    "exc",
    [
        imaplib.IMAP4.abort("unexpected response: b'220 mail.example.org ESMTP'"),
        imaplib.IMAP4.abort("unexpected response: b'HTTP/1.1 400 Bad Request'"),
        imaplib.IMAP4.error("None"),
    ],
)
def test_who_speaks_something_else_is_said_to(exc: Exception) -> None:
    said = str(translated(exc, "h:25", "connecting", step="connect"))
    assert "does not speak IMAP" in said
    assert "check imap_host and imap_port" in said
    assert "None" not in said

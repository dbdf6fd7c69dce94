"""The servers that the other tests stand on do what they are there for."""

from __future__ import annotations

import os
import shutil
import smtplib
import ssl
import subprocess
import sys
import time
from email.message import EmailMessage
from pathlib import Path

import pytest
from imapclient import IMAPClient

from tests.servers.dovecot import Dovecot
from tests.servers.front import Server, mail_on
from tests.servers.postfix import Postfix
from tests.servers.postgres import Postgres
from tests.servers.process import PASSWORD

LETTER = (
    b"From: ana@example.org\r\nSubject: hello\r\nMessage-ID: <1@example.org>\r\n"
    b"Date: Mon, 5 Jan 2026 09:00:00 +0000\r\n\r\nHello.\r\n"
)


def trusting(dovecot: Dovecot) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(dovecot.ca))


def connect(dovecot: Dovecot, security: str) -> IMAPClient:
    if security == "tls":
        return IMAPClient(dovecot.host, dovecot.imaps, ssl_context=trusting(dovecot), timeout=10)
    client = IMAPClient(dovecot.host, dovecot.imap, ssl=False, timeout=10)
    if security == "starttls":
        client.starttls(trusting(dovecot))
    return client


@pytest.mark.parametrize("security", ["tls", "starttls", "plain"])
def test_dovecot_takes_mail_by_lmtp_and_shows_it_by_imap(dovecot: Dovecot, security: str) -> None:
    user = dovecot.new_user()
    dovecot.deliver(user, LETTER, LETTER.replace(b"hello", b"again"))
    with connect(dovecot, security) as client:
        client.login(user, PASSWORD)
        client.select_folder("INBOX", readonly=True)
        messages = client.fetch(client.search(), ["BODY.PEEK[]"])
    assert dovecot.messages(user) == [messages[uid][b"BODY[]"] for uid in sorted(messages)]
    assert [b"hello" in raw for raw in dovecot.messages(user)] == [True, False]


def test_dovecots_certificate_is_worth_nothing_without_its_authority(dovecot: Dovecot) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        IMAPClient(dovecot.host, dovecot.imaps, timeout=10)


@pytest.mark.usefixtures("dovecot")  # it says so when there is none
def test_dovecot_comes_back_with_its_mail() -> None:
    dovecot = Dovecot()
    try:
        dovecot.start()
        user = dovecot.new_user()
        dovecot.deliver(user, LETTER)
        dovecot.halt()
        with pytest.raises(ConnectionRefusedError):
            IMAPClient(dovecot.host, dovecot.imap, ssl=False, timeout=10)
        dovecot.run()
        assert len(dovecot.messages(user)) == 1
        assert "INBOX" in dovecot.doveadm("mailbox", "list", "-u", user).split()
    finally:
        dovecot.stop()
    assert not dovecot.directory.exists()


@pytest.mark.parametrize("security", ["tls", "starttls", "plain"])
def test_postfix_delivers_to_a_user_made_after_it_started(postfix: Postfix, security: str) -> None:
    dovecot = postfix.dovecot
    user = dovecot.new_user()
    port = {"tls": postfix.smtps, "starttls": postfix.submission, "plain": postfix.smtp}[security]
    if security == "tls":
        smtp = smtplib.SMTP_SSL(postfix.host, port, "t", timeout=10, context=trusting(dovecot))
    else:
        smtp = smtplib.SMTP(postfix.host, port, "t", timeout=10)
    with smtp:
        if security == "starttls":
            smtp.starttls(context=trusting(dovecot))
        if security != "plain":
            smtp.login(user, PASSWORD)
        smtp.sendmail("somebody@example.org", [user], LETTER)
    [arrived] = dovecot.wait_for(user)
    assert arrived.endswith(LETTER)


@pytest.mark.parametrize(("recipient", "code"), [("temp450", 450), ("full452", 452), ("perm550", 550), ("bye421", 421)])
def test_postfix_refuses_recipients_on_request(postfix: Postfix, recipient: str, code: int) -> None:
    with smtplib.SMTP(postfix.host, postfix.smtp, "t", timeout=10) as smtp:
        smtp.helo()
        smtp.mail("a@b.c")
        assert smtp.rcpt(f"{recipient}@test.local")[0] == code


@pytest.mark.parametrize(("sender", "code"), [("badsender", 550), ("tempsender", 451)])
def test_postfix_refuses_senders_on_request(postfix: Postfix, sender: str, code: int) -> None:
    """At RCPT, not at MAIL: that is how Postfix is set up unless told otherwise."""
    with smtplib.SMTP(postfix.host, postfix.smtp, "t", timeout=10) as smtp:
        smtp.helo()
        assert smtp.mail(f"{sender}@test.local")[0] == 250
        assert smtp.rcpt(postfix.dovecot.new_user())[0] == code


def test_postfix_refuses_content_after_the_dot(postfix: Postfix) -> None:
    letter = EmailMessage()
    letter["Subject"] = "please REJECT550 this"
    with (
        smtplib.SMTP(postfix.host, postfix.smtp, "t", timeout=10) as smtp,
        pytest.raises(smtplib.SMTPDataError) as caught,
    ):
        smtp.send_message(letter, "a@b.c", [postfix.dovecot.new_user()])
    assert caught.value.smtp_code == 550


def test_postgres_gives_each_test_its_own_database(postgres: Postgres, postgres_url: str) -> None:
    other = postgres.new_database()
    for url in (postgres_url, other):
        name = url.rpartition("/")[2]
        postgres.sql("CREATE TABLE t (x text)", name)
        assert postgres.sql("SELECT count(*) FROM t", name) == "0"
    postgres.drop(other)
    assert postgres.sql(f"SELECT count(*) FROM pg_database WHERE datname = '{other.rpartition('/')[2]}'") == "0"


async def test_any_server_holds_the_mail_it_was_given(any_mail_server: Server) -> None:
    letters = [LETTER.replace(b"hello", b"number %d" % n) for n in range(12)]
    front = await mail_on(any_mail_server, *letters, name="Support")
    assert front.account.name == "Support"
    arrived = await front.messages()
    assert [letter for letter, raw in zip(letters, arrived, strict=True) if raw.endswith(letter)] == letters
    assert await front.messages("Sent") == []


PROGRAM = """
import os, signal
from tests.servers.dovecot import Dovecot
from tests.servers.postgres import Postgres
dovecot, postgres = Dovecot(), Postgres()
dovecot.start(); postgres.start()
print(dovecot._process.pid, postgres._process.pid, dovecot.directory, postgres.directory, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_servers_end_when_the_tests_are_killed(dovecot: Dovecot, postgres: Postgres) -> None:
    environment = {k: v for k, v in os.environ.items() if k != "AGENTMAIL_TEST_POSTGRES"}
    done = subprocess.run([sys.executable, "-c", PROGRAM], cwd=Path(__file__).parents[2], env=environment,
                          stdout=subprocess.PIPE, text=True, check=False, timeout=60)  # fmt: skip
    first, second, *directories = done.stdout.split()
    try:
        for pid in map(int, (first, second)):
            with pytest.raises(ProcessLookupError):
                for _ in range(500):
                    os.kill(pid, 0)
                    if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                        raise ProcessLookupError
                    time.sleep(0.01)
    finally:
        for directory in directories:
            shutil.rmtree(directory, ignore_errors=True)
            Path(f"{directory}.log").unlink(missing_ok=True)

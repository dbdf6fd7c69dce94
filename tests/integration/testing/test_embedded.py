"""The embedded server is near enough to a real one, in what agentmail and its users ask of it."""

from __future__ import annotations

import asyncio
import gc
import smtplib
import subprocess
import sys
from pathlib import Path

import pytest
from imapclient import IMAPClient
from imapclient.exceptions import LoginError

from agentmail.testing import EmbeddedMail
from agentmail.testing.embedded import Accepted

LETTER = b"From: ana@demo.local\r\nSubject: hello\r\nMessage-ID: <1@demo.local>\r\n\r\nHello.\r\n"


def submit(mail: EmbeddedMail, *recipients: str, raw: bytes = LETTER) -> dict[str, tuple[int, bytes]]:
    with smtplib.SMTP(mail.host, mail.smtp_port, "client", timeout=10) as smtp:
        smtp.login("ana@demo.local", "demo")
        return smtp.sendmail("ana@demo.local", recipients, raw)


def connect(mail: EmbeddedMail, user: str = "agent@demo.local") -> IMAPClient:
    client = IMAPClient(mail.host, mail.imap_port, ssl=False, timeout=10)
    client.login(user, "demo")
    client.select_folder("INBOX")
    return client


async def test_what_is_submitted_arrives_byte_for_byte(embedded: EmbeddedMail) -> None:
    raw = LETTER + b".\r\n..dots\r\n" + bytes(range(128, 256)) + b"\r\n"
    await asyncio.to_thread(submit, embedded, "agent@demo.local", "BILLING@demo.local", raw=raw)
    for user in ("agent@demo.local", "billing@demo.local"):
        assert await embedded.messages(user) == [b"Return-Path: <ana@demo.local>\r\n" + raw]
    assert embedded.accepted == [Accepted("ana@demo.local", ("agent@demo.local", "billing@demo.local"), raw)]


async def test_a_stranger_is_refused_and_so_is_whom_the_test_names(embedded: EmbeddedMail) -> None:
    embedded.answers["billing@demo.local"] = "452 4.2.2 mailbox full"
    everybody = ("agent@demo.local", "nobody@demo.local", "billing@demo.local")
    refused = await asyncio.to_thread(submit, embedded, *everybody)
    assert {address: code for address, (code, _) in refused.items()} == {everybody[1]: 550, everybody[2]: 452}


async def test_a_wrong_password_is_refused(embedded: EmbeddedMail) -> None:
    def try_both() -> None:
        smtp = smtplib.SMTP(embedded.host, embedded.smtp_port, "client", timeout=10)
        with smtp, pytest.raises(smtplib.SMTPAuthenticationError):
            smtp.login("ana@demo.local", "wrong")
        client = IMAPClient(embedded.host, embedded.imap_port, ssl=False, timeout=10)
        with client, pytest.raises(LoginError, match="AUTHENTICATIONFAILED"):
            client.login("ana@demo.local", "wrong")

    await asyncio.to_thread(try_both)


async def test_a_user_can_be_added_while_it_runs(embedded: EmbeddedMail) -> None:
    await embedded.add_user("Late@demo.local", "demo")
    await embedded.deliver("late@demo.local", LETTER)
    with await asyncio.to_thread(connect, embedded, "late@demo.local") as client:
        assert len(await asyncio.to_thread(client.search)) == 1
        assert {"INBOX", "Sent"} <= {name for _, _, name in await asyncio.to_thread(client.list_folders)}
        await asyncio.to_thread(client.logout)


async def test_a_keyword_is_kept(embedded: EmbeddedMail) -> None:
    """Stock pymap drops it without a word."""
    uid = await embedded.deliver("agent@demo.local", LETTER)

    def mark() -> tuple[bytes, ...]:
        with connect(embedded) as client:
            client.add_flags([uid], [b"$Answered-By-Agent"])
        with connect(embedded) as client:
            return client.get_flags([uid])[uid]

    assert b"$Answered-By-Agent" in await asyncio.to_thread(mark)


async def test_idle_tells_what_came_just_before_it(embedded: EmbeddedMail) -> None:
    """Stock pymap sleeps on it until something else happens."""
    client = await asyncio.to_thread(connect, embedded)
    with client:
        await embedded.deliver("agent@demo.local", LETTER)

        def idle() -> bytes:
            client.idle()
            # Not idle_check(): it gives up on a line that comes in two segments.
            line: bytes = client._imap._get_line()
            client.idle_done()
            return line

        assert b"EXISTS" in await asyncio.to_thread(idle)
        await asyncio.to_thread(client.logout)


async def test_a_connection_survives_the_garbage_collector(embedded: EmbeddedMail) -> None:
    """With proxyprotocol's own callback, Python 3.13 collects the task of the session."""
    client = await asyncio.to_thread(connect, embedded)
    with client:
        for _ in range(3):
            gc.collect()
            assert await asyncio.to_thread(client.noop)
        await asyncio.to_thread(client.logout)


async def test_it_ends_at_once_whatever_its_clients_do() -> None:
    """Four clients that never say goodbye: one each idle, inside IDLE, before AUTH, inside DATA."""
    tasks = asyncio.all_tasks()
    async with EmbeddedMail({"ana@demo.local": "demo"}) as mail:
        readers = []
        for port, said in (
            (mail.imap_port, b""),
            (mail.imap_port, b"a LOGIN ana@demo.local demo\r\nb SELECT INBOX\r\nc IDLE\r\n"),
            (mail.smtp_port, b""),
            (mail.smtp_port, b"EHLO x\r\nMAIL FROM:<a@b>\r\nRCPT TO:<ana@demo.local>\r\nDATA\r\nSubject: half"),
        ):
            reader, writer = await asyncio.open_connection(mail.host, port)
            await reader.readline()
            writer.write(said)
            while said and b"idl" not in (line := (await reader.readline()).lower()) and not line.startswith(b"354"):
                pass
            readers.append((reader, writer))
        started = asyncio.get_running_loop().time()
    assert asyncio.get_running_loop().time() - started < 1
    for reader, writer in readers:
        async with asyncio.timeout(5):
            try:
                await reader.read()
            except ConnectionError:
                pass
        writer.close()
    await asyncio.sleep(0)
    assert asyncio.all_tasks() <= tasks


@pytest.mark.parametrize("absent", ["pymap", "aiosmtpd"])
def test_without_the_extra_it_says_what_to_install(absent: str, tmp_path: Path) -> None:
    program = (
        f"import sys; sys.modules[{absent!r}] = None\n"
        "from agentmail.errors import ConfigurationError\n"
        "from agentmail.testing import FaultProxy, ManualClock, ScriptedServer\n"
        "try:\n    from agentmail.testing import EmbeddedMail\n"
        "except ConfigurationError as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert "agentmail-inbox[testing]" in done.stdout

"""A scripted server does what its script says, and notices what the script does not foresee."""

from __future__ import annotations

import asyncio
import smtplib

import pytest
from imapclient import IMAPClient

from agentmail.testing.scripted import IMAP_LOGIN, SMTP_BODY, ScriptedServer


def submit(port: int, text: bytes = b"Subject: x\r\n\r\n.dot\r\n") -> None:
    with smtplib.SMTP("127.0.0.1", port, "client", timeout=5) as smtp:
        smtp.login("me", "secret")
        smtp.sendmail("a@b.c", ["d@e.f"], text)


async def test_smtp_up_to_the_end() -> None:
    async with ScriptedServer(SMTP_BODY + "S: 250 2.0.0 queued\nC: QUIT\nS: 221 bye") as server:
        await asyncio.to_thread(submit, server.port)
    assert b"Subject: x\r\n\r\n.dot\r\n" in server.heard


@pytest.mark.parametrize(
    ("ending", "error"),
    [
        ("! close", smtplib.SMTPServerDisconnected),
        ("! reset", smtplib.SMTPServerDisconnected),
        ("S: 451 4.3.0 not now", smtplib.SMTPDataError),
    ],
)
async def test_dying_after_the_dot(ending: str, error: type[Exception]) -> None:
    async with ScriptedServer(SMTP_BODY + ending) as server:
        with pytest.raises(error):
            await asyncio.to_thread(submit, server.port)


async def test_hanging() -> None:
    async with ScriptedServer("S: 220 hi\nC: EHLO\n! hang") as server:
        reader, writer = await asyncio.open_connection(server.host, server.port)
        await reader.readline()
        writer.write(b"EHLO x\r\nNOOP\r\n")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await reader.readline()
        writer.close()


async def test_imap_with_literals_and_tags() -> None:
    script = (
        IMAP_LOGIN
        + """
        C: SELECT
        S: * 1 EXISTS
        S: {tag} OK [READ-WRITE] done
        C: APPEND
        S: {tag} OK [APPENDUID 1 7] done
        C: FETCH
        s: * 1 FET
        S: CH (UID 7 RFC822.SIZE 5)
        S: {tag} OK done
    """.replace("        ", "")
    )

    def session(port: int) -> object:
        with IMAPClient("127.0.0.1", port, ssl=False, timeout=5, use_uid=False) as client:
            client.login("me", "secret")
            client.select_folder("INBOX")
            client.append("INBOX", b"Subject: x\r\n\r\nText {3}\r\n")
            return client.fetch([1], ["RFC822.SIZE"])[1][b"RFC822.SIZE"]

    async with ScriptedServer(script) as server:
        assert await asyncio.to_thread(session, server.port) == 5


async def test_each_connection_has_its_script_and_the_last_one_stays() -> None:
    async with ScriptedServer("S: 421 no", "S: 220 yes") as server:
        said = []
        for _ in range(3):
            reader, writer = await asyncio.open_connection(server.host, server.port)
            said.append(await reader.readline())
            writer.close()
    assert said == [b"421 no\r\n", b"220 yes\r\n", b"220 yes\r\n"]
    assert server.connections == 3


async def test_a_client_that_leaves_the_script_is_noticed() -> None:
    with pytest.raises(AssertionError, match="expected 'EHLO', the client said 'VRFY root'"):
        async with ScriptedServer("S: 220 hi\nC: EHLO\nS: 250 ok") as server:
            reader, writer = await asyncio.open_connection(server.host, server.port)
            await reader.readline()
            writer.write(b"VRFY root\r\n")
            await reader.read()
            writer.close()


def test_a_script_that_means_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="not a line of a script"):
        ScriptedServer("220 hi")

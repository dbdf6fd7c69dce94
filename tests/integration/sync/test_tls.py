"""TLS: what does not prove its name is not spoken to, and what was said before TLS began is not heard."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from agentmail.errors import CertificateRejected, ConfigurationError, Unreachable
from agentmail.imap import ImapConnection
from agentmail.settings import Account, make_account
from agentmail.testing.scripted import ScriptedServer
from tests.servers.process import make_certificates

from .conftest import World
from .liar import Liar

STARTTLS = """
S: * OK hello
C: CAPABILITY
S: * CAPABILITY IMAP4rev1 STARTTLS
S: {tag} OK done
C: STARTTLS
"""


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("tls")
    make_certificates(directory)
    return directory


def serving(directory: Path, name: str = "cert") -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(directory / f"{name}.pem", directory / "key.pem")
    return context


def signed(directory: Path, name: str, *how: str, names: str) -> None:
    """Another certificate for the same key."""
    (directory / f"{name}.ext").write_text(f"subjectAltName={names}\nextendedKeyUsage=serverAuth\n")
    _openssl(
        "x509", "-req", "-in", f"{directory}/cert.csr", "-CA", f"{directory}/ca.pem", "-CAkey", f"{directory}/ca.key",
        "-CAcreateserial", "-out", f"{directory}/{name}.pem", "-extfile", f"{directory}/{name}.ext", *how,
    )  # fmt: skip


def _openssl(*words: str) -> None:
    subprocess.run(["openssl", *words], check=True, capture_output=True)


def account(port: int, directory: Path, security: str = "tls") -> Account:
    return Account(
        address="agent@test.local", password="secret", timeout=5.0, imap_host="localhost", imap_port=port,  # type: ignore[arg-type]
        imap_security=security, smtp_host="localhost", smtp_port=9, ca_file=directory / "ca.pem",
    )  # fmt: skip


async def refused(account: Account) -> str:
    connection = ImapConnection(account)
    with pytest.raises(CertificateRejected) as raised:
        await connection.connect()
    await connection.close()
    return str(raised.value)


async def test_a_certificate_by_an_unknown_ca(world: World) -> None:
    said = await refused(world.dovecot.account(world.user, "tls", ca_file=None))
    assert "set ca_file to the CA that signed it" in said


@pytest.mark.parametrize(
    ("how", "names", "fix"),
    [
        (("-days", "-1"), "DNS:localhost", "needs a new one, or this machine's clock is wrong"),
        (("-days", "30"), "DNS:mail.example.org", "set imap_host to a name that it was made for"),
    ],
)
@pytest.mark.parametrize("security", ["tls", "starttls"])
async def test_a_certificate_that_proves_nothing_says_what_to_do(
    certificates: Path, how: Sequence[str], names: str, fix: str, security: str
) -> None:
    signed(certificates, "bad", *how, names=names)
    tls = serving(certificates, "bad")
    if security == "starttls":
        async with ScriptedServer(STARTTLS + "S: {tag} OK go\n! starttls", tls=tls) as server:
            assert fix in await refused(account(server.port, certificates, security))
            assert not [line for line in server.heard if b"secret" in line]
        return
    heard = bytearray()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.extend(await reader.read())
        writer.close()

    server_ = await asyncio.start_server(serve, "localhost", 0, ssl=tls)
    assert fix in await refused(account(server_.sockets[0].getsockname()[1], certificates))
    server_.close()
    assert not heard


async def test_s42_what_was_said_before_tls_is_not_heard(certificates: Path) -> None:
    """A machine in between adds lines to the answer to STARTTLS, in the clear and in the same segment."""
    heard: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"* OK [CAPABILITY IMAP4rev1 STARTTLS] hello\r\n")
        while line := await reader.readline():
            tag, word = line.split()[:2]
            heard.append(word)
            if word == b"STARTTLS":
                injected = b"* CAPABILITY IMAP4rev1 LOGINDISABLED X-EVIL\r\n%b1 OK in\r\n* PREAUTH hello\r\n" % tag[:-1]
                writer.write(tag + b" OK go\r\n" + injected)
                await writer.start_tls(serving(certificates))
                continue
            if word == b"CAPABILITY":
                writer.write(b"* CAPABILITY IMAP4rev1 " + (b"STARTTLS" if len(heard) < 3 else b"IDLE") + b"\r\n")
            writer.write(tag + b" OK done\r\n")
        writer.close()

    server = await asyncio.start_server(serve, "localhost", 0)
    connection = ImapConnection(account(server.sockets[0].getsockname()[1], certificates, "starttls"))
    await connection.connect()
    assert frozenset({"IMAP4REV1", "IDLE"}) == connection.capabilities
    await connection.close()
    server.close()
    assert [b"STARTTLS", b"CAPABILITY", b"LOGIN"] == heard[:3]


@pytest.mark.parametrize("security", ["starttls", "plain"])
async def test_a_port_where_the_client_has_to_speak_first(security: str) -> None:
    """993 with starttls: both wait for the other, which is no fault of the network."""
    async with Liar() as liar:
        liar.greeting = b""
        with pytest.raises(Unreachable, match="is it a TLS port, as 993 is"):
            await ImapConnection(liar.account(imap_security=security, timeout=0.3)).connect()
        with pytest.raises(Unreachable, match=r"connecting$"):
            await ImapConnection(liar.account(imap_security="tls", timeout=0.3)).connect()


async def test_s42_starttls_that_is_refused_ends_it(certificates: Path) -> None:
    async with ScriptedServer(STARTTLS + "S: {tag} NO not now", tls=serving(certificates)) as server:
        connection = ImapConnection(account(server.port, certificates, "starttls"))
        with pytest.raises(Unreachable):
            await connection.connect()
        await connection.close()
        assert not [line for line in server.heard if b"LOGIN" in line]


def test_a_password_does_not_leave_the_machine_in_the_clear() -> None:
    plain = {"address": "me@example.org", "password": "x", "imap_security": "plain", "smtp_host": "smtp.example.org"}
    for host in ("imap.example.org", "127.0.0.1.example.org", "0.0.0.0", "192.168.1.2"):
        with pytest.raises(ConfigurationError, match="allow_plain"):
            make_account(**plain, imap_host=host)
    for host in ("localhost", "127.0.0.1", "::1", "[::1]"):
        make_account(**plain, imap_host=host)
    make_account(**plain, imap_host="imap.example.org", allow_plain=True)

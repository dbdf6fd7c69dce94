"""Every way an SMTP dialogue can end, and what we say about it. Nothing that may have been sent is called unsent."""

from __future__ import annotations

import asyncio
import base64
from contextlib import suppress
from typing import Any

import aiosmtplib
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentmail.errors import AuthenticationFailed, BadInput, CertificateRejected, Unreachable
from agentmail.message.models import Envelope
from agentmail.smtp import Outcome, Submitter, Timeouts, assigned_id
from agentmail.smtp.session import stuffed

from .scripted import CLOSE, HANG, RESET, ScriptedSmtp, with_password

RAW = b"From: agent@test.local\r\nTo: ana@test.local\r\nSubject: x\r\nMessage-ID: <a@b>\r\n\r\nhello\r\n"
SHORT = Timeouts(command=0.2, data=0.2, block=0.2, dot=0.2)


async def submit(server: ScriptedSmtp, *to: str, raw: bytes = RAW, **how: Any) -> Outcome:
    """Without much patience where the server hangs."""
    submitter = Submitter(server.account(), timeouts=SHORT if HANG in server.script.values() else Timeouts())
    try:
        envelope = Envelope(mail_from="agent@test.local", rcpt_to=to or ("ana@test.local",))
        return await submitter.submit(raw, envelope, **how)
    finally:
        await submitter.close()


# -- the cases: step, what the server does there, what we say, whether it has the mail --------------------------------

CASES = [
    ("mail", "451 4.3.0 later", "temporary", "mail", 451),
    ("mail", "550 5.7.1 go away", "permanent", "mail", 550),
    ("mail", "421 4.3.2 closing", "temporary", "mail", 421),
    ("mail", CLOSE, "temporary", "mail", None),
    ("mail", RESET, "temporary", "mail", None),
    ("mail", HANG, "temporary", "mail", None),
    ("mail", b"what?\r\n", "temporary", "mail", None),
    ("rcpt", "450 4.2.0 greylisted", "temporary", "rcpt", 450),
    ("rcpt", "550 5.1.1 no such user", "permanent", "rcpt", 550),
    ("rcpt", "421 4.3.2 closing", "temporary", "rcpt", 421),
    ("rcpt", CLOSE, "temporary", "mail", None),
    ("rcpt", HANG, "temporary", "mail", None),
    ("data", "451 4.3.0 later", "temporary", "data", 451),
    ("data", "554 5.6.0 no", "permanent", "data", 554),
    ("data", CLOSE, "temporary", "mail", None),
    ("data", HANG, "temporary", "mail", None),
    ("data", b"354", "temporary", "mail", None),
    ("dot", "250 2.0.0 queued", "sent", "dot", 250),
    ("dot", "251 2.0.0 will forward", "sent", "dot", 251),
    ("dot", "451 4.3.0 later", "temporary", "dot", 451),
    ("dot", "550 5.7.1 content refused", "permanent", "dot", 550),
    ("dot", "421 4.3.2 closing", "temporary", "dot", 421),
    ("dot", "503 5.5.1 bad sequence", "temporary", "dot", 503),
    ("dot", CLOSE, "unknown", "dot", None),
    ("dot", RESET, "unknown", "dot", None),
    ("dot", HANG, "unknown", "dot", None),
    ("dot", b"250", "unknown", "dot", None),
    ("dot", b"\x00\xff garbage\r\n", "unknown", "dot", None),
    ("dot", "354 go on", "unknown", "dot", None),
]


@pytest.mark.parametrize("pipelining", [True, False], ids=["pipelined", "one-by-one"])
@pytest.mark.parametrize(("step", "action", "state", "known", "code"), CASES)
async def test_the_end_of_a_dialogue(
    step: str, action: str | bytes, state: str, known: str, code: int | None, pipelining: bool
) -> None:
    """Lost before the final dot is temporary, after it unknown, and a reply means what it says."""
    extensions = ("PIPELINING", "8BITMIME") if pipelining else ("8BITMIME",)
    async with ScriptedSmtp({step: action}, extensions=extensions) as server:
        outcome = await submit(server)
    assert (state, code) == (outcome.state, outcome.code), outcome
    if pipelining or outcome.step == "dot":
        assert known == outcome.step
    if state != "unknown":
        assert (outcome.state == "sent") == (bool(server.taken) and step == "dot" and str(action).startswith("25"))


async def test_lost_in_the_body_is_not_sent() -> None:
    """The server hangs up half way through (more than the sockets buffer): there was no dot, so there is no mail."""
    async with ScriptedSmtp({"body": RESET}) as server:
        outcome = await submit(server, raw=RAW + b"x" * 30_000_000)
    assert ("temporary", "body") == (outcome.state, outcome.step)
    assert [] == server.taken


@pytest.mark.parametrize("action", [CLOSE, RESET, HANG, b"nonsense\r\n", "421 busy", "554 no", b"220"])
@pytest.mark.parametrize("step", ["greeting", "ehlo"])
async def test_no_transaction_no_outcome(step: str, action: str | bytes) -> None:
    """Before MAIL there is nothing to judge: one clear error that names the server."""
    async with ScriptedSmtp({step: action}) as server:
        submitter = Submitter(server.account(timeout=0.3))
        with pytest.raises(Unreachable, match=rf"127\.0\.0\.1:{server.port}"):
            await submitter.submit(RAW, Envelope(mail_from="a@b.c", rcpt_to=("d@e.f",)))
        await submitter.close()


async def test_nobody_listens() -> None:
    async with ScriptedSmtp() as server:
        account = server.account()
    submitter = Submitter(account)
    with pytest.raises(Unreachable, match="check smtp_host"):
        await submitter.submit(RAW, Envelope(mail_from="a@b.c", rcpt_to=("d@e.f",)))


# -- logging in -------------------------------------------------------------------------------------------------------


async def test_a_wrong_password_is_tried_once() -> None:
    async with ScriptedSmtp({"auth": "535 5.7.8 no"}, extensions=("AUTH CRAM-MD5 PLAIN LOGIN",)) as server:
        submitter = Submitter(with_password(server.account(), "hunter2"))
        with pytest.raises(AuthenticationFailed) as caught:
            await submitter.submit(RAW, Envelope(mail_from="a@b.c", rcpt_to=("d@e.f",)))
    assert 1 == sum(c.startswith("AUTH") for c in server.commands)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("answer", ["454 4.7.0 later", "421 4.3.2 closing", CLOSE, HANG])
async def test_a_broken_login_is_not_a_wrong_password(answer: str) -> None:
    async with ScriptedSmtp({"auth": answer}, extensions=("AUTH PLAIN",)) as server:
        submitter = Submitter(with_password(server.account(timeout=0.3)))
        with pytest.raises(Unreachable):
            await submitter.submit(RAW, Envelope(mail_from="a@b.c", rcpt_to=("d@e.f",)))


async def test_a_token_takes_the_place_of_the_password() -> None:
    async def token() -> str:
        return "ya29.x"

    async with ScriptedSmtp(extensions=("AUTH PLAIN XOAUTH2",)) as server:
        submitter = Submitter(server.account(token=token))
        envelope = Envelope(mail_from="agent@test.local", rcpt_to=("d@e.f",))
        assert "sent" == (await submitter.submit(RAW, envelope)).state
        await submitter.close()
    assert any(c.startswith("AUTH XOAUTH2 ") for c in server.commands)


async def test_oauthbearer_where_nothing_else_is_offered() -> None:
    """RFC 7628: the challenge that comes with a refusal is answered, so that the server says what it refuses."""
    async with ScriptedSmtp(extensions=("AUTH PLAIN OAUTHBEARER",)) as server:
        submitter = Submitter(server.account(token=lambda: "ya29.x", username="a,b=c@test.local"))
        envelope = Envelope(mail_from="agent@test.local", rcpt_to=("d@e.f",))
        assert "sent" == (await submitter.submit(RAW, envelope)).state
        await submitter.close()
    (said,) = [base64.b64decode(c.split()[2]) for c in server.commands if c.startswith("AUTH OAUTHBEARER ")]
    where = f"host=127.0.0.1\x01port={server.port}"
    assert said == f"n,a=a=2Cb=3Dc@test.local,\x01{where}\x01auth=Bearer ya29.x\x01\x01".encode()


async def test_a_token_that_ended_before_its_time_is_renewed_once() -> None:
    class Token:
        number = 1

        def __call__(self) -> str:
            return f"token-{self.number}"

        async def renew(self) -> None:
            self.number += 1

    def auth(line: str) -> str:
        return "235 in" if b"token-2\x01" in base64.b64decode(line.split()[2]) else "535 5.7.8 expired"

    envelope = Envelope(mail_from="agent@test.local", rcpt_to=("d@e.f",))
    async with ScriptedSmtp({"auth": auth}, extensions=("AUTH XOAUTH2",)) as server:
        submitter = Submitter(server.account(token=Token()))
        assert "sent" == (await submitter.submit(RAW, envelope)).state
        await submitter.close()
    async with ScriptedSmtp({"auth": "535 5.7.8 no"}, extensions=("AUTH XOAUTH2",)) as server:
        with pytest.raises(AuthenticationFailed):
            await Submitter(server.account(token=Token())).submit(RAW, envelope)
    assert 2 == sum(c.startswith("AUTH") for c in server.commands)


async def test_no_starttls_no_login() -> None:
    """A server, or somebody between, that hides STARTTLS gets neither the password nor the mail."""
    async with ScriptedSmtp(extensions=("AUTH PLAIN",)) as server:
        submitter = Submitter(with_password(server.account(smtp_security="starttls")))
        with pytest.raises(Unreachable, match="STARTTLS"):
            await submitter.submit(RAW, Envelope(mail_from="a@b.c", rcpt_to=("d@e.f",)))
    assert not any(c.startswith(("AUTH", "MAIL")) for c in server.commands)


async def test_what_comes_with_the_starttls_reply_is_not_believed() -> None:
    """Replies that somebody put behind the 220 in plain text never reach the encrypted session (RFC 3207 4.2)."""
    injected = b"220 go\r\n250-evil\r\n250 AUTH PLAIN\r\n235 welcome\r\n"
    async with ScriptedSmtp({"starttls": injected}, extensions=("STARTTLS", "AUTH PLAIN")) as server:
        submitter = Submitter(with_password(server.account(smtp_security="starttls", timeout=0.5)))
        with pytest.raises(Unreachable):
            await submitter.submit(RAW, Envelope(mail_from="a@b.c", rcpt_to=("d@e.f",)))
    assert not any("AUTH" in c for c in server.commands)


async def test_real_tls_is_verified(postfix: Any) -> None:
    """Both ways to TLS, with the CA and without it."""
    for security, port in (("tls", postfix.smtps), ("starttls", postfix.submission)):
        account = postfix.account(postfix.dovecot.new_user(), smtp_security=security, smtp_port=port)
        good = Submitter(account)
        assert "pipelining" in await good.check()
        await good.close()
        bad = Submitter(account.model_copy(update={"ca_file": None}))
        with pytest.raises(CertificateRejected, match="ca_file"):
            await bad.check()
        with pytest.raises(AuthenticationFailed):
            await Submitter(with_password(account, "wrong")).check()


async def test_one_mail_after_another_over_tls(postfix: Any) -> None:
    """With a limit of 0, asyncio's TLS asks to pause at every second empty buffer: who believes it waits for ever."""
    to = postfix.dovecot.new_user("tls")
    account = postfix.account(to, smtp_security="tls", smtp_port=postfix.smtps)
    submitter = Submitter(account, connections=1)
    async with asyncio.timeout(100):  # less than a step may take
        for size in (0, 1, 3000, 100_000):
            raw = RAW + b"x" * size
            outcome = await submitter.submit(raw, Envelope(mail_from=to, rcpt_to=(to,)))
            assert "sent" == outcome.state, outcome
    await submitter.close()


async def test_tls_to_a_plain_port_says_so(postfix: Any) -> None:
    account = postfix.account(postfix.dovecot.new_user(), smtp_security="tls", smtp_port=postfix.submission)
    with pytest.raises(Unreachable, match="starttls"):
        await Submitter(account).check()


# -- recipients, extensions, connections ------------------------------------------------------------------------------


async def test_some_are_refused_and_the_others_get_it() -> None:
    def rcpt(line: str) -> str:
        return "550 5.1.1 no" if "bob" in line else "450 4.2.0 later" if "eve" in line else "250 ok"

    async with ScriptedSmtp({"rcpt": rcpt}) as server:
        outcome = await submit(server, "ana@test.local", "bob@test.local", "eve@test.local")
    assert "sent" == outcome.state
    assert {"bob@test.local": (550, "5.1.1 no"), "eve@test.local": (450, "4.2.0 later")} == outcome.refused
    assert ["ana@test.local"] == server.taken[0][1]


@pytest.mark.parametrize(
    "address",
    [
        "a@b\r\nRCPT TO:<c@d",
        "a@b>\r\nDATA",
        "a b@c.d",
        "a@b> SIZE=1",
        "<a@b.c>",
        "a@b@c",
        "a",
        "@",
        "a@",
        "a\x00@b.c",
        "",
    ],
)
async def test_an_address_that_means_something_else_is_refused(address: str) -> None:
    async with ScriptedSmtp() as server:
        with pytest.raises(BadInput):
            await submit(server, address)
    assert 0 == server.connections


async def test_what_the_server_offers_is_used() -> None:
    async with ScriptedSmtp(extensions=("SIZE 1000000", "8BITMIME", "SMTPUTF8", "DSN", "PIPELINING")) as server:
        await submit(server, "jürgen@test.local", raw=RAW + "ü\r\n".encode(), submission="o7")
    assert (
        f"MAIL FROM:<agent@test.local> SIZE={len(RAW) + 4} BODY=8BITMIME SMTPUTF8 RET=HDRS ENVID=o7" in server.commands
    )
    assert "RCPT TO:<jürgen@test.local> NOTIFY=FAILURE,DELAY" in server.commands


@pytest.mark.parametrize(
    ("extensions", "to", "raw", "word"),
    [(("SIZE 50",), "a@b.c", RAW, "RFC 1870"), ((), "a@b.c", RAW + "ü".encode(), "8BITMIME"),
     (("8BITMIME",), "ü@b.c", RAW, "SMTPUTF8")],
)  # fmt: skip
async def test_what_it_does_not_take_is_not_tried(extensions: tuple[str, ...], to: str, raw: bytes, word: str) -> None:
    async with ScriptedSmtp(extensions=extensions) as server:
        outcome = await submit(server, to, raw=raw)
    assert "permanent" == outcome.state
    assert word in outcome.text
    assert not any(c.startswith("MAIL") for c in server.commands)


async def test_a_connection_serves_again_also_after_a_refusal() -> None:
    async with ScriptedSmtp({"rcpt": lambda line: "550 no" if "bob" in line else "250 ok"}) as server:
        submitter = Submitter(server.account())
        for to, state in (("ana@b.c", "sent"), ("bob@b.c", "permanent"), ("ana@b.c", "sent")):
            assert state == (await submitter.submit(RAW, Envelope(mail_from="a@b.c", rcpt_to=(to,)))).state
        await submitter.close()
    assert 1 == server.connections
    assert 1 == server.commands.count("RSET")
    assert 2 == len(server.taken)


async def test_an_idle_connection_that_went_away_is_replaced() -> None:
    """The first finds out at MAIL; nothing was sent, so a fresh connection may try at once."""
    async with ScriptedSmtp() as server:
        submitter = Submitter(server.account())
        envelope = Envelope(mail_from="a@b.c", rcpt_to=("d@e.f",))
        assert "sent" == (await submitter.submit(RAW, envelope)).state
        for writer in list(server._writers):
            writer.transport.abort()
        assert "sent" == (await submitter.submit(RAW, envelope)).state
        await submitter.close()
    assert 2 == server.connections
    assert 2 == len(server.taken)


async def test_at_most_as_many_connections_as_allowed() -> None:
    async with ScriptedSmtp(delay=0.01) as server:
        submitter = Submitter(server.account(), connections=2)
        async with asyncio.TaskGroup() as group:
            for _ in range(8):
                group.create_task(submitter.submit(RAW, Envelope(mail_from="a@b.c", rcpt_to=("d@e.f",))))
        await submitter.close()
    assert 8 == len(server.taken)
    assert 2 >= server.connections


async def test_cancelling_never_leaves_a_half_spoken_connection() -> None:
    """A connection that was cancelled while the server thinks about the dot is closed, not used again."""
    async with ScriptedSmtp({"dot": HANG}) as server:
        submitter = Submitter(server.account())
        task = asyncio.create_task(submitter.submit(RAW, Envelope(mail_from="a@b.c", rcpt_to=("d@e.f",))))
        async with asyncio.timeout(5):
            await server.hung.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        server.script = {}
        assert "sent" == (await submitter.submit(RAW, Envelope(mail_from="a@b.c", rcpt_to=("d@e.f",)))).state
        await submitter.close()
    assert 2 == server.connections


async def test_a_cancellation_that_the_library_forgets_is_heeded(monkeypatch: pytest.MonkeyPatch) -> None:
    """asyncio.wait_for returns the answer when both come together: the mail went, and who cancelled waited for ever."""
    connect, connected = aiosmtplib.SMTP.connect, asyncio.Event()

    async def forgetful(self: aiosmtplib.SMTP, **how: Any) -> Any:
        answer = await connect(self, **how)
        connected.set()
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        return answer

    monkeypatch.setattr(aiosmtplib.SMTP, "connect", forgetful)
    async with ScriptedSmtp() as server:
        pool = Submitter(server.account())
        task = asyncio.create_task(pool.submit(RAW, Envelope(mail_from="a@b.c", rcpt_to=("d@e.f",))))
        await connected.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert [] == server.taken


async def stopped(_: Any) -> None:
    """No byte of the body may go."""


async def too_late(_: Any) -> Any:
    """It may, and then the dot may not."""
    return lambda: False


@pytest.mark.parametrize("hook", [stopped, too_late])
async def test_the_hook_may_stop_it_before_the_body_and_before_the_dot(hook: Any) -> None:
    async with ScriptedSmtp() as server:
        outcome = await submit(server, before_body=hook)
    assert ("temporary", "hook") == (outcome.state, outcome.step)
    assert [] == server.taken


# -- the body ---------------------------------------------------------------------------------------------------------

ENDS = [b".\r\n", b"\r\n.\r\n", b"\n.\n", b"\r.\r", b"\n.\r\n", b"\r\n.\n", b"\r.\r\n", b"\r\n.\r"]


@given(st.lists(st.sampled_from([*ENDS, b"x", b"..", b"\r\n", b"\nMAIL FROM:<evil@x.y>\r\n", b"."]), max_size=12))
@settings(max_examples=300, deadline=None)
def test_nothing_in_a_body_ends_it(parts: list[bytes]) -> None:
    """On the wire: CRLF only, and no line that is a lone dot (SMTP smuggling needs one or the other)."""
    wire = stuffed(b"Subject: x\r\n\r\n" + b"".join(parts))
    assert b"\n" not in wire.replace(b"\r\n", b"")
    assert b"\r" not in wire.replace(b"\r\n", b"")
    assert wire.endswith(b"\r\n")
    assert b"." not in wire.split(b"\r\n")


async def test_smuggling_variants_arrive_as_one_message() -> None:
    async with ScriptedSmtp() as server:
        for end in ENDS:
            await submit(server, raw=RAW + b"a" + end + b"MAIL FROM:<evil@x.y>\r\nb\r\n")
    assert len(ENDS) == len(server.taken)
    assert not any("evil" in command for command in server.commands)


def test_the_id_that_a_rewriter_gave_is_read() -> None:
    ses = "Ok 0102018f8e7b3c5a-1b2c3d4e-5f60-7182-93a4-b5c6d7e8f901-000000"
    assert "<0102018f8e7b3c5a-1b2c3d4e-5f60-7182-93a4-b5c6d7e8f901-000000@eu-west-1.amazonses.com>" == assigned_id(
        "email-smtp.eu-west-1.amazonaws.com", ses
    )
    for host in ("email-smtp-fips.eu-west-1.amazonaws.com", "vpce-0a1-b2.email-smtp.eu-west-1.vpce.amazonaws.com"):
        assert "eu-west-1.amazonses.com" in str(assigned_id(host, ses))
    for host in ("smtp.example.org", "email-smtp.eu-west-1.amazonaws.com.example.org"):
        assert None is assigned_id(host, ses)
    outlook = "2.0.0 OK <AM0PR01MB1234@AM0PR01MB5678.eurprd01.prod.outlook.com> [Hostname=AM0PR01MB5678]"
    found = assigned_id("smtp.office365.com", outlook)
    assert "<AM0PR01MB1234@AM0PR01MB5678.eurprd01.prod.outlook.com>" == found

"""Two agents in two processes carry one thread on, over one store, through a real Postfix and Dovecot."""

from __future__ import annotations

import json
import re
import smtplib
from collections.abc import Sequence
from pathlib import Path

from agentmail.settings import Account
from agentmail.testing.people import Person
from agentmail.testing.verdict import Wire, judge
from tests.servers.postfix import Postfix

from .command import agentmail, environment, python

AGENT = """
import asyncio, json
from agentmail import Inbox

async def main():
    async with Inbox.from_env() as inbox:
        messages = await inbox.receive()
        thread = await inbox.thread(messages[-1].thread)
        sent = await inbox.reply(messages[-1], f"{inbox.agent} has read {len(thread.messages)} messages.")
        print(json.dumps({"received": [m.message_id for m in messages], "thread": thread.id, "sent": sent.message_id,
                          "state": sent.state, "saw": [m.message_id for m in thread.messages],
                          "raw": (await inbox.raw(sent.message)).decode("latin-1")}))

asyncio.run(main())
"""


def submit(postfix: Postfix, sender: str, recipient: str, raw: bytes) -> None:
    with smtplib.SMTP(postfix.host, postfix.smtp, "person", timeout=10) as smtp:
        smtp.sendmail(sender, [recipient], raw)


def fields(raw: bytes, names: Sequence[str] = ("Message-ID", "In-Reply-To", "References")) -> dict[str, bytes]:
    """The headers as bytes, folding and all."""
    head = raw.partition(b"\r\n\r\n")[0] + b"\r\n"
    found = re.findall(rb"^([\w-]+):((?:[^\r]|\r\n[ \t])*)\r\n", head, re.MULTILINE)
    return {name: value for key, value in found for name in names if key.decode().lower() == name.lower()}


async def test_the_second_agent_continues_where_the_first_one_was(
    postfix: Postfix, mail_account: Account, store_url: str, tmp_path: Path
) -> None:
    dovecot, agents = postfix.dovecot, mail_account.address
    address = dovecot.new_user("ana")
    ana = Person(address, "Ana Ruiz", client="gmail")
    first = ana.write(agents, "Kick-off – when?", "Could we do Tuesday?")
    submit(postfix, address, agents, first)
    dovecot.wait_for(agents)

    ran = await python(AGENT, env=environment(mail_account, store_url, "a"), cwd=tmp_path)
    assert (ran.code, ran.err) == (0, "")
    [a] = ran.rows
    assert a["state"] == "sent"
    [from_a] = dovecot.wait_for(address)

    second = Person(address, "Ana Ruiz", client="outlook").reply(from_a, "Tuesday it is.")
    submit(postfix, address, agents, second)
    dovecot.wait_for(agents, 2)
    ran = await python(AGENT, env=environment(mail_account, store_url, "b"), cwd=tmp_path)
    assert (ran.code, ran.err) == (0, "")
    [b] = ran.rows
    from_b = dovecot.wait_for(address, 2)[1]

    story = [Wire.read(raw).message_id for raw in (first, from_a, second, from_b)]
    assert (b["thread"], b["saw"]) == (a["thread"], story[:3])
    assert (a["sent"], b["sent"]) == (story[1], story[3])
    assert Wire.read(from_b).references == tuple(story[:3])
    assert all(finding.holds for finding in judge([first, from_a, second, from_b]))

    # what Dovecot stores, after Postfix, is what was meant
    for meant, arrived in ((a, from_a), (b, from_b)):
        wanted = fields(meant["raw"].encode("latin-1"))
        assert set(wanted) == {"Message-ID", "In-Reply-To", "References"}
        assert fields(arrived) == wanted

    # both processes, and the command as a third, see the one thread
    [thread] = (
        await agentmail("threads", "--all", "--json", env=environment(mail_account, store_url), cwd=tmp_path)
    ).rows
    assert (thread["id"], thread["message_ids"]) == (a["thread"], story)
    assert thread["parents"] == dict(zip(story, [None, *story[:3]], strict=True))


async def test_long_ids_from_exchange_survive_the_way(
    postfix: Postfix, mail_account: Account, store_url: str, tmp_path: Path
) -> None:
    """80 characters and more: Python's own folding would encode them, and end the thread."""
    dovecot, agents = postfix.dovecot, mail_account.address
    address = dovecot.new_user("ana")
    ids = [f"<BL0PR12MB23407D3418F13ABDC01D6826AF39{n}@BL0PR12MB2340.namprd12.prod.outlook.com>" for n in range(12)]
    letter = (
        f"From: Ana <{address}>\r\nTo: {agents}\r\nSubject: RE: Long\r\nMessage-ID: {ids[-1]}\r\n"
        f"In-Reply-To: {ids[-2]}\r\nReferences: " + "\r\n ".join(ids[:-1]) + "\r\n\r\nHello.\r\n"
    ).encode()
    submit(postfix, address, agents, letter)
    dovecot.wait_for(agents)
    env = environment(mail_account, store_url)
    synced = await agentmail("sync", "--json", env=env, cwd=tmp_path)
    assert synced.code == 0, synced.err
    done = await agentmail("reply", "t1", "--text", "Yes.", "--json", env=env, cwd=tmp_path)
    assert done.code == 0, done.err
    [arrived] = dovecot.wait_for(address)
    assert Wire.read(arrived).references == tuple(ids)
    assert Wire.read(arrived).in_reply_to == (ids[-1],)
    assert Wire.read(arrived).message_id == json.loads(done.out)["message_id"]


async def test_each_message_comes_to_one_agent_name_once(
    postfix: Postfix, mail_account: Account, store_url: str, tmp_path: Path
) -> None:
    """Across processes and restarts; another agent name gets its own copy of the work."""
    agents = mail_account.address
    letters = [
        Person("ana@example.org", "Ana", client="gmail").write(agents, f"Letter {n}", "Hello.") for n in range(3)
    ]
    program = """
import asyncio, json
from agentmail import Inbox
async def main():
    async with Inbox.from_env() as inbox:
        print(json.dumps([m.message_id for m in await inbox.receive()]))
asyncio.run(main())
"""

    async def received(agent: str) -> list[str]:
        done = await python(program, env=environment(mail_account, store_url, agent), cwd=tmp_path)
        assert (done.code, done.err) == (0, "")
        return done.rows[0]

    postfix.dovecot.deliver(agents, *letters[:2])
    ids = [Wire.read(raw).message_id for raw in letters]
    assert await received("a") == ids[:2]
    assert await received("a") == []
    postfix.dovecot.deliver(agents, letters[2])
    assert await received("a") == [ids[2]]
    assert await received("b") == ids
    flags = postfix.dovecot.doveadm("fetch", "-u", agents, "flags", "mailbox", "INBOX")
    assert "Seen" not in flags

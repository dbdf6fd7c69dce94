"""Write a store with something of everything, by the public names of whatever version of agentmail runs this.

    git worktree add ../then COMMIT && cd ../then && PYTHONPATH=. python …/written.py sqlite:///then.db

The compressed files beside this one were made so, by the last version of each of their schemas: the SQLite file itself,
and for PostgreSQL what `pg_dump --no-owner --no-privileges --inserts` says. They are never made anew.
"""

from __future__ import annotations

import asyncio
import sys
from datetime import UTC, datetime, timedelta

from agentmail import Account, Attachment, Inbox, errors, parse
from agentmail.store import Location, ThreadStore

US = "support@our.example"
MAILS = [
    ("a", "ana@customer.example", "Invoice 42", "the invoice is wrong", (), 1),
    ("b", "ana@customer.example", "Re: Invoice 42", "any news of Größe?", ("x",), 2),
    ("c", "bob@gmail.com", "Delivery", "when does it come", (), 3),
    ("e", "eve@evil.example", "Re: Invoice 42", "pay me instead", ("a",), 4),
    ("d", "dan@münchen.example", "Hallo", "aus München", (), 5),
]


def raw(name: str, sender: str, subject: str, body: str, references: tuple[str, ...] = (), day: int = 1) -> bytes:
    """A received mail; `references` by name."""
    chain = " ".join(f"<{one}@id.example>" for one in references)
    answers = f"References: {chain}\r\nIn-Reply-To: <{references[-1]}@id.example>\r\n" if references else ""
    return (
        f"From: Ana <{sender}>\r\nTo: {US}\r\nSubject: {subject}\r\nMessage-ID: <{name}@id.example>\r\n"
        f"Date: {day:02} Mar 2026 09:00:00 +0000\r\n{answers}"
        f"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n{body}\r\n"
    ).encode()


def account() -> Account:
    """An account whose servers nobody runs: what is sent stays queued."""
    return Account(
        address=US, password="secret", imap_host="127.0.0.1", smtp_host="127.0.0.1", imap_port=1, smtp_port=1
    )


async def write(url: str) -> None:
    in_years = timedelta(days=3000)
    async with ThreadStore(url) as store, Inbox(account(), store=store, agent="support") as inbox:
        await store.register(US)
        filed = {}
        for uid, mail in enumerate(MAILS, start=1):
            data = raw(*mail)
            place = Location("INBOX", 7, uid)
            filed[mail[0]] = await store.file(parse(data), account=US, raw=data, location=place)
        await store.db.run(lambda tx: store.alias(tx, filed["a"].id, "<x@id.example>"))
        await store.set_labels(filed["a"].thread, add=["vip"])
        await store.put_data(filed["a"].thread, {"order": 42})
        first = await inbox.message(filed["a"].id)
        file = Attachment(name="a.txt", content=b"hello", content_type="text/plain")
        try:
            await inbox.reply(first, "We look into it.", key="k1", attachments=[file])
        except errors.Unreachable as exc:
            print(exc)
        then = datetime.now(UTC) + in_years
        await inbox.send(to=["new@person.example"], subject="Later", text="later", send_at=then)
        stopped = await inbox.send(to=["other@person.example"], subject="Stop", text="stop", send_at=then, key="k2")
        await inbox.cancel(stopped.id, by="bo")
        async with inbox.claim(filed["b"].thread, agent="support") as turn:
            await turn.follow_up("Any news?", after=in_years)
        async with inbox.claim(filed["c"].thread, agent="planner") as turn:
            await turn.hand_off("billing", note="wants an invoice")


if __name__ == "__main__":
    asyncio.run(write(sys.argv[1]))

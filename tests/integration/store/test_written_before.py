"""Stores that earlier versions of this program wrote, opened, upgraded and gone on with: nothing they knew is lost.

`schemas/written.py` says how they were made. `test_schema` has the schemas alone, each of them, and the first in full.
"""

from __future__ import annotations

import lzma
from pathlib import Path

import pytest

from agentmail import Inbox, parse
from agentmail.errors import KeyReused, Unreachable
from agentmail.store import Location, ThreadStore, schema

from .schemas import written
from .schemas.written import US

HERE = Path(__file__).parent / "schemas"
REVISIONS = sorted(path.name.split(".")[0] for path in HERE.glob("*.db.xz"))


@pytest.fixture(params=REVISIONS)
async def old_url(request: pytest.FixtureRequest, empty_store_url: str) -> str:
    """A store of that schema, on each database."""
    revision = str(request.param)
    if empty_store_url.startswith("sqlite"):
        path = Path(empty_store_url.removeprefix("sqlite:///"))
        path.write_bytes(lzma.decompress((HERE / f"{revision}.db.xz").read_bytes()))
        return empty_store_url
    import asyncpg

    dump = lzma.decompress((HERE / f"{revision}.pg.sql.xz").read_bytes()).decode("utf-8")
    statements = "\n".join(line for line in dump.split("\n") if not line.startswith("\\"))  # those are psql's own
    connection = await asyncpg.connect(empty_store_url)
    await connection.execute(statements)
    await connection.close()
    return empty_store_url


async def test_nothing_that_it_knew_is_lost(old_url: str) -> None:
    async with ThreadStore(old_url) as store, Inbox(written.account(), store=store, agent="support") as inbox:
        assert await schema.upgrade(store.db) == schema.revisions()[-1]

        thread = await inbox.thread("t1")
        assert thread.parents == {"m1": None, "m2": "m1", "m6": "m1"}
        assert (thread.labels, thread.data, thread.assigned) == (("vip",), {"order": 42}, "support")
        assert (await inbox.thread("t2")).id == "t1", "a merged thread keeps its old name"
        assert (await inbox.thread("t4")).claimed_parent == "<a@id.example>", "the stranger stays apart"
        handed = await inbox.thread("t3")
        assert (handed.assigned, [note["text"] for note in handed.notes]) == ("billing", ["wants an invoice"])
        assert [(r.kind, r.text) for r in await inbox.reminders("t1")] == [("follow-up", "Any news?")]

        assert await store.raw("m2") == written.raw(*written.MAILS[1])
        answer = await inbox.message("m6")
        assert answer.references == ("<a@id.example>",)
        assert (await inbox.attachment(str(answer.attachments[0].id))).content == b"hello"
        found = {query: {hit.id for hit in await inbox.search(query)}
                 for query in ("größe", "from:münchen", "label:vip has:attachment")}  # fmt: skip
        assert found == {"größe": {"m2"}, "from:münchen": {"m5"}, "label:vip has:attachment": {"m6"}}

        states = {s.id: (s.state, s.key, s.decided_by or s.error) for s in await inbox.outbox()}
        assert states["o3"] == ("canceled", "k2", "canceled by bo")
        assert states["o2"][0] == states["o1"][0] == "queued"
        kinds = [event.kind async for event in inbox.events(after=0, wait=False)]
        assert kinds.count("message.filed") == 8
        assert {"submission.queued", "submission.canceled", "thread.merged", "thread.data"} <= set(kinds)


async def test_work_goes_on_where_it_stood(old_url: str) -> None:
    async with ThreadStore(old_url) as store, Inbox(written.account(), store=store, agent="support") as inbox:
        again = await store.file(
            parse(written.raw(*written.MAILS[0])), account=US, raw=written.raw(*written.MAILS[0]),
            location=Location("INBOX", 7, 1),
        )  # fmt: skip
        assert (again.id, again.new) == ("m1", False)
        data = written.raw("new", "ana@customer.example", "Re: Invoice 42", "and now?", ("a", "b"), 6)
        filed = await store.file(parse(data), account=US, raw=data)
        assert (filed.thread, (await inbox.thread("t1")).parents[filed.id]) == ("t1", "m2")

        first = await inbox.message("m1")
        with pytest.raises(KeyReused, match="other content"):
            await inbox.reply(first, "Something else.", key="k1")
        with pytest.raises(Unreachable, match="o1"):
            await inbox.retry("o1", by="bo")

        async with inbox.claim("t3", agent="billing") as turn:
            assert [note["text"] for note in turn.thread.notes] == ["wants an invoice"]
        async with inbox.claim("t5", agent="support") as turn:
            await turn.hand_off("billing")

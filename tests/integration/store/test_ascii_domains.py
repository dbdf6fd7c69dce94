"""A store in which addresses of domains in other scripts stand as they were written opens as one of today."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Insert, Text, text

from agentmail.message.domains import address_key
from agentmail.store import Arrival, Location, ThreadStore
from agentmail.store.database import Tx
from agentmail.store.tables import metadata

from ...unit.threads.worlds import message

OLD, NEW = "hilfe@müller.example", "hilfe@xn--mller-kva.example"
ANA_OLD, ANA = "ana@kündin.example", "ana@xn--kndin-kva.example"
EVE = "eve@evil.example"
OF_PEOPLE = {"person": "atom", "apart": "atom", "message": "sender", "granted": "address"}


async def as_of_schema_before(tx: Tx) -> None:
    await tx.execute(text("UPDATE alembic_version SET version_num = '0012_return_path'"))
    await tx.execute(text("DROP INDEX attachment_size"))
    if tx.dialect.name == "postgresql":
        await tx.execute(text("DROP TABLE uncrashed"))


def row(table: str, **values: Any) -> Insert:
    """A row of a table, with nothing in the columns that are not given."""
    columns = metadata.tables[table].c
    blank = {c.name: "" if isinstance(c.type, Text) else 1 for c in columns if not c.nullable and c.name not in values}
    return metadata.tables[table].insert().values(blank | values)


async def written_before(url: str, *rows: Insert) -> None:
    """What the schema before wrote: today's rows, with the names of then in the places where they stood."""
    async with ThreadStore(url) as store:
        await store.register(OLD, own=["post@müller.example"])
        raw = b"From: a\r\n\r\nraw"
        arrivals = [
            Arrival(message("a", ANA_OLD, [OLD], text="Rechnung"), raw, Location("INBOX", 1, 1)),
            Arrival(message("x", EVE, [OLD], answers=["a"])),
            Arrival(message("y", ANA_OLD, [OLD], answers=["later"], subject="Other")),
        ]
        await store.db.run(lambda tx: store.file_batch(tx, arrivals, account=OLD))

        async def as_it_was(tx: Tx) -> None:
            await tx.execute(text("UPDATE account SET own = :own"), {"own": f'["{OLD}", "post@müller.example"]'})
            for one in (row("granted", account=OLD, address=ANA_OLD), row("cursor", name=f"{OLD} crm"), *rows):
                await tx.execute(one)
            for today, then in ((NEW, OLD), (ANA, ANA_OLD)):
                names = {"today": today.partition("@")[2], "then": then.partition("@")[2]}
                for table, where in OF_PEOPLE.items():
                    await tx.execute(text(f"UPDATE {table} SET {where} = replace({where}, :today, :then)"), names)
                names["then"] = names["then"].replace("ü", "\\u00fc")
                await tx.execute(text("UPDATE ident SET holders = replace(holders, :today, :then)"), names)
            await as_of_schema_before(tx)

        await store.db.run(as_it_was)


async def column(store: ThreadStore, query: str, **values: Any) -> list[Any]:
    async with store.reading() as tx:
        return list((await tx.execute(text(query), values)).scalars())


async def test_an_account_and_people_are_found_by_the_names_of_today(store_url: str) -> None:
    await written_before(store_url)
    async with ThreadStore(store_url) as store:
        for table in metadata.sorted_tables:
            if "account" in table.c:
                assert OLD not in await column(store, f"SELECT account FROM {table.name}")
        assert await column(store, "SELECT key FROM account") == [NEW]
        assert store.own_addresses(NEW) == {NEW, "post@xn--mller-kva.example"}
        for table, name in OF_PEOPLE.items():
            found = await column(store, f"SELECT {name} FROM {table}")
            assert found
            assert all(one.isascii() for one in found)
        assert "\\u" not in "".join(await column(store, "SELECT holders FROM ident"))
        assert f"{NEW} crm" in await column(store, "SELECT name FROM cursor")
        assert [h.id for h in await store.search("rechnung", account=NEW)] == ["m1"]
        assert await store.search("rechnung", account=OLD) == []
        # A copy of what is there, an answer of a person that the thread knows, and one to an id that is still to come.
        again = Arrival(message("a", ANA_OLD, [OLD], text="Rechnung"), location=Location("INBOX", 1, 1))
        answer = Arrival(message("b", ANA_OLD, [OLD], answers=["a"], day=1))
        late = Arrival(message("later", ANA_OLD, [OLD], subject="Other"))
        filed = await store.db.run(lambda tx: store.file_batch(tx, [again, answer, late], account=NEW))
        assert [(f.thread, f.new) for f in filed] == [("t1", False), ("t1", True), ("t3", True)]
        assert await store.admit("t1", EVE) == "t1"
        assert (await store.thread("t2")).id == "t1"
        gone = await store.forget(ANA_OLD)
        assert gone.messages == 4
        assert await store.search("rechnung") == []


async def test_a_new_name_without_mail_gives_way(store_url: str) -> None:
    """Somebody opened the store in between: what was first known of the mailbox is what was read."""
    known = ((OLD, "INBOX", 7), (NEW, "INBOX", 90), (NEW, "Sent", 91))
    await written_before(store_url, *(row("mailbox", account=a, name=name, floor=floor) for a, name, floor in known))
    async with ThreadStore(store_url) as store:
        assert await column(store, "SELECT account FROM mailbox") == [NEW, NEW]
        assert await column(store, "SELECT floor FROM mailbox ORDER BY name") == [7, 91]


async def test_mail_under_both_names_stays_and_a_pause_counts_for_both(store_url: str) -> None:
    async with ThreadStore(store_url) as store:
        for account in (OLD, NEW):
            arrivals = [Arrival(message("a", ANA, [NEW]))]
            await store.db.run(lambda tx, a=account, m=arrivals: store.file_batch(tx, m, account=a))
        async with store.transaction() as tx:
            await tx.execute(row("pause", account=OLD))
            await as_of_schema_before(tx)
    async with ThreadStore(store_url) as store:
        assert sorted(await column(store, "SELECT account FROM thread")) == [OLD, NEW]
        assert await column(store, "SELECT account FROM pause") == [NEW]
        assert [(await store.thread(t)).count for t in ("t1", "t2")] == [1, 1]


@pytest.mark.parametrize("account", ["größe@x.example", "a@b", "", "a@münchen..example"])
async def test_names_that_stay_are_left_alone(store_url: str, account: str) -> None:
    async with ThreadStore(store_url) as store:
        await store.register(account)
        await store.db.run(lambda tx: store.file_batch(tx, [Arrival(message("a"))], account=account))
        await store.db.run(as_of_schema_before)
    async with ThreadStore(store_url) as store:
        assert await column(store, "SELECT account FROM thread") == [account]
        assert address_key(account) == account

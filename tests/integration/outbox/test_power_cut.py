"""A power cut takes back what SQLite committed and nobody wrote out. What was lost must not make a mail go twice.

The disk is what the files were when they were last written out; the machine that starts anew has another boot id.
PostgreSQL is killed, with the process that writes out its log stopped before, and started again.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import make_url, text

from agentmail import recovery
from agentmail.outbox import Outbox
from agentmail.smtp import Submitter
from agentmail.store import ThreadStore, attempts, database
from agentmail.testing import ManualClock

from ...servers.postgres import Postgres
from .conftest import Bench
from .scripted import ScriptedSmtp


class Disk:
    """What of a store would be left."""

    def __init__(self, bench: Bench, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.path = Path(str(make_url(bench.store.db.url).database))
        self.left = directory / "left.db"

        def keep(path: str) -> None:
            write_out(path)
            if path == f"{self.path}-wal":
                self.keep()

        write_out = database._write_out
        monkeypatch.setattr(database, "_write_out", keep)
        self.keep()

    def keep(self) -> None:
        for end in ("", "-wal"):
            if os.path.exists(f"{self.path}{end}"):
                shutil.copy(f"{self.path}{end}", f"{self.left}{end}")

    def store(self, bench: Bench, monkeypatch: pytest.MonkeyPatch, *, boot: str | None = "another") -> ThreadStore:
        """The store as the machine finds it."""
        monkeypatch.setattr(recovery, "BOOT", boot)
        return ThreadStore(f"sqlite:///{self.left}", clock=bench.clock)


@pytest.fixture
def disk(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Disk:
    (tmp_path / "disk").mkdir()
    return Disk(bench, tmp_path / "disk", monkeypatch)


def box_on(bench: Bench, store: ThreadStore) -> Outbox:
    again = Bench(store, bench.server, bench.clock)
    again.box.evidence = bench.shelf
    bench.outboxes.append(again.box)
    return again.box


only_sqlite = pytest.mark.parametrize("store_url", ["sqlite"], indirect=True)


@only_sqlite
@pytest.mark.parametrize("found", [True, False])
async def test_cut_off_after_the_dot(bench: Bench, disk: Disk, monkeypatch: pytest.MonkeyPatch, found: bool) -> None:
    """The marker is lost, the claim is not: the mail is looked for, and goes again only after the whole search."""
    mail = bench.mail()
    keep = disk.keep
    monkeypatch.setattr(disk, "keep", lambda: keep() if not bench.server.taken else None)
    await bench.box.submit(mail, at_most_once=not found)
    assert 1 == len(bench.server.taken)
    if found:
        bench.shelf.sent.add(mail.message_id)
    else:
        bench.shelf.sent.clear()

    async with disk.store(bench, monkeypatch) as store:
        (row,) = await (box := box_on(bench, store)).list()
        assert "sending" == row.state, "the claim was not on the disk when the body went"
        await bench.clock.advance(181)
        for _ in range(6):
            await box.deliver_due()
            await bench.clock.advance(61)
        (row,) = await box.list()
        assert ("sent" if found else "unknown") == row.state
    assert 1 == len(bench.server.taken)


@only_sqlite
async def test_the_same_boot_is_believed(bench: Bench, disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a crash of the process alone a missing marker is proof: the mail goes again, and nobody looks for it."""
    await bench.box.deliver_due()
    disk.keep()
    mail = bench.mail()
    queued = await bench.box.queue(mail, at_most_once=True)
    held, _ = await bench.box._claim(limit=1)
    assert [queued.id] == [f"o{row.id}" for row in held]
    disk.keep()
    async with disk.store(bench, monkeypatch, boot=recovery.BOOT) as store:
        box = box_on(bench, store)
        await bench.clock.advance(181)
        await box.deliver_due()
        assert "sent" == (await box.list())[0].state
    assert 0 == bench.shelf.asked


@only_sqlite
@pytest.mark.parametrize("what", ["queued", "canceled", "sent"])
async def test_what_a_call_promised_is_on_the_disk(
    bench: Bench, disk: Disk, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    mail = bench.mail()
    if what == "sent":
        await bench.box.submit(mail)
    else:
        queued = await bench.box.queue(mail)
        if what == "canceled":
            await bench.box.cancel(queued.id, by="Bo")
    async with disk.store(bench, monkeypatch) as store:
        assert [what] == [row.state for row in await box_on(bench, store).list()]


@only_sqlite
async def test_without_a_boot_id_each_marker_is_written_out(
    bench: Bench, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recovery, "BOOT", None)
    monkeypatch.setattr("agentmail.attempting.BOOT", None)
    keep = disk.keep
    monkeypatch.setattr(disk, "keep", lambda: keep() if not bench.server.taken else None)
    await bench.box.submit(bench.mail(), at_most_once=True)
    bench.shelf.sent.clear()
    async with disk.store(bench, monkeypatch, boot=None) as store:
        box = box_on(bench, store)
        await bench.clock.advance(181)
        await box.deliver_due()
        assert "unknown" == (await box.list())[0].state
    assert 1 == len(bench.server.taken)


# -- PostgreSQL -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    """One that waits for the disk where it should, and can be killed."""
    if not Postgres.available() or os.environ.get("AGENTMAIL_TEST_POSTGRES"):
        pytest.skip("it needs a PostgreSQL that can be killed")
    server = Postgres(settings=["shared_buffers=32MB", "log_min_messages=warning", "timezone=UTC"])
    server.start()
    yield server
    server.stop()


async def test_postgresql_crashes_between_the_marker_and_the_end(server: Postgres) -> None:
    clock = ManualClock()
    async with ScriptedSmtp() as smtp, ThreadStore(server.new_database(), clock=clock) as store:
        bench = Bench(store, smtp, clock)
        mail = bench.mail()
        await bench.box.queue(mail)
        await bench.box.deliver_due(limit=0)
        (row,), _ = await bench.box._claim(limit=1)
        server.hold_back()
        assert {row.id} == await attempts.write(store.db, [(row.id, row.epoch)], [])
        smtp.taken.append(("", [], mail.raw))  # the body goes, and nothing else is heard of it
        await store.db.close()  # a pool would not notice a server that is back within two seconds
        server.crash()
        async with store.reading() as tx:
            found = (await tx.execute(text("SELECT state, marker_at FROM submission"))).one()
        assert ("sending", None) == tuple(found), "the marker did not get lost, so this test shows nothing"
        await clock.advance(181)
        for _ in range(6):
            await bench.box.deliver_due()
            if bench.shelf.asked == 1:
                bench.shelf.sent.add(mail.message_id)  # the copy comes late
            await clock.advance(61)
        assert "sent" == (await bench.box.list())[0].state
        assert 1 == len(smtp.taken)
        assert 2 == bench.shelf.asked
        await bench.box.close()


@pytest.mark.parametrize("step", ["rcpt", "dot"])
async def test_postgresql_restarts_under_mail_that_is_under_way(server: Postgres, step: str) -> None:
    """Before any marker, and with a 250 in the hand of some: each goes once, and each end is known."""
    clock = ManualClock()
    async with ScriptedSmtp() as smtp, ThreadStore(server.new_database(), clock=clock) as store:
        bench = Bench(store, smtp, clock)
        # Nothing of ours runs while the server starts anew, and that is nobody's fault.
        account = smtp.account().model_copy(update={"timeout": 300.0})
        box = Outbox(
            account, store, Submitter(account), clock=clock, monotonic=lambda: clock().timestamp(),
            sleep=lambda seconds: asyncio.sleep(0) if seconds < 5 else clock.sleep(seconds),
        )  # fmt: skip
        bench.outboxes.append(box)
        rows = [await box.queue(bench.mail(f"p{n}@test.local")) for n in range(6)]
        await store.db.durable()

        def crash(_: str) -> str:
            if smtp.script.pop(step, None) is not None:
                server.crash()
            return "250 ok"

        smtp.script[step] = crash
        await box.deliver_due()
        assert ["sent"] * 6 == [(await box.get(row.id)).state for row in rows]
        assert [f"p{n}@test.local" for n in range(6)] == sorted(to for _, (to,), _ in smtp.taken)
        for each in bench.outboxes:
            await each.close()


async def test_postgresql_that_ended_in_order_is_believed(bench: Bench) -> None:
    """A row without a marker goes again as long as nothing crashed, and is looked for once when something did."""
    if bench.store.db.sqlite:
        return
    mail = bench.mail()
    await bench.box.queue(mail, at_most_once=True)
    assert (await bench.box._claim(limit=1))[0]
    await bench.clock.advance(181)
    await bench.box.deliver_due()
    assert "sent" == (await bench.box.list())[0].state
    assert 0 == bench.shelf.asked

    await bench.box.queue(bench.mail(), at_most_once=True)
    assert (await bench.box._claim(limit=1))[0]
    async with bench.store.transaction() as tx:
        await tx.execute(text("TRUNCATE uncrashed"))  # what a crash leaves of it
    await bench.clock.advance(181)
    await bench.box.deliver_due()
    assert "unknown" == (await bench.box.list())[0].state
    assert 1 == bench.shelf.asked
    async with bench.store.reading() as tx:
        assert 1 == len((await tx.execute(text("SELECT id FROM uncrashed"))).all())


async def test_what_deliver_promised_is_on_postgresqls_disk(server: Postgres) -> None:
    clock = ManualClock()
    async with ScriptedSmtp() as smtp, ThreadStore(server.new_database(), clock=clock) as store:
        bench = Bench(store, smtp, clock)
        box = bench.outbox(evidence=None)  # what is written of a copy would bring the rest to the disk
        server.hold_back()
        await box.submit(bench.mail())
        await store.db.close()
        server.crash()
        assert ["sent"] == [row.state for row in await box.list()]
        await box.queue(bench.mail())
        server.hold_back()
        await box.deliver_due()
        await store.db.close()
        server.crash()
        assert ["sent"] * 2 == [row.state for row in await box.list()]
        await box.close()

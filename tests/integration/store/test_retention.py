"""Forgetting: what is deleted is gone everywhere, and what stays does not fall apart."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import func, select, text

from agentmail.errors import BadInput, Conflict, NotFound
from agentmail.message.models import Message
from agentmail.message.parse import parse
from agentmail.store import Arrival, Filed, ThreadStore, holders, log, tallies
from agentmail.store.events import append_event
from agentmail.store.tables import metadata

from ...unit.threads.worlds import US

START = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)


def raw(
    n: int, sender: str, to: str, *, refs: tuple[int, ...] = (), text: str = "words", attach: bool = False
) -> bytes:
    head = f"From: {sender}\nTo: {to}\nSubject: Topic {n}\nMessage-ID: <{n}@x.example>\n"
    head += f"Date: {(START + timedelta(hours=n)).strftime('%a, %d %b %Y %H:%M:%S +0000')}\n"
    if refs:
        head += "References: " + " ".join(f"<{r}@x.example>" for r in refs) + "\n"
    if not attach:
        return f"{head}\n{text}\n".encode()
    return (
        f'{head}MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary="b"\n\n--b\n\n{text}\n--b\n'
        f'Content-Type: application/pdf\nContent-Disposition: attachment; filename="{sender[:3]}.pdf"\n\n'
        f"SECRET{n}\n--b--\n"
    ).encode()


async def put(store: ThreadStore, *mails: bytes, account: str | None = US) -> list[Filed]:
    arrivals = [Arrival(parse(m), m) for m in mails]
    return await store.db.run(lambda tx: store.file_batch(tx, arrivals, account=account))


ANA, BOB = "ana@people.example", "bob@others.example"


async def rows(store: ThreadStore) -> dict[str, int]:
    """Rows in every table that mail leaves traces in."""
    async with store.reading() as tx:
        found = {}
        for table in metadata.sorted_tables:
            found[table.name] = (await tx.execute(select(func.count()).select_from(table))).scalar_one()
    return {name: n for name, n in found.items() if n and name not in {"info", "account", "event"}}


async def test_a_deleted_thread_leaves_nothing(store: ThreadStore) -> None:
    mails = raw(1, ANA, US, attach=True), raw(2, US, ANA, refs=(1,)), raw(3, ANA, US, refs=(1, 2))
    (first, *_) = await put(store, *mails)
    done = await store.delete_thread(first.thread)
    assert (done.messages, done.attachments, done.threads) == (3, 1, (first.thread,))
    assert await rows(store) == {}
    assert await store.search("words") == []
    for look in (store.thread(first.thread), store.message(first.id), store.raw(first.id), store.attachment("a1")):
        with pytest.raises(NotFound):
            await look
    with pytest.raises(NotFound):
        await store.delete_thread(first.thread)


async def test_an_id_is_never_used_again(store: ThreadStore) -> None:
    (first,) = await put(store, raw(1, ANA, US))
    await store.delete_thread(first.thread)
    (second,) = await put(store, raw(2, BOB, US))
    assert (second.id, second.thread) != (first.id, first.thread)


async def test_a_merged_thread_goes_with_its_old_names(store: ThreadStore) -> None:
    _, three = await put(store, raw(1, ANA, US), raw(3, ANA, US, refs=(2,)))
    (two,) = await put(store, raw(2, ANA, US, refs=(1,)))
    assert two.absorbed
    done = await store.delete_thread(three.thread)
    assert done.messages == 3
    assert await rows(store) == {}


async def test_another_thread_is_not_touched(store: ThreadStore) -> None:
    first, other = await put(store, raw(1, ANA, US), raw(9, BOB, US, text="elsewhere"))
    await store.delete_thread(first.thread)
    assert [m.id for m in (await store.thread(other.thread)).messages] == [other.id]
    assert [h.id for h in await store.search("elsewhere")] == [other.id]


@pytest.mark.parametrize("account", [US, None])
async def test_what_stays_keeps_its_thread_by_ghosts(store: ThreadStore, account: str | None) -> None:
    """Bob's answer mentions only Ana's message; without a ghost a later answer to it would begin a new thread."""
    first, _, third = await put(
        store,
        raw(1, US, f"{ANA}, {BOB}"),
        raw(2, ANA, f"{US}, {BOB}", refs=(1,), attach=True, text="private"),
        raw(3, BOB, US, refs=(2,)),
        account=account,
    )
    assert first.thread == third.thread
    done = await store.forget(ANA.upper())
    assert (done.messages, done.attachments, done.threads) == (1, 1, ())
    thread = await store.thread(first.thread)
    assert [m.message_id for m in thread.messages] == ["<1@x.example>", "<3@x.example>"]
    assert thread.count == 2
    assert ANA not in {p.email for p in thread.people}
    assert await store.search("private") == []
    assert set(done.still_mentioned) == {first.id}
    (late,) = await put(store, raw(4, BOB, US, refs=(2,)), account=account)
    assert late.thread == first.thread


async def test_a_stranger_is_not_let_in_by_a_ghost(store: ThreadStore) -> None:
    first, _ = await put(store, raw(1, BOB, f"{US}, {ANA}"), raw(2, ANA, f"{US}, {BOB}", refs=(1,)))
    await store.forget(ANA)
    (stranger,) = await put(store, raw(5, "eve@evil.example", US, refs=(2,)))
    assert stranger.thread != first.thread


async def test_what_was_written_to_them_alone_goes_too(store: ThreadStore) -> None:
    ours, _ = await put(store, raw(1, US, ANA), raw(2, ANA, US, refs=(1,)))
    done = await store.forget(ANA)
    assert (done.messages, done.threads, done.still_mentioned) == (2, (ours.thread,), ())
    assert await rows(store) == {}


async def test_what_somebody_else_wrote_to_us_and_to_them_stays(store: ThreadStore) -> None:
    await put(store, raw(1, BOB, f"{US}, {ANA}"))
    await put(store, raw(2, BOB, ANA))
    assert (await store.forget(ANA)).messages == 1
    assert [m.message_id for m in await store.messages()] == ["<1@x.example>"]


async def test_no_trace_of_the_address_in_any_table(store: ThreadStore) -> None:
    await store.register(US)
    first, *_ = await put(store, raw(1, BOB, US), raw(2, ANA, US, refs=(1,)), raw(3, BOB, US, refs=(1, 2)))
    await store.admit(first.thread, ANA)  # the log says so
    async with store.transaction() as tx:
        await tallies.grant(tx, US, ANA, reason="approved once", now=0.0)
        await append_event(tx, "odd", thread=1, account=US, data={"deep": [{"to": f"Ana <{ANA.upper()}>"}]}, at=0.0)
    await store.forget(ANA)
    events = [e for e in await log.published(store.db, 0) if e.kind == "thread.admitted"]
    assert [e.data for e in events] == [{"address": ""}]  # what happened stays, to whom does not
    async with store.reading() as tx:
        for table in metadata.sorted_tables:
            for row in await tx.execute(select(table)):
                assert "ana@people" not in str(row).casefold(), table.name


async def test_forgetting_twice_and_forgetting_nobody(store: ThreadStore) -> None:
    await put(store, raw(1, ANA, US))
    assert (await store.forget(ANA)).messages == 1
    assert (await store.forget(ANA)).messages == 0
    with pytest.raises(BadInput):
        await store.forget("ana")


async def test_mail_that_waits_to_be_sent_is_not_dropped(store: ThreadStore) -> None:
    (first,) = await put(store, raw(1, US, ANA))
    submission = metadata.tables["submission"]
    columns = {c.name: "" for c in submission.columns if not c.nullable and str(c.type) == "TEXT"}
    async with store.transaction() as tx:
        await tx.execute(
            submission.insert().values(
                **{**columns, "account": US, "state": "queued", "message": int(first.id[1:]), "message_id": "<1@x>",
                   "reasons": [], "created_at": 0.0, "size": 0, "at_most_once": False, "attempts": 0, "epoch": 0,
                   "looks": 0, "copied": False}
            )
        )  # fmt: skip
    with pytest.raises(Conflict, match="not settled"):
        await store.delete_thread(first.thread)
    assert (await store.thread(first.thread)).count == 1


async def test_size_and_vacuum(store: ThreadStore) -> None:
    mails = [raw(n, ANA, US, attach=True, text=f"unique{n} " * 500) for n in range(60)]
    await put(store, *mails)
    await put(store, raw(99, BOB, US), account=None)
    before = await store.size()
    counts = [(a.account, a.threads, a.messages, a.attachments) for a in before.accounts]
    assert counts == [("", 1, 1, 0), (US, 60, 60, 60)]
    assert before.accounts[1].bytes == sum(map(len, mails))
    await store.forget(ANA)
    await store.vacuum()
    after = await store.size()
    assert [a.account for a in after.accounts] == [""]
    if store.db.sqlite:
        assert after.database_bytes < before.database_bytes
        assert after.unused_bytes == 0


async def test_after_vacuum_the_bytes_are_gone_from_the_file(store: ThreadStore, tmp_path: Path) -> None:
    await put(store, raw(1, ANA, US, text="xyzzyplugh"), raw(2, BOB, US))
    await store.forget(ANA)
    await store.vacuum()
    if store.db.sqlite:
        content = b"".join(p.read_bytes() for p in tmp_path.glob("store.db*"))
        assert b"xyzzyplugh" not in content
        assert b"ana@people" not in content


async def test_the_index_is_as_if_it_had_never_been(store: ThreadStore) -> None:
    """FTS5 is told what to delete; told wrongly, it is corrupt. It says so when asked."""
    await put(store, raw(1, ANA, US, text="Grüße 東京 " + "x" * 300), raw(2, BOB, US, text="stays"))
    await store.forget(ANA)
    for word in ("grusse", "東京", "x" * 300, "topic"):
        assert "m1" not in [h.id for h in await store.search(word)]
    if store.db.sqlite:
        async with store.transaction() as tx:
            await tx.execute(text("INSERT INTO search(search) VALUES ('integrity-check')"))
    assert isinstance((await store.message("m2")), Message)


@pytest.mark.parametrize("many", [0, 1, 2])
async def test_ids_that_many_hold_are_let_go_alike(
    store: ThreadStore, monkeypatch: pytest.MonkeyPatch, many: int
) -> None:
    monkeypatch.setattr(holders, "MANY", many)
    await test_what_stays_keeps_its_thread_by_ghosts(store, US)
    strangers = await put(store, *(raw(n, f"eve{n}@evil{n}.example", US, refs=(1,)) for n in range(10, 14)))
    assert len({s.thread for s in strangers}) == 4
    for stranger in strangers:
        await store.delete_thread(stranger.thread)
    monkeypatch.setattr(holders, "MANY", 32)  # what is held by few again is one value again
    (again,) = await put(store, raw(20, "eve@evil.example", US, refs=(1,)))
    await store.delete_thread(again.thread)
    (last,) = await put(store, raw(21, BOB, US, refs=(1,)))
    assert (await store.thread(last.thread)).count == 4
    await store.delete_thread(last.thread)
    assert await rows(store) == {}

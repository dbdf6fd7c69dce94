"""Waiting for answers and for threads: however many wait, one listener hears and one look serves them all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from pathlib import Path
from secrets import token_hex

import pytest
from sqlalchemy import delete, event, insert

from agentmail import Inbox, ThreadStore, errors, parse, teamwork
from agentmail.message.models import Message
from agentmail.store import Location, answers, changes
from agentmail.store.changes import Changes, announce
from agentmail.store.database import Tx
from agentmail.store.direct import Statement
from agentmail.store.tables.threads import INFO
from tests.waiting import until

from .crew import ACCOUNT, OPEN
from .test_crew import US, fill, letter

PERSON = "person0@customer0.example"
pytestmark = pytest.mark.usefixtures("no_mail_server")


@asynccontextmanager
async def desk(store_url: str) -> AsyncIterator[Inbox]:
    """An inbox without servers: what it sends stays in the outbox, and what arrives is filed by hand."""
    async with (
        ThreadStore(store_url) as store,
        Inbox(ACCOUNT, store=store, agent="crew", policy=OPEN) as inbox,
    ):
        await store.register(US)
        await inbox.pause(by="test", reason="nothing leaves")
        yield inbox


def mail(number: int, *refers: str, extra: str = "") -> Message:
    """A person's mail that refers to these, oldest first."""
    above = f"In-Reply-To: {refers[-1]}\r\nReferences: {' '.join(refers)}\r\n" if refers else ""
    raw = (
        f"From: Person 0 <{PERSON}>\r\nTo: {US}\r\nSubject: Re: Offer\r\nMessage-ID: <a{number}@customer.example>\r\n"
        f"Date: Fri, 20 Nov 2026 10:{number:02}:00 +0000\r\n{above}{extra}\r\nAnswer {number}.\r\n"
    )
    return parse(raw.encode())


async def arrives(inbox: Inbox, message: Message, uid: int) -> str:
    return (await inbox.store.file(message, account=US, location=Location("INBOX", 1, uid))).thread


async def asleep(inbox: Inbox) -> None:
    """Until every wait looked, and the listener heard everything that happened before."""
    while inbox._waits._place is None or not all(w.heard for w in inbox._waits._everybody()):
        await inbox.store.db.run(touch)
        await asyncio.sleep(0.005)


async def touch(tx: Tx) -> None:
    """A change of the store that concerns nobody. SQLite writes nothing where the same is written again."""
    await tx.execute(delete(INFO).where(INFO.c.name == "touched"))
    await tx.execute(insert(INFO).values(name="touched", value=token_hex()))
    await announce(tx)


def hearing(inbox: Inbox) -> int:
    """How many hear of the store's changes."""
    listener = changes._LISTENERS.get(inbox.store.db)
    return 0 if listener is None else len(listener.waiting)


async def heard_by(inbox: Inbox, number: int) -> None:
    """Until so many do."""
    await until(lambda: hearing(inbox) >= number)


@contextmanager
def statements(store: ThreadStore) -> Iterator[list[str]]:
    """What the database is asked meanwhile."""
    asked: list[str] = []

    def keep(_: object, __: object, statement: str, *___: object) -> None:
        asked.append(statement)

    event.listen(store.db.engine.sync_engine, "before_cursor_execute", keep)
    yield asked
    event.remove(store.db.engine.sync_engine, "before_cursor_execute", keep)


def of_waits(asked: list[str]) -> list[str]:
    """What those who wait, and the listener, ask."""
    return [s for s in asked if "message AS ours" in s or "message_id_key IN" in s or "event.seq > " in s]


async def test_a_wait_goes_along_when_its_thread_is_merged(store_url: str) -> None:
    async with desk(store_url) as inbox:
        older = await arrives(inbox, parse(letter(0)), 1)
        sent = await inbox.send(to=[PERSON], subject="Offer", text="Would you like one?")
        assert sent.thread != older
        waiting = asyncio.create_task(inbox.wait_for_reply(sent.message_id, timeout=300))
        await asleep(inbox)
        # An out-of-office message that refers to both joins the two threads; the answer comes into the older one.
        away = mail(1, "<q0@customer.example>", sent.message_id, extra="Auto-Submitted: auto-replied\r\n")
        assert await arrives(inbox, away, 2) == older
        await asleep(inbox)
        assert await arrives(inbox, mail(2, sent.message_id), 3) == older
        assert (await waiting).message_id == "<a2@customer.example>"
        assert not inbox._waits


async def test_what_others_wrote_in_the_thread_is_no_answer(store_url: str) -> None:
    """A thread with two letters of ours, and an answer to each: every wait gets its own."""
    async with desk(store_url) as inbox:
        first = await inbox.send(to=[PERSON], subject="Offer", text="Would you like one?")
        await arrives(inbox, mail(1, first.message_id), 1)
        question = await inbox.message("<a1@customer.example>")
        second = await inbox.reply(question, "Here it is. Does it suit you?")
        third = await inbox.reply(question, "One more thing, about the harbour.")
        waits = [asyncio.create_task(inbox.wait_for_reply(s.message_id)) for s in (first, second, third)]
        await asleep(inbox)
        assert (await waits[0]).message_id == "<a1@customer.example>"
        await arrives(inbox, mail(2, first.message_id, "<a1@customer.example>", third.message_id), 2)
        assert (await waits[2]).message_id == "<a2@customer.example>"
        await arrives(inbox, mail(3, "<a2@customer.example>"), 3)  # below the third letter, and not the second
        await arrives(inbox, mail(4, second.message_id), 4)
        assert (await waits[1]).message_id == "<a4@customer.example>"


async def test_an_answer_that_is_filed_during_the_first_look_is_found(
    store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The listener hears of it and tells it, while the look that began before it brings back less."""
    async with desk(store_url) as inbox:
        sent = await inbox.send(to=[PERSON], subject="Offer", text="Would you like one?")
        looked, waits = inbox._waits._look, inbox._waits

        async def slow(message: int) -> object:
            before = await looked(message)
            await arrives(inbox, mail(1, sent.message_id), 1)
            await until(lambda: any(w.came for w in waits._everybody()))
            return before

        monkeypatch.setattr(waits, "_look", slow)
        assert (await inbox.wait_for_reply(sent.message_id, timeout=300)).message_id == "<a1@customer.example>"


async def test_without_patience_it_finds_what_came_before(store_url: str) -> None:
    async with desk(store_url) as inbox:
        sent = await inbox.send(to=[PERSON], subject="Offer", text="Would you like one?")
        with pytest.raises(errors.NoReply):
            await sent.wait_for_reply(timeout=0)
        await arrives(inbox, mail(1, sent.message_id), 1)
        assert (await sent.wait_for_reply(timeout=0)).message_id == "<a1@customer.example>"


async def test_waiting_for_what_is_not_there_says_so(store_url: str) -> None:
    async with desk(store_url) as inbox:
        with pytest.raises(errors.NotFound, match="nobody@nowhere"):
            await inbox.wait_for_reply("<nobody@nowhere.example>", timeout=300)
        assert not inbox._waits


async def test_ten_thousand_waits_are_one_listener_and_one_look(
    store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    listeners: list[object] = []
    opened = changes.Listener.open

    async def counted(self: changes.Listener) -> None:
        if self not in listeners:
            listeners.append(self)
        await opened(self)

    monkeypatch.setattr(changes.Listener, "open", counted)
    async with desk(store_url) as inbox:
        sent = [
            await inbox.send(to=[PERSON], subject=f"Offer {n}", text=f"Would you like {n}?", key=f"{n}")
            for n in range(4)
        ]
        with statements(inbox.store) as asked:
            waits = [asyncio.create_task(inbox.wait_for_reply(sent[n % len(sent)].message_id)) for n in range(10_000)]
            await asleep(inbox)
        assert len(of_waits(asked)) < 60  # they looked together
        assert len(asyncio.all_tasks() - set(waits)) < 20
        with statements(inbox.store) as asked:
            await arrives(inbox, mail(1, sent[0].message_id), 1)
            answered = await asyncio.gather(*waits[:: len(sent)])
        assert {m.message_id for m in answered} == {"<a1@customer.example>"}
        assert len(answered) == 2_500
        assert len(of_waits(asked)) < 10
        assert len(inbox._waits) == 7_500

        # A turn, a reader of the log and somebody who waits for a thread hear by the same listener.
        thread = str(sent[0].thread)
        others = [
            asyncio.ensure_future(anext(inbox.events(after=10**9))),
            asyncio.ensure_future(anext(inbox.turns("other"))),
        ]
        async with inbox.claim(thread):
            others.append(asyncio.create_task(once(inbox, thread)))
            await heard_by(inbox, 5)
        await others.pop()
        assert len(listeners) == 1
        for task in [*waits, *others]:
            task.cancel()
        await asyncio.gather(*waits, *others, return_exceptions=True)
        assert not inbox._waits
    assert not listeners[0].waiting  # type: ignore[attr-defined]
    assert not changes._LISTENERS


async def once(inbox: Inbox, thread: str) -> str:
    """Wait for a thread, and finish with it at once."""
    async with inbox.claim(thread, timeout=None) as turn:
        return turn.thread.id


async def test_a_claim_that_does_not_wait_opens_no_listener(store_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with desk(store_url) as inbox:
        await fill(inbox.store, 1)

        def refuse(*_: object) -> None:
            raise AssertionError("nobody waits")

        monkeypatch.setattr(teamwork, "Changes", refuse)
        async with inbox.claim("t1"):
            with pytest.raises(errors.HeldByOther, match="held by 'crew'"):
                async with inbox.claim("t1", agent="other"):
                    pass


async def test_many_who_wait_for_one_thread_get_it_one_after_the_other(store_url: str) -> None:
    async with desk(store_url) as inbox:
        await fill(inbox.store, 1)
        held = await inbox.claim("t1")
        async with held:
            waits = [asyncio.create_task(once(inbox, "t1")) for _ in range(4)]
            with pytest.raises(errors.HeldByOther):
                async with inbox.claim("t1", timeout=0.05):
                    pass
            await heard_by(inbox, 4)
            with statements(inbox.store) as asked:
                await inbox.store.add_note("t1", "a change that frees nothing")
                await inbox.store.db.run(announce)
                await until(lambda: any(s.startswith("SELECT work.thread, work.next_at") for s in asked))
            assert len([s for s in asked if s.startswith("UPDATE work")]) == 0  # too early: nobody writes
        assert await asyncio.gather(*waits) == ["t1"] * 4


async def test_somebody_who_waits_gets_the_thread_when_the_lease_ends(store_url: str) -> None:
    async with desk(store_url) as inbox:
        await fill(inbox.store, 1)
        await inbox.claim("t1", agent="gone", lease=timedelta(seconds=0.3))  # never entered: it does not renew
        async with inbox.claim("t1", agent="next", timeout=300) as turn:
            assert turn.agent == "next"


async def test_who_waits_for_a_thread_goes_along_when_it_is_merged(store_url: str) -> None:
    async with desk(store_url) as inbox:
        older = await arrives(inbox, parse(letter(0)), 1)
        sent = await inbox.send(to=[PERSON], subject="Offer", text="Would you like one?")
        held = await inbox.claim(str(sent.thread))
        with pytest.raises(errors.StaleTurn):
            async with held:
                before = hearing(inbox)
                late = asyncio.create_task(once(inbox, str(sent.thread)))
                await heard_by(inbox, before + 1)
                await arrives(inbox, mail(1, "<q0@customer.example>", sent.message_id), 2)
                await held.write_note("too late")
        assert await late == older


async def test_an_answer_comes_by_the_listening_connection_as_the_store_tells_it(
    store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is lost on the short way: threads, attachments and their ids are those of the store."""
    short: list[str] = []
    ask = Changes.ask

    async def counted(self: Changes, statement: Statement, /, **values: object) -> object:
        rows = await ask(self, statement, **values)
        short.append(statement.for_driver(values, postgres=False)[0])
        return rows

    monkeypatch.setattr(Changes, "ask", counted)
    async with desk(store_url) as inbox:
        sent = await inbox.send(to=[PERSON], subject="Offer", text="Would you like one?")
        waiting = asyncio.create_task(inbox.wait_for_reply(sent.message_id, timeout=300))
        await asleep(inbox)
        raw = mail_with_a_file(sent.message_id)
        await inbox.store.file(parse(raw), account=US, location=Location("INBOX", 1, 1))
        answer = await waiting
        assert answer.attachments[0].id == "a1"
        assert answer == await inbox.message(str(answer.id))
    assert any("attachment.position" in sql for sql in short)


def mail_with_a_file(answers: str) -> bytes:
    return (
        f"From: Person 0 <{PERSON}>\r\nTo: {US}\r\nSubject: Re: Offer\r\nMessage-ID: <file@customer.example>\r\n"
        f"In-Reply-To: {answers}\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n"
        "--b\r\nContent-Type: text/plain\r\n\r\nYes, see the plan.\r\n"
        '--b\r\nContent-Type: application/pdf\r\nContent-Disposition: attachment; filename="plan.pdf"\r\n\r\n%PDF\r\n'
        "--b--\r\n"
    ).encode()


async def test_when_the_listening_connection_is_busy_the_store_is_asked(
    store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = 0

    async def busy(*_: object, **__: object) -> None:
        nonlocal asked
        asked += 1
        raise errors.StoreBusy("somebody recovers the write-ahead log")

    monkeypatch.setattr(Changes, "ask", busy)
    async with desk(store_url) as inbox:
        sent = await inbox.send(to=[PERSON], subject="Offer", text="Would you like one?")
        waiting = asyncio.create_task(inbox.wait_for_reply(sent.message_id, timeout=300))
        await asleep(inbox)
        await arrives(inbox, mail(1, sent.message_id), 1)
        assert (await waiting).message_id == "<a1@customer.example>"
    assert asked > 2


async def test_a_wait_outlives_the_listening_connection(store_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(teamwork, "STORE_PAUSE", 0.01)
    async with desk(store_url) as inbox:
        sent = await inbox.send(to=[PERSON], subject="Offer", text="Would you like one?")
        waiting = asyncio.create_task(inbox.wait_for_reply(sent.message_id, timeout=300))
        await asleep(inbox)
        first = changes._LISTENERS[inbox.store.db]
        first.close()
        first.lose()
        await arrives(inbox, mail(2, sent.message_id), 2)
        assert (await waiting).message_id == "<a2@customer.example>"
        assert changes._LISTENERS[inbox.store.db] is not first


async def test_what_the_listener_asks_goes_by_index_though_it_was_planned_when_nothing_was_there(
    postgres_url: str,
) -> None:
    async with ThreadStore(postgres_url) as store, Changes(store.db) as changes:
        connection = changes._listener._connection  # type: ignore[union-attr]
        for name, statement in (("heard", answers._HEARD), ("came", answers._CAME), ("place", answers._PLACE)):
            sql, _ = statement.for_driver({"after": 0, "asked": [1]}, postgres=True)
            await connection.execute(f"PREPARE {name} AS {sql}")
            given = {"heard": "(0)", "came": "('{1}')", "place": ""}[name]
            plan = "\n".join(row[0] for row in await connection.fetch(f"EXPLAIN EXECUTE {name}{given}"))
            assert "Seq Scan" not in plan, plan
            assert "Index" in plan, plan


async def test_the_outbox_lets_those_go_first_whom_somebody_waits_for(store_url: str) -> None:
    async with ThreadStore(store_url) as store, Changes(store.db) as first, Changes(store.db, later=0.01) as second:
        listener = first._listener
        assert listener is not None
        listener.tell()
        assert first.told.is_set()
        assert not second.told.is_set()
        assert await second.wait(60)


async def test_a_listener_that_loses_its_database_says_so_and_the_next_one_hears(tmp_path: Path) -> None:
    async with ThreadStore(f"sqlite:///{tmp_path / 'store.db'}") as store:
        async with Changes(store.db) as first, Changes(store.db) as second:
            assert first._listener is second._listener
            first._listener._connection.close()  # type: ignore[union-attr]
            await store.register("a@our.example")
            for lost in (first, second):
                with pytest.raises(errors.StoreUnreachable):
                    while await lost.wait(60):
                        pass
            async with Changes(store.db) as third:
                assert third._listener is not first._listener
                await store.register("b@our.example")
                assert await third.wait(60)
        assert not changes._LISTENERS

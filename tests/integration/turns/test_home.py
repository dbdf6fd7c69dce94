"""Called from a thread, a second loop, a program without a loop: it works, or says why not; it never hangs."""

from __future__ import annotations

import asyncio
import inspect
import signal
import sys
import textwrap
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest

from agentmail import Inbox, Turn, errors
from agentmail.blocking import SyncInbox, SyncTurn
from agentmail.home import Home
from agentmail.testing import EmbeddedMail
from tests.acceptance.command import environment, finish, start
from tests.waiting import until

from .test_turns import AGENT, ANA, due, letter


@pytest.fixture
async def mail() -> AsyncIterator[EmbeddedMail]:
    async with EmbeddedMail({AGENT: "demo", ANA: "demo"}) as server:
        yield server


@pytest.fixture
async def inbox(mail: EmbeddedMail, tmp_path: Path) -> AsyncIterator[Inbox]:
    async with Inbox(mail.account(AGENT), store=f"sqlite:///{tmp_path / 'store.db'}", agent="a") as opened:
        await mail.deliver(AGENT, letter(1))
        await opened.sync()
        yield opened


async def elsewhere(work: object) -> object:
    """Run a coroutine function in a loop of its own, in a thread of its own."""
    return await asyncio.to_thread(lambda: asyncio.run(work()))  # type: ignore[operator]


async def test_a_framework_may_call_from_any_loop(inbox: Inbox, mail: EmbeddedMail) -> None:
    async def tool() -> str:
        async for turn in inbox.turns("a", wait=False):
            async with turn:
                sent = await turn.reply("Sent from another loop.")
                await turn.thread.remind(after=timedelta(days=1))
                await turn.write_note("seen")
        async with inbox.claim("t1") as turn:
            await turn.hand_off("b", note="yours")
        with pytest.raises(errors.NotFound):
            await inbox.thread("t99")
        with pytest.raises(errors.NoReply):
            await sent.wait_for_reply(timeout=0.01)
        kinds = [e.kind async for e in inbox.events(wait=False)]
        async for event in inbox.events(cursor="x", wait=False):
            await event.ack()
            break
        return kinds[-1]

    assert isinstance(await elsewhere(tool), str)
    assert len(await mail.messages(ANA)) == 1
    thread = await inbox.thread("t1")
    assert (thread.assigned, thread.attention, [n["text"] for n in thread.notes]) == ("b", "ready", ["seen", "yours"])
    assert len(await inbox.reminders("t1")) == 1


async def test_cancelling_elsewhere_cancels_at_home(inbox: Inbox) -> None:
    sent = await inbox.reply("m1", "Would Tuesday suit you?")

    async def tool() -> None:
        waiting = asyncio.create_task(inbox.wait_for_reply(sent.message_id))
        await until(lambda: inbox._waits)
        waiting.cancel()
        await asyncio.wait([waiting])
        assert waiting.cancelled()

    await elsewhere(tool)
    await until(lambda: not inbox._waits)


async def test_a_home_that_is_blocked_is_told_of_and_nothing_is_done(inbox: Inbox, mail: EmbeddedMail) -> None:
    """A sync framework runs on the home loop and waits for its tool, which waits for the home loop."""
    inbox.home._blocked = 0.1
    failed: list[BaseException] = []

    def tool() -> None:
        try:
            asyncio.run(inbox.reply("m1", "Never."))
        except RuntimeError as exc:
            failed.append(exc)

    thread = threading.Thread(target=tool)
    thread.start()
    thread.join()  # the loop stands still here
    [error] = failed
    assert "to_thread" in str(error)
    await asyncio.sleep(0)
    assert await inbox.outbox() == []
    assert await mail.messages(ANA) == []


def test_a_home_that_has_ended_makes_room_for_the_next() -> None:
    home = Home()

    async def here() -> bool:
        return home.is_here

    assert asyncio.run(here())
    assert asyncio.run(here())


def test_a_home_that_ends_during_a_call_is_no_cancellation_of_the_caller() -> None:
    """A framework would take it for its own, and say nothing."""
    box: list[Home] = []
    begun, told = threading.Event(), []

    async def for_ever() -> None:
        begun.set()
        await asyncio.Event().wait()

    async def elsewhere() -> None:
        with pytest.raises(RuntimeError, match="was left meanwhile, or its event loop ended"):
            await box[0].run(for_ever)
        told.append("told")

    async def at_home() -> None:
        home = Home()
        home.settle()
        box.append(home)
        threads.append(threading.Thread(target=lambda: asyncio.run(elsewhere())))
        threads[0].start()
        await until(begun.is_set)

    threads: list[threading.Thread] = []
    asyncio.run(at_home())
    threads[0].join(60)
    assert told == ["told"]


async def test_calls_from_elsewhere_end_when_the_inbox_is_left(mail: EmbeddedMail, tmp_path: Path) -> None:
    inbox = Inbox(mail.account(AGENT), store=f"sqlite:///{tmp_path / 'store.db'}", agent="a")
    asked = threading.Event()

    async def ask() -> str:
        try:
            while True:
                await inbox.threads(limit=1)
                asked.set()
        except RuntimeError as exc:
            return str(exc)

    async with inbox:
        asking = asyncio.create_task(elsewhere(ask))
        await until(asked.is_set)
    assert "was left" in str(await asking)
    assert inbox.store.db._engine is None
    async with inbox:  # it may be entered again
        assert await elsewhere(lambda: inbox.threads(limit=1)) == []


def test_every_public_coroutine_goes_home_and_still_looks_like_itself() -> None:
    for cls in (Inbox, Turn):
        for name in dir(cls):
            method = inspect.getattr_static(cls, name)
            if name.startswith("_") or not (inspect.iscoroutinefunction(method) or inspect.isasyncgenfunction(method)):
                continue
            assert hasattr(method, "__wrapped__"), f"{cls.__name__}.{name}"
    assert list(inspect.signature(Inbox.reply).parameters)[:3] == ["self", "original", "text"]


def test_the_sync_faces_have_every_coroutine() -> None:
    """What is missing has a reason."""
    left_out = {Inbox: {"close", "answer", "watch"}, Turn: {"put_back"}}
    for cls, face in ((Inbox, SyncInbox), (Turn, SyncTurn)):
        coroutines = {
            n for n in dir(cls) if not n.startswith("_") and inspect.iscoroutinefunction(inspect.getattr_static(cls, n))
        }
        missing = coroutines - set(dir(face)) - left_out[cls]
        assert missing == set(), f"{face.__name__} lacks {missing}"


# -- programs without a loop


async def test_a_program_without_a_loop(mail: EmbeddedMail, tmp_path: Path) -> None:
    for raw in (letter(1), letter(2, "Offer")):
        await mail.deliver(AGENT, raw)
    account, store = mail.account(AGENT), f"sqlite:///{tmp_path / 'store.db'}"

    def program() -> None:
        with Inbox.open_sync(account, store=store, agent="a") as inbox:
            first, second = inbox.receive()
            sent = inbox.reply(first, "Thank you.")
            assert sent.state == "sent"
            for turn in inbox.turns(wait=False):
                with turn:
                    assert turn.new
                    assert turn.reason == "message"
                    turn.data["seen"] = True
                    turn.write_note(f"read by {turn.agent}, {turn.attempt}")
                    turn.reply("Yes, gladly.", again=True)
                    turn.follow_up("Did it reach you?", after=timedelta(days=2))
            with pytest.raises(LookupError), inbox.claim(str(second.thread)) as turn:
                raise LookupError("the model is out")
            assert inbox.thread(str(first.thread)).data == {"seen": True}
            last = [event.seq for event in inbox.events(cursor="c", wait=False)][-1]
            inbox.acknowledge("c", last)
            assert list(inbox.events(cursor="c", wait=False)) == []
            with pytest.raises(errors.NoReply):
                inbox.wait_for_reply(sent.message_id, timeout=0.01)
        with pytest.raises(RuntimeError, match="not open"):
            inbox.receive()

    before = threading.active_count()
    await asyncio.to_thread(program)
    assert len(await mail.messages(ANA)) == 3
    assert not [t for t in threading.enumerate() if t.name == "agentmail"], before


async def test_run_with_handlers_that_block(mail: EmbeddedMail, tmp_path: Path) -> None:
    for number in range(4):
        await mail.deliver(AGENT, letter(number, f"Subject {number}"))
    account, store = mail.account(AGENT), f"sqlite:///{tmp_path / 'store.db'}"
    together = threading.Barrier(2)

    def handler(turn: SyncTurn) -> None:
        together.wait(60)  # two run at the same time, or this breaks
        turn.reply(f"About {turn.thread.subject}: yes.")

    def program() -> None:
        with Inbox.open_sync(account, store=store, agent="a") as inbox:
            inbox.sync()
            inbox.run(handler, concurrency=2, wait=False)

    await asyncio.to_thread(program)
    assert len(await mail.messages(ANA)) == 4


async def test_threads_that_ask_while_it_is_left_are_told(mail: EmbeddedMail, tmp_path: Path) -> None:
    def ask(inbox: SyncInbox, asked: threading.Event) -> str:
        try:
            while True:
                inbox.threads(limit=1)
                asked.set()
        except RuntimeError as exc:
            return str(exc)

    def program() -> list[str]:
        with ThreadPoolExecutor(6) as pool:
            with Inbox.open_sync(mail.account(AGENT), store=f"sqlite:///{tmp_path / 's.db'}", agent="a") as inbox:
                asked = [threading.Event() for _ in range(6)]
                asking = [pool.submit(ask, inbox, event) for event in asked]
                for event in asked:
                    event.wait()
            return [future.result() for future in asking]

    said = await asyncio.to_thread(program)
    assert len(said) == 6
    assert all("not open" in s or "was left" in s for s in said)
    assert [t.name for t in threading.enumerate() if "_connection_worker" in t.name] == []


async def test_inside_a_running_loop_it_says_so(mail: EmbeddedMail, tmp_path: Path) -> None:
    opened = Inbox.open_sync(mail.account(AGENT), store=f"sqlite:///{tmp_path / 'store.db'}")
    with pytest.raises(RuntimeError, match="event loop"), opened:
        pass

    def program() -> None:
        with opened as inbox:

            async def tool() -> None:
                inbox.threads()

            with pytest.raises(RuntimeError, match="event loop"):
                asyncio.run(tool())

    await asyncio.to_thread(program)


async def test_what_entering_raises_is_raised(mail: EmbeddedMail, tmp_path: Path) -> None:
    def program() -> None:
        with Inbox.open_sync(mail.account(AGENT), store="mysql://x/y"):
            pass

    with pytest.raises(errors.ConfigurationError):
        await asyncio.to_thread(program)
    assert not [t for t in threading.enumerate() if t.name == "agentmail"]


CTRL_C = """
    from agentmail import Inbox
    with Inbox.open_sync() as inbox:
        inbox.sync()
        for turn in inbox.turns(wait=False):
            with turn:
                sent = turn.reply("Would Tuesday suit you?")
                print("waiting", flush=True)
                inbox.wait_for_reply(sent.message_id)
"""


async def test_ctrl_c_gives_back_what_is_held(mail: EmbeddedMail, tmp_path: Path) -> None:
    await mail.deliver(AGENT, letter(1))
    store = f"sqlite:///{tmp_path / 'store.db'}"
    env = environment(mail.account(AGENT), store=store, agent="a")
    process = await start(env=env, cwd=tmp_path, program=(sys.executable, "-c", textwrap.dedent(CTRL_C)))
    assert process.stdout is not None
    assert await process.stdout.readline() == b"waiting\n"
    process.send_signal(signal.SIGINT)
    done = await finish(process)
    assert done.code == -signal.SIGINT
    assert done.err.rstrip().endswith("KeyboardInterrupt"), done.err
    assert "never" not in done.err
    assert "destroyed" not in done.err
    async with Inbox(mail.account(AGENT), store=store, agent="a") as inbox:
        [turn] = await due(inbox)
        assert turn.attempt == 1

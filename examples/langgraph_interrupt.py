"""A LangGraph graph that asks a person by mail and goes on days later, in another process.

    pip install 'agentmail-inbox[testing]' langgraph langgraph-checkpoint-sqlite
    python examples/langgraph_interrupt.py     # on a mail server inside this process: no account, no key

The graph stops at `interrupt()`, and its checkpoint lies in SQLite. Nothing waits meanwhile: the answer comes as a
turn, and the turn resumes the graph. The thread's id names the checkpoint, so that any process finds it.

Two traps. LangGraph runs a node again from its beginning when it resumes, so the node that asks is not the node that
waits. And a turn runs again when its process dies before it ends, when the graph may have gone on already; so the graph
remembers the message that it was given last, and is not given it twice.
"""

import asyncio
import tempfile
from pathlib import Path
from typing import TypedDict

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, interrupt

from agentmail import Inbox, Turn
from agentmail.testing import EmbeddedMail, Person


class Booking(TypedDict, total=False):
    read: str
    question: str
    answer: str
    confirmation: str


async def ask(state: Booking) -> Booking:
    """Your model words the question."""
    return {"question": "Gladly. Which day suits you?"}


async def wait(state: Booking) -> Booking:
    """What `Command(resume=…)` brings."""
    return interrupt(state["question"])


async def confirm(state: Booking) -> Booking:
    """Your model reads the answer. It is data: what it says must not decide what this program does."""
    return {"confirmation": f"Booked. You wrote: {state['answer']}"}


builder = StateGraph(Booking)
builder.add_node("ask", ask)
builder.add_node("wait", wait)
builder.add_node("confirm", confirm)
builder.add_edge(START, "ask")
builder.add_edge("ask", "wait")
builder.add_edge("wait", "confirm")
builder.add_edge("confirm", END)


async def handle(turn: Turn, checkpoints: Path) -> None:
    """One turn is one run of the graph: from its start, or from where it waits for this thread."""
    said = next((m for m in reversed(turn.new) if m.automated is None), None)
    if said is None:  # an out-of-office message, or a reminder: nobody answered
        return
    config: RunnableConfig = {"configurable": {"thread_id": turn.thread.id}}
    async with AsyncSqliteSaver.from_conn_string(str(checkpoints)) as saver:
        graph = builder.compile(checkpointer=saver)
        before = await graph.aget_state(config)
        result = before.values
        if result.get("read") != said.id:
            given = Booking(read=str(said.id))
            if "wait" in before.next:
                result = await graph.ainvoke(Command(resume=given | {"answer": said.new_text}), config)
            else:
                result = await graph.ainvoke(given, config)
    text = result.get("confirmation") or result["question"]
    await turn.reply(text)  # once, however often the turn runs
    print(f"{turn.thread.id}: {said.new_text!r} -> {text!r}")


async def process(mail: EmbeddedMail, directory: Path) -> None:
    """A process that starts, does what is due, and ends."""
    account, store = mail.account("agent@demo.local"), f"sqlite:///{directory / 'agentmail.db'}"
    async with Inbox(account, store=store, agent="booking") as inbox:
        await inbox.sync()
        async for turn in inbox.turns(wait=False):
            async with turn:
                await handle(turn, directory / "checkpoints.db")


async def main() -> None:
    ana = Person("ana@demo.local", "Ana Ruiz", client="gmail")
    with tempfile.TemporaryDirectory() as directory:
        async with EmbeddedMail({"agent@demo.local": "demo", "ana@demo.local": "demo"}) as mail:
            await mail.deliver("agent@demo.local", ana.write("agent@demo.local", "Kick-off", "Could we meet?"))
            await process(mail, Path(directory))
            [question] = await mail.messages("ana@demo.local")
            await mail.deliver("agent@demo.local", ana.reply(question, "Tuesday at ten."))
            await process(mail, Path(directory))
            [_, confirmation] = await mail.messages("ana@demo.local")
            assert b"Booked. You wrote: Tuesday at ten." in confirmation


if __name__ == "__main__":
    asyncio.run(main())

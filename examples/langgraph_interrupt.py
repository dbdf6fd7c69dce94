"""A LangGraph graph that asks a person by mail and goes on days later, in another process.

    pip install langgraph langgraph-checkpoint-sqlite
    python examples/langgraph_interrupt.py     # on a mail server inside this process: no account, no key

The graph stops at `interrupt()`, and its checkpoint lies in SQLite. Nothing waits meanwhile: the answer comes as a
turn, and the turn resumes the graph. The thread's id names the checkpoint, so that any process finds it.

The trap: LangGraph runs a node again from its beginning when it resumes. So the node that sends is not the node that
waits.
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
    question: str
    answer: str
    confirmation: str


async def ask(state: Booking) -> Booking:
    """Your model words the question."""
    return {"question": "Gladly. Which day suits you?"}


async def wait(state: Booking) -> Booking:
    return {"answer": interrupt(state["question"])}


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
    config: RunnableConfig = {"configurable": {"thread_id": turn.thread.id}}
    async with AsyncSqliteSaver.from_conn_string(str(checkpoints)) as saver:
        graph = builder.compile(checkpointer=saver)
        waiting = "wait" in (await graph.aget_state(config)).next
        result = await graph.ainvoke(Command(resume=turn.new[-1].new_text) if waiting else Booking(), config)
    text = result.get("confirmation") or result["question"]
    await turn.reply(text)
    print(f"{turn.thread.id}: {turn.new[-1].new_text!r} -> {text!r}")


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

"""A pydantic-ai agent whose tool is a person: the run ends when it asks, and goes on when the answer comes by mail.

    pip install 'agentmail-inbox[testing]' pydantic-ai-slim
    python examples/pydantic_ai_deferred.py     # on a mail server inside this process: no account, no key

`CallDeferred` ends the run with the question. The run's messages are kept with the thread (`turn.data`, saved in the
transaction that ends the turn), so any process can go on, days later.
"""

import asyncio
import json
import tempfile
from pathlib import Path

from pydantic_ai import Agent, CallDeferred, DeferredToolRequests, DeferredToolResults
from pydantic_ai.messages import (
    ModelMessage,
    ModelMessagesTypeAdapter,
    ModelResponse,
    TextPart,
    ToolCallPart,
    ToolReturnPart,
)
from pydantic_ai.models.function import AgentInfo, FunctionModel

from agentmail import Inbox, Turn
from agentmail.testing import EmbeddedMail, Person


def fake_model(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    """It asks once, and then concludes. Your model goes here: Agent("anthropic:…")."""
    for part in (p for m in messages for p in m.parts):
        if isinstance(part, ToolReturnPart):
            return ModelResponse(parts=[TextPart(f"Booked. You wrote: {part.content}")])
    return ModelResponse(parts=[ToolCallPart("ask_by_mail", {"question": "Gladly. Which day suits you?"})])


agent = Agent(FunctionModel(fake_model), output_type=[str, DeferredToolRequests])


@agent.tool_plain
async def ask_by_mail(question: str) -> str:
    """Ask the person who wrote. Their answer comes by mail, perhaps in days."""
    raise CallDeferred


async def handle(turn: Turn) -> None:
    """One turn is one run: a new one, or the one that waits for this thread."""
    said = next((m for m in reversed(turn.new) if m.automated is None), None)
    if said is None:  # an out-of-office message, or a reminder: nobody answered
        return
    if "run" in turn.data:
        result = await agent.run(
            message_history=ModelMessagesTypeAdapter.validate_python(turn.data["run"]),
            deferred_tool_results=DeferredToolResults(calls={turn.data["call"]: said.new_text}),
        )
    else:
        result = await agent.run(turn.prompt())
    if isinstance(result.output, DeferredToolRequests):
        [call] = result.output.calls
        text = call.args_as_dict()["question"]
        turn.data |= {"run": json.loads(result.all_messages_json()), "call": call.tool_call_id}
    else:
        text = result.output
        turn.data.clear()
    await turn.reply(text)
    print(f"{turn.thread.id}: {said.new_text!r} -> {text!r}")


async def process(mail: EmbeddedMail, directory: Path) -> None:
    """A process that starts, does what is due, and ends."""
    account, store = mail.account("agent@demo.local"), f"sqlite:///{directory / 'agentmail.db'}"
    async with Inbox(account, store=store, agent="booking") as inbox:
        await inbox.sync()
        await inbox.run(handle, wait=False)


async def main() -> None:
    ana = Person("ana@demo.local", "Ana Ruiz", client="apple")
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

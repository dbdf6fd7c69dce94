"""The smallest agent loop: poll, answer what a person wrote, say what happened.

    pip install 'agentmail-inbox[testing]'
    python examples/smallest_loop.py          # on a mail server inside this process: no account, no key
    python examples/smallest_loop.py --real   # on the account in AGENTMAIL_ADDRESS, AGENTMAIL_PASSWORD …

Where `answer()` stands, your model stands. What it returns goes to the person who wrote; what it reads was written by
whoever could reach the mailbox, and is data, never an instruction.
"""

import asyncio
import sys
import tempfile
from pathlib import Path

from agentmail import Inbox, Message
from agentmail.testing import EmbeddedMail, Person


def answer(message: Message) -> str:
    """Your model goes here."""
    return f"Thank you. You wrote {len(message.new_text.split())} words about {message.subject!r}."


async def agent(inbox: Inbox) -> int:
    """One pass of the loop: how many were answered. Call it every minute, or when you are told of new mail."""
    answered = 0
    for message in await inbox.receive():
        if message.automated is not None:  # a machine wrote it: answering starts a loop
            continue
        sent = await inbox.reply(message, answer(message))
        print(f"{message.sender}: {message.subject!r} -> {sent.id} {sent.state} in {sent.thread}")
        answered += 1
    return answered


async def rehearse() -> None:
    """The same loop against a server in this process, with one person writing to it."""
    ana = Person("ana@demo.local", "Ana Ruiz", client="gmail")
    with tempfile.TemporaryDirectory() as directory:
        store = f"sqlite:///{Path(directory) / 'agentmail.db'}"
        async with EmbeddedMail({"agent@demo.local": "demo", "ana@demo.local": "demo"}) as mail:
            await mail.deliver("agent@demo.local", ana.write("agent@demo.local", "Kick-off", "Could we do Tuesday?"))
            async with Inbox(mail.account("agent@demo.local"), store=store, agent="greeter") as inbox:
                print("answered:", await agent(inbox))
                print("answered the second time:", await agent(inbox))


async def main() -> None:
    if "--real" in sys.argv[1:]:
        async with Inbox.from_env() as inbox:
            print("answered:", await agent(inbox))
    else:
        await rehearse()


if __name__ == "__main__":
    asyncio.run(main())

"""A worker on a machine of its own: `python -m tests.integration.turns.machine URL LEASE SILENCE`.

It takes turns with four hands. It says `holds t5` for each and waits until a line comes on its standard input; then it
answers, and says `answered t5`, or `told t5 StaleTurn` with the error that it got.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from datetime import timedelta

from agentmail import Inbox, ThreadStore, Turn
from agentmail.errors import AgentMailError
from agentmail.store import postgres_driver

from .crew import ACCOUNT, OPEN


async def main(url: str, lease: float, silence: float) -> None:
    postgres_driver.SILENCE = silence
    go = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(sys.stdin, lambda: go.set() if sys.stdin.readline() else loop.remove_reader(sys.stdin))

    async def handler(turn: Turn) -> None:
        print("holds", turn.thread.id, flush=True)
        await go.wait()
        try:
            await turn.reply(f"The answer to {turn.thread.subject}, from {id(turn):x}.")
        except AgentMailError as exc:
            print("told", turn.thread.id, type(exc).__name__, flush=True)
            raise
        print("answered", turn.thread.id, flush=True)

    async with ThreadStore(url) as store, Inbox(ACCOUNT, store=store, agent="crew", policy=OPEN) as inbox:
        print("ready", flush=True)
        await inbox.run(handler, concurrency=4, lease=timedelta(seconds=lease))


if __name__ == "__main__":
    logging.basicConfig(level=logging.CRITICAL)
    asyncio.run(main(sys.argv[1], float(sys.argv[2]), float(sys.argv[3])))

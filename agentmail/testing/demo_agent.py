"""The second agent of the demo, in a process of its own: `python -m agentmail.testing.demo_agent`.

It knows nothing but its settings. It finds the thread in the store that it shares with the first agent, reads it whole,
answers the message that came last, and prints what it saw as one JSON object.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from datetime import datetime

from ..inbox import Inbox
from ..settings import Settings

NOW = "AGENTMAIL_DEMO_NOW"
"""The time in the story (ISO 8601)."""
EXIT_NOTHING = 4
"""The exit code when there was nothing to answer."""


async def billing() -> int:
    now = datetime.fromisoformat(os.environ[NOW])
    settings = Settings.load()
    async with Inbox(settings.account(), store=settings.store, agent=settings.agent, clock=lambda: now) as inbox:
        messages = await inbox.receive()
        if not messages:
            return EXIT_NOTHING
        thread = await inbox.thread(str(messages[-1].thread))
        people = {m.sender.email for m in thread.messages if m.sender is not None and not m.outgoing}
        ours = sum(m.outgoing for m in thread.messages)
        sent = await inbox.reply(
            messages[-1],
            f"Hello Ana,\n\nbilling here; I have read all {len(thread.messages)} messages, {ours} of them ours.\n"
            "The invoice goes to the new office in Lisbon.\n\nBilling",
        )
    saw = {
        "process": os.getpid(),
        "thread": thread.id,
        "people": sorted(people),
        "answered": messages[-1].message_id,
        "message_ids": [m.message_id for m in thread.messages],
        "message_id": sent.message_id,
        "state": sent.state,
    }
    sys.stdout.write(json.dumps(saw) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(asyncio.run(billing()))

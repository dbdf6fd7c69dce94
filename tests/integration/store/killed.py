"""An import that dies at any statement, again and again, until it was killed often enough.

`python -m tests.integration.store.killed URL KILLS SEED`: each child kills itself with SIGKILL at a random SQL
statement, before or after it ran; the next one starts from the beginning. Prints how many worlds got through.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
from typing import Any

from sqlalchemy import event

from agentmail.store import Arrival, Location, ThreadStore

from ...unit.threads.worlds import US, world

SIZE = 24
BATCH = 4


def account(number: int) -> str:
    return f"killed{number}@our.example"


async def whole_import(url: str, number: int, die_at: int) -> None:
    """Import one world from the start; die at the n-th sign of life from the database."""
    made = world(number, SIZE)
    async with ThreadStore(url) as store:
        steps = 0

        def step(*_: Any, **__: Any) -> None:
            nonlocal steps
            steps += 1
            if steps == die_at:
                os.kill(os.getpid(), signal.SIGKILL)

        for moment in ("before_cursor_execute", "after_cursor_execute", "commit", "begin"):
            event.listen(store.db.engine.sync_engine, moment, step)
        await store.register(account(number), [US])
        for start in range(0, SIZE, BATCH):
            batch = store.prepare(
                [
                    Arrival(made.messages[i], made.messages[i].text.encode(), Location("INBOX", 1, i + 1),
                            outgoing=made.outgoing[i])
                    for i in range(start, min(start + BATCH, SIZE))
                ],
                account=account(number),
            )  # fmt: skip
            await store.db.run(lambda tx, batch=batch: store.file_batch(tx, batch, account=account(number)))


def main(url: str, kills: int, seed: int) -> None:
    rng = random.Random(seed)
    killed = number = 0
    while killed < kills:
        child = os.fork()
        if child == 0:
            asyncio.run(whole_import(url, number, rng.randint(1, 260)))
            os._exit(0)
        rng.random()  # the child drew from its copy
        _, status = os.waitpid(child, 0)
        if os.WIFSIGNALED(status):
            assert os.WTERMSIG(status) == signal.SIGKILL
            killed += 1
        else:
            assert os.waitstatus_to_exitcode(status) == 0
            number += 1
    child = os.fork()
    if child == 0:
        asyncio.run(whole_import(url, number, 0))
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    print(number + 1)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))

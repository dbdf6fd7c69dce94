"""Processes that file one mailbox at the same time: each its own part, and some of the others'.

`python -m tests.integration.store.filer URL ACCOUNT SEED SIZE OF` prints how many messages were new to each.
"""

from __future__ import annotations

import random
import sys

from agentmail.store import Arrival, ThreadStore

from ...unit.threads.worlds import US, world
from . import forked


async def main(url: str, account: str, seed: int, size: int, number: int, of: int) -> int:
    rng = random.Random(seed * 100 + number)
    made = world(seed, size)
    order = [i for i in range(size) if i % of == number or rng.random() < 0.5]
    rng.shuffle(order)
    new = 0
    async with ThreadStore(url) as store:
        await store.register(account, [US])
        while order:
            some, order = order[:4], order[4:]
            batch = store.prepare(
                [Arrival(made.messages[i], outgoing=made.outgoing[i]) for i in some], account=account
            )
            filed = await store.db.run(lambda tx, batch=batch: store.file_batch(tx, batch, account=account))
            new += sum(f.new for f in filed)
    return new


if __name__ == "__main__":
    seed, size, of = map(int, sys.argv[3:])
    forked.run(of, lambda n: main(sys.argv[1], sys.argv[2], seed, size, n, of))

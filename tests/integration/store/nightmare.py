"""Several hundred conversations, in six orders, by eight processes at once.

`python -m tests.integration.store.nightmare URL OF`: each files its share of each order and prints how many messages
were new to it.
"""

from __future__ import annotations

import random
import sys
from functools import cache

from agentmail.message.models import Message
from agentmail.store import Arrival, ThreadStore

from ...unit.threads.worlds import US, message
from . import forked

ORDERS = 6
CONVERSATIONS = 240
HOT = 5
"""Of them, so many are long, and every process works on them all the time."""
HOT_LENGTH = 25
STRANGER = "eve@evil.example"


@cache
def conversations() -> tuple[tuple[Message, ...], ...]:
    """Each with its own people; answers name the whole chain, its end (iOS, mutt), or the parent in one header only."""
    rng = random.Random(4)
    made = []
    for c in range(CONVERSATIONS):
        people = [f"p{c}@c{c}.example", f"q{c}@gmail.com"]
        length = HOT_LENGTH if c < HOT else rng.randint(1, 3)
        chains: list[list[str]] = []
        messages = []
        for n in range(length):
            name = f"{c}-{n}"
            parent = rng.choice(chains[-3:]) if chains else []
            sender = rng.choice([US, *people])
            to = [p for p in (US, *people) if p != sender]
            kept = rng.choice((parent, parent, parent[-1:], parent[-10:]))
            replied = [] if parent and kept is parent and rng.random() < 0.2 else parent[-1:]
            refs = [] if replied and rng.random() < 0.2 else kept
            messages.append(
                message(name, sender, to, answers=refs, in_reply_to=replied, subject=f"Re: Case {c}", day=n / 10)
            )
            chains.append([*parent, name])
        made.append(tuple(messages))
    return tuple(made)


def strangers() -> list[Message]:
    """One for each tenth conversation: it knows all the ids, and must stay outside."""
    return [
        message(f"stranger-{c}", STRANGER, answers=[f"{c}-0"], subject=f"Re: Case {c}", day=1)
        for c in range(0, CONVERSATIONS, 10)
    ]


def order(number: int) -> list[Message]:
    """Everything, in one of the orders: as written, backwards, by turns, and shuffled."""
    messages = [m for some in conversations() for m in some] + strangers()
    match number:
        case 0:
            pass
        case 1:
            messages.reverse()
        case 2:
            messages.sort(key=lambda m: (m.sent_at, m.message_id))
        case _:
            random.Random(number).shuffle(messages)
    return messages


def account(number: int) -> str:
    return f"order{number}@our.example"


async def main(url: str, number: int, of: int) -> int:
    rng = random.Random(number)
    new = 0
    async with ThreadStore(url) as store:
        for which in range(ORDERS):
            await store.register(account(which), [US])
            mine = order(which)[number::of]
            while mine:
                size = rng.randint(4, 20)
                some, mine = mine[:size], mine[size:]
                arrivals = [Arrival(m, outgoing=m.sender is not None and m.sender.key == US) for m in some]
                batch = store.prepare(arrivals, account=account(which))
                filed = await store.db.run(
                    lambda tx, batch=batch, which=which: store.file_batch(tx, batch, account=account(which))
                )
                new += sum(f.new for f in filed)
                await store.put_data(filed[0].thread, {f"{number}.{which}.{len(mine)}": 1})
    return new


if __name__ == "__main__":
    forked.run(int(sys.argv[2]), lambda n: main(sys.argv[1], n, int(sys.argv[2])))

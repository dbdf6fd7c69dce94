"""File a world in some order, in some batches, and say what came of it in words that do not depend on the order."""

from __future__ import annotations

import random
from collections.abc import Sequence

from agentmail.store import Arrival, ThreadStore

from ...unit.threads.worlds import US, World

Outcome = tuple[frozenset[frozenset[str]], dict[str, str | None], dict[str, frozenset[str]]]


async def file_world(
    store: ThreadStore, world: World, rng: random.Random | None, *, account: str | None = US, biggest: int = 5
) -> None:
    order = list(range(len(world.messages)))
    if rng is not None:
        rng.shuffle(order)
    while order:
        size = rng.randint(1, biggest) if rng is not None else 1
        some, order = order[:size], order[size:]
        await file_some(store, world, some, account=account)


async def file_some(store: ThreadStore, world: World, some: Sequence[int], *, account: str | None = US) -> None:
    batch = store.prepare(
        [Arrival(world.messages[i], outgoing=world.outgoing[i]) for i in some], account=account
    )
    await store.db.run(lambda tx: store.file_batch(tx, batch, account=account))


async def outcome(store: ThreadStore, account: str | None = None) -> Outcome:
    """Threads as sets of texts, parents by text, and what was refused; each text is unique in its world."""
    groups, parents, claims = set(), {}, {}
    after = None
    while page := await store.threads(limit=100, after=after, account=account):
        after = page[-1].id
        for shown in page:
            thread = await store.thread(shown.id)
            text = {m.id: m.text for m in thread.messages}
            assert len(text) == thread.count == shown.count > 0
            groups.add(frozenset(text.values()))
            parents.update({text[child]: text[p] if p else None for child, p in thread.parents.items()})
            claims[min(text.values())] = frozenset({thread.claimed_parent} - {None})
            assert thread.last_at == max(m.sent_at for m in thread.messages if m.sent_at)
            assert {a.key for m in thread.messages for a in m.people()} >= {a.key for a in thread.people}
    return frozenset(groups), parents, claims

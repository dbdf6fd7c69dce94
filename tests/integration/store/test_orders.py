"""Law 4 in the database: any order, any batches, any number of processes: the same threads, parents and refusals."""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import func, select

from agentmail.store import ThreadStore, filing, holders
from agentmail.store.tables.threads import APART, HOLDER, IDENT

from ...unit.threads.worlds import US, World, message, world
from .orders import Outcome, file_world, outcome

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("seeds", [range(4), pytest.param(range(4, 30), marks=pytest.mark.soak)], ids=["few", "many"])
async def test_any_order_and_any_batches(store: ThreadStore, seeds: range) -> None:
    for seed in seeds:
        made = world(seed, 14)
        outcomes = []
        for n in range(4):
            # One account for each order: accounts share nothing but the database.
            account = f"{seed}-{n}@our.example"
            await store.register(account, [US])
            await file_world(store, made, random.Random(1_000 * seed + n) if n else None, account=account)
            outcomes.append(await outcome(store, account))
        assert [outcomes[0]] * 4 == outcomes


async def test_any_order_in_a_crowd(store: ThreadStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ids that many strangers hold are remembered another way: here all are, and nothing else differs."""
    made = world(11, 14)
    outcomes = []
    for n, crowd in enumerate((1_000, 0, 0, 2)):
        monkeypatch.setattr(filing, "CROWD", crowd)
        monkeypatch.setattr(holders, "MANY", crowd)
        account = f"crowd{n}@our.example"
        await store.register(account, [US])
        await file_world(store, made, random.Random(n) if n else None, account=account)
        outcomes.append(await outcome(store, account))
    assert [outcomes[0]] * 4 == outcomes


async def test_strangers_at_one_id_cost_rows_in_proportion(store: ThreadStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of many strangers names the same id that nobody has seen: once they were all written down in pairs."""
    monkeypatch.setattr(filing, "CROWD", 4)
    monkeypatch.setattr(holders, "MANY", 4)
    await store.register(US)
    rows, lists = [], []
    for n in range(24):
        stranger = message(f"s{n}", f"eve{n}@evil{n}.example", answers=["ghost"], day=n / 100)
        assert (await store.file(stranger, account=US)).new
        async with store.reading() as tx:
            rows.append(sum([
                (await tx.execute(select(func.count()).select_from(table))).scalar_one() for table in (APART, HOLDER)
            ]))  # fmt: skip
            lists.append((await tx.execute(select(func.max(func.length(IDENT.c.holders))))).scalar_one())
    assert rows[23] - rows[15] == rows[15] - rows[7] < 8 * 8
    assert max(lists[4:]) <= max(lists[:4])  # no list grows with each of them, to be written anew for the next
    assert len(await store.threads(account=US, limit=100)) == 24
    # Two of them write to each other: these belong together, and nobody else does.
    await store.file(message("to", "eve3@evil3.example", ["eve20@evil20.example"], answers=["s3"], day=2), account=US)
    assert sorted(t.count for t in await store.threads(account=US, limit=100)) == [1] * 23 + [2]
    await store.file(message("fro", "eve20@evil20.example", ["eve3@evil3.example"], answers=["s20"], day=3), account=US)
    assert sorted(t.count for t in await store.threads(account=US, limit=100)) == [1] * 22 + [4]


async def test_any_order_of_an_archive(store: ThreadStore) -> None:
    for seed in range(4):
        outcomes = []
        for n in range(3):
            made = _marked(world(seed, 14), f"{seed}x{n}")
            await file_world(store, made, random.Random(1_000 * seed + n) if n else None, account=None)
        groups, parents, _ = await outcome(store, "")
        for n in range(3):
            mark = f"{seed}x{n}"
            outcomes.append((
                {frozenset(_plain(t) for t in g) for g in groups if min(g).endswith(mark)},
                {_plain(c): p and _plain(p) for c, p in parents.items() if c.endswith(mark)},
            ))  # fmt: skip
        assert [outcomes[0]] * 3 == outcomes


def _marked(made: World, mark: str) -> World:
    """The same mailbox under other ids, so that several orders of it fit into the one archive of a store."""
    def new(message_id: str) -> str:
        return f"<{mark}.{message_id.strip('<>')}>"

    messages = [
        m.model_copy(update={
            "message_id": new(m.message_id), "references": tuple(map(new, m.references)),
            "in_reply_to": tuple(map(new, m.in_reply_to)), "text": f"{m.text} {mark}",
        })
        for m in made.messages
    ]  # fmt: skip
    return World(messages, made.outgoing)


def _plain(text: str) -> str:
    return text.partition(" ")[0]


@pytest.mark.parametrize("processes", [1, 3, 8])
async def test_any_number_of_processes(store: ThreadStore, store_url: str, processes: int) -> None:
    """Each process files a random part of one mailbox, and half of it overlaps with the others' parts."""
    size, seed = 60, processes
    made = world(seed, size)
    alone = "alone@our.example"
    await store.register(alone, [US])
    await file_world(store, made, None, account=alone)
    together = "together@our.example"
    await store.register(together, [US])
    filers = subprocess.Popen(
        [sys.executable, "-m", "tests.integration.store.filer", store_url, together, str(seed), str(size),
         str(processes)],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    answers, _ = await asyncio.to_thread(filers.communicate, timeout=240)
    assert filers.returncode == 0
    assert len(answers.split()) == processes
    assert sum(map(int, answers.split())) == size, "each message was new to exactly one process"
    expected: Outcome = await outcome(store, alone)
    assert expected == await outcome(store, together)

"""Hot threads, six orders, eight processes: 0 split, 0 wrongly joined, 0 deadlocks left, 0 updates lost."""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
from pathlib import Path

from agentmail.store import ThreadStore

from . import nightmare
from .orders import outcome

ROOT = Path(__file__).parents[3]
PROCESSES = 8


async def test_nightmare(store_url: str) -> None:
    async with ThreadStore(store_url):
        pass  # the schema is there before they start
    workers = subprocess.Popen(
        [sys.executable, "-m", "tests.integration.store.nightmare", store_url, str(PROCESSES)],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    answers, _ = await asyncio.to_thread(workers.communicate, timeout=240)
    assert workers.returncode == 0
    assert len(answers.split()) == PROCESSES
    everything = nightmare.order(0)
    assert sum(map(int, answers.split())) == len(everything) * nightmare.ORDERS

    wanted = {frozenset(m.text for m in c) for c in nightmare.conversations()}
    wanted |= {frozenset({m.text}) for m in nightmare.strangers()}
    keys: set[str] = set()
    async with ThreadStore(store_url) as store:
        first = None
        for which in range(nightmare.ORDERS):
            groups, parents, claims = await outcome(store, nightmare.account(which))
            assert wanted == groups, "split or wrongly joined"
            assert first in {None, (frozenset(parents.items()), frozenset(claims.items()))}
            first = (frozenset(parents.items()), frozenset(claims.items()))
        after = None
        while page := await store.threads(limit=500, after=after):
            after = page[-1].id
            for thread in page:
                keys |= set(thread.data)
    batches = _batches()
    assert batches == keys, "an update was lost"


def _batches() -> set[str]:
    """The data that each process must have left behind, counted as it counts."""
    left = set()
    for number in range(PROCESSES):
        rng = random.Random(number)
        for which in range(nightmare.ORDERS):
            remaining = len(nightmare.order(which)[number::PROCESSES])
            while remaining:
                remaining = max(0, remaining - rng.randint(4, 20))
                left.add(f"{number}.{which}.{remaining}")
    return left

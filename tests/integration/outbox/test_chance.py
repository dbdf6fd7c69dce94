"""Chance writes, stops, cuts and decides; a server that remembers what it really took says whether we told the truth.

A history is a seed: the same seed does the same again. `world.py` beside this one has the pieces.
"""

from __future__ import annotations

import os

import pytest

from agentmail.store import ThreadStore
from agentmail.testing import ManualClock

from .scripted import ScriptedSmtp
from .world import World

SEEDS = range(2)
LONG = range(1_000, 1_000 + int(os.environ.get("AGENTMAIL_TEST_LIVES", "50")))


async def lives(url: str, seed: int, *, steps: int) -> None:
    clock = ManualClock()
    async with ScriptedSmtp(extensions=("PIPELINING", "8BITMIME")) as server, ThreadStore(url, clock=clock) as store:
        world = World(store, server, clock, seed)
        try:
            for _ in range(steps):
                await world.step()
            await world.settle()
            await world.judge()
        except BaseException as exc:
            exc.add_note(f"seed {seed}, {steps} steps:\n" + "\n".join(world.story))
            raise
        finally:
            await world.close()


@pytest.mark.parametrize("seed", SEEDS)
async def test_whatever_happens_the_outbox_tells_the_truth(store_url: str, seed: int) -> None:
    await lives(store_url, seed, steps=40)


@pytest.mark.soak
@pytest.mark.parametrize("seed", LONG)
async def test_whatever_happens_for_longer(store_url: str, seed: int) -> None:
    await lives(store_url, seed, steps=60)

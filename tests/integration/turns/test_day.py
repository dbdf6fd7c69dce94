"""Random days on the virtual clock: whatever people, machines and agents do, four things hold at every minute.

No message stays unhandled past its lease, none gets a second answer that nobody asked for, no reminder is lost, and
the log is complete and in order.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agentmail import ThreadStore
from agentmail.testing import ManualClock

from .day import Day


async def live(url: str, seed: int, minutes: int) -> dict[str, int]:
    clock = ManualClock()
    async with ThreadStore(url, clock=clock) as store:
        return await Day(store, clock, seed).run(minutes)


async def test_hours_of_a_random_day(tmp_path: Path) -> None:
    """The same hours each time; `make soak` lives through whole days, on both databases."""
    tally = await live(f"sqlite:///{tmp_path / 'store.db'}", seed=4, minutes=150)
    assert tally["answered"] > 3
    assert tally["turn reminder"] > 1


FIRST = int(os.environ.get("AGENTMAIL_TEST_SEED", "0"))


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(FIRST, FIRST + 20))
async def test_a_random_day(store_url: str, seed: int) -> None:
    tally = await live(store_url, seed, 24 * 60)
    print(f"seed {seed}: {tally}")
    assert tally["answered"] > 30

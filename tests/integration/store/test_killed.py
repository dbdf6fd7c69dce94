"""`kill -9` at any statement of an import: the rerun ends with exactly the same threads, nothing twice or lost."""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import func, select

from agentmail.store import ThreadStore
from agentmail.store.tables.threads import LOCATION, MESSAGE, RAW

from ...unit.threads.worlds import US, world
from . import killed
from .orders import file_world, outcome

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("kills", [12, pytest.param(200, marks=pytest.mark.soak)])
async def test_an_import_that_is_killed_and_run_again(store_url: str, kills: int) -> None:
    async with ThreadStore(store_url):
        pass
    done = subprocess.Popen(
        [sys.executable, "-m", "tests.integration.store.killed", store_url, str(kills), "1"],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    out, _ = await asyncio.to_thread(done.communicate, timeout=240)
    assert done.returncode == 0
    async with ThreadStore(store_url) as store:
        for number in range(int(out)):
            made = world(number, killed.SIZE)
            quiet = f"quiet{number}@our.example"
            await store.register(quiet, [US])
            await file_world(store, made, random.Random(7), account=quiet)
            assert await outcome(store, quiet) == await outcome(store, killed.account(number))
            async with store.reading() as tx:
                mine = MESSAGE.c.account == killed.account(number)
                count = (await tx.execute(select(func.count()).select_from(MESSAGE).where(mine))).scalar_one()
                raws = select(func.count()).select_from(RAW).join(MESSAGE, MESSAGE.c.id == RAW.c.message).where(mine)
                locations = select(func.count()).where(LOCATION.c.account == killed.account(number))
                assert count == killed.SIZE == (await tx.execute(raws)).scalar_one()
                assert killed.SIZE == (await tx.execute(locations)).scalar_one()

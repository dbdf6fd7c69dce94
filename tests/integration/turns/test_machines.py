"""Many machines on one PostgreSQL: one is killed, one is cut off, one is stopped. Their threads move, and no more."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self

import pytest
from sqlalchemy import func, select

from agentmail import ThreadStore, parse
from agentmail.store import Location
from agentmail.store.arrivals import Arrival
from agentmail.store.tables.outbox import SUBMISSION

from ...servers.network import Network
from ...servers.postgres import Postgres
from ...servers.process import missing
from .test_crew import ROOT, US, fill, letter

LEASE, SILENCE, DEADLINE = 4.0, 2.0, 180.0
"""Seconds. The deadline is for a machine that is very slow: everything here waits for what happens."""


class Machine:
    """A worker in a namespace of its own, and what it said."""

    def __init__(self, network: Network, number: int, url: str) -> None:
        self.number = number
        self._command = network.on(
            number, [sys.executable, "-W", "error", "-m", "tests.integration.turns.machine", url, str(LEASE),
                     str(SILENCE)],
        )  # fmt: skip
        self.said: defaultdict[str, list[str]] = defaultdict(list)
        self._heard = asyncio.Condition()

    async def __aenter__(self) -> Self:
        pipe = subprocess.PIPE
        self._process = await asyncio.create_subprocess_exec(*self._command, cwd=ROOT, stdin=pipe, stdout=pipe)
        self._listening = asyncio.create_task(self._listen())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()
        await self._listening

    async def _listen(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            what, _, rest = line.decode().strip().partition(" ")
            async with self._heard:
                self.said[what].append(rest)
                self._heard.notify_all()

    async def until(self, met: Callable[[dict[str, list[str]]], bool]) -> None:
        async with asyncio.timeout(DEADLINE), self._heard:
            await self._heard.wait_for(lambda: met(self.said))

    def go(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(b"go\n")

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)


@pytest.fixture
def network() -> Iterator[Network]:
    if reason := Network.why_not():
        missing(reason)
    if not Postgres.available():
        missing("PostgreSQL is not installed: apt-get install postgresql")
    with Network(4) as made:
        yield made


@pytest.fixture
def server(network: Network) -> Iterator[str]:
    """A PostgreSQL that the machines reach; the URL of a new database."""
    postgres = Postgres(network.address)
    try:
        postgres.start()
        yield postgres.new_database()
    finally:
        postgres.stop()


@pytest.fixture
async def machines(network: Network, server: str) -> AsyncIterator[list[Machine]]:
    async with ThreadStore(server) as store:
        await fill(store, 24)
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(Machine(network, i, server)) for i in network.machines]


async def test_a_machine_that_dies_is_cut_off_or_stops_loses_its_threads_to_the_others(
    network: Network, server: str, machines: list[Machine]
) -> None:
    killed, cut, stopped, sound = machines
    for machine in machines:
        await machine.until(lambda said: len(said["holds"]) >= 4)
    held = {m: set(m.said["holds"]) for m in machines}

    killed.signal(signal.SIGKILL)
    network.cut(cut.number)
    stopped.signal(signal.SIGSTOP)
    sound.go()
    cut.go()
    lost, fell = held[killed] | held[cut] | held[stopped], time.monotonic()
    for name, machine in (("killed", killed), ("cut off", cut), ("stopped", stopped)):
        await sound.until(lambda said, m=machine: held[m] <= set(said["answered"]))  # nobody did anything for it
        print(f"{name}: its threads had moved after {time.monotonic() - fell:.1f} s, with a lease of {LEASE:.0f} s")
    assert lost <= set(sound.said["answered"])
    await sound.until(lambda said: len(set(said["answered"])) == 24)

    # The one that is cut off is told, while it still is.
    await cut.until(lambda said: held[cut] <= {line.partition(" ")[0] for line in said["told"]})
    assert {line.partition(" ")[2] for line in cut.said["told"]} <= {"StoreUnreachable", "StoreError", "StaleTurn"}
    # The one that slept wakes up, and every answer that it had in mind is refused.
    stopped.go()
    stopped.signal(signal.SIGCONT)
    await stopped.until(lambda said: held[stopped] <= {line.partition(" ")[0] for line in said["told"]})
    assert {line.partition(" ")[2] for line in stopped.said["told"]} <= {"StaleTurn", "StoreUnreachable"}
    assert stopped.said["answered"] == cut.said["answered"] == []

    # Whoever comes back goes on: with the others gone, the one that was cut off has the next letter.
    stopped.signal(signal.SIGKILL)
    sound.signal(signal.SIGKILL)
    network.join(cut.number)
    async with ThreadStore(server) as store:
        await store.register(US)
        raw = letter(24)
        batch = store.prepare([Arrival(parse(raw), raw, Location("INBOX", 1, 25))], account=US)
        [filed] = await store.db.run(lambda tx: store.file_batch(tx, batch, account=US))
        await cut.until(lambda said: filed.thread in said["answered"])
        async with store.reading() as tx:
            answers = select(SUBMISSION.c.answers, func.count()).group_by(SUBMISSION.c.answers)
            counted = dict((await tx.execute(answers)).all())
    assert len(counted) == 25
    assert set(counted.values()) == {1}

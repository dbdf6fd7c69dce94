"""Workers that crash, oversleep and have wrong clocks, on one store, until nothing wants attention any more.

`python -m tests.integration.turns.crew URL DIRECTORY WORKERS LEASE SEED`

Each worker is a process with a clock of its own that is hours off. What happens to a turn is drawn from the seed, the
thread and the attempt: nothing; SIGKILL at some SQL statement, before or after it ran, or at a commit; or SIGSTOP,
until somebody else has finished the thread, whereupon the sleeper tries every effect that a turn has. A line for each
goes into DIRECTORY/log. Who falls is replaced.

LEASE is in seconds. 0 means an hour, and that the leases of the fallen are ended by hand: then nothing waits for time.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
import traceback
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import event, update

from agentmail import Account, Inbox, Policy, ThreadStore, Turn
from agentmail.errors import StaleTurn
from agentmail.store import claims, wanting
from agentmail.store.changes import Changes

ACCOUNT = Account(address="crew@our.example", password="secret", imap_host="127.0.0.1", smtp_host="127.0.0.1")  # type: ignore[arg-type]
OPEN = Policy(replies_per_hour=10**6, replies_per_domain_hour=10**6)
MARK = "a sleeper was here"
ASLEEP = 30
"""How many sleep at a time."""

Fate = Literal["live", "die", "sleep"]


class Worker:
    def __init__(self, url: str, directory: Path, lease: float, seed: int, number: int) -> None:
        self.url, self.directory, self.lease, self.seed = url, directory, lease, seed
        self.rng = random.Random(f"{seed} worker {number}")
        self.skew = timedelta(hours=self.rng.uniform(-30, 30))
        self.countdown = 0
        """SQL statements until this process kills itself; 0 means never."""

    def clock(self) -> datetime:
        return datetime.now(UTC) + self.skew

    async def main(self) -> None:
        # The store has the database's clock; everything else in this process goes by the wrong one.
        async with ThreadStore(self.url) as store:
            for moment in ("before_cursor_execute", "after_cursor_execute", "commit"):
                event.listen(store.db.engine.sync_engine, moment, self._step)
            lease = timedelta(seconds=self.lease or 3600)
            async with (
                Inbox(ACCOUNT, store=store, agent="crew", policy=OPEN, clock=self.clock) as inbox,
                Changes(store.db) as changes,
            ):
                while True:
                    async for turn in inbox.turns(wait=False, lease=lease):
                        await self.handle(turn)
                    async with store.reading() as tx:
                        left = await wanting.counts(tx, ACCOUNT.key)
                    if not left.keys() - {"stuck"}:
                        return
                    if not self.lease:
                        await self.end_leases(store)
                    await changes.wait(0.2)

    def _step(self, *_: Any, **__: Any) -> None:
        if self.countdown == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        self.countdown = max(0, self.countdown - 1)

    async def handle(self, turn: Turn) -> None:
        rng = random.Random(f"{self.seed} {turn.thread.id} {turn.attempt}")
        risk = {1: 0.15, 2: 0.08}.get(turn.attempt, 0.0)
        fate: Fate = rng.choices(("live", "die", "sleep"), (1 - 2 * risk, risk, risk))[0]  # type: ignore[assignment]
        answer = f"The answer to {turn.thread.subject}, in other words {rng.getrandbits(64):x}."
        if fate == "sleep" and len(list(self.directory.glob("asleep.*"))) >= ASLEEP:
            fate = "live"  # each that sleeps keeps its connections
        if fate != "live":
            self.fall(turn, fate)
        if fate == "sleep":
            await self.sleep(turn, answer, answered=rng.random() < 0.3)
            return
        if fate == "die":
            self.countdown = rng.randint(1, 60)
        try:
            async with turn:
                await turn.reply(answer)
        except StaleTurn:
            # Its lease ended on a busy machine, or was ended by the others, who count on its death: it comes again.
            self.countdown = 0
            self.note(turn, "lost")
            return
        self.countdown = 0
        self.note(turn, "done")
        self.wake(turn)

    def fall(self, turn: Turn, fate: Fate) -> None:
        """Leave word, so that the others can tell who holds this thread and will not come back."""
        found = {"pid": os.getpid(), "fate": fate, "epoch": turn._claim.epoch}
        (self.directory / f"{turn.thread.id}.{turn._claim.epoch}").write_text(json.dumps(found))
        self.note(turn, fate)

    async def sleep(self, turn: Turn, answer: str, *, answered: bool) -> None:
        effects: dict[str, Callable[[], Awaitable[object]]] = {
            "reply": lambda: turn.reply(answer + " Or not."),
            "again": lambda: turn.reply(MARK, again=True),
            "note": lambda: turn.write_note(MARK),
            "label": lambda: turn.label(MARK),
            "remind": lambda: turn.remind(after=timedelta(days=1), note=MARK),
        }
        try:
            async with turn:
                if answered:
                    await turn.reply(answer)
                mark = self.directory / f"asleep.{os.getpid()}"
                mark.touch()
                os.kill(os.getpid(), signal.SIGSTOP)  # until somebody else has finished the thread
                mark.unlink()
                for name, effect in effects.items():
                    with suppress(StaleTurn):
                        await effect()
                        self.note(turn, f"wrote {name}")
                turn.data["mark"] = MARK
        except StaleTurn:
            self.note(turn, "told")
        else:
            self.note(turn, "wrote the end")

    def wake(self, turn: Turn) -> None:
        for left in self.directory.glob(f"{turn.thread.id}.*"):
            found = json.loads(left.read_text())
            if found["fate"] == "sleep" and found["pid"] != os.getpid():
                with suppress(ProcessLookupError):
                    os.kill(found["pid"], signal.SIGCONT)

    async def end_leases(self, store: ThreadStore) -> None:
        """Let the time pass that the fallen have left."""
        for left in self.directory.glob("t*.*"):
            found = json.loads(left.read_text() or "{}")
            if not found:
                continue
            gone = claims.work.c.thread == int(left.stem[1:]), claims.work.c.epoch == found["epoch"]
            ended = update(claims.work).where(*gone, claims.work.c.state == "claimed").values(next_at=0.0)
            await store.db.run(lambda tx, ended=ended: tx.execute(ended))  # type: ignore[misc]

    def note(self, turn: Turn, what: str) -> None:
        line = json.dumps({"thread": turn.thread.id, "attempt": turn.attempt, "pid": os.getpid(), "what": what})
        log = os.open(self.directory / "log", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(log, line.encode() + b"\n")
        os.close(log)


def main(url: str, directory: Path, workers: int, lease: float, seed: int) -> None:
    """Keep so many workers running, whoever falls, until all have ended because nothing is left."""
    number, running, asleep = 0, set[int](), set[int]()

    def start() -> None:
        nonlocal number
        number += 1
        pid = os.fork()  # nothing is open yet, and the imports are paid for
        if pid == 0:
            status = 1
            try:
                asyncio.run(Worker(url, directory, lease, seed, number).main())
                status = 0
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(status)
        running.add(pid)

    for _ in range(workers):
        start()
    while running or asleep:
        if not running:
            for pid in asleep:
                os.kill(pid, signal.SIGCONT)
        pid, status = os.waitpid(-1, os.WUNTRACED)
        fell = os.WIFSTOPPED(status) or (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL)
        if not fell and status:
            os.killpg(0, signal.SIGKILL)  # it said why; nobody may stay behind, and some are stopped
        if fell and pid in running:
            start()  # one that slept has a successor already
        running.discard(pid)
        (asleep.add if os.WIFSTOPPED(status) else asleep.discard)(pid)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]), int(sys.argv[5]))

"""Being told at once: one idle connection an account, a poll underneath, one process a mailbox.

```
lease ─▶ poll ─▶ EXAMINE ─▶ IDLE ─news─▶ fetch it ─▶ IDLE …
  ▲                          │ 9 minutes: DONE, poll, IDLE again (a NAT forgets; Exchange forgets to tell)
  └── pause with chance ◀── the connection is lost, throttled or refused
```
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import random
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass

from ..errors import AuthenticationFailed, ServerError, StoreBusy, StoreUnreachable, Throttled
from ..imap import IdleRefused, ImapConnection
from ..store import Filed
from ..store.positions import LostLease
from ..unbroken import heed_cancellation
from .leases import Leases, leases_of
from .pacing import Backoff
from .sync import REIDLE, MailSync

log = logging.getLogger(__name__)

Told = Callable[[list[Filed]], Awaitable[None] | None]

WITHOUT_IDLE = 30.0
"""Seconds between two polls of a server that cannot IDLE."""
STORE_PAUSE = 5.0
"""Seconds before the store is asked again after it failed."""

RELEASE = 2.0
"""Seconds that giving the lease back may take. A store that is busy ends no program late."""

STORE_BUSY = 1.0
"""Seconds, about, until a store is asked again that was too busy to answer."""


@dataclass(frozen=True)
class Pace:
    """Time and chance, for tests."""

    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    monotonic: Callable[[], float] = time.monotonic
    random: Callable[[], float] = random.random
    reidle: float = REIDLE
    without_idle: float = WITHOUT_IDLE


async def watch(
    sync: MailSync, told: Told | None = None, *, leases: Leases | None = None, pace: Pace | None = None
) -> None:
    """Keep an account's mail coming in until cancelled. `told` hears what was filed, after it was committed.

    Errors of the server do not end it: they are waited out, and are to be seen in `sync.health()`.
    """
    await _Watch(sync, told, leases or leases_of(sync.store), pace or Pace()).run()


class _Watch:
    def __init__(self, sync: MailSync, told: Told | None, leases: Leases, pace: Pace) -> None:
        self.sync, self.told, self.leases, self.pace = sync, told, leases, pace
        self.account, self.mailbox = sync.account.key, sync.account.mailbox
        self.backoff = Backoff()
        sync.watches = True

    async def run(self) -> None:
        await self.sync.store.open()
        try:
            while True:
                try:
                    await self._once()
                except LostLease:
                    heed_cancellation()
                except StoreBusy:  # a thousand that start at once wait for each other
                    heed_cancellation()
                    await self.pace.sleep(STORE_BUSY * (0.5 + self.pace.random()))
                except StoreUnreachable as exc:  # a database that is started again
                    log.warning("%s: receiving waits for the store: %s", self.account, exc)
                    heed_cancellation()
                    await self.pace.sleep(STORE_PAUSE)
        finally:
            with suppress(Exception):  # else it ends by itself
                async with asyncio.timeout(RELEASE):
                    await self.leases.release(self.account, self.mailbox)

    async def _once(self) -> None:
        epoch = await self.leases.take(self.account, self.mailbox)
        if epoch is None:
            await self._pause(self.leases.lease / 3)
            return
        started = self.pace.monotonic()
        try:
            await self._session(epoch)
        except Throttled as exc:
            await self._pause(exc.retry_after or 60.0)
        except AuthenticationFailed:
            await self._pause(60.0)  # asks the store each time, and the server only when it may
        except ServerError:
            self.backoff.survived(self.pace.monotonic() - started)
            await self._wait(self.backoff.failed(self.pace.random()))

    async def _pause(self, seconds: float) -> None:
        await self._wait(seconds * (0.75 + self.pace.random() / 2))

    async def _wait(self, seconds: float) -> None:
        """Wait, and keep the lease meanwhile: another process would meet the same server."""
        heed_cancellation()
        while seconds > 0:
            step = min(seconds, self.leases.lease / 3)
            await self.pace.sleep(step)
            seconds -= step
            await self.leases.holds(self.account, self.mailbox, self.pace.monotonic)

    async def _session(self, epoch: int) -> None:
        """Until something goes wrong."""
        while True:
            await self._hold(epoch)
            await self._tell(await self.sync.poll(epoch=epoch, thorough=False))
            connection = await self.sync.connection()
            try:
                await self._idle(connection, epoch)
            except IdleRefused:
                await self._wait(self.pace.without_idle)

    async def _idle(self, connection: ImapConnection, epoch: int) -> None:
        """Idle until a poll is due."""
        end = self.pace.monotonic() + self.pace.reidle
        if not await self.sync.is_current(connection):
            return  # something came between the poll and now
        looked = connection.examined
        await connection.start_idle()
        while (left := end - self.pace.monotonic()) > 0:
            if connection.examined != looked:
                return  # somebody opened the mailbox anew, and was told of what came before that
            if await connection.wait_idle(min(left, self.leases.lease / 3)):
                # Somebody waits for it: that the lease is ours still is checked by the transaction that files it.
                filed = await self.sync.poll_news(epoch=epoch)
                if filed is None:
                    return
                looked = connection.examined
                await self._tell(filed)
                await connection.start_idle()
            await self._hold(epoch)
        await connection.stop_idle()

    async def _hold(self, epoch: int) -> None:
        await self.sync.keep_slot()
        if not await self.leases.holds(self.account, self.mailbox, self.pace.monotonic):
            raise LostLease(f"{self.account}: another process watches {self.mailbox!r} now (epoch {epoch} is over)")

    async def _tell(self, filed: list[Filed]) -> None:
        if filed and self.told is not None and inspect.isawaitable(done := self.told(filed)):
            await done

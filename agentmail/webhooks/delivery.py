"""Webhooks: each event of an account to each endpoint, in order, at least once, by one process at a time.

An endpoint's place is a named cursor of the log; it moves in the transaction that remembers the answer, under a lease
with an epoch, so a process that slept writes nothing. What an endpoint does not take is tried again with growing
pauses. The next event waits behind it, since order is promised; so what the endpoint calls wrong (4xx) is given up
after half an hour, and what nobody answers after three days. Giving up is an event of the log: `webhook.dropped`.

What is sent says that something happened, and the ids; never what a mail says.
"""

from __future__ import annotations

import asyncio
import fnmatch
import hmac
import json
import logging
import random
import secrets
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime

from ..errors import AgentMailError, Refused, StoreError, Unreachable
from ..settings import Webhook
from ..store import ThreadStore, Tx, log, webhooks
from ..store.changes import POLL, Changes
from ..store.database import database_now
from ..store.events import append_event
from ..store.webhooks import Standing
from ..unbroken import TaskGroup, heed_cancellation
from . import signing
from .posting import Answer, Resolve, post, resolve

logger = logging.getLogger(__name__)

BACKOFF = (5.0, 300.0, 1800.0, 7200.0, 18_000.0, 36_000.0, 50_400.0, 72_000.0, 86_400.0)
"""Seconds before each further attempt, as Standard Webhooks proposes; about three days in all."""
WRONG = 4
"""Attempts at what the endpoint calls wrong (4xx): some 35 minutes."""
RELEASE = 2.0
"""Seconds that giving the endpoints back may take. A store that is busy ends no program late."""
LEASE = 60.0
"""Seconds that an endpoint stays with a process that does not speak any more; longer than any attempt may take."""
_TEMPORARY = {408, 409, 423, 425, 429}


def _system_clock() -> datetime:
    return datetime.now(UTC)


class Webhooks:
    """The webhooks of one account. `agentmail sync --watch` runs them; so can you, by `run()` in a task of yours.

    A new endpoint hears what happens from its first start on, and not the history of the store.
    """

    def __init__(
        self,
        store: ThreadStore,
        hooks: Sequence[Webhook],
        *,
        account: str,
        clock: Callable[[], datetime] = _system_clock,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        resolve: Resolve = resolve,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """
        Args:
            account: The account's key, `inbox.account.key`; other accounts of the store are not told about.
            jitter: 0 to 1; spreads retries by ±10 %.
        """
        self.store, self.account = store, account
        self._hooks = {f"{account} {hook.label}": hook for hook in hooks}
        self._clock, self._sleep, self._resolve, self._jitter = clock, sleep, resolve, jitter
        self._holder = secrets.token_hex(8)
        self._known: set[str] = set()
        self._news = {name: asyncio.Event() for name in self._hooks}

    async def start(self) -> None:
        """Give every new endpoint its place, behind what has happened so far. `run` does it too."""
        if not self._hooks:
            return
        await self.store.open()
        await log.published(self.store.db, 0, limit=1)
        for name in self._hooks:
            await self.store.db.run(lambda tx, name=name: webhooks.introduce(tx, name))  # type: ignore[misc]

    async def run(self) -> None:
        """Deliver what happens, until cancelled."""
        if not self._hooks:
            return
        await self.start()
        try:
            async with TaskGroup() as group:
                group.create_task(self._listen())
                for name in self._hooks:
                    group.create_task(self._serve(name))
        finally:
            with suppress(StoreError, TimeoutError):  # else the lease ends by itself
                async with asyncio.timeout(RELEASE):
                    await self.store.db.run(lambda tx: webhooks.release(tx, self._holder))

    async def deliver_due(self) -> float:
        """Deliver what is due now to every endpoint; seconds until the next attempt."""
        await self.start()
        return min([await self._deliver(name) for name in self._hooks], default=POLL)

    async def errors(self) -> dict[str, str]:
        """Each endpoint by its label, and what the last attempt at it came to; empty when it was taken."""
        if not self._hooks:
            return {}
        async with self.store.reading() as tx:
            found = await webhooks.errors(tx)
        return {hook.label: found.get(name, "") for name, hook in self._hooks.items()}

    async def _listen(self) -> None:
        while True:
            try:
                async with Changes(self.store.db) as changes:
                    while True:
                        for news in self._news.values():
                            news.set()
                        await changes.wait()
            except StoreError as exc:
                logger.warning("webhooks of %s: %s", self.account, exc)
                heed_cancellation()
                await self._sleep(2.0)

    async def _serve(self, name: str) -> None:
        news = self._news[name]
        while True:
            news.clear()
            try:
                pause = await self._deliver(name)
            except StoreError as exc:
                logger.warning("webhook %s: %s", name, exc)
                pause = 2.0
            heed_cancellation()
            try:
                async with asyncio.timeout(max(0.05, min(POLL, pause))):
                    await news.wait()
            except TimeoutError:
                pass

    async def _deliver(self, name: str) -> float:
        """Until nothing is left, or an attempt failed, or it is another process's; seconds until the next look."""
        hook, again = self._hooks[name], name in self._known

        async def take(tx: Tx) -> Standing | None:
            return await webhooks.take(tx, name, self._holder, lease=LEASE, again=again)

        async with self.store.reading() as tx:
            seen = await webhooks.look(tx, name, self._holder)
        if seen.elsewhere:
            return LEASE / 2
        if seen.wait > 0 or (seen.gone and again):
            return seen.wait or POLL
        if not await log.published(self.store.db, seen.seq, limit=1):
            return POLL
        standing = await self.store.db.run(take)
        if standing is None:
            return LEASE / 2
        self._known.add(name)
        while events := await log.published(self.store.db, standing.seq, limit=100):
            for event in events:
                if self._wants(hook, event):
                    moved = await self._attempt(name, hook, standing, event)
                    if isinstance(moved, float):
                        return moved
                    standing = moved
                else:
                    standing = standing.at(event.seq)
            kept = standing

            async def remember(tx: Tx, now: Standing = kept) -> bool:
                return await webhooks.moved(tx, now, lease=LEASE)

            if not await self.store.db.run(remember):
                return LEASE / 2
        return POLL

    def _wants(self, hook: Webhook, event: log.Event) -> bool:
        if event.kind.startswith("webhook.") or event.account not in {None, self.account}:
            return False
        return any(fnmatch.fnmatchcase(event.kind, pattern) for pattern in hook.events)

    async def _attempt(self, name: str, hook: Webhook, standing: Standing, event: log.Event) -> Standing | float:
        """Where it stands now, or the seconds to wait: it was not taken, or another process has it."""
        outcome = await self._post(hook, event)
        attempts = standing.attempts + 1
        if isinstance(outcome, Answer) and outcome.taken:
            taken = standing.at(event.seq)
            kept = await self.store.db.run(lambda tx: webhooks.moved(tx, taken, lease=LEASE))
            return taken if kept else LEASE / 2
        error = f"the endpoint answered {outcome.status}" if isinstance(outcome, Answer) else str(outcome)
        logger.warning("webhook %s: event %d, attempt %d: %s", name, event.seq, attempts, error)
        if attempts >= _patience(outcome):
            past = standing.at(event.seq)

            async def drop(tx: Tx) -> bool:
                data = {"webhook": hook.label, "seq": event.seq, "kind": event.kind, "error": error}
                kept = await webhooks.moved(tx, past, lease=LEASE, error=error)
                if kept:
                    await append_event(tx, "webhook.dropped", account=self.account, data=data)
                return kept

            return past if await self.store.db.run(drop) else LEASE / 2
        gone = isinstance(outcome, Answer) and outcome.status == 410
        pause = BACKOFF[attempts - 1] * (0.9 + 0.2 * self._jitter())
        if isinstance(outcome, Answer) and outcome.retry_after is not None:
            pause = max(pause, outcome.retry_after)

        async def failed(tx: Tx) -> None:
            now = await database_now(tx)
            await webhooks.failed(tx, standing, attempts=attempts, next_at=now + pause, error=error, gone=gone)

        await self.store.db.run(failed)
        return pause

    async def _post(self, hook: Webhook, event: log.Event) -> Answer | AgentMailError:
        now = self._clock()
        body = payload(event)
        store = hmac.digest(self.store.secret, b"webhooks", "sha256").hex()[:12]
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "agentmail-inbox",
            **signing.headers(
                [s.get_secret_value() for s in hook.secrets], id=f"msg_{store}_{event.seq}",
                timestamp=int(now.timestamp()), body=body,
            ),
        }  # fmt: skip
        try:
            return await post(hook, headers, body, resolve=self._resolve)
        except (Unreachable, Refused) as exc:
            return exc


def payload(event: log.Event) -> bytes:
    """`{"type", "timestamp", "data": {"seq", "account", "thread", "message", …}}`: ids, to be read from the store."""
    data = {"seq": event.seq, "account": event.account, "thread": event.thread, "message": event.message}
    about = {"type": event.kind, "timestamp": event.at.isoformat(), "data": {**(event.data or {}), **data}}
    return json.dumps(about, separators=(",", ":")).encode()


def _patience(outcome: Answer | AgentMailError) -> int:
    wrong = isinstance(outcome, Answer) and 400 <= outcome.status < 500
    final = wrong and isinstance(outcome, Answer) and outcome.status not in _TEMPORARY
    return WRONG if final else len(BACKOFF) + 1

"""Attempts at rows of the outbox that this worker holds: marked, tried over the account's connections, ended.

Markers and results that come at the same moment share a transaction, for a commit costs the same for one and for
many. A marker is still committed before its own body goes: the attempt waits for it.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from .errors import (
    AuthenticationFailed,
    BadInput,
    CertificateRejected,
    ConfigurationError,
    ServerError,
    StoreError,
    Unreachable,
)
from .message.models import Envelope
from .recovery import BOOT, Recovery
from .smtp import BeforeBody, Outcome, Refusals, assigned_id
from .store import attempts, submissions, tallies
from .store.attempts import Result
from .store.database import Tx, database_now
from .store.events import append_events
from .store.submissions import RecipientState, Submission
from .store.together import Together
from .supervision import event, noted
from .unbroken import TaskGroup, cancellations, heed_cancellation
from .verdicts import Stop, doubts, judge, later, no_server

log = logging.getLogger(__name__)

COMPANY = 0.001
"""Seconds that an end waits to be written together with the next marker, as long as one is to come."""
LAST = 2.0
"""Seconds that a cancelled worker waits until an end is written. A store that is away ends no program late."""
TOKEN_PAUSE = 900.0
"""Seconds that an account rests when its token was refused: it changes by itself, a password does not."""
TOKEN_LOOK = 60.0
"""Seconds between two looks, in that time, whether it is another token by now: then it is tried at once."""


class Submits(Protocol):
    """What the outbox needs of smtp.Submitter."""

    connections: int

    async def submit(
        self, raw: bytes, envelope: Envelope, *, before_body: BeforeBody | None = None, submission: str | None = None
    ) -> Outcome: ...
    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Item:
    """A write of a worker: the marker (no result), or how its attempt ended."""

    row: Submission
    result: Result | None = None
    stop: Stop | None = None
    people: Mapping[str, RecipientState] = field(default_factory=dict)
    """With the marker: whom the server refused."""


class Begun:
    """Of the rows that were claimed, how many have no marker yet."""

    def __init__(self, few: int) -> None:
        self._few, self._unmarked = few, 0
        self.nearly_all = asyncio.Event()
        self.nearly_all.set()
        """No more than a few."""

    def to_come(self, rows: int) -> None:
        self._unmarked += rows
        if self._unmarked > self._few:
            self.nearly_all.clear()

    def one(self) -> None:
        self._unmarked -= 1
        if self._unmarked <= self._few:
            self.nearly_all.set()


@dataclass(slots=True)
class Hold:
    """A row that this worker holds, until when by its own monotonic clock, and what became of it."""

    row: Submission
    until: float
    error: ServerError | None = None
    counted_off: bool = False
    begun: Begun | None = None
    """Hears of its marker, or that there will be none."""


class Attempting(Recovery):
    """The part of the Outbox that hands rows over, and pauses an account that the server turns away."""

    submitter: Submits
    _margin: float
    _monotonic: Callable[[], float]
    _sleep: Callable[[float], Awaitable[None]]
    _jitter: Callable[[], float]
    _writes: Together[Item, bool]
    _unmarked = 0
    """Attempts whose marker is still to come."""
    _offers = ""
    """A fingerprint of the token that a login would offer; empty as long as nobody looked."""
    _look_after = float("-inf")

    async def _stopped(self, tx: Tx, now: float) -> tuple[str, str] | None:
        for cause, reason in await tallies.pauses(tx, self.account.key, now=now):
            mark, _, shown = reason.partition(" ")
            if cause != "login":
                return cause, reason
            if mark == self._credentials() or (self.account.token is not None and not self._offers):
                return cause, shown
            # Another password or token: another chance.
            if await tallies.resume(tx, self.account.key, now=now, causes=["login"]):
                resumed = event("account.resumed", now, account=self.account.key, data={"cause": "login"})
                await append_events(tx, [resumed])
        return None

    def _credentials(self) -> str:
        """Tells whether the password, or the token, is still the refused one, without telling it."""
        secret = self.account.smtp_password or self.account.password
        value = secret.get_secret_value() if secret is not None else f"token {self._offers}"
        return self._fingerprint(f"{self.account.smtp_host} {value}")

    def _fingerprint(self, value: str) -> str:
        return hmac.digest(self.store.secret, value.encode(), "sha256").hex()[:16]

    async def _look_at_token(self, *, refused: bool = False) -> None:
        """Learn which token a login would offer: the refused one, or, now and then, whether it is another one by now.
        Some programs make one anew whenever they are asked, so it is not asked for often.
        """
        if self.account.token is None or (self._monotonic() < self._look_after and not refused):
            return
        self._look_after = self._monotonic() + TOKEN_LOOK
        try:
            self._offers = self._fingerprint(await self.account.access_token() or "")
        except AuthenticationFailed:
            self._offers = "none"
        except (Unreachable, ConfigurationError):
            pass  # it could not be asked, which says nothing about it

    async def _work(self, holds: Sequence[Hold]) -> None:
        """One attempt for each row, at the same time, while their leases are renewed."""
        bodies = await attempts.bodies(self.store.db, [h.row for h in holds])
        if bodies is None:
            async with self.store.reading() as tx:
                bodies = await submissions.bodies(tx, [h.row.id for h in holds])
        renewal: asyncio.Task[None] | None = None
        asked = cancellations()
        try:
            async with TaskGroup() as tasks:
                renewal = tasks.create_task(self._renew(holds))
                # PostgreSQL's claim is on the disk by itself; SQLite's gets there while the servers are connected to.
                claimed = tasks.create_task(self.store.db.durable()) if self.store.db.sqlite else None

                async def durable() -> None:
                    if claimed is None:
                        return
                    await asyncio.shield(claimed)
                    if BOOT is None:  # then a lost marker would not be noticed (see `recovery`)
                        await self.store.db.durable()

                async with TaskGroup() as tries:
                    for hold in holds:
                        tries.create_task(self._attempt(hold, bodies[hold.row.id], durable))
                renewal.cancel()
        except BaseExceptionGroup as group:
            heed_cancellation(asked)
            raise _first(group) from group
        finally:
            if renewal is not None:
                renewal.cancel()

    async def _renew(self, holds: Sequence[Hold]) -> None:
        while True:
            await self._sleep(self._lease / 3)
            started = self._monotonic()

            async def work(tx: Tx) -> set[int]:
                until = await database_now(tx) + self._lease
                return await attempts.renew(tx, [(h.row.id, h.row.epoch) for h in holds], until=until)

            try:
                held = await self.store.db.run(work)
            except StoreError:
                heed_cancellation()
                continue  # the lease itself says how long we may go on
            for hold in holds:
                hold.until = started + self._lease if hold.row.id in held else float("-inf")

    async def _attempt(self, hold: Hold, raw: bytes, durable: Callable[[], Awaitable[None]]) -> None:
        self._unmarked += 1
        try:
            await self._attempt_once(hold, raw, durable)
        finally:
            self._count_off(hold)

    def _may_wait(self, item: Item) -> bool:
        """Whether an end has time: a marker is about to come, and takes it along."""
        return item.result is not None and self._unmarked > 0

    def _count_off(self, hold: Hold) -> None:
        if not hold.counted_off:
            hold.counted_off = True
            self._unmarked -= 1
        if hold.begun is not None:
            hold.begun.one()
            hold.begun = None

    async def _attempt_once(self, hold: Hold, raw: bytes, durable: Callable[[], Awaitable[None]]) -> None:
        row = hold.row
        begun = False
        unwritten = ""

        async def before_body(refused: Refusals) -> Callable[[], bool] | None:
            nonlocal begun, unwritten
            self._count_off(hold)
            try:
                marked = bool(await self._writes(Item(row, people=doubts(row, refused))))
                await durable()
            except StoreError as exc:  # this mail does not go now; others, whose bodies are under way, do
                heed_cancellation()
                marked, unwritten = False, f"stopped before the body: {exc}"
            if not marked:
                hold.until = float("-inf")
                return None
            begun = True
            return lambda: self._monotonic() < hold.until - self._margin

        envelope = Envelope(mail_from=row.mail_from, rcpt_to=row.pending)
        try:
            outcome = await self.submitter.submit(raw, envelope, before_body=before_body, submission=f"o{row.id}")
        except BadInput as exc:
            outcome = Outcome("permanent", "mail", None, str(exc))
        except (Unreachable, CertificateRejected, AuthenticationFailed) as exc:
            hold.error = exc
            stop = Stop("login", exc) if isinstance(exc, AuthenticationFailed) else None
            if stop is not None:
                await self._look_at_token(refused=True)
            await self._end(Item(row, no_server(row, str(exc)), stop))
            return
        except (asyncio.CancelledError, Exception):
            if not begun:  # certainly not sent: the next worker need not wait for the lease to end
                await asyncio.shield(self._writes(Item(row, later(row, "interrupted", 0.0), None)))
            raise
        if unwritten and outcome.step == "hook":
            outcome = replace(outcome, text=unwritten)
        log.info(
            "submission o%d account=%s attempt=%d state=%s step=%s smtp_code=%s", row.id, row.account, row.attempts,
            outcome.state, outcome.step, outcome.code,
        )  # fmt: skip
        result, stop = judge(row, outcome)
        if stop is not None:
            if outcome.state != "sent":  # else somebody has it
                hold.error = stop.error
            await self._look_at_token(refused=stop.cause == "login")
        await self._end(Item(row, result, stop))

    async def _end(self, item: Item) -> None:
        """Write an end, again and again while the store is away, until others have looked for the mail and may send it
        again: a 250 that nobody remembers is a second mail to a person.
        """
        give_up = self._monotonic() + self._lease + sum(self._looks)
        while True:
            try:
                await self._writes(item)
                return
            except asyncio.CancelledError:
                await self._write_last(item)
                raise
            except StoreError as exc:
                if cancellations():  # what is cut may fail in place of being cancelled
                    await self._write_last(item)
                    heed_cancellation()
                if self._monotonic() >= give_up:
                    raise
                log.warning("submission o%d: its end is not written yet: %s", item.row.id, exc)
            await self._sleep(1.0)

    async def _write_last(self, item: Item) -> None:
        """Write an end although we are cancelled. It may be written already, and twice does no harm."""
        with suppress(StoreError, TimeoutError):  # the caller is cancelled, and hears of nothing else
            async with asyncio.timeout(LAST):
                await self._writes(item)

    async def _write(self, items: Sequence[Item]) -> list[bool]:
        """Markers and results that come at the same moment, in one transaction."""
        marks = [(i.row.id, i.row.epoch) for i in items if i.result is None]
        ends = [(i, self._spread(i.result)) for i in items if i.result is not None]
        people = {i.row.id: i.people.values() for i in items if i.people}
        if self.store.db.watched or people or any(self._brings_more(i, result) for i, result in ends):
            alive = await self.store.db.run(lambda tx: self._write_all(tx, marks, people, ends))
        else:
            told = [(result, _told(i.row, result)) for i, result in ends]
            alive = await attempts.write(self.store.db, marks, told)
        return [i.result is not None or i.row.id in alive for i in items]

    def _brings_more(self, item: Item, result: Result) -> bool:
        """Whether its end is more than a state and an event."""
        if item.stop is not None or (result.recipients and not result.whole):
            return True
        return result.state == "sent" and assigned_id(self.account.smtp_host, result.reply) is not None

    async def _write_all(
        self, tx: Tx, marks: Sequence[tuple[int, int]], people: Mapping[int, Iterable[RecipientState]],
        ends: Sequence[tuple[Item, Result]],
    ) -> set[int]:  # fmt: skip
        now = await database_now(tx)
        if ends:
            done = await attempts.settle(tx, [result for _, result in ends], now=now)
            events: list[dict[str, Any]] = []
            for item, result in ends:
                events += await self._after(tx, item.row, result, item.stop, now)
                if result.id in done and (told := _told(item.row, result)) is not None:
                    events.append({**told, "at": now})
            await append_events(tx, events)
        # After the ends, for one of them may pause the account, and the next mail on its connection asks by now.
        return await attempts.mark(tx, marks, now=now, people=people) if marks else set()

    def _spread(self, result: Result) -> Result:
        """±10 % keeps many rows from coming back at the same moment."""
        return result if not result.delay else replace(result, delay=result.delay * (0.9 + 0.2 * self._jitter()))

    async def _after(
        self, tx: Tx, row: Submission, result: Result, stop: Stop | None, now: float
    ) -> list[dict[str, Any]]:
        """What an end brings with it beside its own event, in the same transaction; the events of that."""
        events: list[dict[str, Any]] = []
        if stop is not None:
            until = now + stop.rest if stop.cause == "limit" else None
            if self.account.token is not None and stop.cause == "login":
                until = now + TOKEN_PAUSE
            reason = f"{self._credentials()} {stop.error}" if stop.cause == "login" else str(stop.error)
            await tallies.pause(tx, row.account, cause=stop.cause, reason=reason, by="server", now=now, until=until)
            events.append(event("account.paused", now, account=row.account, data={"cause": stop.cause}))
        if result.reply and row.message is not None:
            other = assigned_id(self.account.smtp_host, result.reply)
            if other is not None and other != row.message_id:
                await self.store.alias(tx, row.message, other)
        return events


def _told(row: Submission, result: Result) -> dict[str, Any] | None:
    """The event that tells of an end; its time is that of the transaction. What goes on by itself is not told."""
    if result.state not in {"sent", "failed", "unknown"}:
        return None
    failed = [p.address for p in result.recipients.values() if p.state == "failed"]
    return noted(row, result.state, 0.0, code=result.code, failed=failed)


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first error of several that came together: callers catch errors, not groups of them."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error

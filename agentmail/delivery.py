"""Out of the outbox: claim what is due, try it over the account's connections, write down how each attempt ended.

Markers and results that come at the same moment share a transaction, for a commit costs the same for one and for
many. A marker is still committed before its own body goes: the attempt waits for it.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from .errors import (
    AuthenticationFailed,
    BadInput,
    CertificateRejected,
    ConfigurationError,
    PermanentFailure,
    ServerError,
    StoreError,
    Unreachable,
)
from .message.models import Envelope
from .recovery import BOOT, Recovery
from .sent import Sent, shown
from .smtp import BeforeBody, Outcome, Refusals, assigned_id
from .store import attempts, submissions, tallies
from .store.attempts import Result
from .store.changes import Changes
from .store.database import Tx, database_now
from .store.events import append_events
from .store.reading import number
from .store.submissions import RecipientState, Submission
from .store.together import Together
from .supervision import event, noted
from .unbroken import heed_cancellation
from .verdicts import Stop, doubts, judge, later, no_server

log = logging.getLogger(__name__)

LEASE = 180.0
"""Seconds a worker holds a row; renewed at a third of it while the attempt runs."""
CLAIM = 8
"""Rows that a worker takes at once, for each of its connections."""
AHEAD = 2
"""For each connection, rows whose marker is to come when the next ones are taken: no connection waits for them."""
MARGIN = 10.0
"""Seconds before the end of the lease from which the final dot may not go any more."""
FRUITLESS = 5.0
"""Seconds until mail that is due, and could not be taken, is tried again unless something changes."""
LATER = 0.01
"""Seconds that the worker leaves a change to those who wait for an answer, before it looks for mail to send."""
COPY_FOR = 86_400.0
"""Seconds for which a copy in Sent is still tried."""
COMPANY = 0.001
"""Seconds that an end waits to be written together with the next marker, as long as one is to come."""
TOKEN_PAUSE = 900.0
"""The same when a token was refused: it changes by itself, a password does not."""
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
class _Item:
    """A write of a worker: the marker (no result), or how its attempt ended."""

    row: Submission
    result: Result | None = None
    stop: Stop | None = None
    people: Mapping[str, RecipientState] = field(default_factory=dict)
    """With the marker: whom the server refused."""


class _Begun:
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
class _Hold:
    """A row that this worker holds, until when by its own monotonic clock, and what became of it."""

    row: Submission
    until: float
    error: ServerError | None = None
    counted_off: bool = False
    begun: _Begun | None = None
    """Hears of its marker, or that there will be none."""


class Delivery(Recovery):
    """The half of the Outbox that submits."""

    submitter: Submits
    _margin: float
    _monotonic: Callable[[], float]
    _sleep: Callable[[float], Awaitable[None]]
    _jitter: Callable[[], float]
    _writes: Together[_Item, bool]
    _unmarked = 0
    """Attempts whose marker is still to come."""
    _offers = ""
    """A fingerprint of the token that a login would offer; empty as long as nobody looked."""
    _look_after = float("-inf")

    async def deliver(self, id: str) -> Sent:  # noqa: A002
        """Try now, once, and say how it stands. A 4xx leaves it `queued`; a lost connection after the body, `unknown`:
        both go on by themselves and need no second call.

        Raises:
            PermanentFailure: the server will not take it; it is `failed`.
            Unreachable, CertificateRejected, AuthenticationFailed: it stays queued.
        """
        await self.store.open()
        await self._notice_power_cut()
        wanted = number(id, "o")
        started = self._monotonic()
        held, stopped = await self._claim(limit=1, id_=wanted)
        if not held:
            await self.store.db.durable()  # its row may have been written a moment ago
            async with self.store.reading() as tx:
                row = await self._one(tx, id)
            if row.state == "queued" and stopped:
                if stopped[0] == "login":
                    raise AuthenticationFailed(f"{stopped[1]}; nothing was sent, it is kept as {id}")
                return shown(row).model_copy(update={"error": f"paused: {stopped[1]}"})
            return shown(row)
        hold = _Hold(held[0], started + self._lease)
        await self._work([hold])
        await self.store.db.durable()
        async with self.store.reading() as tx:
            row = await self._one(tx, id)
        if hold.error is not None:
            raise type(hold.error)(
                f"{hold.error}; nothing was sent, it is kept as {id} and tried again"
            ) from hold.error
        if row.state == "failed":
            raise PermanentFailure(f"{id} was refused: {row.error}", code=row.code, submission=id)
        if row.state == "sent":
            await self._file_copies([row])
        return shown(row)

    async def deliver_due(self, limit: int = 100) -> list[Sent]:
        """Everything that is due: rows that a crash left behind, unknown ones to look for, then what is queued.

        Server errors stay in the rows; none is raised.
        """
        await self.store.open()
        await self._notice_power_cut()
        await self._recover()
        await self._look()
        await self._take_bounces()
        done = await self._deliver(limit)
        if done:
            await self.store.db.durable()
        async with self.store.reading() as tx:
            finished = await submissions.read(tx, done)
            without = (
                await submissions.without_copy(tx, self.account.key, since=await database_now(tx) - COPY_FOR)
                if self.evidence is not None
                else []
            )
        await self._file_copies(without)
        return [shown(row) for row in finished]

    async def _deliver(self, limit: int) -> list[int]:
        """Claim and try, until nothing is due; which rows. The next are claimed while the last of these are tried.

        What goes wrong stops the claiming, and is raised when all that is on its way has come to its end.
        """
        holds: list[_Hold] = []
        errors: list[Exception] = []
        working: set[asyncio.Task[None]] = set()
        begun = _Begun(AHEAD * self.submitter.connections)
        async with asyncio.TaskGroup() as group:
            while len(holds) < limit and not errors:
                started = self._monotonic()
                wanted = min(limit - len(holds), CLAIM * self.submitter.connections)
                try:
                    rows, _ = await self._claim(limit=wanted)
                except Exception as exc:  # noqa: BLE001 - raised below
                    heed_cancellation()
                    errors.append(exc)
                    break
                if not (rows or working):
                    break
                taken = [_Hold(row, started + self._lease, begun=begun) for row in rows]
                holds += taken
                begun.to_come(len(taken))
                if taken:
                    working.add(group.create_task(self._work_on(taken, errors)))
                if len(taken) == wanted:
                    await begun.nearly_all.wait()
                else:  # nothing else is due, as long as none of these is again
                    await asyncio.wait(working)
                working = {task for task in working if not task.done()}
                if any(h.error is not None for h in holds):
                    break  # no server: the rest would only fail the same way
        if errors:
            raise errors[0]
        return [h.row.id for h in holds]

    async def _work_on(self, holds: Sequence[_Hold], errors: list[Exception]) -> None:
        """`_work`, of which others that are on their way hear nothing."""
        try:
            await self._work(holds)
        except Exception as exc:  # noqa: BLE001 - the caller raises it
            errors.append(exc)
        finally:
            for hold in holds:
                if hold.begun is not None:
                    hold.begun.one()
                    hold.begun = None

    async def run(self, poll: float = 30.0) -> None:
        """Deliver what is due, for ever; run it in a TaskGroup, in as many processes as you like.

        A change is looked at by reading. What writes begins when something is due, when a bounce came, and every
        `poll` seconds in any case.
        """
        await self.store.open()
        time = asyncio.get_running_loop().time
        while True:
            try:
                async with Changes(self.store.db, later=LATER) as changes:
                    seen: int | None = None
                    whole = rest = 0.0
                    while True:
                        async with self.store.reading() as tx:
                            due, now = await submissions.next_due(tx, self.account.key), await database_now(tx)
                            bounced, seen = await tallies.bounced_since(tx, self.account.key, seen)
                        wait = poll if due is None else due - now
                        if bounced or time() >= whole or (wait <= 0 and time() >= rest):
                            took = await self.deliver_due()
                            whole = time() + poll
                            # Due, and nobody took it: the account is paused, or another process is at it.
                            rest = 0.0 if took else time() + FRUITLESS
                            if took:
                                continue
                        wait = max(wait, rest - time(), 0.05)
                        if await changes.wait(min(wait, max(0.05, whole - time()))):
                            rest = 0.0
            except StoreError as exc:
                log.warning("outbox of %s: %s", self.account.key, exc)
                heed_cancellation()
                await self._sleep(5.0)

    async def _claim(self, *, limit: int, id_: int | None = None) -> tuple[list[Submission], tuple[str, str] | None]:
        """(rows that are ours now, what stops the account)"""

        db = self.store.db
        if not db.watched:
            rows, stops = await attempts.claim_due(db, self.account.key, lease=self._lease, limit=limit, id_=id_)
            if not stops:
                return rows, None
        await self._look_at_token()

        async def work(tx: Tx) -> tuple[list[Submission], tuple[str, str] | None]:
            now = await database_now(tx)
            stopped = await self._stopped(tx, now)
            if stopped is not None:
                return [], stopped
            return await attempts.claim(tx, self.account.key, now=now, lease=self._lease, limit=limit, id_=id_), None

        return await db.run(work)

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

    async def _work(self, holds: Sequence[_Hold]) -> None:
        """One attempt for each row, at the same time, while their leases are renewed."""
        bodies = await attempts.bodies(self.store.db, [h.row for h in holds])
        if bodies is None:
            async with self.store.reading() as tx:
                bodies = await submissions.bodies(tx, [h.row.id for h in holds])
        renewal: asyncio.Task[None] | None = None
        try:
            async with asyncio.TaskGroup() as tasks:
                renewal = tasks.create_task(self._renew(holds))
                # PostgreSQL's claim is on the disk by itself; SQLite's gets there while the servers are connected to.
                claimed = tasks.create_task(self.store.db.durable()) if self.store.db.sqlite else None

                async def durable() -> None:
                    if claimed is None:
                        return
                    await asyncio.shield(claimed)
                    if BOOT is None:  # then a lost marker would not be noticed (see `recovery`)
                        await self.store.db.durable()

                async with asyncio.TaskGroup() as tries:
                    for hold in holds:
                        tries.create_task(self._attempt(hold, bodies[hold.row.id], durable))
                renewal.cancel()
        except BaseExceptionGroup as group:
            heed_cancellation()
            raise _first(group) from group
        finally:
            if renewal is not None:
                renewal.cancel()

    async def _renew(self, holds: Sequence[_Hold]) -> None:
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

    async def _attempt(self, hold: _Hold, raw: bytes, durable: Callable[[], Awaitable[None]]) -> None:
        self._unmarked += 1
        try:
            await self._attempt_once(hold, raw, durable)
        finally:
            self._count_off(hold)

    def _may_wait(self, item: _Item) -> bool:
        """Whether an end has time: a marker is about to come, and takes it along."""
        return item.result is not None and self._unmarked > 0

    def _count_off(self, hold: _Hold) -> None:
        if not hold.counted_off:
            hold.counted_off = True
            self._unmarked -= 1
        if hold.begun is not None:
            hold.begun.one()
            hold.begun = None

    async def _attempt_once(self, hold: _Hold, raw: bytes, durable: Callable[[], Awaitable[None]]) -> None:
        row = hold.row
        begun = False
        unwritten = ""

        async def before_body(refused: Refusals) -> Callable[[], bool] | None:
            nonlocal begun, unwritten
            self._count_off(hold)
            try:
                marked = bool(await self._writes(_Item(row, people=doubts(row, refused))))
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
            await self._end(_Item(row, no_server(row, str(exc)), stop))
            return
        except (asyncio.CancelledError, Exception):
            if not begun:  # certainly not sent: the next worker need not wait for the lease to end
                await asyncio.shield(self._writes(_Item(row, later(row, "interrupted", 0.0), None)))
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
        await self._end(_Item(row, result, stop))

    async def _end(self, item: _Item) -> None:
        """Write an end, again and again while the store is away, until others have looked for the mail and may send it
        again: a 250 that nobody remembers is a second mail to a person.
        """
        give_up = self._monotonic() + self._lease + sum(self._looks)
        while True:
            try:
                await self._writes(item)
                return
            except StoreError as exc:
                heed_cancellation()
                if self._monotonic() >= give_up:
                    raise
                log.warning("submission o%d: its end is not written yet: %s", item.row.id, exc)
            await self._sleep(1.0)

    async def _write(self, items: Sequence[_Item]) -> list[bool]:
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

    def _brings_more(self, item: _Item, result: Result) -> bool:
        """Whether its end is more than a state and an event."""
        if item.stop is not None or (result.recipients and not result.whole):
            return True
        return result.state == "sent" and assigned_id(self.account.smtp_host, result.reply) is not None

    async def _write_all(
        self, tx: Tx, marks: Sequence[tuple[int, int]], people: Mapping[int, Iterable[RecipientState]],
        ends: Sequence[tuple[_Item, Result]],
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

    async def _file_copies(self, rows: Sequence[Submission]) -> None:
        """A copy into Sent, for those who look at the mailbox. It failing is no failure of the submission."""
        if self.evidence is None:
            return
        for row in rows:
            if row.copied:
                continue
            try:
                async with self.store.reading() as tx:
                    raw = (await submissions.bodies(tx, [row.id])).get(row.id)
                if raw is None:
                    continue  # somebody had it deleted meanwhile
                await self.evidence.file_sent(raw, row.message_id)
            except ServerError as exc:
                log.info("submission o%d: no copy in Sent: %s", row.id, exc)
                return
            await self.store.db.run(lambda tx, i=row.id: submissions.set_copied(tx, i))  # type: ignore[misc]


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

"""Out of the outbox: claim what is due, have it tried (`attempting`), and tell how each row stands then."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from .attempting import Attempting, Begun, Hold
from .errors import AuthenticationFailed, PermanentFailure, ServerError, StoreError
from .sent import Sent, shown
from .store import attempts, submissions, tallies
from .store.changes import Changes
from .store.database import Tx, database_now
from .store.reading import number
from .store.submissions import Submission
from .unbroken import TaskGroup, cancellations, heed_cancellation

log = logging.getLogger(__name__)

LEASE = 180.0
"""Seconds a worker holds a row; renewed at a third of it while the attempt runs."""
CLAIM = 8
"""Rows that a worker takes at once, for each of its connections."""
AHEAD = 2
"""For each connection, rows whose marker is to come when the next ones are taken: no connection waits for them."""
AGAIN = 2.0
"""Seconds after which mail that came meanwhile is looked for, when the mail that is on its way takes long."""
MARGIN = 10.0
"""Seconds before the end of the lease from which the final dot may not go any more."""
FRUITLESS = 5.0
"""Seconds until mail that is due, and could not be taken, is tried again unless something changes."""
LATER = 0.01
"""Seconds that the worker leaves a change to those who wait for an answer, before it looks for mail to send."""
COPY_FOR = 86_400.0
"""Seconds for which a copy in Sent is still tried."""


class Delivery(Attempting):
    """The half of the Outbox that submits."""

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
        hold = Hold(held[0], started + self._lease)
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
        holds: list[Hold] = []
        errors: list[Exception] = []
        working: set[asyncio.Task[None]] = set()
        begun = Begun(AHEAD * self.submitter.connections)
        asked = cancellations()
        extra = False
        async with TaskGroup() as group:
            while len(holds) < limit and not errors:
                started = self._monotonic()
                wanted = min(limit - len(holds), CLAIM * self.submitter.connections)
                try:
                    rows, _ = await self._claim(limit=wanted)
                except Exception as exc:  # noqa: BLE001 - raised below
                    heed_cancellation(asked)
                    if not (extra and isinstance(exc, StoreError)):
                        errors.append(exc)
                        break
                    rows = []  # it was one look more than those on their way need
                if not (rows or working):
                    break
                taken = [Hold(row, started + self._lease, begun=begun) for row in rows]
                holds += taken
                begun.to_come(len(taken))
                if taken:
                    working.add(group.create_task(self._work_on(taken, errors)))
                if len(taken) == wanted:
                    await begun.nearly_all.wait()
                    extra = False
                else:  # nothing else is due, as long as none of these is again, and no other comes
                    extra = bool((await asyncio.wait(working, timeout=AGAIN))[1])
                working = {task for task in working if not task.done()}
                if any(h.error is not None for h in holds):
                    break  # no server: the rest would only fail the same way
        if errors:
            raise errors[0]
        return [h.row.id for h in holds]

    async def _work_on(self, holds: Sequence[Hold], errors: list[Exception]) -> None:
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

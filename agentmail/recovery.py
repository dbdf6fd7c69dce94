"""After a crash, a lost reply, a bounce: what became of it? Evidence first, and only then again.

A row whose worker vanished before the marker was not sent. One with the marker is `unknown`: it is looked for, several
times over two minutes, because copies arrive late. Found is proof. Not found is none, but after the last look the mail
goes again under the same Message-ID, unless it was asked for at most once.

A power cut takes the last commits of SQLite with it, a marker among them. So a claim is on the disk before a body goes,
and what is found in `sending` after the machine started anew counts as marked, whether its marker is there or not.
The same holds for PostgreSQL after it crashed, which `submissions.notice_crash` sees.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, Protocol

from .errors import ServerError
from .store import submissions, tallies
from .store.boot import boot
from .store.database import Tx, database_now
from .store.events import append_event
from .store.reading import number
from .store.submissions import Submission
from .supervision import Supervision, note

log = logging.getLogger(__name__)

BOOT = boot()
"""Since when this machine runs; None where it does not tell."""

LOOKS = (0.0, 30.0, 30.0, 60.0)
"""Seconds before each look for a message whose fate is unknown: the Sent copy may lag behind by two minutes."""


class Evidence(Protocol):
    """The receiving side, asked what became of a message. `MailSync` is one."""

    async def find_sent(self, message_id: str) -> bool:
        """Whether the message lies in Sent, or as a copy to ourselves. Raises ServerError when it cannot look."""
        ...

    async def file_sent(self, raw: bytes, message_id: str) -> object:
        """Put a copy into Sent, unless the provider does so itself or it lies there already."""
        ...


class Recovery(Supervision):
    """The half of the Outbox that cleans up after workers that are gone."""

    evidence: Evidence | None
    _lease: float
    _looks: Sequence[float]
    _noticed = False

    async def _notice_power_cut(self) -> None:
        """Before the first claim: what an earlier run of the machine was sending may have been sent."""
        if self._noticed or BOOT is None or not self.store.db.sqlite:
            return
        boot = BOOT
        await self.store.db.run(lambda tx: submissions.distrust(tx, boot))
        self._noticed = True

    async def _take_bounces(self) -> None:
        """Bounces that arrived since the last look. One about mail that is still being sent is looked at again: it was
        faster than the end of the attempt, or proves what a worker sent that died.
        """

        async def work(tx: Tx) -> None:
            found, newest = await tallies.new_bounces(tx, self.account.key)
            taken = newest
            for message in found:
                sent = await self.take_bounce(tx, message)
                if sent is not None and sent.state == "sending":
                    taken = min(taken, number(str(message.id), "m") - 1)
            if newest:
                await tallies.bounces_taken(tx, self.account.key, taken)

        await self.store.db.run(work)

    async def _recover(self) -> None:
        """Rows whose worker vanished, and rows that waited for too long."""

        async def work(tx: Tx) -> None:
            await submissions.notice_crash(tx)
            now = await database_now(tx)
            for whose, cause in await tallies.lift_ended(tx, self.account.key, now=now):
                await append_event(tx, "account.resumed", account=whose, at=now, data={"cause": cause})
            _, lost = await submissions.take_abandoned(tx, self.account.key, now=now)
            expired = await submissions.take_expired(tx, self.account.key, now=now)
            for row in await submissions.read(tx, [*lost, *expired]):
                failed = [r.address for r in row.recipients if r.state == "failed"]
                await note(tx, row, row.state, now, expired=row.id in expired or None, failed=failed)

        await self.store.db.run(work)

    async def _look(self) -> None:
        """Look for what may have been sent. Found: it was. Not found, again and again: it goes once more, unchanged.

        One at a time: a slow mailbox must not hold many rows for longer than their leases.
        """

        async def take(tx: Tx) -> tuple[Submission | None, bool]:
            now = await database_now(tx)
            rows = await submissions.take_unknown(tx, self.account.key, now=now, again=self._lease, limit=1)
            return (rows[0], await submissions.has_copy(tx, rows[0].message)) if rows else (None, False)

        for _ in range(100):
            row, seen = await self.store.db.run(take)
            if row is None:
                return
            # A copy of an earlier attempt proves nothing about the recipients of this one.
            partly = any(r.state in {"sent", "bounced"} for r in row.recipients)
            found = None if partly else seen or await self._found(row)
            await self.store.db.run(lambda tx, r=row, f=found, p=partly: self._looked(tx, r, f, partly=p))  # type: ignore[misc]

    async def _found(self, row: Submission) -> bool | None:
        if self.evidence is None:
            return None
        try:
            return await self.evidence.find_sent(row.message_id)
        except ServerError as exc:
            log.info("submission o%d: cannot look for it: %s", row.id, exc)
            return None

    async def _looked(self, tx: Tx, row: Submission, found: bool | None, *, partly: bool) -> None:
        now = await database_now(tx)
        if found:
            await self._was_sent(tx, row, now, evidence="found on the server")
            return
        if found is None and self.evidence is not None and not partly:
            await submissions.change(tx, row.id, states=["unknown"], epoch=row.epoch, next_at=now + 60.0)
            return
        looks = row.looks + 1
        if found is False and looks < len(self._looks):
            values = {"looks": looks, "next_at": now + self._looks[looks]}
            await submissions.change(tx, row.id, states=["unknown"], epoch=row.epoch, **values)
        elif found is False and not row.at_most_once:
            again = f"{row.error}; not found in Sent, so it goes again under the same Message-ID"[:1000]
            await submissions.change(
                tx, row.id, states=["unknown"], epoch=row.epoch, state="queued", next_at=now, marker_at=None,
                looks=0, error=again,
            )  # fmt: skip
        else:
            over: dict[str, Any] = {"looks": looks, "next_at": None}
            if await submissions.change(tx, row.id, states=["unknown"], epoch=row.epoch, **over):
                await note(tx, row, "unknown", now, needs="a person")

"""What filing means for agents: new mail asks for attention, an answer by hand settles it, merges carry it along."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select, update

from ..threads.models import Filed
from . import claims, timers
from .arrivals import Prepared
from .changes import announce
from .database import Tx, clock_sql, virtual_now
from .direct import Statement, among, listed
from .tables.threads import THREAD

_NOW = Statement(lambda postgres: select(clock_sql("postgresql" if postgres else "sqlite")))
_REOPENED = Statement(
    lambda postgres: update(THREAD)
    .where(among(THREAD.c.id, "threads", postgres=postgres), THREAD.c.status == "done")
    .values(status="open")
)


async def after_filing(tx: Tx, account: str, filed: Sequence[tuple[Prepared, Filed | None]], *, now: float) -> None:
    """Part of the filing transaction of an account's mail. History asks for nothing; archives never come here."""
    wants: dict[int, int] = {}
    people: set[int] = set()
    by_hand: set[int] = set()
    told = False
    for prepared, result in filed:
        if result is None or not result.new:
            continue
        thread, message, arrival = int(result.thread[1:]), int(result.id[1:]), prepared.arrival
        told = True
        if result.absorbed:
            await claims.merge(tx, thread, [int(t[1:]) for t in result.absorbed])
        if prepared.row["outgoing"]:
            if arrival.location is not None:  # it came out of Sent and not out of our outbox: a person wrote it
                by_hand.add(thread)
        elif arrival.fresh:
            wants[thread] = max(message, wants.get(thread, 0))
            if timers.answers(arrival.message.automated):
                people.add(thread)
    if wants:
        now = virtual_now(tx) or (await _NOW.run(tx)).value
        await claims.arrived(tx, account, wants, now=now)
        # What was done is open again when somebody writes.
        await _REOPENED.run(tx, threads=listed(tx, sorted(wants)))
    if people:
        await timers.cancel(tx, people)
    if by_hand:
        await timers.cancel(tx, by_hand, kind="follow-up")  # a person has taken it up: ours would come on top
    if by_hand - set(wants):
        await claims.answered_by_hand(tx, by_hand - set(wants))
    if told:
        await announce(tx)

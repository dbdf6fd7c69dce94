"""What filing means for agents: new mail asks for attention, an answer by hand settles it, merges carry it along."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import func, select, update

from ..threads.models import Filed
from . import claims, timers, wanting
from .arrivals import Prepared
from .changes import announce
from .database import Tx, clock_sql, database_now, virtual_now
from .direct import Statement, among, listed
from .tables.threads import MESSAGE, THREAD

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
        if prepared.row["outgoing"]:
            if arrival.location is not None:  # it came out of Sent and not out of our outbox: a person wrote it
                by_hand.add(thread)
        elif arrival.fresh:
            wants[thread] = max(message, wants.get(thread, 0))
            if timers.answers(arrival.message.automated):
                people.add(thread)
    if wants:
        now = virtual_now(tx) or (await _NOW.run(tx)).value
        await wanting.arrived(tx, account, wants, now=now)
        # What was done is open again when somebody writes.
        await _REOPENED.run(tx, threads=listed(tx, sorted(wants)))
    if people:
        await timers.cancel(tx, people)
    if by_hand:
        await timers.cancel(tx, by_hand, kind="follow-up")  # a person has taken it up: ours would come on top
    if by_hand - set(wants):
        await wanting.answered_by_hand(tx, by_hand - set(wants))
    if told:
        await announce(tx)


async def joined(tx: Tx, account: str, thread: int, others: Sequence[int]) -> None:
    """These threads are shown in that one from now on, by whatever way: whoever takes it takes them too."""
    if account:
        await wanting.merge(tx, thread, others)


async def parted(tx: Tx, account: str, thread: int, was: int) -> None:
    """A thread is shown by itself again: what nobody has looked at while it was part of `was` is its own to ask for."""
    newest = select(func.max(MESSAGE.c.id)).where(
        MESSAGE.c.cluster == thread, ~MESSAGE.c.outgoing, MESSAGE.c.fresh
    )  # fmt: skip
    message = await tx.scalar(newest) if account else None
    done = await tx.scalar(select(claims.work.c.done).where(claims.work.c.thread == was)) if message else None
    if message is not None and done is not None and done < message:
        await wanting.arrived(tx, account, {thread: message}, now=await database_now(tx))

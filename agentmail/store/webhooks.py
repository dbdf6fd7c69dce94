"""Rows of webhooks: who delivers, how often the next event was tried, and when again. The place is a cursor."""

from __future__ import annotations

from dataclasses import dataclass, replace

from sqlalchemy import or_, select, update
from sqlalchemy.dialects import postgresql, sqlite

from . import log
from .database import Tx, database_now
from .tables.turns import WebhookRow

webhook = WebhookRow.__table__  # type: ignore[attr-defined]


@dataclass(frozen=True, slots=True)
class Standing:
    """An endpoint that this process delivers to, as long as nobody took it over (`epoch`)."""

    name: str
    epoch: int
    seq: int
    """Everything up to here was handled."""
    attempts: int
    wait: float
    """Seconds until the next attempt may be made."""
    gone: bool

    def at(self, seq: int) -> Standing:
        return replace(self, seq=seq, attempts=0, wait=0.0)


@dataclass(frozen=True, slots=True)
class Look:
    """How an endpoint stands, read without writing."""

    seq: int
    wait: float
    gone: bool
    elsewhere: bool
    """Another process delivers to it."""


async def introduce(tx: Tx, name: str) -> None:
    """A new endpoint begins behind what has happened so far."""
    dialect = sqlite if tx.dialect.name == "sqlite" else postgresql
    new = dialect.insert(webhook).values(
        name=name, holder="", epoch=0, lease_until=0.0, attempts=0, next_at=0.0, gone=0, error=""
    )
    if (await tx.execute(new.on_conflict_do_nothing().returning(webhook.c.name))).first() is not None:
        await log.start_cursor(tx, _cursor(name), await log.last_seq(tx))


async def look(tx: Tx, name: str, holder: str) -> Look:
    """How it stands. Looking first keeps an idle process from writing, which wakes the others."""
    row = (await tx.execute(select(webhook).where(webhook.c.name == name))).one()
    now = await database_now(tx)
    elsewhere = row.holder != holder and row.lease_until > now
    return Look(await log.read_cursor(tx, _cursor(name)), max(0.0, row.next_at - now), bool(row.gone), elsewhere)


async def take(tx: Tx, name: str, holder: str, *, lease: float, again: bool) -> Standing | None:
    """Take the endpoint, or keep it; None while another process has it.

    `again`: this process had it before. One that has just started tries an endpoint that said it was gone once more.
    """
    now = await database_now(tx)
    row = (
        await tx.execute(
            update(webhook)
            .where(webhook.c.name == name, or_(webhook.c.holder == holder, webhook.c.lease_until <= now))
            .values(holder=holder, lease_until=now + lease, epoch=webhook.c.epoch + 1,
                    gone=webhook.c.gone if again else 0)
            .returning(webhook.c.epoch, webhook.c.attempts, webhook.c.next_at, webhook.c.gone)
        )
    ).one_or_none()  # fmt: skip
    if row is None:
        return None
    seq = await log.read_cursor(tx, _cursor(name))
    return Standing(name, row.epoch, seq, row.attempts, max(0.0, row.next_at - now), bool(row.gone))


async def moved(tx: Tx, standing: Standing, *, lease: float, error: str = "") -> bool:
    """Everything up to `standing.seq` is handled; False, and nothing written, when another process took over."""
    now = await database_now(tx)
    kept = await tx.execute(
        update(webhook)
        .where(webhook.c.name == standing.name, webhook.c.epoch == standing.epoch)
        .values(attempts=0, next_at=0.0, lease_until=now + lease, error=error[:500])
        .returning(webhook.c.name)
    )
    if kept.first() is None:
        return False
    await log.move_cursor(tx, _cursor(standing.name), standing.seq)
    return True


async def failed(tx: Tx, standing: Standing, *, attempts: int, next_at: float, error: str, gone: bool) -> None:
    """The next event was not taken. What was handled before it stays handled."""
    kept = await tx.execute(
        update(webhook)
        .where(webhook.c.name == standing.name, webhook.c.epoch == standing.epoch)
        .values(attempts=attempts, next_at=next_at, error=error[:500], gone=int(gone))
        .returning(webhook.c.name)
    )
    if kept.first() is not None:
        await log.move_cursor(tx, _cursor(standing.name), standing.seq)


async def release(tx: Tx, holder: str) -> None:
    """This process ends: the next one need not wait for its leases."""
    await tx.execute(update(webhook).where(webhook.c.holder == holder).values(holder="", lease_until=0.0))


async def errors(tx: Tx) -> dict[str, str]:
    """What the last attempt at each endpoint that fails came to."""
    return {r.name: r.error for r in await tx.execute(select(webhook.c.name, webhook.c.error)) if r.error}


def _cursor(name: str) -> str:
    return f"webhook {name}"

"""Who holds an id. A few holders are one value in the row of the id, which filing locks and rewrites in any case.

Strangers may name one id as often as they like. A list that grows with each of them would be written anew for each,
their number squared in bytes; so beyond `MANY` holders each is a row of its own, and only what changed is written.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Final, TypeVar

from sqlalchemy import Select, bindparam, delete, select

from ..threads.placement import Hold
from .bulk import Insert
from .database import Tx
from .direct import Statement, among, listed
from .tables.threads import HOLDER, IDENT

T = TypeVar("T")

MANY = 32
"""Holders of one id: above it they are rows of their own."""
_CHUNK = 2_000
"""Values in one list; a parameter may be large, but a statement should not take for ever."""
_IN_ROWS: Final = ""
"""In place of the list, in the row of an id that has many holders."""


def _named(postgres: bool) -> Select[Any]:
    return select(IDENT.c.key, IDENT.c.holders).where(
        IDENT.c.account == bindparam("account"), among(IDENT.c.key, "keys", postgres=postgres)
    )


def _locked(postgres: bool) -> Select[Any]:
    """Rows that stay as they are until the commit, locked in one order. SQLite's BEGIN IMMEDIATE locks everything."""
    return _named(postgres).order_by(IDENT.c.key).with_for_update() if postgres else _named(postgres)


_READ = Statement(_named)
_READ_LOCKED = Statement(_locked)
_ROWS = Statement(
    lambda postgres: select(HOLDER.c.key, HOLDER.c.thread, HOLDER.c.role, HOLDER.c.voucher).where(
        HOLDER.c.account == bindparam("account"), among(HOLDER.c.key, "keys", postgres=postgres)
    )
)
_GONE = Statement(
    lambda _: delete(HOLDER).where(HOLDER.c.account == bindparam("account"), HOLDER.c.key == bindparam("key"))
)
_ONE_GONE = Statement(
    lambda _: delete(HOLDER).where(
        HOLDER.c.account == bindparam("account"), HOLDER.c.key == bindparam("key"),
        HOLDER.c.thread == bindparam("which"), HOLDER.c.role == bindparam("as_"),
        HOLDER.c.voucher == bindparam("spoken"),
    )
)  # fmt: skip
_IDENTS = Insert(IDENT, after="ON CONFLICT (account, key) DO UPDATE SET holders = excluded.holders")
_HOLDERS = Insert(HOLDER, [c for c in HOLDER.c if c.name != "id"])


class Held(dict[str, frozenset[Hold]]):
    """Id -> its holders, as they stand in the database."""

    def __init__(self) -> None:
        super().__init__()
        self.in_rows: set[str] = set()
        """Ids whose holders have rows of their own."""


async def read(tx: Tx, account: str, keys: Iterable[str], *, lock: bool = False) -> Held:
    """The holders of those of these ids that have a row. `lock`: they stay as they are until the commit."""
    found = Held()
    many: dict[str, list[Hold]] = {}
    named = _READ_LOCKED if lock else _READ
    for some in chunks(sorted(keys)):
        for key, holds in (await named.run(tx, account=account, keys=listed(tx, some))).rows:
            if holds == _IN_ROWS:
                many[key] = []
            else:
                found[key] = frozenset(Hold(*h) for h in json.loads(holds))
    for some in chunks(list(many)):
        for key, thread, role, voucher in (await _ROWS.run(tx, account=account, keys=listed(tx, some))).rows:
            many[key].append(Hold(thread, role, voucher))
    found.update((key, frozenset(holds)) for key, holds in many.items())
    found.in_rows = set(many)
    return found


async def write(tx: Tx, account: str, before: Held, after: Mapping[str, Collection[Hold]]) -> None:
    """Write who holds each id of `after`; `before` is what `read` gave, under the lock that is still held."""
    idents: list[tuple[Any, ...]] = []
    rows: list[tuple[Any, ...]] = []
    gone: list[dict[str, Any]] = []
    for key, now in after.items():
        was, new = set(before.get(key, ())), set(now)
        if len(new) <= MANY:
            idents.append((account, key, json.dumps(sorted(new))))
            if key in before.in_rows:
                await _GONE.run(tx, account=account, key=key)
            continue
        if key not in before.in_rows:
            idents.append((account, key, _IN_ROWS))
            was = set()
        rows += ((account, key, *hold) for hold in sorted(new - was))
        gone += (
            {"account": account, "key": key, "which": hold.thread, "as_": hold.role, "spoken": hold.voucher}
            for hold in sorted(was - new)
        )
    await _IDENTS.rows(tx, idents)
    await _ONE_GONE.many(tx, gone)
    await _HOLDERS.rows(tx, rows)


def chunks(values: Sequence[T]) -> Iterable[Sequence[T]]:
    """Pieces of a list that fit into one statement."""
    for start in range(0, len(values), _CHUNK):
        yield values[start : start + _CHUNK]

"""Rows in bulk: tuples for the driver's own executemany, past SQLAlchemy's work on each value of each row.

A message is about ten rows. Naming and converting their values one by one was a fifth of what filing cost. The tables
stay the schema: columns are Core's, and a statement is written once per database.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

from sqlalchemy import Column, Table, text

from . import direct
from .database import Tx
from .direct import Statement


class Insert:
    """`INSERT` of these columns, all of a table's by default.

    Trap: values go to the driver as they are. JSON must be text already, an enumeration its word.

    Args:
        after: What stands behind the values, such as `ON CONFLICT DO NOTHING`.
    """

    def __init__(self, table: Table, columns: Sequence[Column[Any]] | None = None, *, after: str = "") -> None:
        self.columns = [c.name for c in (table.c if columns is None else columns)]
        self._into = f'INSERT INTO "{table.name}" ({", ".join(self.columns)}) VALUES'
        self._after = after

    @cached_property
    def _sqlite(self) -> str:
        return f"{self._into} ({', '.join('?' * len(self.columns))}) {self._after}"

    @cached_property
    def _postgresql(self) -> str:
        marks = ", ".join(f"${n}" for n in range(1, len(self.columns) + 1))
        return f"{self._into} ({marks}) {self._after}"

    async def rows(self, tx: Tx, rows: Sequence[tuple[Any, ...]]) -> None:
        """Write rows, each a tuple of the columns' values in their order."""
        await direct.rows(tx, self._sqlite if tx.dialect.name == "sqlite" else self._postgresql, rows)

    async def dicts(self, tx: Tx, rows: Sequence[dict[str, Any]]) -> None:
        """The same for rows by the names of their columns."""
        await self.rows(tx, [tuple(map(row.__getitem__, self.columns)) for row in rows])


async def next_ids(tx: Tx, table: str, count: int) -> list[int]:
    """Numbers for new rows, known before they are written. A number is never used again, even after a delete."""
    if not count:
        return []
    if tx.dialect.name != "sqlite":
        return [n for (n,) in (await _NUMBERS.run(tx, name=table, count=count)).rows]
    last = (await _NUMBERS.run(tx, name=table)).value
    return list(range(last + 1, last + 1 + count))


_NUMBERS = Statement(
    lambda postgres: text(
        "SELECT nextval(pg_get_serial_sequence(:name, 'id')) FROM generate_series(1, :count)" if postgres
        # Under BEGIN IMMEDIATE nobody else counts; the insert that follows moves sqlite_sequence on.
        else "SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = :name), 0)"
    )
)  # fmt: skip

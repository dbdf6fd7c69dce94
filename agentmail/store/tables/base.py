"""What every row class is made from: the class below them, and the columns that recur.

Foreign keys are called by the table they lead to, because `message_id` is a header value in this house.
"""

from __future__ import annotations

from typing import Any, cast

from sqlalchemy import BigInteger, Column, Double, ForeignKey, Integer, Table, Text
from sqlalchemy.orm import registry
from sqlmodel import Field, SQLModel


class Row(SQLModel, registry=registry()):
    """A row class of ours.

    On a metadata of our own: a program with SQLModel classes of its own may call a table of them `thread`, and its
    `SQLModel.metadata.create_all()` must not make ours.
    Validators are built when they are asked for, which is never: rows are written and read by SQLAlchemy Core.
    """

    model_config = {"defer_build": True}


BIG = BigInteger().with_variant(Integer, "sqlite")
"""64 bits on both; SQLite only counts up by itself in a column that is called INTEGER."""


def core(row: type[Row]) -> Table:
    """The table behind a row class, for SQLAlchemy Core: the hot path builds no objects."""
    return cast(Table, row.__table__)  # type: ignore[attr-defined]


def row_id() -> Any:
    return Field(default=None, sa_column=Column(BIG, primary_key=True, autoincrement=True))


def time(*, nullable: bool = True) -> Any:
    """Seconds since the epoch, UTC."""
    return Field(default=None, sa_column=Column(Double, nullable=nullable))


def to(table: str, *, nullable: bool = False, primary_key: bool = False) -> Any:
    column = Column(BIG, ForeignKey(f"{table}.id"), nullable=nullable, primary_key=primary_key, autoincrement=False)
    return Field(default=None, sa_column=column)


def words(*, nullable: bool = False) -> Any:
    return Field(default=None if nullable else "", sa_column=Column(Text, nullable=nullable))

"""The row classes leave the programs alone that have some of their own."""

from __future__ import annotations

from typing import ClassVar

from sqlmodel import Field, SQLModel

from agentmail.store.tables import metadata


def test_a_program_may_have_tables_of_the_same_names() -> None:
    class ThreadRow(SQLModel, table=True):
        __tablename__: ClassVar[str] = "thread"
        id: int | None = Field(default=None, primary_key=True)

    assert "thread" in metadata.tables
    assert set(SQLModel.metadata.tables) == {"thread"}  # and create_all() makes none of ours
    assert [c.name for c in SQLModel.metadata.tables["thread"].columns] == ["id"]
    SQLModel.metadata.clear()

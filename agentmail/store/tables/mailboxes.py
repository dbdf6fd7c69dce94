"""How far each mailbox has been read."""

from __future__ import annotations

from typing import ClassVar

from sqlalchemy import BigInteger, Column, Double, Text
from sqlmodel import Field, SQLModel


class PositionRow(SQLModel, table=True):
    """The read position of one mailbox: commits together with the messages it stands behind."""

    __tablename__: ClassVar[str] = "position"

    account: str = Field(sa_column=Column(Text, primary_key=True))
    mailbox: str = Field(sa_column=Column(Text, primary_key=True))
    uidvalidity: int = Field(sa_column=Column(BigInteger, nullable=False))
    uid: int = Field(default=0, sa_column=Column(BigInteger, nullable=False))
    """Every uid up to here was looked at."""
    begun_at: float = Field(default=0.0, sa_column=Column(Double, nullable=False))
    """When this mailbox was first synced: what is older is history."""

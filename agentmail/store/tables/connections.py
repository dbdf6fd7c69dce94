"""What an account may use of its server: connections, bytes a day; and what Gmail says about its messages."""

from __future__ import annotations

from typing import ClassVar

from sqlalchemy import JSON, BigInteger, Column, Double, Index, Integer, Text
from sqlmodel import Field

from .base import Row, to


class SlotRow(Row, table=True):
    """One of the few connections that all processes together may have to an account's server."""

    __tablename__: ClassVar[str] = "slot"

    account: str = Field(sa_column=Column(Text, primary_key=True))
    number: int = Field(sa_column=Column(Integer, primary_key=True, autoincrement=False))
    holder: str = Field(default="", sa_column=Column(Text, nullable=False))
    """The process; empty when it is free."""
    until: float = Field(default=0.0, sa_column=Column(Double, nullable=False))
    """Another one may take it after this, by the database's clock."""


class TrafficRow(Row, table=True):
    """Bytes of mail that were fetched on a day (UTC)."""

    __tablename__: ClassVar[str] = "traffic"

    account: str = Field(sa_column=Column(Text, primary_key=True))
    day: str = Field(sa_column=Column(Text, primary_key=True))
    fetched: int = Field(default=0, sa_column=Column(BigInteger, nullable=False))


class GmailRow(Row, table=True):
    """Gmail's own name for a message, the same in all its mailboxes, and its labels."""

    __tablename__: ClassVar[str] = "gmail"
    __table_args__ = (Index("gmail_message", "message"),)

    account: str = Field(sa_column=Column(Text, primary_key=True))
    msgid: str = Field(sa_column=Column(Text, primary_key=True))
    """X-GM-MSGID, in hexadecimal: it has 64 bits without a sign, which no database keeps as a number."""
    thrid: str = Field(default="", sa_column=Column(Text, nullable=False))
    """X-GM-THRID: Gmail's idea of the thread. Kept beside ours, never used for it."""
    labels: list[str] = Field(sa_column=Column(JSON, nullable=False))
    message: int = to("message")

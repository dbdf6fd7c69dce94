"""Which agent name has been handed which message."""

from __future__ import annotations

from typing import ClassVar

from sqlalchemy import Column, ForeignKey, Index, Text
from sqlmodel import Field

from .base import BIG, Row


class ReceiptRow(Row, table=True):
    """One message was handed to one agent name. The primary key is the promise that it happens once."""

    __tablename__: ClassVar[str] = "receipt"
    # Deleting a message must find its receipts without reading them all.
    __table_args__ = (Index("receipt_message", "message"),)

    agent: str = Field(sa_column=Column(Text, primary_key=True))
    message: int = Field(
        sa_column=Column(BIG, ForeignKey("message.id", ondelete="CASCADE"), primary_key=True, autoincrement=False)
    )


class ReceiptMarkRow(Row, table=True):
    """Every message up to `low` was handed to this agent name: what keeps `receive` constant in the store's size."""

    __tablename__: ClassVar[str] = "receipt_mark"

    agent: str = Field(sa_column=Column(Text, primary_key=True))
    account: str = Field(sa_column=Column(Text, primary_key=True))
    low: int = Field(default=0, sa_column=Column(BIG, nullable=False))

"""How far each mailbox is read, who watches it, and what could not be fetched."""

from __future__ import annotations

from typing import ClassVar

from sqlalchemy import JSON, BigInteger, Boolean, Column, Double, Integer, Text
from sqlmodel import Field

from .base import Row


class MailboxRow(Row, table=True):
    """The position in one mailbox. Its uids mean something under its uidvalidity only (RFC 9051 2.3.1.1)."""

    __tablename__: ClassVar[str] = "mailbox"

    account: str = Field(sa_column=Column(Text, primary_key=True))
    name: str = Field(sa_column=Column(Text, primary_key=True))
    uidvalidity: int = Field(default=0, sa_column=Column(BigInteger, nullable=False))
    floor: int = Field(default=0, sa_column=Column(BigInteger, nullable=False))
    """Uids up to here are left on the server: they were there before we came, and nobody asked for them."""
    history: int = Field(default=0, sa_column=Column(BigInteger, nullable=False))
    """Uids up to here were there before we came: not news."""
    low: int = Field(default=0, sa_column=Column(BigInteger, nullable=False))
    """Every uid up to here that we have ever been shown is filed or accounted for."""
    uidnext: int = Field(default=0, sa_column=Column(BigInteger, nullable=False))
    modseq: int | None = Field(default=None, sa_column=Column(BigInteger, nullable=True))
    messages: int = Field(default=0, sa_column=Column(Integer, nullable=False))
    first_at: float = Field(default=0.0, sa_column=Column(Double, nullable=False))
    """When we first looked; under a new uidvalidity, when we last looked under the old one."""
    synced_at: float = Field(default=0.0, sa_column=Column(Double, nullable=False))
    reconciled_at: float = Field(default=0.0, sa_column=Column(Double, nullable=False))
    """When the whole list of uids was compared last."""
    resets: list[float] = Field(sa_column=Column(JSON, nullable=False))
    """When uidvalidity changed, in the last 24 hours."""
    parked_until: float = Field(default=0.0, sa_column=Column(Double, nullable=False))
    failures: int = Field(default=0, sa_column=Column(Integer, nullable=False))
    error: str = Field(default="", sa_column=Column(Text, nullable=False))
    holder: str = Field(default="", sa_column=Column(Text, nullable=False))
    """The process that watches it."""
    lease_until: float = Field(default=0.0, sa_column=Column(Double, nullable=False))
    epoch: int = Field(default=0, sa_column=Column(BigInteger, nullable=False))
    """Rises with every change of the holder; a write that names an older one is refused."""


class SkippedRow(Row, table=True):
    """A uid that is on the server and not in the store, with the reason."""

    __tablename__: ClassVar[str] = "skipped"

    account: str = Field(sa_column=Column(Text, primary_key=True))
    mailbox: str = Field(sa_column=Column(Text, primary_key=True))
    uidvalidity: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))
    uid: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))
    attempts: int = Field(default=1, sa_column=Column(Integer, nullable=False))
    settled: bool = Field(default=False, sa_column=Column(Boolean, nullable=False))
    """It is not asked for any more, until the next reconcile."""
    reason: str = Field(default="", sa_column=Column(Text, nullable=False))
    at: float = Field(default=0.0, sa_column=Column(Double, nullable=False))


class DepartedRow(Row, table=True):
    """A location that is not there any more: expunged, or moved. The location itself stays true for ever."""

    __tablename__: ClassVar[str] = "departed"

    account: str = Field(sa_column=Column(Text, primary_key=True))
    mailbox: str = Field(sa_column=Column(Text, primary_key=True))
    uidvalidity: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))
    uid: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))
    at: float = Field(default=0.0, sa_column=Column(Double, nullable=False))


class ConnectivityRow(Row, table=True):
    """Whether an account's server lets us in: shared by all processes, so that together they try once."""

    __tablename__: ClassVar[str] = "connectivity"

    account: str = Field(sa_column=Column(Text, primary_key=True))
    state: str = Field(default="ok", sa_column=Column(Text, nullable=False))
    """ok, unreachable, throttled, refused, needs_auth"""
    failures: int = Field(default=0, sa_column=Column(Integer, nullable=False))
    until: float = Field(default=0.0, sa_column=Column(Double, nullable=False))
    """No connection before this."""
    secret: str = Field(default="", sa_column=Column(Text, nullable=False))
    """A keyed digest of the credentials that were refused: other ones may be tried at once."""
    error: str = Field(default="", sa_column=Column(Text, nullable=False))
    at: float = Field(default=0.0, sa_column=Column(Double, nullable=False))

"""The tables of threads and messages. Rows stay inside `store/`; values come out.

A *thread* row stands for one cluster: messages that belong together by their ids. `merged_into` is for ever,
`attached_to` (the guarded subject rule) may be taken back; `message.thread` already names the row that both lead to.
Times are seconds since the epoch, UTC.
"""

from __future__ import annotations

from typing import Any, ClassVar

from sqlalchemy import JSON, BigInteger, Column, Index, Integer, LargeBinary, Text, text
from sqlmodel import Field

from .base import BIG, Row, core, row_id, time, to, words

HEADLESS = text("message.headless")
"""What the indexes of answers that only a subject can place hold. A query says it in these words: SQLAlchemy writes a
boolean column as `headless = 1` for SQLite, which then does not see that an index on `headless` would do."""
WITH_SUBJECT = text("message.subject_key <> ''")
"""What the index of subjects holds. With a parameter for the subject SQLite cannot know that it is not empty, and went
through all messages of the account."""
_SHOWN = text("merged_into IS NULL AND attached_to IS NULL")


class InfoRow(Row, table=True):
    """Facts about the store itself: its secret."""

    __tablename__: ClassVar[str] = "info"

    name: str = Field(sa_column=Column(Text, primary_key=True))
    value: str = words()


class AccountRow(Row, table=True):
    """An account that files mail here, and the addresses that count as ourselves."""

    __tablename__: ClassVar[str] = "account"

    key: str = Field(sa_column=Column(Text, primary_key=True))
    """Its address, lower case, the domain in ASCII."""
    own: list[str] = Field(sa_column=Column(JSON, nullable=False))


class ThreadRow(Row, table=True):
    __tablename__: ClassVar[str] = "thread"
    __table_args__ = (
        # Pages of threads, newest first (keyset paging); hidden rows are not in them.
        Index("thread_page", "last_at", "id", sqlite_where=_SHOWN, postgresql_where=_SHOWN),
        Index("thread_page_account", "account", "last_at", "id", sqlite_where=_SHOWN, postgresql_where=_SHOWN),
        Index("thread_page_status", "account", "status", "last_at", "id", sqlite_where=_SHOWN, postgresql_where=_SHOWN),
        Index("thread_page_of_status", "status", "last_at", "id", sqlite_where=_SHOWN, postgresql_where=_SHOWN),
        Index("thread_merged", "merged_into",
              sqlite_where=text("merged_into IS NOT NULL"), postgresql_where=text("merged_into IS NOT NULL")),
        Index("thread_attached", "attached_to",
              sqlite_where=text("attached_to IS NOT NULL"), postgresql_where=text("attached_to IS NOT NULL")),
        {"sqlite_autoincrement": True},
    )  # fmt: skip

    id: int | None = row_id()
    account: str = words()
    """The account's key; empty for an archive that was imported without one."""
    subject: str = words()
    """Of its oldest message."""
    status: str = Field(default="open", sa_column=Column(Text, nullable=False))
    labels: list[str] = Field(sa_column=Column(JSON, nullable=False))
    notes: list[dict[str, Any]] = Field(sa_column=Column(JSON, nullable=False))
    data: dict[str, Any] = Field(sa_column=Column(JSON, nullable=False))
    messages: int = Field(sa_column=Column(Integer, nullable=False))
    """How many messages this cluster holds."""
    first_at: float = time(nullable=False)
    last_at: float = time(nullable=False)
    """The newest message's time: what the page of threads is sorted by."""
    merged_into: int | None = to("thread", nullable=True)
    attached_to: int | None = to("thread", nullable=True)


class MessageRow(Row, table=True):
    __tablename__: ClassVar[str] = "message"
    __table_args__ = (
        Index("message_content", "account", "content_key", unique=True),
        Index("message_own", "account", "own_key", unique=True,
              sqlite_where=text("own_key IS NOT NULL"), postgresql_where=text("own_key IS NOT NULL")),
        Index("message_by_message_id", "message_id_key", "account"),
        Index("message_thread", "thread", "at", "id"),
        Index("message_cluster", "cluster", "at"),
        Index("message_subject", "account", "subject_key", "at",
              sqlite_where=text("subject_key <> ''"), postgresql_where=text("subject_key <> ''")),
        Index("message_headless", "account", "subject_key", "at",
              sqlite_where=text("headless"), postgresql_where=text("headless")),
        Index("message_headless_cluster", "cluster",
              sqlite_where=text("headless"), postgresql_where=text("headless")),
        {"sqlite_autoincrement": True},
    )  # fmt: skip

    id: int | None = row_id()
    account: str = words()
    thread: int = to("thread")
    """Where it is shown."""
    cluster: int = to("thread")
    """Where its ids put it; differs from `thread` only while the subject rule attaches it."""
    message_id: str = words()
    """The header's value, with angle brackets."""
    message_id_key: str = words()
    """The form to compare by; long ones are shortened to a digest, because an index has limits."""
    content_key: str = words()
    own_key: str | None = words(nullable=True)
    """Its Message-ID, when we made it and sent it: the Sent copy is the same message whatever a server did to it."""
    at: float = time(nullable=False)
    """When it was written, as far as we believe its date: the order of the thread."""
    sender: str = words()
    subject_key: str = words()
    answers: int | None = Field(default=None, sa_column=Column(BIG, nullable=True))
    """The message it answers, where we know it better than its headers can say."""
    headless: bool = Field(default=False)
    """It answers something, but none of its ids can say what: the subject rule may place it."""
    outgoing: bool = Field(default=False)
    fresh: bool = Field(default=True)
    """False for what was there before we looked: it is history, not news."""
    variant: bool = Field(default=False)
    """Another message with other content carries the same Message-ID."""
    size: int = Field(default=0, sa_column=Column(Integer, nullable=False))
    parsed: str = words()
    """The Message as JSON, so that reading parses no mail."""


class RawRow(Row, table=True):
    """The bytes as they came. In a table of their own, so that nothing else ever touches them."""

    __tablename__: ClassVar[str] = "raw"

    message: int = to("message", primary_key=True)
    data: bytes = Field(sa_column=Column(LargeBinary, nullable=False))


class AttachmentRow(Row, table=True):
    """Where an attachment is. Its content stays in the raw bytes and is cut out on demand."""

    __tablename__: ClassVar[str] = "attachment"
    __table_args__ = (
        Index("attachment_message", "message", "position", unique=True),
        Index("attachment_size", "size", "id"),
        {"sqlite_autoincrement": True},
    )

    id: int | None = row_id()
    message: int = to("message")
    position: int = Field(sa_column=Column(Integer, nullable=False))
    name: str = words()
    content_type: str = words()
    size: int = Field(default=0, sa_column=Column(Integer, nullable=False))


class LocationRow(Row, table=True):
    """Where a message lies on a server. Once seen it never means another message (RFC 9051 2.3.1.1)."""

    __tablename__: ClassVar[str] = "location"
    __table_args__ = (Index("location_message", "message"),)

    account: str = Field(sa_column=Column(Text, primary_key=True))
    mailbox: str = Field(sa_column=Column(Text, primary_key=True))
    uidvalidity: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))
    uid: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))
    message: int = to("message")
    flags: list[str] = Field(sa_column=Column(JSON, nullable=False))


class IdentRow(Row, table=True):
    """One Message-ID that somebody owns or mentioned, and who holds it. A ghost is a row without an owner.

    It is also the row that filing locks, in sorted order: whoever holds it decides alone what the id joins.
    """

    __tablename__: ClassVar[str] = "ident"

    account: str = Field(sa_column=Column(Text, primary_key=True))
    key: str = Field(sa_column=Column(Text, primary_key=True))
    holders: str = words()
    """JSON: `[[thread, role, voucher], …]`; the words are those of `threads.placement.Hold`. Empty when there are so
    many that they are rows of their own (`store.holders`)."""


class HolderRow(Row, table=True):
    """One of the many holders of an id."""

    __tablename__: ClassVar[str] = "holder"
    __table_args__ = (
        Index("holder_key", "account", "key", "thread"), Index("holder_thread", "thread"),
        {"sqlite_autoincrement": True},
    )  # fmt: skip

    id: int | None = row_id()
    account: str = words()
    key: str = words()
    thread: int = to("thread")
    role: str = words()
    voucher: str = words()


class LabelRow(Row, table=True):
    """A label of a thread, to find the threads by it. `thread.labels` is what is shown."""

    __tablename__: ClassVar[str] = "label"
    __table_args__ = (Index("label_thread", "thread"),)

    folded: str = Field(sa_column=Column(Text, primary_key=True))
    """Without regard to case."""
    thread: int = to("thread", primary_key=True)


class AliasRow(Row, table=True):
    """A further Message-ID that a message is known by: what a provider made of it on the way."""

    __tablename__: ClassVar[str] = "alias"
    __table_args__ = (Index("alias_message", "message"),)

    account: str = Field(sa_column=Column(Text, primary_key=True))
    key: str = Field(sa_column=Column(Text, primary_key=True))
    message: int = to("message", primary_key=True)
    message_id: str = words()


class PersonRow(Row, table=True):
    """Who a thread knows: an address, `@domain`, or `#list-id`."""

    __tablename__: ClassVar[str] = "person"

    thread: int = to("thread", primary_key=True)
    atom: str = Field(sa_column=Column(Text, primary_key=True))
    name: str = words()


class ApartRow(Row, table=True):
    """A thread that was kept out of another one, and what would let it in: `atom` becoming known there.

    Where many hold one id a thread is its own target: that stands for all the others (`filing.CROWD`).
    """

    __tablename__: ClassVar[str] = "apart"
    __table_args__ = (
        Index("apart_target", "target", "atom"),
        Index("apart_claimant", "claimant"),
        Index("apart_key", "account", "key"),
        {"sqlite_autoincrement": True},
    )

    id: int | None = row_id()
    account: str = words()
    target: int = to("thread")
    atom: str = words()
    claimant: int = to("thread")
    key: str = words()
    """The Message-ID both of them hold."""


class QuarantineRow(Row, table=True):
    """Mail that could not be filed, with the reason, so that it neither blocks its batch nor gets lost."""

    __tablename__: ClassVar[str] = "quarantine"
    __table_args__ = (Index("quarantine_digest", "account", "digest"), {"sqlite_autoincrement": True})

    id: int | None = row_id()
    account: str = words()
    reason: str = words()
    arrival: dict[str, Any] = Field(sa_column=Column(JSON, nullable=False))
    """How it arrived: location, flags, fresh, outgoing."""
    attempts: int = Field(default=1, sa_column=Column(Integer, nullable=False))
    at: float = time(nullable=False)
    data: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    digest: str = Field(default="", sa_column=Column(Text, nullable=False, server_default=""))
    """SHA-256 of the bytes: the same mail is put aside once, however often somebody tries. Empty without bytes."""


class EventRow(Row, table=True):
    """What happened, in order: the log that is replayed, never changed."""

    __tablename__: ClassVar[str] = "event"
    __table_args__ = (
        Index("event_message", "message"),
        Index("event_thread", "thread"),
        Index("event_seq", "seq", unique=True),
        Index("event_unpublished", "id", sqlite_where=text("seq IS NULL"), postgresql_where=text("seq IS NULL")),
        {"sqlite_autoincrement": True},
    )

    id: int | None = row_id()
    seq: int | None = Field(default=None, sa_column=Column(BIG, nullable=True))
    """Its place in the log, given when it is first read: see `store.log`."""
    at: float = time(nullable=False)
    kind: str = words()
    thread: int | None = Field(default=None, sa_column=Column(BIG, nullable=True))
    message: int | None = Field(default=None, sa_column=Column(BIG, nullable=True))
    account: str | None = words(nullable=True)
    data: dict[str, Any] | None = Field(default=None, sa_column=Column(JSON, nullable=True))


INFO = core(InfoRow)
ACCOUNT = core(AccountRow)
THREAD = core(ThreadRow)
MESSAGE = core(MessageRow)
RAW = core(RawRow)
ATTACHMENT = core(AttachmentRow)
LOCATION = core(LocationRow)
IDENT = core(IdentRow)
HOLDER = core(HolderRow)
LABEL = core(LabelRow)
ALIAS = core(AliasRow)
PERSON = core(PersonRow)
APART = core(ApartRow)
QUARANTINE = core(QuarantineRow)
EVENT = core(EventRow)

"""The tables of submissions. `outbox.py` draws the states; here is how they are kept.

Times are seconds since the epoch, UTC, by the database's clock. `epoch` fences: whoever claims a row raises it, and
every later write names the epoch it claimed.
"""

from __future__ import annotations

from typing import Any, ClassVar

from sqlalchemy import JSON, Boolean, Column, Double, ForeignKey, Index, Integer, LargeBinary, Text, text
from sqlmodel import Field

from .base import BIG, Row, core, time, words


class SubmissionRow(Row, table=True):
    """One message on its way out. Bytes, Message-ID, envelope and key never change."""

    __tablename__: ClassVar[str] = "submission"
    __table_args__ = (
        Index("submission_key", "account", "key", unique=True),
        Index("submission_message_id", "account", "message_id", unique=True),
        # One answer to a message, unless somebody asks for another one. NULLs are all different, on both databases.
        Index("submission_answer", "account", "answers", "generation", unique=True),
        Index("submission_due", "account", "next_at",
              sqlite_where=text("state IN ('queued', 'sending', 'unknown')"),
              postgresql_where=text("state IN ('queued', 'sending', 'unknown')")),
        Index("submission_state", "account", "state", "id"),
        Index("submission_created", "account", "created_at"),
        Index("submission_message", "message"),
        # Bounces by the envelope sender that one mail alone had.
        Index("submission_return_tag", "account", "return_tag"),
        {"sqlite_autoincrement": True},
    )  # fmt: skip

    id: int | None = Field(default=None, sa_column=Column(BIG, primary_key=True, autoincrement=True))
    account: str = words()
    state: str = words()
    kind: str = words()
    origin: str = words()
    agent: str = words()
    key: str | None = Field(default=None, sa_column=Column(Text, nullable=True))
    message_id: str = words()
    message: int | None = Field(
        default=None, sa_column=Column(BIG, ForeignKey("message.id", ondelete="SET NULL"), nullable=True)
    )
    """The message as it stands in its thread."""
    answers: int | None = Field(default=None, sa_column=Column(BIG, nullable=True))
    generation: int | None = Field(default=None, sa_column=Column(Integer, nullable=True))
    mail_from: str = words()
    return_tag: str | None = Field(default=None, sa_column=Column(Text, nullable=True))
    """What makes `mail_from` that of this mail alone (VERP); NULL where it is the account's own."""
    subject: str = words()
    size: int = Field(default=0, sa_column=Column(Integer, nullable=False))
    digest: str = words()
    """Of the exact bytes and the envelope: what an approval binds."""
    at_most_once: bool = Field(default=False, sa_column=Column(Boolean, nullable=False))
    reasons: list[dict[str, Any]] = Field(sa_column=Column(JSON, nullable=False))
    """Why it is held."""
    created_at: float = Field(default=0.0, sa_column=Column(Double, nullable=False))
    next_at: float | None = time()
    """queued: when it is due. sending: when the lease ends. unknown: the next look; NULL: a person decides."""
    expires_at: float | None = time()
    attempts: int = Field(default=0, sa_column=Column(Integer, nullable=False))
    epoch: int = Field(default=0, sa_column=Column(BIG, nullable=False))
    marker_at: float | None = time()
    """When the body was about to go. From here on it may have been sent."""
    looks: int = Field(default=0, sa_column=Column(Integer, nullable=False))
    code: int | None = Field(default=None, sa_column=Column(Integer, nullable=True))
    error: str = words()
    reply: str = words()
    """What the server answered to the final dot."""
    sent_at: float | None = time()
    copied: bool = Field(default=False, sa_column=Column(Boolean, nullable=False))
    """A copy lies in the Sent mailbox, or the provider files it by itself."""
    decision: str = words()
    decided_by: str = words()
    decided_at: float | None = time()


class RecipientRow(Row, table=True):
    """One recipient of a submission: `pending`, `sent`, `failed`, `bounced`."""

    __tablename__: ClassVar[str] = "recipient"
    __table_args__ = (Index("recipient_address", "address", "submission"),)

    submission: int = Field(
        sa_column=Column(BIG, ForeignKey("submission.id", ondelete="CASCADE"), primary_key=True, autoincrement=False)
    )
    position: int = Field(sa_column=Column(Integer, primary_key=True, autoincrement=False))
    address: str = words()
    """As it goes into RCPT."""
    state: str = words()
    code: int | None = Field(default=None, sa_column=Column(Integer, nullable=True))
    text: str = words()


class SubmissionBodyRow(Row, table=True):
    """The exact bytes, apart, so that nothing else ever touches them."""

    __tablename__: ClassVar[str] = "submission_body"

    submission: int = Field(
        sa_column=Column(BIG, ForeignKey("submission.id", ondelete="CASCADE"), primary_key=True, autoincrement=False)
    )
    data: bytes = Field(sa_column=Column(LargeBinary, nullable=False))


class PauseRow(Row, table=True):
    """Nothing leaves while a row stands for the account, or for `*`."""

    __tablename__: ClassVar[str] = "pause"

    account: str = Field(sa_column=Column(Text, primary_key=True))
    cause: str = Field(sa_column=Column(Text, primary_key=True))
    """`operator`, `login` or `limit`: each is lifted by itself."""
    reason: str = words()
    by: str = words()
    at: float = Field(default=0.0, sa_column=Column(Double, nullable=False))
    until: float | None = time()


class GrantRow(Row, table=True):
    """An address that program code vouched for: tools may write to it."""

    __tablename__: ClassVar[str] = "granted"

    account: str = Field(sa_column=Column(Text, primary_key=True))
    address: str = Field(sa_column=Column(Text, primary_key=True))
    reason: str = words()
    at: float = Field(default=0.0, sa_column=Column(Double, nullable=False))


SUBMISSION = core(SubmissionRow)
RECIPIENT = core(RecipientRow)
BODY = core(SubmissionBodyRow)
PAUSE = core(PauseRow)
GRANT = core(GrantRow)

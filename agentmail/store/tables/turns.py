"""Which thread needs attention, who holds it, and what comes back later.

Times are seconds since the epoch by the database's clock: the only one that all workers share.
"""

from __future__ import annotations

from typing import ClassVar

from sqlalchemy import Column, Double, ForeignKey, Index, Integer, Text, text
from sqlmodel import Field

from .base import BIG, Row

ACTIVE = text("state <> 'idle'")
"""What the index `work_due` holds. A query says it in these words, or the index is not used."""
STUCK = text("state = 'stuck'")
"""What the index `work_stuck` holds. A query says it in these words."""
NEVER = 1e12
"""`next_at` of a thread that is stuck."""


class WorkRow(Row, table=True):
    """The state of attention of one thread; at most one row a thread, made by the first message that needs a look.

    `next_at` is the one column a claim looks at: when the thread is due (ready), or when its lease ends (claimed).
    """

    __tablename__: ClassVar[str] = "work"
    # Most threads are idle, and cost a claim nothing.
    __table_args__ = (
        Index("work_due", "account", "agent", "next_at", sqlite_where=ACTIVE, postgresql_where=ACTIVE),
        # What waits for somebody, or for nobody any more, in all accounts.
        Index("work_agent", "agent", sqlite_where=ACTIVE, postgresql_where=ACTIVE),
        Index("work_stuck", "thread", sqlite_where=STUCK, postgresql_where=STUCK),
    )

    thread: int = Field(
        sa_column=Column(BIG, ForeignKey("thread.id", ondelete="CASCADE"), primary_key=True, autoincrement=False)
    )
    account: str = Field(default="", sa_column=Column(Text, nullable=False))
    agent: str = Field(default="", sa_column=Column(Text, nullable=False))
    """The agent name it belongs to; empty until it was routed."""
    state: str = Field(default="ready", sa_column=Column(Text, nullable=False))
    """ready, claimed, idle, stuck"""
    reason: str = Field(default="message", sa_column=Column(Text, nullable=False))
    """message, reminder, rsvp, handoff, approval, bounce"""
    note: str = Field(default="", sa_column=Column(Text, nullable=False))
    """What a hand-off or a reminder said."""
    next_at: float = Field(default=0.0, sa_column=Column(Double, nullable=False))
    attempt: int = Field(default=0, sa_column=Column(Integer, nullable=False))
    """How often it was claimed since it was last finished."""
    epoch: int = Field(default=0, sa_column=Column(BIG, nullable=False))
    """Rises with every claim. A write that names an older one is refused."""
    newest: int = Field(default=0, sa_column=Column(BIG, nullable=False))
    """The newest incoming message of the thread."""
    seen: int = Field(default=0, sa_column=Column(BIG, nullable=False))
    """What `newest` was when it was claimed."""
    done: int = Field(default=0, sa_column=Column(BIG, nullable=False))
    """The newest incoming message that its agent has finished with."""
    round: int = Field(default=0, sa_column=Column(BIG, nullable=False))
    """How many turns on it were finished. It names the answers of a turn, so that a turn that runs again has one."""
    woken: int = Field(default=0, sa_column=Column(Integer, nullable=False))
    """1: something other than mail became due while it was claimed; it comes back when that turn ends."""
    error: str = Field(default="", sa_column=Column(Text, nullable=False))
    """Why the last turn was given back."""


class TimerRow(Row, table=True):
    """A thread that comes back at a time, unless somebody answers before."""

    __tablename__: ClassVar[str] = "timer"
    __table_args__ = (
        Index("timer_due", "account", "due_at"),
        Index("timer_thread", "thread"),
        Index("timer_key", "account", "key", unique=True),
        {"sqlite_autoincrement": True},
    )

    id: int | None = Field(default=None, sa_column=Column(BIG, primary_key=True, autoincrement=True))
    thread: int = Field(sa_column=Column(BIG, ForeignKey("thread.id", ondelete="CASCADE"), nullable=False))
    account: str = Field(sa_column=Column(Text, nullable=False))
    agent: str = Field(sa_column=Column(Text, nullable=False))
    due_at: float = Field(sa_column=Column(Double, nullable=False))
    note: str = Field(default="", sa_column=Column(Text, nullable=False))
    kind: str = Field(default="reminder", sa_column=Column(Text, nullable=False))
    """reminder: the thread comes back as a turn. follow-up: `text` is sent."""
    text: str = Field(default="", sa_column=Column(Text, nullable=False))
    origin: str = Field(default="program", sa_column=Column(Text, nullable=False))
    """Who chose the text, for the policy: program, tool."""
    key: str = Field(sa_column=Column(Text, nullable=False))
    """A turn that runs again sets the same timer, and not a second one."""


class CursorRow(Row, table=True):
    """How far a named reader has come in the log."""

    __tablename__: ClassVar[str] = "cursor"

    name: str = Field(sa_column=Column(Text, primary_key=True))
    seq: int = Field(default=0, sa_column=Column(BIG, nullable=False))


class WebhookRow(Row, table=True):
    """How the deliveries to one webhook stand, and which process makes them. Its place in the log is its cursor."""

    __tablename__: ClassVar[str] = "webhook"

    name: str = Field(sa_column=Column(Text, primary_key=True))
    holder: str = Field(default="", sa_column=Column(Text, nullable=False))
    epoch: int = Field(default=0, sa_column=Column(BIG, nullable=False))
    """Rises when another process takes over: what the last one still writes is refused."""
    lease_until: float = Field(default=0.0, sa_column=Column(Double, nullable=False))
    attempts: int = Field(default=0, sa_column=Column(Integer, nullable=False))
    """How often the next event was tried."""
    next_at: float = Field(default=0.0, sa_column=Column(Double, nullable=False))
    gone: int = Field(default=0, sa_column=Column(Integer, nullable=False))
    """1: the endpoint said 410 Gone; nothing is sent until its settings change."""
    error: str = Field(default="", sa_column=Column(Text, nullable=False))
    """What the last attempt came to; empty when it was taken."""

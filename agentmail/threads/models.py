"""The values that threads are made of: Thread, Filed, Why."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Literal, Protocol, Self

from pydantic import Field, PrivateAttr

from ..message.models import Address, Message, Value

Confidence = Literal["certain", "high", "medium", "low"]


class Match(Value):
    """An id that a message holds, and what it meant for its place."""

    message_id: str
    """The id, with angle brackets."""
    header: str
    """Where it stood: `Message-ID`, `In-Reply-To`, `References`, `bounce report`."""
    role: Literal["own", "firm", "weak"]
    """`own`: it is known by it. `firm`: it mentions it. `weak`: a mention that counts only if somebody owns it."""
    message: str | None = None
    """The message that owns it, such as `"m45"`; None for a ghost."""
    thread: str | None = None
    """That message's thread."""


class Rejected(Value):
    """A thread that this message was kept out of, and why."""

    thread: str
    message_id: str
    """The id by which it claimed to belong there; empty for a candidate of the subject rule."""
    reason: str


class Why(Value):
    """Why a message stands where it stands: what `agentmail explain` prints."""

    rule: Literal["new", "ids", "answers", "subject", "kept apart", "duplicate", "quarantined"]
    """What decided: nothing linked it, an id, the caller's word, the guarded subject rule, the guard, its content.
    `quarantined`: the database refused it."""
    confidence: Confidence
    matched: tuple[Match, ...] = ()
    rejected: tuple[Rejected, ...] = ()
    claimed_parent: str | None = None
    """The Message-ID that it claims to answer in a thread that does not know its sender."""
    parent: str | None = None
    """The message it answers, such as `"m44"`."""
    note: str = ""
    """One sentence for a person."""


class Filed(Value):
    """What became of a message that was filed."""

    id: str
    """Our id of the message, such as `"m45"`."""
    thread: str
    """Our id of its thread, such as `"t12"`."""
    new: bool
    """False when this store had it already: the same content, or the same location."""
    absorbed: tuple[str, ...] = ()
    """Threads that became one with `thread` by it. Their ids keep resolving."""
    why: Why


class Later(Protocol):
    """What a thread needs of the inbox or the turn it was read by, for what is to happen later."""

    async def remind(
        self, thread: str, *, after: timedelta | None = None, at: datetime | None = None, note: str = ""
    ) -> None: ...
    async def follow_up(
        self, thread: str, text: str, *, after: timedelta | None = None, at: datetime | None = None
    ) -> bool: ...


class Thread(Value):
    """Messages that belong together, oldest first, and what the agents keep with them."""

    _later: Later | None = PrivateAttr(default=None)

    id: str
    account: str = ""
    """The account's key; empty for an imported archive."""
    subject: str = ""
    """Of the oldest message."""
    people: tuple[Address, ...] = ()
    """Everybody in From, To or Cc of any of its messages."""
    status: str = "open"
    labels: tuple[str, ...] = ()
    notes: tuple[dict[str, Any], ...] = ()
    """What agents told each other; never mailed."""
    data: dict[str, Any] = Field(default_factory=dict)
    """A JSON object of the agents' own."""
    count: int = 0
    """How many messages it has, also when they are not loaded."""
    started_at: datetime | None = None
    last_at: datetime | None = None
    """When its newest message was written."""
    assigned: str = ""
    """The agent it belongs to, or `human`; empty while it is nobody's."""
    attention: Literal["idle", "ready", "claimed", "stuck"] = "idle"
    """Whether it waits for an agent: `ready` (or will be tried again), `claimed` by one at this moment, `stuck` after
    too many turns that failed, `idle` when there is nothing to do."""
    claimed_parent: str | None = None
    """Set when it was kept out of another thread: the Message-ID that its sender, a stranger, claims to answer."""
    messages: tuple[Message, ...] = ()
    """Oldest first. Empty in a page of threads."""
    unsent: dict[str, str] = Field(default_factory=dict)
    """Messages of ours that stand here and were not sent (yet): `{"m4": "held", "m7": "canceled: denied by Bo"}`. A
    message that we wrote and that is not named here has gone out."""
    parents: dict[str, str | None] = Field(default_factory=dict)
    """Message id -> id of the message it answers, or None: `{"m1": None, "m2": "m1"}`."""

    async def remind(self, *, after: timedelta | None = None, at: datetime | None = None, note: str = "") -> None:
        """Bring the thread back as a turn with the reason `reminder`, unless somebody answers before.

        Args:
            after, at: When: from now, or a time with a time zone (see `BusinessHours`).
        """
        await self._bound.remind(self.id, after=after, at=at, note=note)

    async def follow_up(self, text: str, *, after: timedelta | None = None, at: datetime | None = None) -> bool:
        """Send `text` in the thread, to those our last mail there went to, unless somebody answers before.

        Returns:
            False when that mail has an answer already, and nothing will be sent.

        Raises:
            BadInput: nothing was sent in the thread yet.
        """
        return await self._bound.follow_up(self.id, text, after=after, at=at)

    @property
    def _bound(self) -> Later:
        if self._later is None:
            raise RuntimeError("this Thread did not come from an open Inbox: use inbox.remind() or inbox.follow_up()")
        return self._later

    def bound_to(self, later: Later) -> Self:
        """The same value, able to remind and to follow up."""
        copy = self.model_copy()
        copy._later = later  # noqa: SLF001 - a copy of our own
        return copy


def note_line(note: Mapping[str, Any]) -> str:
    """A note of a thread in one line."""
    by, to, text = note.get("agent") or "?", note.get("to"), note.get("text", "")
    if to:
        return f"{by} handed it to {to}" + (f": {text}" if text else "")
    return f"note by {by}: {text}"

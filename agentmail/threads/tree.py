"""Who answers whom inside a thread: one parent each, no cycles, the same for every order of arrival."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

from ..message.models import Message
from .placement import key_of, owned_ids, parent_choices


def written_at(message: Message) -> float:
    """Seconds since the epoch: when it was written, as far as its date can be believed; 0.0 when nobody knows.

    A date after the arrival is a wrong clock or a wish to stay on top of the list: then the arrival counts.
    """
    sent, received = message.sent_at, message.received_at
    if sent is not None and received is not None and sent > received + timedelta(days=1):
        sent = received
    at = sent or received
    return 0.0 if at is None else at.timestamp()


def moment(at: float) -> datetime | None:
    """The inverse of `written_at`."""
    return datetime.fromtimestamp(at, UTC) if at else None


def parents(
    messages: Sequence[Message], *, names: Sequence[str] | None = None,
    aliases: Mapping[str, str] | None = None, answers: Mapping[str, str] | None = None,
) -> dict[str, str | None]:  # fmt: skip
    """The parent of each message of one thread, by name (its `id` unless `names` says otherwise).

    The first of `parent_choices` that a message of this thread owns and that closes no cycle. Messages choose in the
    order of their dates, so that a cycle is always cut at the same place.

    Args:
        aliases: Further ids: key -> name of the message known by it.
        answers: What the store knows better than the headers: name -> name of its parent.
    """
    called = [m.id or m.message_id for m in messages] if names is None else list(names)
    order = sorted(range(len(messages)), key=lambda i: rank(messages[i]))
    owner: dict[str, str] = {}
    for i in order:
        for message_id in owned_ids(messages[i]):
            owner.setdefault(key_of(message_id), called[i])
    for key, name in (aliases or {}).items():
        owner.setdefault(key, name)
    chosen: dict[str, str | None] = {}
    answered: set[str] = set()
    for i in order:
        name = called[i]
        known = (answers or {}).get(name)
        choices = [*([known] if known else []), *(owner.get(key_of(c)) for c in parent_choices(messages[i]))]
        # Only who is somebody's parent already can close a cycle; the walk is rare, so long threads stay linear.
        chosen[name] = parent = next(
            (c for c in choices if c and c != name and not (name in answered and _leads_to(c, name, chosen))), None
        )
        if parent is not None:
            answered.add(parent)
    return chosen


def rank(message: Message) -> tuple[float, str, str, str, str]:
    """By date; of two with one date, by what they say: never by when they came."""
    sender = message.sender.key if message.sender is not None else ""
    return (written_at(message), message.message_id, sender, message.subject, message.text)


def _leads_to(start: str, name: str, chosen: Mapping[str, str | None]) -> bool:
    """Whether following parents from `start` comes to `name`."""
    at: str | None = start
    while at is not None:
        if at == name:
            return True
        at = chosen.get(at)
    return False

"""A fetched message becomes an arrival: what the server said of it, as far as it is believed. Pure.

All that it depends on is in `Terms`, a value, so that another process makes the same of the same message.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from ..imap import Fetched
from ..message.identifiers import is_ours
from ..message.parse import parse
from ..store.arrivals import Arrival, Location, Prepared, prepare
from .reading import BEFORE_MAIL, Place


@dataclass(frozen=True, slots=True)
class Terms:
    """What a mailbox's messages are prepared with."""

    place: Place
    uidvalidity: int
    """0 when the server did not say: then its uids mean nothing."""
    history: int
    """Up to this uid everything was there when the mailbox was first seen."""
    first_at: float
    fresh_within: float
    now: datetime
    own: frozenset[str]
    """The addresses that are the account's own, as the store knows them."""
    secret: bytes


def prepared(one: Fetched, labels: Sequence[str], terms: Terms) -> Prepared:
    """A message with its body, ready to be filed.

    Raises:
        ValueError, OverflowError: no database holds it.
    """
    return prepare(arrived(one, labels, terms), account=terms.place.account, own=terms.own, secret=terms.secret)


def arrived(one: Fetched, labels: Sequence[str], terms: Terms) -> Arrival:
    """A message with its body, parsed. `labels` are Gmail's."""
    place = terms.place
    raw = one.body or b""
    message = parse(raw, received_at=_believed(one.received_at, terms.now), trusted_authserv=place.trusted)
    outgoing = place.role == "sent" or "\\Sent" in labels
    if outgoing and not is_ours(message.message_id, terms.secret):
        # Written by hand to ourselves: its other copy is in the INBOX, and it is meant to be read.
        outgoing = not any(a.key in place.own for a in message.recipients)
    flags = lasting(one)
    return Arrival(message, raw, location(one, terms), flags=flags, fresh=_fresh(one, flags, terms), outgoing=outgoing)


def location(one: Fetched, terms: Terms) -> Location | None:
    return Location(terms.place.mailbox, terms.uidvalidity, one.uid) if terms.uidvalidity else None


def lasting(one: Fetched) -> tuple[str, ...]:
    """Its flags, without the one that is about the session."""
    return tuple(f for f in one.flags or () if f != "\\Recent")


def _believed(received_at: datetime | None, now: datetime) -> datetime:
    """INTERNALDATE, unless it cannot be: the order of a thread goes by it. 1970 and tomorrow are wrong clocks."""
    now = now.astimezone(UTC)
    if received_at is None or received_at > now + timedelta(days=1) or received_at.year < BEFORE_MAIL:
        return now
    return received_at


def _fresh(one: Fetched, flags: Sequence[str], terms: Terms) -> bool:
    if one.uid > terms.history:
        return True
    if one.received_at is None or "\\Seen" in flags or terms.place.role != "inbox":
        return False
    return one.received_at.timestamp() >= terms.first_at - terms.fresh_within

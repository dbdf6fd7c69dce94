"""Invitations: iTIP over mail (RFC 5546, RFC 6047)."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, ConfigDict


class Attendee(BaseModel):
    model_config = ConfigDict(frozen=True)

    email: str
    name: str = ""
    answer: str = "needs-action"
    """accepted, declined, tentative, delegated or needs-action."""


class Invitation(BaseModel):
    """One event of a calendar part."""

    model_config = ConfigDict(frozen=True)

    method: str
    """request, reply, cancel, counter, publish …"""
    uid: str
    sequence: int = 0
    title: str = ""
    start: datetime | None = None
    end: datetime | None = None
    location: str = ""
    organizer: str = ""
    attendees: tuple[Attendee, ...] = ()

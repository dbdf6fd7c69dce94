"""What happens to the mail that was there before we came."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class FirstRun:
    """How much of a mailbox is read at first sight, and what of it counts as new.

    By default the newest 50 messages are filed as history, so that an answer finds its thread; no agent is asked to
    look at them. What arrived in the last 15 minutes and nobody has read is new all the same: whoever sends a mail
    and then starts the agent means that mail.
    """

    history: int | None = 50
    """How many of the messages that are there are filed; None for all."""
    since: datetime | None = None
    """File what arrived from this day on, instead of counting."""
    fresh_within: float = 900.0
    """Seconds before the first look from which on an unread message counts as new."""
    reach_back: bool = False
    """Go by this also where a mailbox was first seen before: file as history what was left on the server then."""
    everything_is_new: bool = False
    """Hand over all that is there. Trap: agents will then answer old mail."""

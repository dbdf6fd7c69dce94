"""What a NO means: by its response code (RFC 5530), and by the words of servers that give none. Pure.

The words are the ones that Gmail, Yahoo, Microsoft, Dovecot, Cyrus and Courier say. What a NO to LOGIN means decides
whether an account is locked: nothing that a person has to mend may be tried again and again, and nothing that passes by
itself may stop for a person.
"""

from __future__ import annotations

import re
from typing import Literal

from .answers import asked_pause, response_code

Meaning = Literal["pause", "refused", "away", "missing", "full", ""]
"""pause: too much was asked, by all clients of the account together. refused: a person has to change something.
away: it will pass. missing: no such mailbox. full: no room for more mail. Empty: no to this one command."""

BUSY_PAUSE = 60.0
"""Seconds of rest when part of the server is down (UNAVAILABLE). It does not grow: it is not about us."""

_TOO_MUCH = re.compile(
    r"too many (?:\w+ )*?(?:connections|sessions|logins?\b|requests|commands|attempts|failures)"
    r"|maximum number of connections|connection limit|rate limit|bandwidth limit|throttl",
    re.IGNORECASE,
)
_PERSON = re.compile(
    r"invalid credentials|password required|web login required|via your web browser|web browser to log"
    r"|imap (?:use|access)|access to imap|imap is (?:disabled|not)|basic auth\w* is (?:disabled|blocked)"
    r"|account (?:is|has been) (?:temporarily )?(?:locked|disabled|suspended|blocked|deactivated)"
    r"|user ?name (?:or|and) password|(?:wrong|incorrect|bad|invalid) (?:user ?name|password|login)"
    r"|(?:user ?name|password) (?:is )?(?:wrong|incorrect|invalid)",
    re.IGNORECASE,
)
_PASSES = re.compile(
    r"temporar|try again|unavailable|not available|server error|internal error|system error|\bbusy\b|maintenance"
    r"|timed? ?out",
    re.IGNORECASE,
)
_PAUSES = {"THROTTLED", "LIMIT", "INUSE", "UNAVAILABLE"}
_FOR_A_PERSON = {"AUTHENTICATIONFAILED", "AUTHORIZATIONFAILED", "EXPIRED", "PRIVACYREQUIRED", "CONTACTADMIN"}


def meaning(reason: str, *, logging_in: bool) -> Meaning:
    """What the server's refusal means."""
    code, _ = response_code(reason)
    if code in _PAUSES or asked_pause(reason) is not None or _TOO_MUCH.search(reason):
        return "pause"
    if code == "OVERQUOTA":
        return "full"
    if logging_in:
        if code in _FOR_A_PERSON or _PERSON.search(reason):
            return "refused"
        # Of codes that nobody knows (ALERT, WEBALERT) the words decide; without any, a login is a login.
        return "away" if code == "SERVERBUG" or _PASSES.search(reason) else "refused"
    if code in {"SERVERBUG", "CONTACTADMIN"}:
        return "away"
    if code in {"NONEXISTENT", "TRYCREATE"} or "doesn't exist" in reason or "unknown mailbox" in reason.lower():
        return "missing"
    return ""


def pause_for(reason: str) -> float | None:
    """Seconds of the pause, where the server named them or its code does; None to pause longer each time."""
    asked = asked_pause(reason)
    if asked is None and response_code(reason)[0] == "UNAVAILABLE" and not _TOO_MUCH.search(reason):
        return BUSY_PAUSE
    return asked

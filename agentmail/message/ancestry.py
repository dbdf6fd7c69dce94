"""What a reply hangs on: In-Reply-To and References (RFC 5322 3.6.4), and Outlook's Thread-Index."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from . import outlook
from .identifiers import MISSING_DOMAIN, normalise
from .models import Message
from .subject import base_subject, subject_key
from .words import one_line

MAX_REFERENCES = 50
"""Gmail and Exchange never trim; beyond this many the first and the last 49 are kept, so that the root stays."""
MAX_TOPIC = 255
"""Characters; Exchange keeps no more of a topic."""

_WRITABLE = re.compile(r"<[!-;=?-~]{1,900}>\Z")
_EARLIEST = datetime(1990, 1, 1, tzinfo=UTC)


def writable(message_id: str) -> bool:
    """Whether an id can stand in a header: printable ASCII that fits on a line, and not one we made up ourselves."""
    return _WRITABLE.match(message_id) is not None and not message_id.endswith(f"@{MISSING_DOMAIN}>")


def reply_references(original: Message) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """In-Reply-To and References of a reply to `original` (RFC 5322 3.6.4).

    A parent without an id of its own gets no In-Reply-To, and its References are passed on. A parent without References
    lends its In-Reply-To, if that is exactly one id.
    """
    own = (original.message_id,) if writable(original.message_id) else ()
    earlier = original.references or (original.in_reply_to if len(original.in_reply_to) == 1 else ())
    chain = tuple(dict.fromkeys((*(i for i in earlier if i not in own and writable(i)), *own)))
    if len(chain) > MAX_REFERENCES:
        chain = (chain[0], *chain[1 - MAX_REFERENCES :])
    return own, chain


def thread_index(original: Message, ancestors: Sequence[Message], *, now: datetime, random: int) -> str:
    """The Thread-Index of a reply: the nearest ancestor's, one level longer for each hop, as Exchange does.

    When none has one, a fresh value whose GUID comes from the root's id: every reply of ours in the thread has the
    same. A fresh GUID is never made while there is one to continue: that would be another conversation. Beyond a change
    of the base subject no index is looked for, since Exchange begins a new conversation there.
    """
    line = list(_lineage(original, ancestors))
    key = subject_key(original.subject)
    for hops, message in line:
        if hops and subject_key(message.subject) != key:
            break
        data = outlook.read(message.thread_index) if message.thread_index else None
        if data is not None:
            for _ in range(min(hops + 1, outlook.MAX_LEVELS)):
                data = outlook.child(data, now, random)
            return outlook.write(data)
    oldest = line[-1][1]
    root = next(iter(reply_references(oldest)[1]), oldest.message_id)
    begun = next((m.sent_at for _, m in reversed(line) if m.sent_at is not None and _EARLIEST < m.sent_at < now), now)
    return outlook.write(outlook.child(outlook.fresh(begun, guid_of(root)), now, random))


def thread_topic(original: Message) -> str:
    """The parent's Thread-Topic as it is, else its subject without one prefix (Exchange's normalised subject)."""
    if original.thread_topic and (topic := one_line(original.thread_topic)):
        return topic[:MAX_TOPIC]
    subject = one_line(original.subject)
    if base_subject(subject) == subject:
        return subject[:MAX_TOPIC]
    # Exactly one prefix goes: "RE: 答复: X" has the topic "答复: X".
    return re.sub(r"\A[^\d\s:\uff1a]{1,12}(?:\[\d+\])?\s?[:\uff1a]\s*", "", subject[: 2 * MAX_TOPIC])[:MAX_TOPIC]


def guid_of(root: str) -> bytes:
    """The conversation's GUID for Outlook when we begin it: the same for every message of ours below `root`."""
    return hashlib.sha256(root.encode("utf-8", "replace")).digest()[:16]


def _lineage(original: Message, ancestors: Sequence[Message]) -> Iterator[tuple[int, Message]]:
    """`(hops, message)` from `original` upwards, through ids; then whoever is left, newest first.

    The order of `ancestors` does not matter. An id between two known messages is a hop, seen or not (iOS names only
    its parent, so that each message may have to be asked for the next).
    """
    owners = {normalise(i): m for m in ancestors for i in m.known_ids}
    left = {id(m): m for m in ancestors if m.message_id != original.message_id}
    hops, at = 0, original
    yield hops, at
    while True:
        above = list(reversed(at.references))
        above = [i for i in at.in_reply_to[:1] if i not in above] + above
        step = next(((n, m) for n, i in enumerate(above, 1) if (m := owners.get(normalise(i))) and id(m) in left), None)
        if step is None:
            break
        hops, at = hops + step[0], step[1]
        del left[id(at)]
        yield hops, at
    for message in sorted(left.values(), key=lambda m: m.sent_at or _EARLIEST, reverse=True):
        hops += 1
        yield hops, message

"""How mail clients will group a set of messages, and how sure that is.

From documentation where there is any, from source code, from 144,069 measured mails; docs/explanation/replying.md
says which. No client reads the threads of another: each has its own idea, and Gmail's and Outlook's differ.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Literal

from ..message import outlook
from ..message.ancestry import thread_topic
from ..message.identifiers import normalise
from ..message.models import Message
from ..message.subject import is_reply_subject, subject_key

Sure = Literal["high", "medium", "low"]
Groups = list[list[str]]

CLIENTS = ("gmail", "outlook", "apple", "thunderbird", "fastmail")
MOST = 100
"""Messages in one conversation of Gmail and of Fastmail; the next one begins another."""
WEEK = timedelta(days=7)
_ORDER: tuple[Sure, ...] = ("high", "medium", "low")
_START = datetime(1970, 1, 1, tzinfo=UTC)


def predict(messages: Iterable[Message]) -> dict[str, Groups]:
    """The Message-IDs of each conversation, for each of `CLIENTS`, in the order in which the messages came.

    Trap: this is what clients do with mail that reaches one mailbox. Each side of a conversation has its own.
    """
    return {client: groups for client, (groups, _) in _all(messages).items()}


def confidence(messages: Iterable[Message]) -> dict[str, Sure]:
    """How sure each prediction is: as sure as the least certain rule that was needed for it."""
    return {client: sure for client, (_, sure) in _all(messages).items()}


def _all(messages: Iterable[Message]) -> dict[str, tuple[Groups, Sure]]:
    ordered = sorted(messages, key=lambda m: m.received_at or m.sent_at or _START)
    return {
        "gmail": _grouped(ordered, _gmail_subject, _guess_gmail, most=MOST),
        "outlook": _grouped(ordered, _outlook_subject, _by_guid),
        "apple": _grouped(ordered, _no_subject, _guess_apple, topic_of=_apple_topic, merge=True, least="medium"),
        "thunderbird": _grouped(ordered, _no_subject, _never, merge=True),
        "fastmail": _grouped(ordered, _cyrus_subject, _never, most=MOST, ids=_cyrus_ids),
    }


@dataclass(eq=False)
class _Conversation:
    number: int
    subject: str
    members: list[int] = field(default_factory=list)
    people: set[str] = field(default_factory=set)
    last: datetime | None = None
    guids: set[bytes] = field(default_factory=set)
    went: _Conversation | None = None
    """What it became part of."""

    @property
    def now(self) -> _Conversation:
        one = self
        while one.went is not None:
            one = one.went
        return one


Guess = Callable[[Message, Sequence[_Conversation]], tuple[_Conversation | None, Sure]]


def _grouped(
    messages: Sequence[Message],
    subject_of: Callable[[Message], str],
    guess: Guess,
    *,
    topic_of: Callable[[Message], str] | None = None,
    most: int | None = None,
    merge: bool = False,
    least: Sure = "high",
    ids: Callable[[Message], list[str]] | None = None,
) -> tuple[Groups, Sure]:
    """Take messages as they come; each joins the newest conversation that shares an id with it and has its subject.

    Args:
        guess: Where a message goes that shares no id; it sees the conversations of the same `topic_of`.
        merge: Conversations that a message connects become one.
    """
    conversations: list[_Conversation] = []
    owner: dict[str, dict[int, _Conversation]] = {}
    topics: dict[str, list[_Conversation]] = {}
    sure: Sure = least
    for position, message in enumerate(messages):
        subject = subject_of(message)
        topic = topic_of(message) if topic_of is not None else subject
        held = (ids or _ids)(message)
        found = {one.number: one for one in (c.now for i in held for c in owner.get(i, {}).values())}
        fitting = [c for c in found.values() if c.subject == subject and (most is None or len(c.members) < most)]
        fitting.sort(key=lambda c: c.number)
        chosen = fitting[-1] if fitting else None
        if chosen is None:
            chosen, how = guess(message, topics.get(topic, ()))
            sure = max(sure, how, key=_ORDER.index)
        elif merge:
            chosen = fitting[0]
            for other in fitting[1:]:
                chosen.members += other.members
                other.members, other.went = [], chosen
        if chosen is None:
            chosen = _Conversation(len(conversations), subject)
            conversations.append(chosen)
        chosen.members.append(position)
        chosen.people |= {a.key for a in message.people()}
        chosen.last = max(filter(None, (chosen.last, message.sent_at)), default=None)
        if (data := outlook.read(message.thread_index or "")) is not None:
            chosen.guids.add(data[6:22])
        for i in held:
            owner.setdefault(i, {})[chosen.number] = chosen
        same = topics.setdefault(topic, [])
        if not same or same[-1].now is not chosen:
            same.append(chosen)
    return [[messages[n].message_id for n in sorted(c.members)] for c in conversations if c.members], sure


def _ids(message: Message) -> list[str]:
    """Also ids that nobody owns: Gmail and Thunderbird join on an id that was never delivered."""
    ids = (*message.known_ids, *message.references, *message.in_reply_to)
    return [i for i in dict.fromkeys(map(normalise, ids)) if "@" in i]


def _cyrus_ids(message: Message) -> list[str]:
    """Cyrus reads the first twenty of each header, in lower case."""
    ids = (*message.known_ids, *message.references[:20], *message.in_reply_to[:20])
    return [i for i in dict.fromkeys(normalise(i).lower() for i in ids) if "@" in i]


# -- subjects


def _apple_topic(message: Message) -> str:
    """Its own when it has no subject: those never meet."""
    return subject_key(message.subject) or message.message_id


_GMAIL_PREFIX = re.compile(r"\s*(?:re|r|fwd?)(?:\[\d+\])?\s?:\s*", re.IGNORECASE)
_CYRUS_BRACKETS = re.compile(r"\[[^\]]*\]?")
_CYRUS_PREFIX = re.compile(r"\s*\S+?:")


def _no_subject(message: Message) -> str:
    return ""


def _gmail_subject(message: Message) -> str:
    """ "Re:", "R:", "Fw:" and "Fwd:" are ignored; localised prefixes reportedly are not."""
    text = message.subject[:4_000]
    while match := _GMAIL_PREFIX.match(text):
        text = text[match.end() :]
    return " ".join(text.split()).casefold()


def _outlook_subject(message: Message) -> str:
    text = message.subject[:4_000]
    while (topic := thread_topic(Message(subject=text))) != text:
        text = topic
    return " ".join(text.split()).casefold()


def _cyrus_subject(message: Message) -> str:
    text = _CYRUS_BRACKETS.sub("", message.subject[:4_000])
    while match := _CYRUS_PREFIX.match(text):
        text = text[match.end() :]
    return "".join(unicodedata.normalize("NFC", text).split())


# -- without a shared id


def _never(message: Message, alike: Sequence[_Conversation]) -> tuple[_Conversation | None, Sure]:
    return None, "high"


def _guess_gmail(message: Message, alike: Sequence[_Conversation]) -> tuple[_Conversation | None, Sure]:
    """Mail without References may join by subject, people and a week; Google's two pages disagree (2019, help 5900)."""
    if message.references or message.in_reply_to or not message.subject:
        return None, "high"
    people = {a.key for a in message.people()}
    for one in reversed(alike):
        near = one.last is None or message.sent_at is None or abs(message.sent_at - one.last) <= WEEK
        if near and len(one.members) < MOST and len(people & one.people) >= 2:
            return (one if is_reply_subject(message.subject) else None), "low"
    return None, "high"


def _by_guid(message: Message, alike: Sequence[_Conversation]) -> tuple[_Conversation | None, Sure]:
    """An id in the mailbox outranks an incoming Thread-Index; without one, the GUID decides."""
    data = outlook.read(message.thread_index or "")
    if data is not None:
        for one in reversed(alike):
            if data[6:22] in one.guids:
                return one, "medium"
    return None, "high"


def _guess_apple(message: Message, alike: Sequence[_Conversation]) -> tuple[_Conversation | None, Sure]:
    """A "Re:" without any id is put with the newest conversation of its subject, as far as anybody could see."""
    if message.references or message.in_reply_to or not is_reply_subject(message.subject) or not alike:
        return None, "high"
    return alike[-1].now, "low"

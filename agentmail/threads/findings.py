"""What the doctor can find: code, how bad it is, and the fix. docs/reference/doctor.md explains each."""

from __future__ import annotations

from typing import Literal, NamedTuple

Severity = Literal["error", "warning", "note"]


class Kind(NamedTuple):
    severity: Severity
    fix: str


_OWN = "give each message one Message-ID of the form <random@your-domain>, before it is sent"
_PARENT = "answer the message itself: In-Reply-To is its Message-ID, References its References and then its Message-ID"
_KEEP_SUBJECT = 'keep the subject of a reply as it is, behind one "Re: "; a new subject is a new thread'
_INDEX = "copy the parent's Thread-Index and add five bytes for the reply, or leave the header out"

KINDS: dict[str, Kind] = {
    "message-id-missing": Kind("error", _OWN),
    "message-id-bare": Kind("error", "write the angle brackets: Gmail replaces an id without them"),
    "message-id-no-at": Kind("error", _OWN),
    "message-id-several-ats": Kind("error", "use one @: Gmail replaces an id with two"),
    "message-id-malformed": Kind("error", "use letters, digits, dots and hyphens only; never fold or encode an id"),
    "message-id-dot": Kind("error", "let no side of an id end in a dot: Gmail replaces such ids"),
    "message-id-odd-characters": Kind("warning", "use letters, digits, dots and hyphens only"),
    "message-id-twice": Kind("error", "write one Message-ID header"),
    "message-id-shared": Kind("error", "make a new Message-ID for each message; clients show only one of two"),
    "message-id-rewritten": Kind("note", "learn the id on the wire from the copy in Sent or from the first reply"),
    "in-reply-to-missing": Kind("warning", _PARENT),
    "in-reply-to-bare": Kind("error", "write the angle brackets: most clients see no id at all"),
    "in-reply-to-no-id": Kind("error", _PARENT),
    "in-reply-to-several": Kind("note", "name one parent; clients take the first or the last"),
    "in-reply-to-not-last": Kind("warning", "let the last id of References be the one in In-Reply-To"),
    "references-missing": Kind("warning", "write References too: Gmail and RFC 5256 read it first"),
    "references-parent-only": Kind(
        "warning", "repeat the whole chain; a client that misses the parent loses the thread"
    ),
    "references-root-missing": Kind("warning", "keep the first id when the chain is cut; some read only the first"),
    "references-comma": Kind("warning", "separate ids by white space"),
    "references-unbalanced": Kind("error", "write each id whole, in angle brackets"),
    "references-repeated": Kind("note", "name each id once"),
    "references-itself": Kind("warning", "leave the message's own id out of its References"),
    "references-cycle": Kind("error", "name only earlier messages"),
    "references-unknown-rewrite": Kind(
        "warning", "store the id that the provider gave the message as a second id of it"
    ),
    "line-too-long": Kind("error", "fold References: one id a line"),
    "subject-changed": Kind("error", _KEEP_SUBJECT),
    "reply-without-ids": Kind("error", _PARENT),
    "subject-prefixes": Kind("warning", 'replace all prefixes by one "Re: "'),
    "subject-prefix-localised": Kind("note", 'write "Re: " whatever the language; some clients know no other'),
    "thread-index-invalid": Kind("error", _INDEX),
    "thread-index-length": Kind("warning", _INDEX),
    "thread-index-other-conversation": Kind("error", _INDEX),
    "thread-index-not-extended": Kind("warning", _INDEX),
    "thread-topic-changed": Kind("warning", "copy the parent's Thread-Topic"),
    "too-many-messages": Kind("note", "begin a new thread before a conversation has 100 messages"),
    "late-without-references": Kind("warning", _PARENT),
    "date-missing": Kind("warning", "write a Date header"),
    "date-skewed": Kind("warning", "set the sender's clock; clients sort by Date"),
}

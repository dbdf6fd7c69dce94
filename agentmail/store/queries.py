"""The language of `search`: words, `"a phrase"`, `from: to: subject: label: has:attachment before: after:`, `-not`.

Pure: text to a `Query`, and a `Query` to what FTS5 and PostgreSQL match by. Any text is a query or a `BadInput`; no
text of a caller ever becomes syntax, because only words cut by `words.normalised` go in, each of them quoted.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from ..errors import BadInput
from ..message.domains import ascii_domain
from .words import EVERY, HAS_ATTACHMENT, normalised

LONGEST_QUERY = 1_000
"""Characters."""
MOST_TERMS = 40

_FIELDS = {"from": "sender", "to": "recipients", "cc": "recipients", "subject": "subject"}
_WEIGHTS = {"subject": "A", "sender": "B", "recipients": "C"}
_TERM = re.compile(
    r"(?P<minus>-?)(?:(?P<name>from|to|cc|subject|label|has|before|after):\s*)?"
    r'(?:"(?P<quoted>[^"]*)"?|(?P<bare>[^\s"]+))(?P<star>\*?)',
    re.IGNORECASE,
)
_DATE = re.compile(r"(\d{4})(?:-(\d{1,2})(?:-(\d{1,2}))?)?")


@dataclass(frozen=True, slots=True)
class Term:
    """Words that must stand side by side."""

    words: tuple[str, ...]
    field: str = ""
    """The column: subject, sender, recipients; empty for anywhere."""
    prefix: bool = False
    """The last word may go on."""
    negative: bool = False
    other: tuple[str, ...] = ()
    """Or these, side by side: the same address with its domain written the other way, as `xn--…` or not."""


@dataclass(frozen=True, slots=True)
class Query:
    """What is looked for."""

    terms: tuple[Term, ...] = ()
    labels: tuple[tuple[str, bool], ...] = ()
    """Labels of the thread; True for those that it must not have."""
    after: datetime | None = None
    """Written at this time or later."""
    before: datetime | None = None
    """Written earlier than this."""


def parse_query(text: str) -> Query:
    """Read a query.

    `foo:bar` with a name that is no operator is the phrase "foo bar": links and times hold colons.

    Raises:
        BadInput: nothing to look for, a date that is none, more than is sensible. It says what would be right.
    """
    if len(text) > LONGEST_QUERY:
        raise BadInput(f"the query has {len(text):,} characters; at most {LONGEST_QUERY:,} are searched")
    terms: list[Term] = []
    labels: list[tuple[str, bool]] = []
    after: list[datetime] = []
    before: list[datetime] = []
    for found in _TERM.finditer(text.replace("\x00", " ")):
        name = (found["name"] or "").lower()
        value = found["quoted"] if found["quoted"] is not None else found["bare"]
        negative = bool(found["minus"])
        prefix = bool(found["star"])
        if found["bare"] is not None and value.endswith("*"):
            value, prefix = value.rstrip("*"), True
        if name == "label":
            labels.append((_label(value), negative))
        elif name in {"before", "after"}:
            if negative:
                name = {"before": "after", "after": "before"}[name]
            (before if name == "before" else after).append(_date(found["name"], value))
        elif name == "has":
            terms.append(Term((_has(value),), negative=negative))
        else:
            words = tuple(normalised(value).split())
            if words:
                other = tuple(normalised(_other_spelling(value)).split())
                terms.append(Term(words, _FIELDS.get(name, ""), prefix, negative, other if other != words else ()))
    if not (terms or labels or after or before):
        raise BadInput(
            'nothing to search for: give words, "a phrase", or from: to: subject: label: has:attachment before: after:'
        )
    if sum(len(t.words) + len(t.other) for t in terms) > 4 * MOST_TERMS or len(terms) + len(labels) > MOST_TERMS:
        raise BadInput(f"the query has too many words; at most {MOST_TERMS} terms are searched")
    return Query(tuple(terms), tuple(labels), max(after, default=None), min(before, default=None))


def _other_spelling(value: str) -> str:
    """An address or domain with its domain in the other form of the two (RFC 5891); empty when there is no other.

    Mail comes with either, and the index holds the one that it came with.
    """
    local, at, domain = value.rpartition("@")
    if "xn--" in domain.lower():
        return local + at + ".".join(map(_unicode_label, domain.lower().split(".")))
    if domain.isascii() or not (at or "." in domain):
        return ""
    ascii_form = ascii_domain(domain)
    return local + at + ascii_form if ascii_form is not None else ""


def _unicode_label(label: str) -> str:
    if not (label.startswith("xn--") and label.isascii() and len(label) <= 63):
        return label
    try:
        return label[4:].encode("ascii").decode("punycode")
    except UnicodeError:
        return label


def _label(value: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError as exc:
        raise BadInput("label: holds characters that cannot be written as UTF-8") from exc
    return value


def _has(value: str) -> str:
    if value.lower() not in {"attachment", "attachments"}:
        raise BadInput(f"has:{value[:40]} is not known; write has:attachment")
    return HAS_ATTACHMENT


def _date(operator: str, value: str) -> datetime:
    """The first moment (UTC) of a year, a month or a day."""
    found = _DATE.fullmatch(value)
    if found is not None and value.isascii():
        year, month, day = (int(part) if part else 1 for part in found.groups())
        try:
            return datetime(year, month, day, tzinfo=UTC)
        except ValueError:
            pass
    raise BadInput(f"{operator}:{value[:40]} is not a date; write {operator}:2026-01-31 (or 2026-01, or 2026)")


# ---- a place in time: what results are sorted by and paged by --------------------------------------------------------

_IDS: Final = 2**29
_LATEST: Final = 2**34 - 1
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def place(at: float, message: int) -> int:
    """Time and id as one number, so that both databases find the newest first without sorting.

    It is the row number of the index: FTS5 walks its lists in that order, and a range of dates is a range of rows.
    Seconds from 1970 to 2514; two messages of one second that are 2^29 ids apart would collide.
    """
    second = min(max(int(at), 0), _LATEST)
    return second * _IDS + message % _IDS


def message_at(place: int) -> int:
    """The id in a place."""
    return place % _IDS


def bounds(query: Query) -> tuple[int, int]:
    """The places that the dates of a query leave: first, and first after."""
    low = 0 if query.after is None else place((query.after - EPOCH) / timedelta(seconds=1), 0)
    high = 2**63 - 1 if query.before is None else place((query.before - EPOCH) / timedelta(seconds=1), 0)
    return low, high


# ---- a query as each database reads it -------------------------------------------------------------------------------


def fts5(query: Query, *marks: str) -> str:
    """What FTS5 matches by. Only words, in quotes; a word holds letters and digits alone."""
    wanted = [_fts5_term(t) for t in query.terms if not t.negative] or [f'"{EVERY}"']
    wanted += [f'"{m}"' for m in marks]
    expression = " AND ".join(wanted)
    for term in query.terms:
        if term.negative:
            expression = f"({expression}) NOT {_fts5_term(term)}"
    return expression


def _fts5_term(term: Term) -> str:
    column, star = f"{term.field} : " if term.field else "", " *" if term.prefix else ""
    found = [f'{column}"{" ".join(words)}"{star}' for words in (term.words, term.other) if words]
    return found[0] if len(found) == 1 else f"({' OR '.join(found)})"


def tsquery(query: Query) -> str | None:
    """What PostgreSQL matches by; None when only dates and labels are asked for."""
    parts = [f"{'!' if t.negative else ''}({_tsquery_term(t)})" for t in query.terms]
    return " & ".join(parts) if parts else None


def _tsquery_term(term: Term) -> str:
    found = [_tsquery_phrase(term, words) for words in (term.words, term.other) if words]
    return found[0] if len(found) == 1 else " | ".join(f"({one})" for one in found)


def _tsquery_phrase(term: Term, phrase: Sequence[str]) -> str:
    weight = _WEIGHTS.get(term.field, "")
    last = len(phrase) - 1
    words = []
    for i, word in enumerate(phrase):
        suffix = weight + ("*" if term.prefix and i == last else "")
        words.append(f"'{word}'{':' + suffix if suffix else ''}")
    return " <-> ".join(words)

"""Subjects: one "Re:", what stays when all prefixes are gone, and the form to compare by.

Gmail, Exchange Online, Fastmail and JMAP split a thread when the base subject changes, however right its References
are; so a reply keeps the subject byte for byte behind exactly one literal "Re: ", and is never localised (RFC 5322
3.6.5).
"""

from __future__ import annotations

import re
import unicodedata

MAX_SUBJECT = 4_000
"""Characters that are looked at; the rest of a longer one cannot matter."""

_REPLY = (
    "re", "r", "res", "ref", "aw", "antw", "antwort", "sv", "vs", "bls", "odp", "ynt", "atb", "vá", "rif", "απ", "σχετ",
    "השב", "رد", "回复", "回覆", "答复", "答覆", "re²", "ang", "odpověď", "转复", "reply",
)  # fmt: skip
_FORWARD = (
    "fw", "fwd", "wg", "tr", "rv", "enc", "vl", "vb", "doorst", "pd", "i", "fs", "trs", "i̇lt", "ilt", "yml",
    "továbbítás", "πρθ", "הועבר", "إعادة توجيه", "转发", "轉寄", "轉發", "rén", "πρ",
)  # fmt: skip
_MACHINE = (
    "undeliverable",
    "undelivered",
    "automatic reply",
    "out of office",
    "automatische antwort",
    "réponse automatique",
)


def _alternatives(words: tuple[str, ...]) -> str:
    return "|".join(re.escape(w) for w in sorted(words, key=len, reverse=True))


# "R:" and "I:" are single letters: believed only with white space behind the colon.
_COUNTER = r"\s?(?:\[[^\]]{0,40}\]|\(\d{1,4}\)|\^\d{1,4}|\*\d{1,4})?"
_WORD = f"(?P<word>{_alternatives(_REPLY + _FORWARD + _MACHINE)})"
_PREFIX = re.compile(
    rf"\s*(?:(?P<single>[ri])\s?:(?=\s)|{_WORD}{_COUNTER}\s?[:\uff1a])\s*",
    re.IGNORECASE,
)
_FORWARD_WORDS = frozenset(_FORWARD)
_TAG = re.compile(r"\s*\[(?!fwd:)[^\[\]]{0,80}\]\s*", re.IGNORECASE)
_TRAILER = re.compile(r"\s*(?:\(fwd\)|\[(?:SEC|DLM|CLASSIFICATION)=[^\]]{0,80}\])\s*\Z", re.IGNORECASE)
_WRAPPED = re.compile(r"\s*\[fwd:(.*)\]\s*\Z", re.IGNORECASE | re.DOTALL)
_SECURITY = re.compile(r"\s*(?:external|ext|extern|caution)\s*:\s*", re.IGNORECASE)
_INVISIBLE = re.compile("[\\s\u00ad\u200b-\u200f\u2028-\u202e\u2060-\u2064\u2066-\u2069\ufeff]+")


def reply_subject(subject: str) -> str:
    """`"Re: "` and the subject without its reply prefixes; forwards, list tags and the rest stay as they are."""
    return f"Re: {_strip_replies(subject)}"


def forward_subject(subject: str) -> str:
    """`"Fwd: "` in front of the subject; once."""
    match = _PREFIX.match(subject[:MAX_SUBJECT])
    if match is not None and (match["word"] or "").casefold() in {"fwd", "fw"}:
        return subject.strip()
    return f"Fwd: {subject.strip()}"


def _strip_replies(subject: str) -> str:
    """Drop reply prefixes at the start, in every language we know, repeatedly. A forward prefix stays: it is base."""
    text = subject.strip()
    while (match := _PREFIX.match(text[:MAX_SUBJECT])) is not None:
        word = (match["word"] or match["single"] or "").casefold()
        if word in _FORWARD_WORDS or word == "i" or word in _MACHINE:
            break
        text = text[match.end() :]
    return text


def base_subject(subject: str) -> str:
    """What stays when every reply and forward prefix, list tag in front of one, and forward trailer is gone."""
    text = " ".join(subject[:MAX_SUBJECT].split())
    while True:
        before = text
        text = _TRAILER.sub("", text)
        if (wrapped := _WRAPPED.match(text)) is not None:
            text = wrapped[1].strip()
        if (match := _PREFIX.match(text)) is not None and match.end() > 0:
            text = text[match.end() :]
        elif (tag := _TAG.match(text)) is not None and tag.end() < len(text):
            text = text[tag.end() :]
        elif (security := _SECURITY.match(text)) is not None and security.end() < len(text):
            text = text[security.end() :]
        if text == before:
            return text.strip()


def subject_key(subject: str) -> str:
    """The form to compare by: the base subject, NFKC, case folded, without any white space. Empty matches nothing."""
    return _INVISIBLE.sub("", unicodedata.normalize("NFKC", base_subject(subject)).casefold())


def is_reply_subject(subject: str) -> bool:
    """Whether it carries a reply or forward prefix in any language, behind list tags or not."""
    text = subject[:MAX_SUBJECT]
    while (tag := _TAG.match(text)) is not None and not _WRAPPED.match(text):
        text = text[tag.end() :]
    return _PREFIX.match(text) is not None or _WRAPPED.match(text) is not None

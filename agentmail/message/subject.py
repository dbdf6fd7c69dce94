"""Subjects: "Re:" once, and what stays of a subject when every "Re:", "AW:" and "回复：" is gone.

Mail programs group by the subject too: Gmail, Exchange and Fastmail start a new conversation when its base changes
by one letter. So a reply keeps the subject as it is, with one literal "Re: " in front (RFC 5322 3.6.5); and what is
stripped for that is only what certainly means "reply". For comparing, more is stripped.
"""

from __future__ import annotations

import re
import unicodedata

from .words import decode_words

_MAX = 2_000
"""Characters that are looked at for comparing. Stripping list tags one by one would take too long beyond."""

_REPLY_WORDS = (
    "re aw antw antwort sv vs odp ynt atb vá rif res bls απ σχετ השב תשובה رد 回复 回覆 答复 答覆 返信 re²"
    " 답장 회신 отв"
)
_MORE_REPLY_WORDS = "ref undeliverable undelivered"
_FORWARD_WORDS = (
    "fw fwd wg tr rv enc vl vb doorst pd fs trs i̇lt ilt yml továbbítás πρθ הועבר 转发 轉寄 轉發 転送 전달 пересл"
)
_PHRASES = "automatic reply|out of office|إعادة توجيه"


def _alternatives(words: str) -> str:
    return "|".join(sorted(map(re.escape, set(words.split())), key=len, reverse=True))


_COUNT = r"(?:[ \t]?(?:\[[^\[\]]{0,80}\]|\([0-9]{1,4}\)|[\^*][0-9]{1,4}|[0-9]{1,2}(?=[:：])|²|³))?"
_COLON = "[ \t\xa0]{0,4}[:：]"
_BLANK = "[ \t\xa0\u3000\u200b-\u200f\u202a-\u202e\u2066-\u2069]*"
_REPLY = re.compile(
    rf"{_BLANK}(?:(?:{_alternatives(_REPLY_WORDS)}){_COUNT}{_COLON}|R:(?=[ \xa0])){_BLANK}",
    re.IGNORECASE,
)
_FORWARD = re.compile(
    rf"{_BLANK}(?:(?:{_alternatives(_FORWARD_WORDS)}|{_PHRASES}){_COUNT}{_COLON}|I:(?=[ \xa0])){_BLANK}", re.IGNORECASE
)
_ANY = re.compile(
    rf"{_BLANK}(?:(?:{_alternatives(_REPLY_WORDS + ' ' + _MORE_REPLY_WORDS)}"
    rf"|{_alternatives(_FORWARD_WORDS)}|{_PHRASES}){_COUNT}{_COLON}|[RI]:(?=[ \xa0])){_BLANK}",
    re.IGNORECASE,
)
_BLOB = re.compile(r"\[[^\[\]]*\][ \t]*")
_BLOBS = re.compile(r"(?:\[[^\[\]]*\][ \t]*)+")
_WARNING = re.compile(
    r"(?:\[(?:external(?: e?-?mail| sender)?|ext|extern|caution|sec=[^\]]*|dlm[:=][^\]]*|spam\??|suspicious)\]"
    r"|\*+external\*+|external:|ext:)[ \t]*",
    re.IGNORECASE,
)
_INVISIBLE = re.compile(r"[\s\u00ad\u034f\u061c\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufe00-\ufe0f\ufeff]+")


def reply_subject(subject: str) -> str:
    """The subject of an answer: `"Re: "` once, then the subject byte for byte without its reply prefixes.

    Forward prefixes and list tags stay, at whatever place: `"AW: Re: Fwd: [list] x"` gives `"Re: Fwd: [list] x"`.
    """
    rest = _after(_REPLY, subject)
    return f"Re: {rest}" if rest.strip() else "Re:"


def forward_subject(subject: str) -> str:
    """The subject of a forwarded message: `"Fwd: "` once; reply prefixes behind it stay, since they are history."""
    rest = _after(_FORWARD, subject)
    return f"Fwd: {rest}" if rest.strip() else "Fwd:"


def base_subject(subject: str) -> str:
    """What stays of a subject (RFC 5256 2.1), with the prefixes of every language and white space squeezed.

    Compare without regard to case; `subject_key` does that and more.
    """
    return _strip(subject)[0]


def is_reply_subject(subject: str) -> bool:
    """Whether the subject says that this answers or forwards something (RFC 5256 2.1).

    A guess: people type "Re:" by hand.
    """
    return _strip(subject)[1]


def subject_key(subject: str) -> str:
    """The form to compare subjects by: base subject without warnings, case, white space and invisible characters.

    Trap: empty when nothing but prefixes is left. An empty key matches nothing, not even another empty one.
    """
    text = _strip(subject)[0]
    while (match := _WARNING.match(text)) and match.end() < len(text):
        text = _strip(text[match.end() :])[0]
    while (end := text.rfind("[")) > 0 and _WARNING.fullmatch(text, end):
        text = text[:end].rstrip()
    return _INVISIBLE.sub("", unicodedata.normalize("NFKC", text)).casefold()[:_MAX]


# ---------------------------------------------------------------------------------------------------------------------


def _after(prefix: re.Pattern[str], subject: str) -> str:
    position = 0
    while match := prefix.match(subject, position):
        position = match.end()
    return subject[position:] if position else subject


def _strip(subject: str) -> tuple[str, bool]:
    """`(base subject, was a reply or forward)`: the steps of RFC 5256 2.1."""
    subject = subject[: _MAX * 2]
    if "=?" in subject:
        subject = decode_words(subject)
    text = " ".join(subject.split())[:_MAX]  # step 1
    replied = False
    while True:
        while text[-5:].lower() == "(fwd)":  # step 2: subj-trailer
            text, replied = text[:-5].rstrip(), True
        position, found = _leaders(text)  # steps 3 to 5
        text, replied = text[position:], replied or found
        if text[:5].lower() == "[fwd:" and text[-1] == "]":  # step 6
            text, replied = text[5:-1].strip(), True
        else:
            return text, replied


def _leaders(text: str) -> tuple[int, bool]:
    position, found = 0, False
    while True:
        blobs = _BLOBS.match(text, position)
        match = _ANY.match(text, blobs.end() if blobs else position)
        if match and match.end() > position:  # step 3: subj-leader
            position, found = match.end(), True
            continue
        blob = _BLOB.match(text, position)
        if blob is None or blob.end() >= len(text):  # step 4: a blob goes only when something stays
            return position, found
        position = blob.end()

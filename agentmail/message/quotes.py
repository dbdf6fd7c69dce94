"""What of a text is new and what is quoted.

First what the sender's mail program marked in its HTML, then what people see in plain text: attribution lines,
header blocks, "-----Original Message-----", "> " in front, "-- " over a signature. Line by line and in linear time;
no pattern ever sees more than a few lines. When in doubt a line is kept: a little history in an agent's view does
less harm than a lost answer.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

from . import html as _html
from .characters import clean
from .devices import is_device_line
from .quotewords import LABELS, ORIGINAL, WROTE

_MAX_TEXT = 200_000
"""Characters in which history is looked for. Behind them only lines that begin with ">" are told apart."""
_MAX_LINES = 20_000
"""Of HTML; it was cut at a megabyte before."""
_MAX_LINE = 400
"""Longer lines are sentences, not marks."""
_MAX_SIGNATURE = 12
"""Lines. What is longer is text under a dividing line."""


class _Line(NamedTuple):
    text: str
    quoted: bool = False
    signature: bool = False
    cited: bool = False
    """In a block quote that nobody marked as history."""


def new_text_of(text: str, html: str | None = None, reading: _html.Reading | None = None) -> str:
    """What this person newly wrote, without quoted history and signature; never empty when `text` is not.

    `reading` is the HTML read, if it was read before.
    Trap: it is a guess about what somebody's program and habits mean. Read `text` before acting on what is missing.
    """
    if html:
        lines = [
            _Line(line.text, line.kind == "quote", line.kind == "signature", line.depth > 0)
            for line in (reading or _html.read(html)).lines
        ]
        found = _new(lines[:_MAX_LINES], "\n".join(line.text for line in lines[_MAX_LINES:]))
        if found:
            return found
    plain = clean(text)[0]
    end = len(plain)
    if end > _MAX_TEXT:
        end = plain.rfind("\n", 0, _MAX_TEXT) + 1 or _MAX_TEXT
    return _new(_plain_lines(plain[:end]), plain[end:]) or plain.strip() or text


def _plain_lines(text: str) -> list[_Line]:
    return [_Line(_unquoted(line), True) if _is_quoted(line) else _Line(line) for line in text.split("\n")]


def _is_quoted(line: str) -> bool:
    start = line[:4].lstrip(" ")
    if not start.startswith((">", "|")):
        return _INITIALS.match(line) is not None
    if start[0] == "|":
        return line.strip() == "|" or (start[:2] == "| " and "|" not in line[4:])
    return not start.startswith((">_<", ">:", ">=", ">>="))


_INITIALS = re.compile(r"[A-Z]{1,3}>(?: |$)")
"""Quotes with the writer's initials, as The Bat! writes them."""


def _unquoted(line: str) -> str:
    return line.lstrip("> ")


def _new(lines: list[_Line], rest: str = "") -> str:
    """The new lines as text; with the signature when there is nothing else; "" when all of it is history.

    `rest` is text behind them that was too long to look at: it stays, but for lines that begin with ">".
    """
    kept = _without_history(lines)
    cut = bool(kept) and kept[-1] is _CUT
    kept = [line for line in kept if line is not _CUT]
    if rest and not cut:
        return _trimmed([line for line in kept if not line.quoted]) + "\n" + _QUOTED_LINES.sub("", rest).rstrip()
    written = _trimmed(_without_signatures(kept))
    return written or _trimmed([line for line in kept if not line.quoted])


_CUT = _Line("")
"""Marks, as the last of the kept lines, that everything behind it is history."""
_QUOTED_LINES = re.compile(r"^ {0,3}>.*\n?", re.MULTILINE)


def _without_history(lines: list[_Line]) -> list[_Line]:
    """The lines before and between quotes. Quoted lines stay as empty marks, so that signatures end there."""
    kept: list[_Line] = []
    position = looked = 0
    while position < len(lines):
        line = lines[position]
        if line.quoted:
            kept.append(_GAP)
            position += 1
            continue
        text = line.text.strip()
        if not text or len(text) > _MAX_LINE:
            kept.append(line)
            position += 1
            continue
        length = _attribution(lines, position)
        if length:
            behind = _next_written(lines, position + length)
            if behind < len(lines) and (lines[behind].quoted or lines[behind].cited):
                kept.append(_GAP)
                position = behind
                while position < len(lines) and not lines[position].quoted and lines[position].cited:
                    position += 1
                continue
            if behind < len(lines) and _LEFT_OUT.match(lines[behind].text.strip()[:40]):
                position = behind + 1  # "[snip]": what was left out of the quote that follows
                continue
            if _is_sure(lines[position : position + length]):
                kept.append(_GAP)
                if any(before.text.strip() for before in kept[looked:]):
                    kept.append(_CUT)
                    return kept
                looked = len(kept)
                position += length  # nothing above it: the answer can only be below
                continue
        if _begins_original(text) or _header_block(lines, position):
            _drop_divider(kept)
            kept += [_GAP, _CUT]
            return kept
        kept.append(line)
        position += 1
    return kept


_GAP = _Line("", quoted=True)
_LEFT_OUT = re.compile(r"[\[<(](?:snip|lost|cut|\.\.\.|…)[^\]>)]{0,20}[\]>)]$", re.IGNORECASE)


def _next_written(lines: list[_Line], position: int) -> int:
    while position < len(lines) and not lines[position].text.strip() and not lines[position].quoted:
        position += 1
    return position


# -- marks over history -----------------------------------------------------------------------------------------------

_ADDRESS = re.compile(r"[^\s<>@\"'()]{1,64}@[^\s<>@\"'()]{1,255}")
_DATE = re.compile(
    r"\b(?:19|20)\d\d\b|\b\d{1,2}[:.h]\d\d\b|\b\d{1,2}[./-]\d{1,2}[./-]\d{2,4}\b|"
    r"\d{4}年|\d{1,2}月\d{1,2}日|\d{1,2}월 ?\d{1,2}일|[٠-٩]{2,4}"
)
_COLON_AT_END = re.compile(r"[:：﹕]\s*[*_]*\s*$|写道\s*$|\s-{2,}$")
_DATED_START = re.compile(r"^(?:19|20)\d\d[-/.]\d\d?[-/.]\d\d?\b.{0,40}?(?:<|\d\d?:\d\d|@)")
"""Gmail's old form without a verb: "2013/7/20 Ana Ruiz <ana@example.org>"."""
_OPENS = re.compile(
    r"^(?:on|am|le|el|em|a|il|op|den|på|dne|dnia|w dniu|w wiadomości|pe|mon|tue|wed|thu|fri|sat|sun|at|in|no dia|"
    r"quoting|zitat|citando|mensaje|"
    r"в|у|ב|בתאריך|في|în|την|στις)\b",
    re.IGNORECASE,
)


def _attribution(lines: list[_Line], position: int) -> int:
    """How many lines from here are one attribution, "On …, X wrote:"; 0 when this is none."""
    joined = ""
    for count in range(1, 5):
        at = position + count - 1
        if at >= len(lines) or lines[at].quoted:
            return 0
        text = lines[at].text.strip()
        if not text or len(joined) + len(text) > _MAX_LINE:
            return 0
        joined = f"{joined} {text}" if joined else text
        if _COLON_AT_END.search(joined[-8:]):
            return count if len(joined) > 5 and _is_attribution(joined) else 0
        if count == 1 and _DATED_START.match(joined):
            behind = _next_written(lines, position + 1)
            if behind < len(lines) and lines[behind].quoted:
                return 1
        if count == 1 and not (_OPENS.match(joined) or _DATE.search(joined) or _ADDRESS.search(joined)):
            return 0
    return 0


def _is_attribution(text: str) -> bool:
    dated = _DATE.search(text) is not None
    if WROTE.search(text):
        return dated or _ADDRESS.search(text) is not None or len(text) < 100
    return dated and _ADDRESS.search(text) is not None


def _is_sure(lines: list[_Line]) -> bool:
    """Sure enough to cut without quoted lines behind it: a verb of writing and a date or an address, or the rest."""
    text = " ".join(line.text for line in lines)[:_MAX_LINE]
    if WROTE.search(text):
        return bool(_DATE.search(text) or _ADDRESS.search(text))
    return _DATED.search(text) is not None and _ADDRESSED.search(text) is not None


_DATED = re.compile(
    r"\b(?:19|20)\d\d(?:\b|年).{0,40}?(?<!\d)\d{1,2}[:.]\d\d\b|\b\d{1,2}:\d\d\b.{0,20}?\b(?:19|20)\d\d\b"
)
_ADDRESSED = re.compile(r"<\s?[^\s<>@]{1,64}@[^\s<>@]{1,255}>\)?\s?[:：]$")
"""How Gmail ends an attribution in the languages that have no verb there (Russian, Japanese), Apple in Czech."""


_DASHED = re.compile(r"^[*\s]*[-_=~—–]{2,}\s*[>*]*\s*(\S.{2,70}?)\s*[<*]*\s*[-_=~—–:]{1,}[*\s]*$")


_ABOVE = re.compile(
    r"(?:reply|type|write|respond|answer)\b.{0,40}\babove (?:this|the) line|oberhalb dieser (?:zeile|linie)|"
    r"au-dessus de cette ligne|(?:por )?encima de esta línea|acima desta linha|sopra (?:questa|la) (?:riga|linea)|"
    r"boven deze (?:regel|lijn)",
    re.IGNORECASE,
)
"""What help desks put over the history: "Please type your reply above this line"."""


def _begins_original(text: str) -> bool:
    """`-----Original Message-----`, `Begin forwarded message:` and the like."""
    if len(text) < 8:
        return False
    if _ABOVE.search(text[:200]):
        return True
    dashed = _DASHED.match(text[:200])
    if dashed and ORIGINAL.match(dashed[1].strip("*_ ")):
        return True
    return len(text) < 60 and text.endswith((":", "：")) and " " in text and ORIGINAL.match(text) is not None


_MAX_LABEL = 120
"""Characters of a line that its label stands in."""
_LABEL = re.compile(r"^[\s*_|•>\u202a-\u202e]{0,6}([^:：*_]{1,24}?)[\s*_]{0,3}[:：][\s*_]{0,3}(?=(.?))")


@lru_cache(maxsize=1_024)
def _role(beginning: str) -> str:
    """Which header a line like "*Von:* Ana" is, or "" for none. Each line is asked about again and again."""
    match = _LABEL.match(beginning)
    if match is None:
        return ""
    label = match[1].strip().casefold().replace("’", "'")
    return _ROLES.get(label, "")


_ROLES = {label: role for role, words in reversed(LABELS.items()) for label in words}
"""Of a word that names two of them the first role counts."""


def _header_block(lines: list[_Line], position: int) -> bool:
    """Whether From, Sent, To and Subject stand here, at least three of them, in any of the languages.

    Without a Subject one of them has to hold an address: people order journeys by From, To and Date.
    """
    first = _role(lines[position].text[:_MAX_LABEL])
    if first not in {"from", "sent", "subject", "to"}:
        return False
    found = {first}
    skipped = 0
    block = [lines[position].text]
    for line in lines[position + 1 : position + 14]:
        if line.quoted:
            break
        role = _role(line.text[:_MAX_LABEL])
        if role:
            found.add(role)
            block.append(line.text)
            skipped = 0
            if len(found) >= 3 and _HEAD <= found and len(found - {"cc"}) >= 3:
                return True
        else:
            skipped += 1  # a blank line between them (Outlook for Mac), or a folded list of recipients
            if skipped > 2:
                break
    return len(found) >= 3 and "from" in found and any(_ADDRESS.search(text[:_MAX_LINE]) for text in block)


_HEAD = frozenset(("from", "subject"))


_DIVIDER = re.compile(r"^\s*(?:[*]*[-_=─—~#+*]{2,}[*]*|ᐧ)\s*$")


def _drop_divider(kept: list[_Line]) -> None:
    """Take away the line that Outlook draws over a header block, and blank lines before it."""
    while kept and (not kept[-1].text.strip() or _DIVIDER.match(kept[-1].text[:200])):
        kept.pop()


# -- signatures -------------------------------------------------------------------------------------------------------

_SIGNATURE_MARK = re.compile(r"^\s?(?:--|—|––|-- ?\*?)\s*$")


def _without_signatures(lines: list[_Line]) -> list[_Line]:
    """Without signatures: those the HTML marked, those under "-- ", and the line that a phone adds."""
    out: list[_Line] = []
    segment: list[_Line] = []
    for line in [*lines, _GAP]:
        if line.quoted:
            out += _unsigned(segment)
            if out and not out[-1].quoted:
                out.append(_BLANK)
            segment = []
        elif not line.signature:
            segment.append(line)
    return out


_BLANK = _Line("")


def _unsigned(segment: list[_Line]) -> list[_Line]:
    """One run of new text without the signature at its end (RFC 3676 4.3)."""
    last = len(segment)
    while last and not segment[last - 1].text.strip():
        last -= 1
    for _ in range(3):  # a mail through two lists has two footers
        for start in range(max(0, last - _MAX_SIGNATURE), last - 1):
            if _LIST_LINE.match(segment[start].text) and _LIST_NAME.search(segment[start + 1].text[-300:]):
                last = start
                break
    while last and not segment[last - 1].text.strip():
        last -= 1
    segment = segment[:last]
    for start in range(max(0, last - _MAX_SIGNATURE - 1), last):
        text = segment[start].text
        if len(text) < 6 and _SIGNATURE_MARK.match(text):
            return segment[:start]
    end = last
    misses = 0
    for start in range(last - 1, -1, -1):
        text = segment[start].text.strip()
        if text and is_device_line(text):
            end, misses = start, 0
        elif text:
            misses += 1
        if misses > 1:
            break
    return segment[:end]


_LIST_LINE = re.compile(r"_{30,60}\s*$")
_LIST_NAME = re.compile(r"mailing list(?: <[^<>]{1,200}>)?\s*$")
"""Over the footer that Mailman adds."""


def _trimmed(lines: list[_Line]) -> str:
    """As text: no blank lines or dividers at either end, never two blank lines in a row."""
    out: list[str] = []
    for line in lines:
        text = line.text.rstrip()
        if text or (out and out[-1]):
            out.append(text)
    while out and (not out[-1] or _DIVIDER.match(out[-1][:200])):
        out.pop()
    while out and (not out[0] or _DIVIDER.match(out[0][:200])):
        out.pop(0)
    return "\n".join(out)

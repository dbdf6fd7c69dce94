"""HTML to visible text; what of a text is new and what is quoted; whether two parts say the same.

Everything here is total and linear: any string in, an answer out, whatever an outsider wrote.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from .bodies import MAX_TEXT
from .characters import clean
from .html import Reading, Visible, read, shown, visible
from .quotes import new_text_of

__all__ = [
    "Hidden",
    "Visible",
    "clean",
    "hidden",
    "html_to_text",
    "new_text_of",
    "plain_differs",
    "read",
    "text_of",
    "visible",
]


class Hidden(NamedTuple):
    """What stands in a message and no person sees: counted, never shown."""

    characters: int = 0
    """Of the HTML's text, left out because it certainly cannot be seen: display:none, no size, off the screen, …"""
    invisible: int = 0
    """Zero-width, bidirectional, tag and control characters that were taken out of the HTML's text."""
    uncertain: bool = False
    """True when some of the HTML's text may be hidden from a person after all (it is kept), or not all was read."""
    plain_differs: bool = False
    """True when the plain text says something that the HTML beside it does not show (see `plain_differs`)."""


def hidden(text: str, reading: Reading) -> Hidden:
    """What a message hides whose HTML reads like this; `text` is its plain text, "" when it has none."""
    differs = bool(text) and _differs(text, "\n".join(shown(reading.lines)))
    return Hidden(reading.hidden_characters, reading.invisible_characters, reading.uncertain, differs)


def html_to_text(html: str) -> str:
    """The text that a person would see of this HTML, with links, lists and tables kept readable.

    Text that is certainly hidden is left out; `visible(html)` also counts it and says what is doubtful.
    """
    return visible(html).text


def text_of(reading: Reading) -> str:
    """The text of a message that is HTML alone, at most as long as any text of a message."""
    return "\n".join(shown(reading.lines))[:MAX_TEXT]


_LOOKED_AT = 200_000
_LINK = re.compile(r"\b(?:https?://|www\.)\S+", re.IGNORECASE)
_WORD = re.compile(r"\w{3,}")


def plain_differs(text: str, html: str) -> bool:
    """Whether the plain text says something that the HTML does not show.

    Mail programs show the HTML of a `multipart/alternative`, so words that stand in its plain text alone are read by
    programs and not by people. Links and a few extra words (a footer, an image's name) are no difference.
    """
    return _differs(text, visible(html).text)


def _differs(text: str, seen: str) -> bool:
    said = set(_WORD.findall(_LINK.sub(" ", clean(text[:_LOOKED_AT])[0]).casefold()))
    if not said:
        return False
    shown = set(_WORD.findall(seen.casefold()))
    only_plain = said - shown
    return len(only_plain) >= 6 and len(only_plain) > 0.3 * len(said)
